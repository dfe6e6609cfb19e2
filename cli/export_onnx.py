"""`minimind-export onnx`: exports a checkpoint to a verified artifact folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .artifact_options import JsonIndentOption, JsonOption
from .checkpoint_options import (
    CHECKPOINT,
    ConfigOption,
    LoraOption,
    MoeOption,
    TokenizerOption,
    YarnOption,
    checkpoint_options,
    local_source,
)
from .choices import HeadPrecision, Int8Block, KVCacheType, Precision, Target
from .entry import keep_imports
from .json_output import print_result
from .next_command import engine_command, run_command
from .progress import progress_display

if TYPE_CHECKING:
    from minimind_edge.export.request import ExportResult


def onnx(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            help="A .pth, .safetensors, Hugging Face folder or hf://OWNER/NAME. Left out: the bundled demo.",
            show_default=False,
        ),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The artifact folder.  (default: named after the checkpoint)", show_default=False
        ),
    ] = None,
    moe: MoeOption = False,
    target: Annotated[
        Target | None,
        typer.Option(help="Target of the graph.  (default: ort; portable with --model)", show_default=False),
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Precision of the weights.")] = Precision.FP32,
    kv_cache: Annotated[
        KVCacheType,
        typer.Option(
            help="Type of the KV cache; int8 (target ort) takes a quarter of the memory, but more time for prompts."
        ),
    ] = KVCacheType.FLOAT,
    max_length: Annotated[int | None, typer.Option(min=1, help="Context length in tokens.", show_default=False)] = None,
    tokenizer: TokenizerOption = None,
    config: ConfigOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:CLASS",
            help="Code of a model that you changed: it is run, traced, and compared with.",
            show_default=False,
            rich_help_panel=CHECKPOINT,
        ),
    ] = None,
    yarn: YarnOption = None,
    lora: LoraOption = None,
    int8_share: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="Share of the weights that keep 8 bits in int4, where that helps most.  (default: 0.05)",
        ),
    ] = None,
    head: Annotated[
        HeadPrecision,
        typer.Option(
            help="Precision of the head, the last product, with --precision int4 (target ort); int4 decodes up to "
            "1.08 times as fast and has 1.3 to 2 times the KL."
        ),
    ] = HeadPrecision.INT8,
    int8_block: Annotated[
        Int8Block,
        typer.Option(
            help="Weights that share a scale with --precision int8 (target ort); 256 decodes about 1.05 times as fast "
            "and costs up to half more KL."
        ),
    ] = Int8Block.OF_128,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Skip the comparison with eager PyTorch.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an artifact that exists already.")] = False,
    as_json: JsonOption = False,
    json_indent: JsonIndentOption = False,
) -> None:
    """Export a checkpoint to an ONNX artifact folder, and compare the artifact with eager PyTorch.

    \b
    Examples:
      minimind-export onnx
      minimind-export onnx --moe
      minimind-export onnx out/full_sft_512.pth -o my-model
      minimind-export onnx hf://OWNER/NAME@REVISION -o my-model
      minimind-export onnx MiniMind2/ --precision int4
      minimind-export onnx MiniMind2/ --precision int4 --kv-cache int8
      minimind-export onnx MiniMind2/ --target portable --precision fp16
      minimind-export onnx MiniMind2/ --target tensorrt --precision int8
      minimind-export onnx out/my_model.pth --model my_model.py:MyMiniMind
    """
    from minimind_edge.export.pipeline import export_onnx
    from minimind_edge.export.quantization import QuantizationSettings
    from minimind_edge.export.request import ExportRequest

    keep_imports()
    request = ExportRequest(
        checkpoint=local_source(checkpoint),
        output=output,
        target="auto" if target is None else target.value,
        precision=precision.value,
        kv_cache=kv_cache.value,
        model=model,
        max_length=max_length,
        quantization=QuantizationSettings(
            int8_share=QuantizationSettings().int8_share if int8_share is None else int8_share,
            int4_head=head is HeadPrecision.INT4,
            int8_block=int(int8_block.value),
        ),
        verify=not no_verify,
        force=force,
        **vars(checkpoint_options(moe=moe, config=config, lora=lora, tokenizer=tokenizer, yarn=yarn)),
    )
    with progress_display(for_program=as_json or json_indent) as progress:
        result = export_onnx(request, progress)
    print_result(result, show_result, as_json=as_json, json_indent=json_indent)


def show_result(result: ExportResult) -> None:
    """Print what was written, its difference from eager PyTorch, and the command to try next."""
    for note in result.notes:
        print(note, file=sys.stderr)
    if result.parity is not None:
        from .parity_table import print_parity

        print_parity(result.parity)
    print(f"wrote {result.graph}")
    print("try it:")
    if all(graph["precision"] == Precision.BF16.value for graph in result.manifest["graphs"]):
        line = engine_command(result.folder)
    else:
        line = run_command(
            result.folder,
            takes_text=result.has_tokenizer,
            is_chat=result.has_chat_template,
            raw=result.is_pretrained_only,
        )
    print(f"  {line}")
