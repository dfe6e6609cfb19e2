"""The form of every inspection: its findings as JSON, and as a table for people."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from minimind_edge.runtime.artifact.manifest import CheckpointEntry


@dataclass(frozen=True)
class Section:
    """A part of a table with a title; each row is a label and a value."""

    title: str
    rows: tuple[tuple[str, str], ...]


class Inspection(ABC):
    """The findings about a checkpoint, a graph, an artifact folder or a plan."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All findings, in values that JSON holds; `kind` is `checkpoint`, `graph`, `artifact` or `plan`."""

    @abstractmethod
    def sections(self) -> tuple[Section, ...]:
        """The findings that the table for people shows."""

    def lines(self) -> Iterator[str]:
        """The sections as text: a title, then its rows in two columns."""
        for index, section in enumerate(self.sections()):
            if index:
                yield ""
            yield section.title
            width = max((len(label) for label, _ in section.rows), default=0)
            for label, value in section.rows:
                yield f"  {label:<{width}}  {value}"


def architecture_section(architecture: Mapping[str, Any]) -> Section:
    """The section of an architecture, as `describe_architecture` gives it; keys that are missing are left out."""
    rows = [(name.replace("_", " "), _shown(value)) for name, value in architecture.items() if _is_plain(value)]
    rope, moe, parameters = (architecture.get(name) or {} for name in ("rope", "moe", "parameters"))
    if rope:
        rows.append(("rope", f"theta {rope.get('theta')}, {_shown_yarn(rope.get('yarn'))}"))
    rows.extend((f"moe {name.removeprefix('moe_').replace('_', ' ')}", _shown(value)) for name, value in moe.items())
    rows.extend((f"parameters {name}", f"{count:,}") for name, count in parameters.items())
    return Section("architecture", tuple(rows))


def checkpoint_rows(checkpoint: CheckpointEntry | None) -> tuple[tuple[str, str], ...]:
    """The rows about the checkpoint that the weights came from; none where it is unknown."""
    if checkpoint is None:
        return ()
    hub = f"hf://{checkpoint.hub}@{checkpoint.revision}" if checkpoint.hub else None
    rows = [("file", checkpoint.file), ("from", hub), ("sha256", checkpoint.sha256)]
    rows += [("generation", checkpoint.generation)]
    rows += [("lora", f"{adapter.file} (sha256 {adapter.sha256})") for adapter in checkpoint.lora]
    return tuple((f"checkpoint {name}", value) for name, value in rows if value)


def byte_count(count: int) -> str:
    """A number of bytes as people read it, in decimal units."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit} ({count:,} bytes)"
    return f"{count} bytes"


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _shown_yarn(yarn: Mapping[str, Any] | None) -> str:
    if not yarn:
        return "no scaling"
    kind = {"yarn": "YaRN", "yarn-transformers": "YaRN"}.get(str(yarn.get("type", "yarn")), yarn.get("type"))
    original = yarn.get("original_max_position_embeddings")
    return f"{kind} factor {yarn.get('factor')}" + (f" from {original} tokens" if original else "")
