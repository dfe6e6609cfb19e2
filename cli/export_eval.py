"""`minimind-export eval`: measures the quality of an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .artifact_options import (
    ArtifactArgument,
    DeviceOption,
    JsonIndentOption,
    JsonOption,
    PrecisionOption,
    ThreadsOption,
    chosen_graph,
)
from .choices import Device
from .evaluation_table import print_evaluation
from .json_output import print_result
from .progress import progress_display


def evaluate(
    artifact: ArtifactArgument,
    *,
    against: Annotated[
        Path | None,
        typer.Option(
            help="The float32 artifact or checkpoint to compare with.  (default: the float32 graph of the same folder, "
            "or the checkpoint it was made from)",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Predict this UTF-8 text.  (default: the demo's held-out answers)", show_default=False
        ),
    ] = None,
    questions: Annotated[
        bool | None,
        typer.Option(
            "--questions/--no-questions",
            help="Ask the demo's held-out questions.  (default: if it has the demo's tokenizer, without --text)",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Most questions of each kind, documents, and windows of text.  (default: all)"
        ),
    ] = None,
    wrong: Annotated[int, typer.Option(metavar="N", min=0, help="Print up to N wrong answers.")] = 0,
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = Device.AUTO,
    save: Annotated[bool, typer.Option("--save", help="Save the figures in the artifact's manifest.")] = False,
    as_json: JsonOption = False,
    json_indent: JsonIndentOption = False,
) -> None:
    """Measure the quality of an artifact: its answers, its perplexity, and its divergence from float32.

    Questions and documents are the demo's held-out ones, which its training never saw. For a model of your own use
    --text, because it has not learned the demo's facts.

    \b
    Examples:
      minimind-export eval minimind-demo
      minimind-export eval my-model/onnx/model_fp16.onnx --text my.txt
      minimind-export eval my-model --against full_sft_512.pth --text my.txt
    """
    from minimind_edge.export.evaluation import evaluate, require_artifact, save_evaluation
    from minimind_edge.runtime.hub import hub_address

    from .checkpoint_options import local_source

    if save and hub_address(artifact) is not None:
        raise typer.BadParameter("has no place in the cache of an hf:// artifact; name a folder", param_hint="--save")
    if save:
        require_artifact(artifact)
    with progress_display(for_program=as_json or json_indent) as progress:
        report = evaluate(
            chosen_graph(artifact, precision, all_graphs=True),
            against=local_source(against),
            text=text,
            questions=questions,
            limit=limit,
            wrong=wrong,
            device=device.value,
            threads=threads,
            progress=progress,
        )
    if save:
        save_evaluation(report)
    print_result(report, print_evaluation, as_json=as_json, json_indent=json_indent)
