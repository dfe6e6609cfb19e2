"""Measure this project against its peers: `python -m benchmarks.peers`, or `make bench`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from . import plot
from .contenders import BARE_LOOP, EAGER, EDGE, PEERS, Contender, Peer, contenders
from .environment import python_of
from .failure import Unmeasurable
from .measure import Plan, measure
from .models import MODELS, demo_checkpoint, write_demo, write_folder
from .preparation import PROJECT, Prepared, prepare
from .quality import demo_passages, measure_quality, text_passages
from .report import Report, write_report
from .row import Row
from .workers.serving import CONTEXT


def main() -> None:
    """Measure, and write the report."""
    arguments = parse_arguments()
    plan = plan_of(arguments)
    workspace = arguments.workspace.resolve()
    everyone = contenders(arguments.peers, arguments.precisions)
    report = Report(plan, [PEERS[name] for name in arguments.peers], notes=arguments.note)
    for name in arguments.models:
        source = workspace / "models" / name
        write_folder(source, MODELS[name].build, demo_checkpoint().parent)
        report.models[name] = measure_model(everyone, source, workspace, plan, convert=arguments.convert)
        write_report(report, arguments.out, "peers")  # results so far are kept even if a later model fails
    if arguments.quality:
        add_quality(report, everyone, arguments.quality_model, workspace, convert=arguments.convert)
    path = write_report(report, arguments.out, "peers")
    if report.quality:
        draw(path, arguments.plot or arguments.out / "speed-kl.png", workspace)
    print(path.with_suffix(".md").read_text(encoding="utf-8"))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--models", type=listed(MODELS), default=list(MODELS), help="of A,B,C,D")
    parser.add_argument("--peers", type=listed(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--precisions", type=listed(EDGE.builds), default=list(EDGE.builds), help="of fp32,int8,int4")
    parser.add_argument("--threads", type=int, default=Plan.threads, help="CPU threads")
    parser.add_argument(
        "--one-thread",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure the speeds on one thread as well",
    )
    parser.add_argument(
        "--context", type=context, default=Plan.prompt_tokens, help="tokens in the cache before the measured generation"
    )
    parser.add_argument("--rounds", type=int, default=Plan.rounds, help="measurements of each speed")
    parser.add_argument("--starts", type=int, default=Plan.starts, help="fresh processes of each build")
    parser.add_argument("--out", type=Path, help="folder of the report (default: benchmarks/results; quick: out/bench)")
    parser.add_argument("--plot", type=Path, help="the picture (default: speed-kl.png next to the report)")
    parser.add_argument("--quality-model", type=Path, help="Hugging Face folder to measure KL on as well")
    parser.add_argument(
        "--quality", action=argparse.BooleanOptionalAction, default=True, help="measure KL on trained weights"
    )
    parser.add_argument(
        "--convert", action=argparse.BooleanOptionalAction, default=True, help="convert models for peers that lack them"
    )
    parser.add_argument("--workspace", type=Path, default=PROJECT / ".bench", help="environments and models, kept")
    parser.add_argument("--note", action="append", default=[], help="a sentence for the report; repeatable")
    parser.add_argument("--quick", action="store_true", help="two rounds and one fresh process")
    arguments = parser.parse_args()
    if arguments.out is None:
        arguments.out = PROJECT / ("out/bench" if arguments.quick else "benchmarks/results")
    return arguments


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The number and size of the measurements that the command line asks for."""
    rounds, starts = (2, 1) if arguments.quick else (arguments.rounds, arguments.starts)
    return Plan(
        rounds=rounds,
        starts=starts,
        threads=arguments.threads,
        one_thread=arguments.one_thread,
        prompt_tokens=arguments.context,
    )


def listed(known: dict):
    """A reader of names with commas between them, in any case."""
    names = {name.casefold(): name for name in known}

    def read(text: str) -> list[str]:
        try:
            return [names[part.strip().casefold()] for part in text.split(",")]
        except KeyError as unknown:
            raise argparse.ArgumentTypeError(f"{unknown} is none of {', '.join(known)}") from None

    return read


def context(text: str) -> int:
    """A length of the prompt of a measured generation, for which every peer's cache has room."""
    longest = CONTEXT - Plan.new_tokens
    if text.isdecimal() and 0 < int(text) <= longest:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no number from 1 to {longest}")


def tell(text: str) -> None:
    """Print the progress of the run on stderr."""
    print(text, file=sys.stderr, flush=True)


def measure_model(everyone: list[Contender], source: Path, workspace: Path, plan: Plan, *, convert: bool) -> list[Row]:
    """Measure all contenders on one model; return their rows."""
    rows, entries = [], []
    for contender in everyone:
        row = Row(contender)
        rows.append(row)
        prepared = try_prepare(contender, source, workspace, plan.threads, convert=convert)
        if isinstance(prepared, Unmeasurable):
            row.give_up(str(prepared))
        else:
            entries.append((row, prepared))
    measure(entries, plan, lambda stage: tell(f"{source.name}: {stage}"))
    return rows


def add_quality(
    report: Report, everyone: list[Contender], folder: Path | None, workspace: Path, *, convert: bool
) -> None:
    """Measure each build's KL divergence from float32 on trained weights: the demo's, and those of a folder."""
    demo = write_demo(workspace / "models")
    subjects = [("the demo's held-out answers", demo, demo_passages(demo))]
    if folder is not None:
        source, text = folder.resolve(), (PROJECT / "LICENSE").read_text(encoding="utf-8")
        subjects.append((f"{source.name} reading a license", source, text_passages(source, text)))
    judged = [contender for contender in everyone if contender.peer not in (BARE_LOOP, EAGER)]
    threads = report.plan.threads
    for name, source, passages in subjects:
        reference = prepare(contenders([EAGER.name])[0], source, workspace, threads)
        entries = [(each, try_prepare(each, source, workspace, threads, convert=convert)) for each in judged]
        tell(f"quality: {name}")
        report.quality[name] = measure_quality(entries, reference, passages, threads)


def try_prepare(
    contender: Contender, source: Path, workspace: Path, threads: int, *, convert: bool
) -> Prepared | Unmeasurable:
    """Convert a model for a contender, or return the reason why that is not possible."""
    try:
        return prepare(contender, source, workspace, threads, convert_peers=convert)
    except Unmeasurable as reason:
        return reason


def draw(report: Path, picture: Path, workspace: Path) -> None:
    """Draw the picture, where matplotlib can be installed."""
    try:
        python = python_of(Peer("matplotlib", plot.__file__, {}, plot.PACKAGES), workspace)
    except Unmeasurable as reason:
        tell(f"no picture: {reason}")
        return
    subprocess.run([str(python), plot.__file__, str(report), str(picture)], check=True)


if __name__ == "__main__":
    main()
