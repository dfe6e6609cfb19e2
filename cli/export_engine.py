"""`minimind-export engine`: builds a TensorRT plan from a checkpoint or an artifact."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .artifact_options import JsonIndentOption, JsonOption
from .checkpoint_options import (
    ConfigOption,
    LoraOption,
    MoeOption,
    TokenizerOption,
    YarnOption,
    checkpoint_options,
    local_source,
)
from .choices import Backend, Precision
from .json_output import print_result
from .next_command import run_command
from .progress import progress_display

if TYPE_CHECKING:
    from minimind_edge.export.plan import PlanResult


def engine(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="A checkpoint, an artifact folder or a graph of target tensorrt. Left out: the bundled demo.",
            show_default=False,
        ),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The plan to write.  (default: model.plan in the artifact folder, else in the current one)",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        Backend, typer.Option(help="TensorRT, or TensorRT-RTX (rtx), which builds without a GPU.")
    ] = Backend.AUTO,
    precision: Annotated[
        Precision | None,
        typer.Option(help="Precision of the weights.  (default: fp16, or the artifact's)", show_default=False),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Most rows.")] = 1,
    max_length: Annotated[
        int | None,
        typer.Option(min=1, help="Context length in tokens.  (default: the graph's)", show_default=False),
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="Compute capability of a GPU to build for, such as 8.6; repeatable; RTX only.", show_default=False
        ),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(min=1, help="Most MiB of working memory for one layer; full TensorRT only.", show_default=False),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="File of timings that makes the next build faster; full TensorRT only.", show_default=False),
    ] = None,
    moe: MoeOption = False,
    config: ConfigOption = None,
    lora: LoraOption = None,
    tokenizer: TokenizerOption = None,
    yarn: YarnOption = None,
    as_json: JsonOption = False,
    json_indent: JsonIndentOption = False,
) -> None:
    """Build a TensorRT plan, with a JSON file next to it that describes the plan and its requirements.

    \b
    Examples:
      minimind-export engine -o demo/model.plan
      minimind-export engine out/full_sft_512.pth -o model.plan --max-length 2048
      minimind-export engine base.pth --lora lora.pth --tokenizer tokenizer/ -o model.plan
      minimind-export engine my-model --backend rtx --compute-capability 8.6
    """
    from minimind_edge.export.plan import PlanRequest, build_plan

    request = PlanRequest(
        source=local_source(source, None if precision is None else precision.value),
        output=output,
        backend=backend.value,
        precision=None if precision is None else precision.value,
        max_batch=max_batch,
        max_length=max_length,
        compute_capabilities=tuple(compute_capability or ()),
        workspace=None if workspace is None else workspace << 20,
        timing_cache=timing_cache,
        checkpoint=checkpoint_options(moe=moe, config=config, lora=lora, tokenizer=tokenizer, yarn=yarn),
    )
    with progress_display(for_program=as_json or json_indent) as progress:
        result = build_plan(request, progress)
    print_result(result, show_result, as_json=as_json, json_indent=json_indent)


def show_result(result: PlanResult) -> None:
    """Print what was built, the GPUs that it runs on, and the command to try next."""
    for note in result.notes:
        print(note, file=sys.stderr)
    content = result.content
    print(f"wrote {result.plan} ({content['plan']['bytes'] / 1e6:.1f} MB, built in {result.build_s:.1f} s)")
    print(f"runs on compute capability {', '.join(content['compute_capabilities'])}")
    print("try it there:")
    print(f"  {run_command(result.plan, takes_text=result.has_tokenizer, is_chat=True)}")
