"""`minimind-bench`: how fast an artifact runs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .choices import Device
from .entry import EXIT_CODES, run
from .progress import progress_display
from .version import VersionOption

if TYPE_CHECKING:
    from minimind_edge.runtime.bench import BenchReport

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(epilog=EXIT_CODES)
def bench(
    artifact: Annotated[
        Path, typer.Argument(help="An artifact folder, an .onnx graph or a .plan.", show_default=False)
    ],
    *,
    prompt_tokens: Annotated[
        str, typer.Option(metavar="N,N,...", help="Lengths of the prompts; a row of results each.")
    ] = "128,512",
    new_tokens: Annotated[int, typer.Option(metavar="N", help="Tokens generated behind each prompt.")] = 128,
    batch: Annotated[int, typer.Option(metavar="N", help="Prompts at once.")] = 1,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="CPU threads.  (default: the physical cores)", show_default=False)
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the graph runs.")] = Device.AUTO,
    runs: Annotated[int, typer.Option(metavar="N", help="Measured runs of each row.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    version: VersionOption = False,
) -> None:
    """Measure prefill, decode, the time to the first token, and what the Python loop adds to a step.

    Medians of several runs on random tokens, greedy, each with its range.

    \b
    Examples:
      minimind-bench minimind-demo
      minimind-bench my-model --prompt-tokens 128,512,2048 --threads 2 --json
      minimind-bench my-model/model.plan
    """
    from minimind_edge.runtime.bench import BenchPlan, measure_artifact

    plan = BenchPlan(parse_lengths(prompt_tokens), new_tokens, batch, runs)
    with progress_display(silent=as_json) as progress:
        report = measure_artifact(artifact, plan, threads=threads, device=device.value, progress=progress)
    if as_json:
        from .json_output import print_json

        print_json(report.to_json())
    else:
        print_report(report)


def parse_lengths(text: str) -> tuple[int, ...]:
    """Read `128,512`.

    Raises:
        typer.BadParameter: something between the commas is no whole number.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"expected whole numbers with commas between them, such as 128,512; found {text!r}",
            param_hint="--prompt-tokens",
        ) from None


def print_report(report: BenchReport) -> None:
    """Print the measurement as a table for a person."""
    from rich.console import Console
    from rich.table import Table

    machine, row = report.machine, report.rows[0]
    console = Console(markup=False, highlight=False)
    console.print(
        f"{report.artifact['graph']} ({report.artifact['target']}, {report.artifact['device']})", soft_wrap=True
    )
    threads = f", {report.threads} threads" if report.threads else ""
    gpu = f", {report.artifact['gpu']}" if report.artifact["gpu"] else ""
    console.print(f"{machine['cpu']}{threads}{gpu}, {report.artifact['runs_by']}", soft_wrap=True)
    console.print(f"batch {row.batch}, {row.new_tokens} new tokens, medians of {row.runs} runs (range)", soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("prompt", "prefill tok/s", "decode tok/s", "first token", "step", "of it loop"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in report.rows:
        table.add_row(*cells(row.to_json()))
    console.print(table)
    memory = "unknown" if report.peak_rss_bytes is None else f"{report.peak_rss_bytes / 1e6:.0f} MB"
    console.print(f"load {report.load_s:.3f} s, peak memory {memory}, disk {report.disk_bytes / 1e6:.1f} MB")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table: medians, the speeds with their ranges."""
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
    run(app, "minimind-bench")
