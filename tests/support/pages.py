"""The pages of the project as tests read them: code blocks with their commands and output, code in the text, tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = (
    "*.md",
    *(f"{folder}/**/*.md" for folder in ("docs", "examples", "interop", "export", "benchmarks", ".github")),
)
FENCE = re.compile(r"^(```+)(\w*)$")
TRAILING = re.compile(r"\s+#\s.*$")
COMMENT = re.compile(rf"{TRAILING.pattern}|^#.*$")
CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command line of a block.

    Attributes:
        line: The command, its continued lines joined, without the prompt and without a comment.
        output: What the page shows as its output, a line each.
    """

    line: str
    output: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line)


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        page: Path of the page in the repository.
        number: Number of the line of its fence, from 1.
        language: The language after the fence.
        text: The lines between the fences.
    """

    page: str
    number: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The page and the first words of the block, by which the tables of the tests name it."""
        return f"{self.page}: {beginning(self.text.splitlines()[0])}"

    @property
    def commands(self) -> list[Command]:
        """The command lines of a block in `sh` or `console`; in the latter, lines without `$` are output."""
        found: list[Command] = []
        lines = iter(self.text.splitlines())
        for line in lines:
            if self.language == "console" and not line.startswith("$ "):
                found[-1] = Command(found[-1].line, (*found[-1].output, line))
                continue
            joined = line.removeprefix("$ ")
            while joined.endswith("\\"):
                joined = joined[:-1] + next(lines).lstrip()
            joined = COMMENT.sub("", joined).strip()
            if joined:
                found.append(Command(joined, ()))
        return found


def beginning(line: str) -> str:
    """The first words of a line of code, without prompt and comment, at most 45 characters."""
    first, *words = TRAILING.sub("", line.removeprefix("$ ").strip()).split()
    while words and len(first) + 1 + len(words[0]) <= 45:
        first += f" {words.pop(0)}"
    return first[:45]


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def pages() -> tuple[str, ...]:
    """The paths of all pages in the repository."""
    return tuple(sorted({path.relative_to(ROOT).as_posix() for each in PATTERNS for path in ROOT.glob(each)}))


@cache
def blocks(*languages: str) -> tuple[Block, ...]:
    """The code blocks of all pages, of all languages unless some are given."""
    return tuple(block for page in pages() for block in blocks_of(page) if not languages or block.language in languages)


def blocks_of(page: str) -> Iterator[Block]:
    opened: tuple[int, str] | None = None
    kept: list[str] = []
    for number, line in enumerate(text_of(page).splitlines(), 1):
        fence = FENCE.match(line)
        if fence and opened is None:
            opened, kept = (number, fence[2]), []
        elif fence and opened is not None:
            yield Block(page, opened[0], opened[1], "\n".join(kept))
            opened = None
        else:
            kept.append(line)


def block_named(name: str) -> Block:
    (found,) = [block for block in blocks() if block.name == name]
    return found


def inline_code(page: str) -> Iterator[str]:
    """The code in the text and the tables of a page, each on one line."""
    prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    for found in CODE.finditer(prose):
        yield " ".join(found[2].split()).replace("\\|", "|")


def prose_of(page: str) -> str:
    """A page on one line, without the marks of code and emphasis, for sentences that span lines."""
    return " ".join(re.sub(r"[`*]", "", text_of(page)).split())


def table(page: str, *columns: str, first: str | None = None) -> dict[str, list[str]]:
    """The rows of a table, by their first cell, without emphasis.

    Args:
        page: The page.
        columns: The header after its first cell, by which the table is found.
        first: The first cell of the header, where several tables have these columns.
    """
    lines = text_of(page).splitlines()
    heads = [(number, cells(line)) for number, line in enumerate(lines)]
    (start,) = [number for number, head in heads if head[1:] == list(columns) and first in {None, head[0]}]
    rows: dict[str, list[str]] = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *rest = cells(line)
        assert name not in rows, f"{page} has two rows {name!r}"
        rows[name] = rest
    assert rows
    return rows


def cells(line: str) -> list[str]:
    """The cells of a line of a table, without emphasis; a single empty one for any other line."""
    if not line.startswith("|"):
        return [""]
    return [cell.strip().replace("**", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
