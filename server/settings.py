"""The settings of the server's HTTP application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServerSettings:
    """Settings of the HTTP application.

    Attributes:
        aliases: Further names of models, each with the name that is served.
        strict_model_names: Whether a request has to give a served name or an alias. Where it does not, and one model is
            served, a request may give any name or none, and gets this model, whose name the response tells.
        max_sequences: Most sequences of one request: the number of its prompts times `n`.
        retry_after_s: Seconds after which a refused request may be sent again, for the header `Retry-After`.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    strict_model_names: bool = False
    max_sequences: int = 64
    retry_after_s: int = 1
