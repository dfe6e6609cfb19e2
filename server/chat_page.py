"""The chat page of the server: its files, and what it shows about the models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from minimind_edge.page import INTERFACE
from minimind_edge.runtime.artifact.folder import Artifact

from .engine import BatchEngine

OWN = Path(__file__).parent / "page"
"""The folder of the page's files that ask this server."""

FACTS_PATH = "/page.json"
"""The path of what the page shows about the models; like the API, it takes a key."""

THINKING = ("enable_thinking", "open_thinking")
"""The variables by which chat templates are told whether the model thinks first."""

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
"""The headers of the page's files: it loads from this server alone, and no other page may frame it."""


def page_files() -> dict[str, Path]:
    """The page's files by the path under which they are served."""
    files = {}
    for folder in (INTERFACE, OWN):
        for path in folder.rglob("*"):
            if path.suffix in TYPES:
                files[f"/{path.relative_to(folder).as_posix()}"] = path
    files["/"] = files.pop("/index.html")
    return files


def page_routes(
    artifacts: Mapping[str, Path], engines: Mapping[str, BatchEngine], precision: str | None
) -> list[Route]:
    """The routes of the page.

    Args:
        artifacts: The artifacts by the name of their model.
        engines: The engines by the name of their model.
        precision: The precision whose graph was chosen, None for each artifact's own.
    """
    facts = [_facts(name, Artifact.open(artifacts[name], precision), engine) for name, engine in engines.items()]
    described = msgspec.json.encode({"models": facts})

    async def describe(request: Request) -> Response:
        return Response(described, headers=HEADERS, media_type="application/json")

    files = [_file_route(path, file) for path, file in page_files().items()]
    return [Route(FACTS_PATH, describe, methods=["GET"]), *files]


def _file_route(path: str, file: Path) -> Route:
    content, kind = file.read_bytes(), TYPES[file.suffix]

    async def send(request: Request) -> Response:
        return Response(content, headers={**HEADERS, "Content-Type": kind})

    return Route(path, send, methods=["GET"])


def _facts(name: str, artifact: Artifact, engine: BatchEngine) -> dict[str, Any]:
    """What the page knows about a model, in the names of its scripts."""
    params, template = engine.default_params, engine.prompts.template
    return {
        "model": name,
        "manifest": _card(name, artifact, engine),
        "params": {
            "temperature": params.temperature,
            "topK": params.top_k,
            "topP": params.top_p,
            "minP": params.min_p,
            "repetitionPenalty": params.repetition_penalty,
            "seed": None,
            "greedy": params.greedy,
        },
        "maxNewTokens": engine.max_new_tokens,
        "maxLength": engine.max_length,
        "chats": template is not None,
        "knowsThinking": template is not None and any(map(template.reads, THINKING)),
    }


def _card(name: str, artifact: Artifact, engine: BatchEngine) -> dict[str, Any]:
    """What the model card shows, in the manifest's own names."""
    manifest = artifact.manifest
    card: dict[str, Any] = {"checkpoint": {"file": name}, "architecture": {}, "tool": {}}
    if manifest is not None:
        card |= msgspec.to_builtins(
            {"checkpoint": manifest.checkpoint, "architecture": manifest.architecture, "tool": manifest.tool}
        )
        card = {key: value or {} for key, value in card.items()}
    entry = artifact.entry
    graph: dict[str, Any] = {"max_length": engine.max_length}
    if entry is not None:
        graph |= {"precision": entry.precision, "parity": msgspec.to_builtins(entry.parity)}
    return {**card, "graph": graph}
