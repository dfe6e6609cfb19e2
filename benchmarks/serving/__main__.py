"""Measure this project's server against its peers: `python -m benchmarks.serving`, or `make bench-serve`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from ..peers.environment import PATIENCE_S, python_of
from ..peers.failure import Unmeasurable, last_line
from ..peers.models import MODELS, write_folder
from ..peers.preparation import PROJECT, Prepared, prepare
from ..peers.report import write_report
from .contenders import LLAMA_SERVER, Server, servers
from .measure import Plan, measure
from .report import Report
from .vocabulary import write_tokenizer

QUICK = {"rounds": 2, "warm_s": 1.0, "measure_s": 3.0}

CASES = ("A:int4", "A:int8", "D:int4")


def main() -> None:
    """Measure, and write the report."""
    arguments = parse_arguments()
    settings = dict(QUICK) if arguments.quick else {}
    settings |= {name: value for name in ("rounds", "clients") if (value := getattr(arguments, name)) is not None}
    if arguments.seconds is not None:
        settings["measure_s"] = arguments.seconds
    report = Report(Plan(**settings), notes=arguments.note)
    workspace = arguments.workspace.resolve()
    for case in arguments.cases:
        model, precision = case.split(":")
        chosen = [each for each in servers(precision) if is_wanted(each, arguments.servers)]
        source = served_model(model, workspace)
        entries = [(server, try_prepare(server, source, workspace, report.plan.threads)) for server in chosen]
        report.results[model, precision] = measure(
            entries, report.plan, lambda stage, case=case: tell(f"{case}: {stage}")
        )
        path = write_report(report, arguments.out, "serving")  # results so far are kept even if a later model fails
    print(path.with_suffix(".md").read_text(encoding="utf-8"))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--cases", type=listed, default=CASES, help=f"MODEL:PRECISION,... (default: {','.join(CASES)})")
    parser.add_argument("--servers", type=listed, help="parts of names, such as minimind,llama (default: all)")
    parser.add_argument("--clients", type=numbers, help="numbers of clients (default: 1,8,32)")
    parser.add_argument("--rounds", type=int, help=f"measurements of each (default: {Plan.rounds})")
    parser.add_argument("--seconds", type=float, help=f"seconds of a measurement (default: {Plan.measure_s:g})")
    parser.add_argument("--out", type=Path, help="folder of the report (default: benchmarks/results; quick: out/bench)")
    parser.add_argument("--workspace", type=Path, default=PROJECT / ".bench", help="environments and models, kept")
    parser.add_argument("--note", action="append", default=[], help="a sentence for the report; repeatable")
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    arguments = parser.parse_args()
    for case in arguments.cases:
        if not re.fullmatch(f"[{''.join(MODELS)}]:(int8|int4)", case):
            parser.error(f"--cases {case}: a model of {','.join(MODELS)}, a colon, and int8 or int4")
    if arguments.out is None:
        arguments.out = PROJECT / ("out/bench" if arguments.quick else "benchmarks/results")
    return arguments


def listed(text: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(part.strip() for part in text.split(","))


def numbers(text: str) -> tuple[int, ...]:
    """Numbers with commas between them."""
    return tuple(int(part) for part in text.split(","))


def is_wanted(server: Server, words: tuple[str, ...] | None) -> bool:
    """Whether a server's name has one of the words in it."""
    return words is None or any(word.casefold() in server.name.casefold() for word in words)


def tell(text: str) -> None:
    """Print the progress of the run on stderr."""
    print(text, file=sys.stderr, flush=True)


def served_model(name: str, workspace: Path) -> Path:
    """The Hugging Face folder of a model with random weights and a tokenizer of its whole vocabulary."""
    tokenizer = write_tokenizer(workspace / "tokenizer")
    source = workspace / "models" / f"{name}-served"
    write_folder(source, MODELS[name].build, tokenizer)
    return source


def try_prepare(server: Server, source: Path, workspace: Path, threads: int) -> Prepared | Unmeasurable:
    """Build a server's program and convert its model, or return the reason why that is not possible."""
    try:
        if server.contender.peer is LLAMA_SERVER:
            build_llama_server(workspace)
        return prepare(server.contender, source, workspace, threads)
    except Unmeasurable as reason:
        return reason


def build_llama_server(workspace: Path) -> None:
    """Build llama-server in its environment, unless it is there.

    Raises:
        Unmeasurable: It could not be built; the reason is the log's last line.
    """
    python, log = python_of(LLAMA_SERVER, workspace), workspace / "logs" / "llama-server-build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    tell(f"building llama-server, if it is not there (log: {log})")
    with log.open("w", encoding="utf-8") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        try:
            subprocess.run([str(python), LLAMA_SERVER.worker, "build"], check=True, timeout=PATIENCE_S, **streams)
        except (OSError, subprocess.SubprocessError) as error:
            raise Unmeasurable(f"could not be built: {last_line(log) or error}") from error


if __name__ == "__main__":
    main()
