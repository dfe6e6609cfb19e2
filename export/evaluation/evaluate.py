"""Measure an artifact: what it knows, how well it predicts text, how far it is from float32, what it weighs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from minimind_edge.runtime.artifact.text_file import decode_text
from minimind_edge.runtime.errors import InputError, UsageError
from minimind_edge.runtime.session.graph_facts import GraphFacts

from ..errors import ExportError
from ..parity.graph_file import open_session
from .answers import answer_all
from .experts import ExpertLoad, expert_load
from .held_out import HeldOut, bundled_held_out
from .likelihood import measure_likelihood
from .predictor import SessionPredictor
from .question import Question, scores
from .reference import Reference, find_reference
from .report import EvaluationReport, WrongAnswer
from .row import WINDOW, Row, document_rows, text_rows
from .subject import Subject

Progress = Callable[[str, float], None]

HELD_OUT = "answers of the demo's held-out documents"


def evaluate(
    artifact: Path,
    graph: str | None = None,
    against: Path | None = None,
    *,
    text: Path | None = None,
    questions: bool | None = None,
    limit: int | None = None,
    wrong: int = 0,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Measure the quality of a graph or a plan.

    Args:
        artifact: An artifact folder, a graph or a plan.
        graph: Of a folder's graphs the one to measure, relative to the folder; None for the default one.
        against: The float32 model to compare with, an artifact or a checkpoint; None for the folder's own float32 graph
            or the checkpoint it was made from. A float32 graph is compared with nothing unless this is given.
        text: A UTF-8 file to predict; None for the demo's held-out documents.
        questions: Whether to ask the demo's questions; None asks models that have the demo's tokenizer, where no text
            is given.
        limit: Most questions of each kind and language, most documents, and most windows of a text; None for all.
        wrong: Most wrong answers in the report.
        device: `auto`, `cpu` or `cuda`.
        threads: That one operator may use; None for the physical cores.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        ArtifactError: The artifact is broken, or lacks a tokenizer.
        ExportError: `against` is of another vocabulary.
        InputError: The text cannot be read.
        MissingError: The environment lacks what running it takes.
        UsageError: `limit` or `wrong` is out of range.
    """
    started, tell = time.perf_counter(), progress or (lambda stage, done: None)
    _require("limit", limit, 1)
    _require("wrong", wrong, 0)
    tell("loading", 0.0)
    subject = Subject.load(artifact if graph is None else artifact / graph, device, threads)
    asks = subject.is_demo and text is None if questions is None else questions
    notes = [] if subject.is_demo or text is not None else [_stranger(subject, asks)]
    held_out = bundled_held_out() if limit is None else bundled_held_out().limited(limit)
    rows = _rows(subject, held_out, text, limit)
    reference = _reference(subject, against, threads, notes)
    likelihood = measure_likelihood(
        rows,
        SessionPredictor(subject.engine.session),
        None if reference is None else reference.predictor,
        most_rows=subject.most_rows,
        progress=_part(tell, "predicting text", 0.0, 0.3 if asks else 0.8),
    )
    experts = _experts(
        subject, rows, notes, _part(tell, "counting experts", 0.3 if asks else 0.8, 0.4 if asks else 1.0)
    )
    asked = held_out.questions if asks else ()
    answers = answer_all(
        subject.engine, asked, most_rows=subject.most_rows, progress=_part(tell, "asking questions", 0.4, 1.0)
    )
    tell("done", 1.0)
    judged = [(question, question.is_right(answer)) for question, answer in zip(asked, answers, strict=True)]
    return EvaluationReport(
        graph=subject.artifact.graph,
        target=subject.target,
        precision=subject.precision,
        size=subject.size,
        bits_per_weight=subject.bits_per_weight,
        text=HELD_OUT if text is None else str(text),
        likelihood=likelihood,
        reference=None if reference is None else reference.name,
        scores=scores(judged),
        wrong=_wrong_answers(judged, answers, wrong),
        experts=experts,
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
    )


def _require(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UsageError(f"{name} must be at least {least}, found {value}")


def _stranger(subject: Subject, asks: bool) -> str:
    """What a reader has to know of a model that the demo's questions are not made for."""
    questions = "and so are the questions" if asks else "and no question was asked (--questions asks all the same)"
    return (
        f"{subject.artifact.path} has another tokenizer than the demo: the text predicted is the demo's, {questions}; "
        "name a text of your own by --text"
    )


def _rows(subject: Subject, held_out: HeldOut, text: Path | None, limit: int | None) -> list[Row]:
    engine = subject.engine
    if text is not None:
        rows = text_rows(read_text(text), subject.tokenizer, min(WINDOW, engine.session.max_length))
        return rows[:limit]
    (end, *_) = engine.stop_token_ids or (subject.tokenizer.eos_token_id or 0,)
    return document_rows(held_out.documents, engine.prompts, subject.tokenizer, end)


def read_text(path: Path) -> str:
    """Read a text file; see `decode_text` for its encoding.

    Raises:
        InputError: It is missing, or no text.
    """
    try:
        return decode_text(path.read_bytes(), str(path), InputError)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _reference(subject: Subject, against: Path | None, threads: int | None, notes: list[str]) -> Reference | None:
    """The float32 model; where none was named and none is found, a note instead."""
    if against is not None:
        return find_reference(subject, against, threads)
    try:
        return find_reference(subject, None, threads)
    except ExportError as error:
        notes.append(f"not compared with float32: {error}")
        return None


def _experts(
    subject: Subject, rows: Sequence[Row], notes: list[str], progress: Callable[[float], None]
) -> ExpertLoad | None:
    """Who works how much in a mixture of experts."""
    if subject.experts is None or subject.is_plan:
        return None
    session = open_session(subject.artifact.graph)
    facts = GraphFacts.read(session.get_inputs(), session.get_outputs(), session.get_modelmeta().custom_metadata_map)
    try:
        return expert_load(subject.artifact.graph, facts, subject.experts, rows, progress)
    except ExportError as error:
        notes.append(f"the experts' work was not counted: {error}")
        return None


def _part(tell: Progress, stage: str, start: float, stop: float) -> Callable[[float], None]:
    """The progress of a stage, which takes that part of the whole."""
    tell(stage, start)
    return lambda done: tell(stage, start + done * (stop - start))


def _wrong_answers(
    judged: Sequence[tuple[Question, bool]], answers: Sequence[str], most: int
) -> tuple[WrongAnswer, ...]:
    """Some wrong answers, from all over the questions."""
    missed = [
        WrongAnswer(question.prompt, answer, question.exact or " and ".join(question.names))
        for (question, is_right), answer in zip(judged, answers, strict=True)
        if not is_right
    ]
    count = min(most, len(missed))
    return tuple(missed[index * len(missed) // count] for index in range(count))
