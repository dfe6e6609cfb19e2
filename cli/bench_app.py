"""`minimind-bench`: measures how fast an artifact runs on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NoReturn

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
from .entry import EXIT_CODES, compute_without_blas, run
from .help_text import HelpCommand
from .json_output import print_result
from .progress import progress_display
from .version import VersionOption

if TYPE_CHECKING:
    from minimind_edge.runtime.bench import BenchReport

app = typer.Typer(rich_markup_mode=None)


@app.command(cls=HelpCommand, epilog=EXIT_CODES)
def bench(
    artifact: ArtifactArgument,
    *,
    prompt_tokens: Annotated[
        str, typer.Option(metavar="N,N,...", help="Prompt lengths in tokens, each a row of results.")
    ] = "128,512",
    new_tokens: Annotated[int, typer.Option(metavar="N", help="Tokens generated after each prompt.")] = 128,
    batch: Annotated[int, typer.Option(metavar="N", help="Number of prompts at once.")] = 1,
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = Device.AUTO,
    runs: Annotated[int, typer.Option(metavar="N", help="Measured runs for each row.")] = 5,
    as_json: JsonOption = False,
    json_indent: JsonIndentOption = False,
    version: VersionOption = False,
) -> None:
    """Measure prefill and decode speed, time to first token, and the Python loop's overhead of a decode step.

    The results are medians, with ranges, of several greedy runs on random tokens.

    \b
    Examples:
      minimind-bench minimind-demo
      minimind-bench my-model --prompt-tokens 128,512,2048 --threads 2 --json
      minimind-bench my-model --precision int4
      minimind-bench my-model/model.plan
    """
    from minimind_edge.runtime.bench import BenchPlan, measure_artifact

    plan = BenchPlan(parse_lengths(prompt_tokens), new_tokens, batch, runs)
    path = chosen_graph(artifact, precision)
    with progress_display(for_program=as_json or json_indent) as progress:
        report = measure_artifact(path, plan, threads=threads, device=device.value, progress=progress)
    print_result(report, print_report, as_json=as_json, json_indent=json_indent)


def parse_lengths(text: str) -> tuple[int, ...]:
    """Parse whole numbers with commas between them, such as `128,512`.

    Raises:
        typer.BadParameter: Something between the commas is not a whole number.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"expected whole numbers with commas between them, such as 128,512; found {text!r}",
            param_hint="--prompt-tokens",
        ) from None


COLUMNS = ("prompt", "prefill tok/s", "decode tok/s", "first token", "step", "of it loop")


def print_report(report: BenchReport) -> None:
    """Print the measurement as a table."""
    machine, row = report.machine, report.rows[0]
    print(f"{report.artifact['graph']} ({report.artifact['target']}, {report.artifact['device']})")
    threads = f", {report.threads} threads" if report.threads else ""
    gpu = f", {report.artifact['gpu']}" if report.artifact["gpu"] else ""
    native = ", native operators" if report.artifact["operators"] == "native" else ""
    print(f"{machine['cpu']}{threads}{gpu}, {report.artifact['runs_by']}{native}")
    print(f"batch {row.batch}, {row.new_tokens} new tokens, medians of {row.runs} runs (range)")
    lines = [COLUMNS, *(cells(row.to_json()) for row in report.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    memory = "unknown" if report.peak_rss_bytes is None else f"{report.peak_rss_bytes / 1e6:.0f} MB"
    print(f"load {report.load_s:.3f} s, peak memory {memory}, disk {report.disk_bytes / 1e6:.1f} MB")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The cells of one row of the table: medians, and for speeds the range too."""
    speeds = (
        f"{row[name]:.0f} ({row[f'{name}_range'][0]:.0f}-{row[f'{name}_range'][1]:.0f})"
        for name in ("prefill_tokens_per_s", "decode_tokens_per_s")
    )
    return (
        str(row["prompt_tokens"]),
        *speeds,
        f"{row['time_to_first_token_s'] * 1e3:.1f} ms",
        f"{row['step_s'] * 1e6:.0f} us",
        f"{row['step_overhead_s'] * 1e6:.0f} us, {row['step_overhead_share']:.1%}",
    )


def main() -> NoReturn:
    """Run `minimind-bench`."""
    compute_without_blas()
    run(app, "minimind-bench")
