"""The report of a run: JSON for machines, and Markdown tables for people."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from minimind_edge.runtime.bench import Spread

from .contenders import EDGE, EDGE_NATIVE, Peer
from .measure import Plan
from .models import MODELS
from .quality import QualityRow
from .row import DECODE, DECODE_ONE, DISK, FIRST_TOKEN, MEMORY, PREFILL, PREFILL_ONE, QUANTITIES, Row, ratio

COLUMNS = {"ours": EDGE, "native": EDGE_NATIVE}
"""The columns of ratios, each with the form of this project whose speed is divided by that of a row."""

OWN_PACKAGES = ("minimind-edge", "minimind-edge-native", "onnxruntime", "torch", "transformers", "numpy")


class AnyReport(Protocol):
    """The report of a benchmark."""

    def to_json(self) -> dict[str, Any]:
        """The report for machines, with the processor's name under `machine` and `cpu`."""
        ...

    def to_markdown(self) -> str:
        """The report for people."""
        ...


def write_report(report: AnyReport, folder: Path, name: str) -> Path:
    """Write a report as JSON and Markdown, under a name and the machine's processor; gives the JSON's path."""
    content = report.to_json()
    cpu = re.sub(r"[^a-z0-9]+", "-", content["machine"]["cpu"].casefold()).strip("-")
    path = folder / f"{name}-{cpu}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(report.to_markdown(), encoding="utf-8")
    return path


@dataclass
class Report:
    """The results of one run.

    Attributes:
        plan: The number and size of the measurements.
        peers: The names of the peers that took part.
        models: The rows of each model, by the model's letter.
        quality: The divergence of each build from float32, by the name of the trained weights. The tables of speed and
            the picture show that of the last weights.
        notes: Sentences about this run for the reader.
    """

    plan: Plan
    peers: Sequence[Peer]
    models: dict[str, list[Row]] = field(default_factory=dict)
    quality: dict[str, list[QualityRow]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        from minimind_edge.runtime.bench import describe_machine

        return {
            "date": datetime.date.today().isoformat(),
            "machine": describe_machine(),
            "notes": list(self.notes),
            "plan": asdict(self.plan),
            "versions": {peer.name: list(peer.packages) for peer in self.peers if peer.packages} | own_versions(),
            "models": {
                name: {"title": MODELS[name].title, "rows": [json_row(row, rows) for row in rows]}
                for name, rows in self.models.items()
            },
            "quality": [
                {"model": name, "rows": [row.to_json() for row in rows]} for name, rows in self.quality.items()
            ],
        }

    def to_markdown(self) -> str:
        """The report's tables, with the failed measurements and their reasons below each."""
        parts = [self._preface(), *self.notes]
        told = list(self.quality.values())[-1:]
        kl = {row.contender.name: row.quality.mean_kl for rows in told for row in rows if row.quality is not None}
        for name, rows in self.models.items():
            parts.append(f"## {name}: {MODELS[name].title}\n\n{speed_table(rows, kl)}")
            if any(row.spread(DECODE_ONE) for row in rows):
                parts.append(f"### {name} on one thread\n\n{one_thread_table(rows)}")
            parts.append(missing_list(rows))
        parts += [f"## Quality: {name}\n\n{quality_table(rows)}" for name, rows in self.quality.items()]
        return "\n\n".join(part.rstrip() for part in parts if part) + "\n"

    def _preface(self) -> str:
        from minimind_edge.runtime.bench import describe_machine

        machine, plan = describe_machine(), self.plan
        has_native = any("native" in columns_of(rows) for rows in self.models.values())
        native = f" Column `native`: the same for {EDGE_NATIVE.name}." if has_native else ""
        return (
            f"# minimind-edge and its peers\n\n{machine['cpu']}, {machine['cores']} cores, "
            f"{datetime.date.today().isoformat()}. Batch 1, {plan.threads} threads, greedy, random weights. Decode: "
            f"{plan.new_tokens} tokens after a prompt of {plan.prompt_tokens}; prefill: {plan.prefill_tokens} tokens; "
            f"first token: a fresh process, up to the first token after {plan.short_prompt}. Medians of {plan.rounds} "
            f"interleaved rounds (range); {plan.starts} fresh processes. Column `ours`: the speed of {EDGE.name} at "
            f"the named precision, as a multiple of the peer's; the median of the rounds' ratios.{native}"
        )


def own_versions() -> dict[str, list[str]]:
    """The versions of the packages in this project's own environment."""
    found = []
    for name in OWN_PACKAGES:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return {EDGE.name: found}


def columns_of(rows: Iterable[Row]) -> list[str]:
    """The columns of ratios in a table: `native` only where the native operators were measured."""
    measured = [row.contender.peer for row in rows if row.spread(DECODE) or row.spread(DECODE_ONE)]
    return [name for name, peer in COLUMNS.items() if peer is EDGE or peer in measured]


def counterpart(row: Row, rows: Iterable[Row], peer: Peer = EDGE) -> Row | None:
    """The row that a peer's is compared with: of a form of this project, at the row's precision; None for its own."""
    if row.contender.peer in (peer, EDGE_NATIVE):
        return None
    ours = (other for other in rows if other.contender.peer is peer)
    return next((other for other in ours if other.contender.build == row.contender.precision), None)


def advantage(row: Row, rows: Sequence[Row], quantity: str, column: str = "ours") -> Spread | None:
    """A quantity of this project as a multiple of a row's; None where either was not measured."""
    ours = counterpart(row, rows, COLUMNS[column])
    return None if ours is None else ratio(ours.values.get(quantity, ()), row.values.get(quantity, ()))


def json_row(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """A row as JSON, with the multiples of each of its quantities that this project reaches."""
    result = row.to_json()
    for column in columns_of(rows):
        ratios = {name: advantage(row, rows, name, column) for name in QUANTITIES}
        found = {name: spread._asdict() for name, spread in ratios.items() if spread is not None}
        if found:
            result |= {"compared_with": row.contender.precision, f"{column}_to_this": found}
    return result


def speed_table(rows: Sequence[Row], kl: dict[str, float]) -> str:
    """The table of speeds, one line for each contender."""
    columns = columns_of(rows)
    lines = header([*speed_titles(columns), "first token s", "memory MB", "disk MB", "mean KL"])
    for row in rows:
        first, memory, disk = (row.spread(name) for name in (FIRST_TOKEN, MEMORY, DISK))
        divergence = kl.get(row.contender.name)
        cells = [
            *speed_cells(row, rows, (DECODE, PREFILL), columns),
            "–" if first is None else f"{first.median:.2f}",
            "–" if memory is None else f"{memory.median / 1e6:.0f}",
            "–" if disk is None else f"{disk.median / 1e6:.1f}",
            "–" if divergence is None else kl_cell(divergence),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def one_thread_table(rows: Sequence[Row]) -> str:
    """The table of speeds on one thread, one line for each contender."""
    columns = columns_of(rows)
    lines = header(speed_titles(columns))
    for row in rows:
        cells = speed_cells(row, rows, (DECODE_ONE, PREFILL_ONE), columns)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def header(titles: Sequence[str]) -> list[str]:
    """The first two lines of a table; its first column has no title."""
    return [f"| | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]


def speed_titles(columns: Sequence[str]) -> list[str]:
    """The titles of the columns of a build and its speeds."""
    return ["build", "decode tok/s", *columns, "prefill tok/s", *columns]


def speed_cells(row: Row, rows: Sequence[Row], quantities: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The cells that name a contender, its speeds, and this project's multiples of them."""
    cells = [row.contender.peer.name, row.contender.build]
    for name in quantities:
        ratios = (advantage(row, rows, name, column) for column in columns)
        cells += [speed_cell(row.spread(name)), *(ratio_cell(spread, row) for spread in ratios)]
    return cells


def speed_cell(spread: Spread | None) -> str:
    """Tokens a second, with the range."""
    return "–" if spread is None else f"{spread.median:.0f} ({spread.low:.0f}–{spread.high:.0f})"


def ratio_cell(spread: Spread | None, row: Row) -> str:
    """This project's speed as a multiple of a peer's, with the precision."""
    return "" if spread is None else f"{spread.median:.2f}x {row.contender.precision}"


def kl_cell(value: float) -> str:
    """A KL in nats with two digits, or an upper bound where it is as small as float32's own errors."""
    if value < 1e-6:
        return "< 1e-6"
    return f"{value:.1e}" if value < 1e-3 else f"{value:.2g}"


def quality_table(rows: Sequence[QualityRow]) -> str:
    """The table of quality, one line for each contender, with the reason where there is no result."""
    lines = ["| | build | mean KL, nats | same top token | disk MB | |", "|---|---|---|---|---|---|"]
    for row in rows:
        name = f"| {row.contender.peer.name} | {row.contender.build} |"
        if row.quality is None or row.disk_bytes is None:
            lines.append(f"{name} – | – | – | {row.reason} |")
        else:
            quality = row.quality
            lines.append(f"{name} {kl_cell(quality.mean_kl)} | {quality.top1:.1%} | {row.disk_bytes / 1e6:.1f} | |")
    return "\n".join(lines)


def missing_list(rows: Sequence[Row]) -> str:
    """The failed measurements, one line for each reason."""
    lines = []
    for row in rows:
        for reason in dict.fromkeys(row.missing.values()):
            names = [name for name, why in row.missing.items() if why == reason]
            what = "nothing" if {DISK, *names} == set(QUANTITIES) else f"no {', '.join(names)}"
            lines.append(f"- {row.contender.name}: {what} measured: {reason}")
    return "Not measured:\n\n" + "\n".join(lines) if lines else ""
