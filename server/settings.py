"""The settings of the server's HTTP application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ServerSettings:
    """Settings of the HTTP application.

    Attributes:
        aliases: Further names of models, each with the name that is served.
        strict_model_names: Whether a request has to give a served name or an alias. Where it does not, and one model is
            served, a request may give any name or none, and gets this model, whose name the response tells.
        max_sequences: Most sequences of one request: the number of its prompts times `n`.
        retry_after_s: Seconds after which a refused request may be sent again, for the header `Retry-After`.
        keepalive_s: Seconds without an event after which a stream gets a comment, so that no proxy takes it for dead; 0
            for never.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    strict_model_names: bool = False
    max_sequences: int = 64
    retry_after_s: int = 1
    keepalive_s: float = 15.0


@dataclass(frozen=True)
class EngineSettings:
    """How each model is run; None leaves the choice to the engine.

    Attributes:
        slots: Number of requests that run at once.
        threads: CPU threads of each worker.
        max_length: Most tokens of prompt and answer together.
        precision: Precision of the graph to use.
        device: Device that runs it.
        step_ms: Most milliseconds of prompt work between two tokens of the other answers.
        queue: Most requests that wait for a slot.
        invariant: Whether every answer is the same, bit for bit, whatever runs next to it, a single one included; None
            for true with more than one slot.
        prefix_cache_mib: Most MiB of the prompts and answers that are kept for later requests.
    """

    slots: int = 16
    threads: int | None = None
    max_length: int | None = None
    precision: str | None = None
    device: str = "auto"
    step_ms: float | None = None
    queue: int | None = None
    invariant: bool | None = None
    prefix_cache_mib: float | None = None


@dataclass(frozen=True)
class ServeSettings:
    """What `minimind-serve` serves, and where.

    Attributes:
        artifacts: Artifact folders by the name under which each is served, at least one.
        engine: How each of them is run.
        app: Settings of the HTTP application.
        workers: Number of processes that share the port, each with its own models.
        timeout_s: Seconds for a request to arrive, for a client to read, and for the running requests at the end.
        keys: API keys, of which a request has to carry one; empty for a server that is open.
        origins: Origins of web pages that may use the server.
        hosts: Host names that the server answers to; None for all.
        max_body_bytes: Most bytes of a request's body.
        access_log: Whether requests are logged.
    """

    artifacts: Mapping[str, Path]
    engine: EngineSettings = field(default_factory=EngineSettings)
    app: ServerSettings = field(default_factory=ServerSettings)
    workers: int = 1
    timeout_s: float = 60.0
    keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] | None = None
    max_body_bytes: int = 4 << 20
    access_log: bool = True
