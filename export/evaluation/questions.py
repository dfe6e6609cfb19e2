"""Questions put to an engine: what they are, the answers it gives, and whether these are right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from minimind_edge.runtime.decode import generate
from minimind_edge.runtime.errors import PromptError
from minimind_edge.runtime.sampling import SamplingParams

from ..progress import Share
from .examples import BATCH_SIZE

if TYPE_CHECKING:
    from minimind_edge.runtime.engine import Engine
    from minimind_edge.runtime.session.session import Session
    from minimind_edge.runtime.text.tokenizer import Tokenizer

Kind = Literal["facts", "sums", "topic_copy"]

KINDS: tuple[Kind, ...] = ("facts", "sums", "topic_copy")

FREE_ANSWER_TOKENS = 160
"""The most tokens of an answer that has no one right text."""

MARGIN_TOKENS = 4
"""Tokens that an answer is given on top of twice the right one's."""


@dataclass(frozen=True)
class Question:
    """A prompt whose answer can be judged: it is right where it equals `exact`, or else names all of `names`.

    A name counts as a word of its own, in exactly that form: "fox" in "the fox's lamp", but "king" not in "looking".
    Chinese has no spaces between words; `lookalikes` are the longer words that a name must not be taken out of.

    Args:
        kind: What the question measures.
        language: `en` or `zh`.
        prompt: What the user says.
        exact: The one right answer.
        names: What the answer has to name, where there is no one right answer.
        lookalikes: Words that hold a name and mean something else, such as 猫头鹰 (owl) for 猫 (cat).
    """

    kind: Kind
    language: str
    prompt: str
    exact: str | None = None
    names: tuple[str, ...] = ()
    lookalikes: tuple[str, ...] = ()

    def is_right(self, answer: str) -> bool:
        """Whether an answer is right."""
        if self.exact is not None:
            return answer == self.exact
        return all(self._is_named(name, answer) for name in self.names)

    def _is_named(self, name: str, answer: str) -> bool:
        for other in self.lookalikes:
            if name in other and name != other:
                answer = answer.replace(other, " ")
        if name.isascii():
            return re.search(rf"\b{re.escape(name)}\b", answer, re.ASCII | re.IGNORECASE) is not None
        return name in answer


@dataclass(frozen=True)
class Score:
    """How many answers of one kind and language are right, of `asked`, which is at least 1."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        """The share of right answers, 0 to 1."""
        return self.right / self.asked

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {"right": self.right, "asked": self.asked, "share": self.share}


def scores(judged: Iterable[tuple[Question, bool]]) -> dict[Kind, dict[str, Score]]:
    """Count right answers by kind and language; a kind of which nothing was asked has no languages."""
    found: dict[Kind, dict[str, Score]] = {kind: {} for kind in KINDS}
    for question, is_right in judged:
        languages = found[question.kind]
        before = languages.get(question.language, Score(0, 0))
        languages[question.language] = Score(before.right + is_right, before.asked + 1)
    return found


@dataclass(frozen=True)
class Task:
    """A question in tokens; an answer of more than `budget` tokens is not waited for."""

    index: int
    prompt: tuple[int, ...]
    budget: int


def answer_all(
    engine: Engine,
    questions: Sequence[Question],
    *,
    batch_size: int = BATCH_SIZE,
    progress: Share = lambda done: None,
) -> list[str]:
    """Answer each question greedily, as the first turn of a chat; an answer longer than any right one is cut.

    Args:
        engine: An engine with a tokenizer.
        questions: The questions, in any order.
        batch_size: The most questions that are answered together.
        progress: Called with the share that is done.

    Returns:
        The answers, in the questions' order.

    Raises:
        PromptError: The model has no tokenizer.
    """
    tokenizer = engine.tokenizer
    if tokenizer is None:
        raise PromptError("questions need a tokenizer, which this model came without")
    tasks = [
        Task(index, engine.prompts.build(question.prompt).token_ids, answer_budget(question, tokenizer))
        for index, question in enumerate(questions)
    ]
    answers = [""] * len(tasks)
    # Answers of similar length end together, so that no row waits long for others.
    tasks.sort(key=lambda task: (task.budget, len(task.prompt)))
    done, work = 0, sum(task.budget for task in tasks)
    for start in range(0, len(tasks), batch_size):
        group = tasks[start : start + batch_size]
        for task, token_ids in zip(group, _greedy(engine.session, group, engine.stop_token_ids), strict=True):
            answers[task.index] = tokenizer.decode(token_ids)
            done += task.budget
        progress(done / work)
    return answers


def answer_budget(question: Question, tokenizer: Tokenizer) -> int:
    """The most tokens of an answer: twice the right one's, as a text can be cut into tokens in other ways."""
    if question.exact is None:
        return FREE_ANSWER_TOKENS
    return 2 * len(tokenizer.encode(question.exact, add_special_tokens=False)) + MARGIN_TOKENS


def _greedy(session: Session, tasks: Sequence[Task], stop_token_ids: Sequence[int]) -> Iterator[list[int]]:
    """The tokens that follow each prompt, without the one that ends them."""
    rows: list[list[int]] = [[] for _ in tasks]
    generation = generate(
        session,
        [task.prompt for task in tasks],
        SamplingParams(greedy=True),
        max_new_tokens=max(task.budget for task in tasks),
        stop_token_ids=stop_token_ids,
    )
    for step in generation:
        for row, token in zip(rows, step.token_ids, strict=True):
            if token is not None and token not in stop_token_ids:
                row.append(token)
    yield from rows
