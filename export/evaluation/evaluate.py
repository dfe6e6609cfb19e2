"""Measure an artifact: what it knows, how well it predicts text, how far it is from float32, and its size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from minimind_edge.runtime.artifact.text_file import decode_text
from minimind_edge.runtime.errors import InputError, UsageError
from minimind_edge.runtime.ort.loading import session_facts

from ..errors import ExportError
from ..parity.graph_file import open_session
from ..progress import Progress, Share, silent, stage_share
from .artifact import EvaluatedArtifact
from .examples import WINDOW, Example, document_examples, text_examples
from .experts import ExpertLoad, expert_load
from .held_out import HeldOut, bundled_held_out
from .likelihood import SessionLanguageModel, measure_likelihood
from .questions import Question, answer_all, scores
from .reference import Reference, find_reference
from .report import EvaluationReport, WrongAnswer

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
        graph: The graph of a folder to measure, relative to the folder; None for the default one.
        against: The float32 model to compare with, an artifact or a checkpoint; None for the folder's own float32 graph
            or the checkpoint it was made from. A float32 graph is compared with nothing unless this is given.
        text: A UTF-8 file to predict; None for the demo's held-out documents.
        questions: Whether to ask the demo's questions; None asks models that have the demo's tokenizer, where no text
            is given.
        limit: The most questions of each kind and language, documents, and windows of a text; None for all.
        wrong: The most wrong answers in the report.
        device: `auto`, `cpu` or `cuda`.
        threads: The threads of one operator; None for the physical cores.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        ArtifactError: The artifact is broken, or lacks a tokenizer.
        ExportError: `against` is of another vocabulary.
        InputError: The text cannot be read.
        MissingError: The environment lacks what running it takes.
        UsageError: `limit` or `wrong` is out of range.
    """
    started, tell = time.perf_counter(), progress or silent
    _require("limit", limit, 1)
    _require("wrong", wrong, 0)
    tell("loading", 0.0)
    evaluated = EvaluatedArtifact.load(artifact if graph is None else artifact / graph, device, threads)
    asks = evaluated.is_demo and text is None if questions is None else questions
    notes = [] if evaluated.is_demo or text is not None else [_other_tokenizer_note(evaluated, asks)]
    held_out = bundled_held_out() if limit is None else bundled_held_out().limited(limit)
    examples = _examples(evaluated, held_out, text, limit)
    reference = _reference(evaluated, against, threads, notes)
    likelihood = measure_likelihood(
        examples,
        SessionLanguageModel(evaluated.engine.session),
        None if reference is None else reference.model,
        batch_size=evaluated.batch_size,
        progress=stage_share(tell, "predicting text", 0.0, 0.3 if asks else 0.8),
    )
    experts = _experts(
        evaluated, examples, notes, stage_share(tell, "counting experts", 0.3 if asks else 0.8, 0.4 if asks else 1.0)
    )
    asked = held_out.questions if asks else ()
    answers = answer_all(
        evaluated.engine,
        asked,
        batch_size=evaluated.batch_size,
        progress=stage_share(tell, "asking questions", 0.4, 1.0),
    )
    tell("done", 1.0)
    judged = [(question, question.is_right(answer)) for question, answer in zip(asked, answers, strict=True)]
    return EvaluationReport(
        graph=evaluated.artifact.graph,
        target=evaluated.target,
        precision=evaluated.precision,
        size=evaluated.size,
        bits_per_weight=evaluated.bits_per_weight,
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


def _other_tokenizer_note(evaluated: EvaluatedArtifact, asks: bool) -> str:
    """A note for the reader about a model that the demo's questions are not made for."""
    questions = "and so are the questions" if asks else "and no question was asked (--questions asks them anyway)"
    return (
        f"{evaluated.artifact.path} has another tokenizer than the demo: the text predicted is the demo's, "
        f"{questions}; name a text of your own by --text"
    )


def _examples(evaluated: EvaluatedArtifact, held_out: HeldOut, text: Path | None, limit: int | None) -> list[Example]:
    engine = evaluated.engine
    if text is not None:
        examples = text_examples(read_text(text), evaluated.tokenizer, min(WINDOW, engine.session.max_length))
        return examples[:limit]
    (end, *_) = engine.stop_token_ids or (evaluated.tokenizer.eos_token_id or 0,)
    return document_examples(held_out.documents, engine.prompts, evaluated.tokenizer, end)


def read_text(path: Path) -> str:
    """Read a text file; see `decode_text` for its encoding.

    Raises:
        InputError: It is missing, or no text.
    """
    try:
        return decode_text(path.read_bytes(), str(path), InputError)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _reference(
    evaluated: EvaluatedArtifact, against: Path | None, threads: int | None, notes: list[str]
) -> Reference | None:
    """The float32 model; where none was named and none is found, a note instead."""
    if against is not None:
        return find_reference(evaluated, against, threads)
    try:
        return find_reference(evaluated, None, threads)
    except ExportError as error:
        notes.append(f"not compared with float32: {error}")
        return None


def _experts(
    evaluated: EvaluatedArtifact, examples: Sequence[Example], notes: list[str], progress: Share
) -> ExpertLoad | None:
    """The shares of the experts' work; None for a dense model, for a plan, and where the graph does not show them."""
    if evaluated.experts is None or evaluated.is_plan:
        return None
    session = open_session(evaluated.artifact.graph)
    facts = session_facts(session)
    try:
        return expert_load(evaluated.artifact.graph, facts, evaluated.experts, examples, progress)
    except ExportError as error:
        notes.append(f"the experts' work was not counted: {error}")
        return None


def _wrong_answers(
    judged: Sequence[tuple[Question, bool]], answers: Sequence[str], most: int
) -> tuple[WrongAnswer, ...]:
    """Some wrong answers, spread over the questions."""
    missed = [
        WrongAnswer(question.prompt, answer, question.exact or " and ".join(question.names))
        for (question, is_right), answer in zip(judged, answers, strict=True)
        if not is_right
    ]
    count = min(most, len(missed))
    return tuple(missed[index * len(missed) // count] for index in range(count))
