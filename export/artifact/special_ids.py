"""The ids of the special tokens bos, eos and pad, chosen from the checkpoint, its tokenizer and its generation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minimind_edge.minimind.checkpoint.report import CheckpointReport
    from minimind_edge.minimind.config import MiniMindConfig

    from .tokenizer_files import TokenizerFiles

ROLES = ("bos", "eos", "pad")


@dataclass(frozen=True)
class SpecialIds:
    """The special token ids, and the source of each.

    Attributes:
        ids: `bos_token_id`, `eos_token_id`, `pad_token_id`; None where there is none, a list for several.
        sources: The source of each id, in words, by the same names.
    """

    ids: dict[str, Any]
    sources: dict[str, str]

    def line(self) -> str:
        """A line of text with each id and its source."""
        told = (f"{name.removesuffix('_token_id')} {value} ({self.sources[name]})" for name, value in self.ids.items())
        return f"specials   {', '.join(told)}"

    def apply(self, config: MiniMindConfig, report: CheckpointReport) -> CheckpointReport:
        """Set the ids in a model's configuration; return the report without the assumptions that they replace."""
        for name, value in self.ids.items():
            setattr(config, name, value)
        assumed = {name: value for name, value in report.assumed.items() if name not in self.ids}
        return replace(report, assumed=assumed)


def choose_special_ids(report: CheckpointReport, tokenizer: TokenizerFiles | None) -> SpecialIds:
    """Choose each id: from the checkpoint's config, else from its tokenizer, else the default of its generation.

    A tokenizer that says it has no bos (`"bos_token": null`) is believed.

    Args:
        report: How the checkpoint became a model.
        tokenizer: The checkpoint's tokenizer; None where it has none.
    """
    ids: dict[str, Any] = {}
    sources = {}
    loaded = None if tokenizer is None else tokenizer.load()
    for role in ROLES:
        name = f"{role}_token_id"
        own = None if loaded is None or tokenizer is None else getattr(loaded, name)
        if report.given.get(name) is not None:
            ids[name], sources[name] = report.given[name], "config"
        elif own is not None and tokenizer is not None and own < tokenizer.size:
            ids[name], sources[name] = own, "tokenizer"
        elif role == "bos" and tokenizer is not None and tokenizer.config.get("bos_token", "") is None:
            ids[name], sources[name] = None, "tokenizer"
        else:
            ids[name], sources[name] = report.assumed.get(name), f"assumed for {report.generation}"
    return SpecialIds(ids, sources)
