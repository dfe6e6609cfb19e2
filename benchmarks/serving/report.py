"""The report of a run: JSON for machines, and Markdown tables for people."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from minimind_edge.runtime.bench import Spread

from ..peers.models import MODELS
from ..peers.report import own_versions
from ..peers.row import ratio
from .contenders import LLAMA_SERVER, OPENVINO
from .llama_server import SOURCE
from .load import MAIN_THREAD, PROCESSOR
from .measure import Plan, Row
from .summary import FIRST_P50, FIRST_P95, GAP_P50, GAP_P95, OUTPUT

COLUMNS = (
    "clients",
    "",
    "output tok/s",
    "ours",
    "between tokens ms, p50",
    "p95",
    "first token ms, p50",
    "p95",
    "processor µs/token",
    "HTTP µs/token",
)


@dataclass
class Report:
    """The results of one run.

    Attributes:
        plan: The size of the benchmark.
        results: The rows of each model and precision.
        notes: Sentences about this run for the reader.
    """

    plan: Plan
    results: dict[tuple[str, str], list[Row]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        from minimind_edge.runtime.bench import describe_machine

        peers = {LLAMA_SERVER.name: [SOURCE], OPENVINO.name: list(OPENVINO.packages)}
        return {
            "date": datetime.date.today().isoformat(),
            "machine": describe_machine(),
            "notes": list(self.notes),
            "plan": asdict(self.plan),
            "versions": peers | own_versions(),
            "results": [
                {"model": model, "precision": precision, "rows": [json_row(row, rows) for row in rows]}
                for (model, precision), rows in self.results.items()
            ],
        }

    def to_markdown(self) -> str:
        """The report's tables, with the failed measurements and their reasons below each."""
        parts = [self._preface(), *self.notes]
        for (model, precision), rows in self.results.items():
            parts.append(f"## {model}: {MODELS[model].title}, {precision}\n\n{table(rows)}{missing_list(rows)}")
        return "\n\n".join(part.rstrip() for part in parts) + "\n"

    def _preface(self) -> str:
        from minimind_edge.runtime.bench import describe_machine

        machine, plan = describe_machine(), self.plan
        return (
            f"# minimind-serve and its peers\n\n{machine['cpu']}, {machine['cores']} cores, "
            f"{datetime.date.today().isoformat()}. Closed loop over HTTP: each client streams one completion after the "
            f"other, prompts of 32 to 256 random tokens, 64 to 256 new tokens, greedy, random weights; {plan.threads} "
            f"threads compute, and the clients run on the same cores. Medians of {plan.rounds} interleaved rounds of "
            f"{plan.measure_s:g} s (range). Column `ours`: the output of this project's server with one process, as a "
            f"multiple of the row's; the median of the rounds' ratios. `processor`: the time of all of a server's "
            f"processes for each token; `HTTP`: that of the threads that do nothing but HTTP."
        )


def counterpart(row: Row, rows: Sequence[Row]) -> Row | None:
    """This project's row at the same load, in one process; None for that row itself."""
    ours = (x for x in rows if x.server.is_ours and not x.server.variant and x.clients == row.clients)
    found = next(ours, None)
    return None if found is row else found


def advantage(row: Row, rows: Sequence[Row]) -> Spread | None:
    """This project's output as a multiple of a row's; None where either was not measured."""
    ours = counterpart(row, rows)
    return None if ours is None else ratio(ours.values.get(OUTPUT, ()), row.values.get(OUTPUT, ()))


def json_row(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """A row as JSON, with this project's multiple of its output."""
    ours = advantage(row, rows)
    return {
        "server": row.server.contender.peer.name,
        "build": row.server.contender.build,
        "variant": row.server.variant,
        "clients": row.clients,
        **{name: Spread.of(values)._asdict() | {"rounds": values} for name, values in row.values.items()},
        **({"ours_to_this": ours._asdict()} if ours else {}),
        **({"not_measured": row.missing} if row.missing else {}),
    }


def table(rows: Sequence[Row]) -> str:
    """The table, one line for each server and load."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        ours = advantage(row, rows)
        cells = [
            str(row.clients),
            row.server.name,
            cell(row, OUTPUT, 0),
            "" if ours is None else f"{ours.median:.2f}x ({ours.low:.2f}–{ours.high:.2f})",
            *(cell(row, name, 1) for name in (GAP_P50, GAP_P95)),
            *(cell(row, name, 0) for name in (FIRST_P50, FIRST_P95)),
            *(cell(row, name, 0) for name in (PROCESSOR, MAIN_THREAD)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(row: Row, quantity: str, digits: int) -> str:
    """A quantity's median with its range."""
    values = row.values.get(quantity)
    if not values:
        return "–"
    spread = Spread.of(values)
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"


def missing_list(rows: Sequence[Row]) -> str:
    """The failed measurements, one line for each."""
    lines = [f"- {row.server.name}, {row.clients} clients: {row.missing}" for row in rows if row.missing]
    return "\n\nNot measured, or not to the end:\n\n" + "\n".join(lines) if lines else ""
