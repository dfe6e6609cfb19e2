"""An evaluation as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minimind_edge.export.evaluation import EvaluationReport

LANGUAGES = {"en": "English", "zh": "Chinese"}
KINDS = {"facts": "facts, exact", "sums": "sums, exact", "topic_copy": "topic copy, both named"}


def print_evaluation(report: EvaluationReport) -> None:
    """Print the measurements on stdout, and the notes about them on stderr."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    console = Console(markup=False, highlight=False)
    console.print(f"{report.graph} ({report.target or 'unknown target'}, {report.precision or 'unknown precision'})")
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for row in rows(report):
        table.add_row(*row)
    console.print(table)
    for answer in report.wrong:
        console.print(f"{answer.prompt} -> {answer.answer} (expected {answer.expected})", soft_wrap=True)
    console.print(f"{report.likelihood.tokens} tokens of {report.text}; {report.seconds:.0f} s", soft_wrap=True)
    if report.reference is not None:
        console.print(f"compared with {report.reference}", soft_wrap=True)


def rows(report: EvaluationReport) -> Iterator[tuple[str, str]]:
    """The rows of the table: the name and value of each quantity."""
    for kind, languages in report.scores.items():
        for language, score in languages.items():
            title = f"{KINDS[kind]}, {LANGUAGES.get(language, language)}"
            yield title, f"{score.right} of {score.asked}  {score.share:6.1%}"
    likelihood = report.likelihood
    yield "perplexity", f"{likelihood.perplexity:.4f}"
    if likelihood.mean_kl is not None:
        yield "perplexity, float32", f"{likelihood.reference_perplexity:.4f}"
        yield "mean KL from float32 (nats)", f"{likelihood.mean_kl:.2e}"
        yield "top-1 agreement with float32", f"{likelihood.top1_agreement:.2%}"
    if report.experts is not None:
        for layer, shares in enumerate(report.experts.layers):
            yield f"experts' shares, layer {layer}", " ".join(f"{share:.1%}" for share in shares)
        yield "experts' least share", f"{report.experts.least:.1%}"
    if report.bits_per_weight is not None:
        yield "bits per weight", f"{report.bits_per_weight:.2f}"
    yield "size", f"{report.size / 1e6:.2f} MB"
