"""The demo's held-out split: questions and documents that the training of the bundled checkpoints cannot draw."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import msgspec

from minimind_edge.runtime.artifact.json_file import read_json
from minimind_edge.runtime.errors import ArtifactError

from ..bundled import DEMO_FOLDER
from .examples import Document
from .questions import KINDS, Question

FILE = DEMO_FOLDER / "held_out.json"
FORMAT = 1


@dataclass(frozen=True)
class HeldOut:
    """The held-out split: the questions to ask, and the documents whose perplexity is measured."""

    questions: tuple[Question, ...]
    documents: tuple[Document, ...]

    @classmethod
    def read(cls, path: Path) -> HeldOut:
        """Read a file that has the content of `text`.

        Raises:
            ArtifactError: The file is missing, or it is of another kind or format.
        """
        try:
            content = read_json(path, _Content)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; reinstall minimind-edge") from error
        questions = (*_facts(content.facts), *_sums(content.sums), *_stories(content.stories))
        return cls(questions, tuple(Document(entry.prompt, entry.answer) for entry in content.documents))

    def text(self) -> str:
        """The content of the split's file: JSON with one entry per line, so that a change can be read in a diff."""
        parts: dict[str, Iterable[dict[str, Any]]] = {
            "facts": _fact_entries(question for question in self.questions if question.kind == "facts"),
            "sums": (
                {"language": question.language, "question": question.prompt, "answer": question.exact}
                for question in self.questions
                if question.kind == "sums"
            ),
            "stories": (_story_entry(question) for question in self.questions if question.kind == "topic_copy"),
            "documents": ({"prompt": document.prompt, "answer": document.answer} for document in self.documents),
        }
        lists = (f'"{name}": [\n{_lines(entries)}\n]' for name, entries in parts.items())
        return f'{{\n"format": {FORMAT},\n' + ",\n".join(lists) + "\n}\n"

    def limited(self, limit: int) -> HeldOut:
        """At most `limit` questions of each kind and language, and at most `limit` documents, spread over the split."""
        groups: dict[tuple[str, str], list[Question]] = {}
        for question in sorted(self.questions, key=lambda question: KINDS.index(question.kind)):
            groups.setdefault((question.kind, question.language), []).append(question)
        questions = tuple(question for group in groups.values() for question in _spread(group, limit))
        return HeldOut(questions, tuple(_spread(list(self.documents), limit)))


def bundled_held_out() -> HeldOut:
    """The split that the package comes with.

    Raises:
        ArtifactError: The package was installed without its data.
    """
    if not FILE.is_file():
        raise ArtifactError(f"{FILE} is missing; run `pip install minimind-edge-export`")
    return HeldOut.read(FILE)


def _spread(entries: list[Any], limit: int) -> list[Any]:
    """At most `limit` entries, evenly spaced."""
    count = min(limit, len(entries))
    return [entries[index * len(entries) // count] for index in range(count)]


class _Fact(msgspec.Struct, frozen=True):
    language: str
    answer: str
    questions: tuple[str, ...]


class _Sum(msgspec.Struct, frozen=True):
    language: str
    question: str
    answer: str


class _Story(msgspec.Struct, frozen=True):
    language: str
    request: str
    names: tuple[str, ...]
    lookalikes: tuple[str, ...] = ()


class _Document(msgspec.Struct, frozen=True):
    prompt: str
    answer: str


class _Content(msgspec.Struct, frozen=True):
    """The content of the held-out split's file."""

    format: Literal[1]
    facts: tuple[_Fact, ...]
    sums: tuple[_Sum, ...]
    stories: tuple[_Story, ...]
    documents: tuple[_Document, ...]


def _facts(entries: Iterable[_Fact]) -> Iterator[Question]:
    for entry in entries:
        for prompt in entry.questions:
            yield Question("facts", entry.language, prompt, entry.answer)


def _sums(entries: Iterable[_Sum]) -> Iterator[Question]:
    return (Question("sums", entry.language, entry.question, entry.answer) for entry in entries)


def _stories(entries: Iterable[_Story]) -> Iterator[Question]:
    for entry in entries:
        names, lookalikes = entry.names, entry.lookalikes
        yield Question("topic_copy", entry.language, entry.request, names=names, lookalikes=lookalikes)


def _fact_entries(questions: Iterable[Question]) -> Iterator[dict[str, Any]]:
    for (language, answer), group in groupby(questions, lambda question: (question.language, question.exact)):
        yield {"language": language, "answer": answer, "questions": [question.prompt for question in group]}


def _story_entry(question: Question) -> dict[str, Any]:
    entry = {"language": question.language, "request": question.prompt, "names": list(question.names)}
    return entry | ({"lookalikes": list(question.lookalikes)} if question.lookalikes else {})


def _lines(entries: Iterable[dict[str, Any]]) -> str:
    return ",\n".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in entries)
