"""Questions put to an engine, and its answers: greedy, as the first turn of a chat, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minimind_edge.runtime.decode import generate
from minimind_edge.runtime.errors import PromptError
from minimind_edge.runtime.sampling import SamplingParams

from .question import Question
from .row import ROWS

if TYPE_CHECKING:
    from minimind_edge.runtime.engine import Engine
    from minimind_edge.runtime.session.session import Session
    from minimind_edge.runtime.text.tokenizer import Tokenizer

FREE_ANSWER_TOKENS = 160
"""Most tokens of an answer that has no one right text."""

MARGIN_TOKENS = 4


@dataclass(frozen=True)
class Task:
    """A question made ready: an answer of more than `budget` tokens need not be waited for."""

    index: int
    prompt: tuple[int, ...]
    budget: int


def answer_all(
    engine: Engine,
    questions: Sequence[Question],
    *,
    most_rows: int = ROWS,
    progress: Callable[[float], None] = lambda done: None,
) -> list[str]:
    """Answer each question; answers that are longer than right ones can be are cut.

    Args:
        engine: With a tokenizer.
        questions: In any order.
        most_rows: Questions at a time.
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
    # Answers of like length end together, so that no row waits long for others.
    tasks.sort(key=lambda task: (task.budget, len(task.prompt)))
    done, work = 0, sum(task.budget for task in tasks)
    for start in range(0, len(tasks), most_rows):
        group = tasks[start : start + most_rows]
        for task, token_ids in zip(group, _greedy(engine.session, group, engine.stop_token_ids), strict=True):
            answers[task.index] = tokenizer.decode(token_ids)
            done += task.budget
        progress(done / work)
    return answers


def answer_budget(question: Question, tokenizer: Tokenizer) -> int:
    """Most tokens that the answer is given: twice the right one's, as a text can be cut into tokens in other ways."""
    if question.exact is None:
        return FREE_ANSWER_TOKENS
    return 2 * len(tokenizer.encode(question.exact, add_special_tokens=False)) + MARGIN_TOKENS


def _greedy(session: Session, tasks: Sequence[Task], stop_token_ids: Sequence[int]) -> Iterator[list[int]]:
    """The tokens behind each prompt, without the one that ends them."""
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
