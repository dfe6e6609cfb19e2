"""From settings to a server: the engines, the application with its metrics, and what stands before it."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from starlette.routing import Route
from starlette.types import ASGIApp

from .access_log import writing_logs
from .app import create_app
from .chat_page import page_files, page_routes
from .engine import BatchEngine
from .metrics import Metrics
from .middleware import Presence, guarded
from .run import DrainingServer, Hooks, address_of, make_server
from .settings import ServeSettings

WARM_UP = "hello"
"""A prompt that is made from the chat template before the first request."""

USUAL_ROWS = 8
"""The most rows for which the number of threads is measured: with more of them, more threads only help more."""

Tell = Callable[[str], None]
"""Takes a line about the progress of loading, or a remark about a model."""


def load_engines(settings: ServeSettings, tell: Tell) -> dict[str, BatchEngine]:
    """Load every artifact.

    Args:
        settings: What is served, and how.
        tell: Takes lines about the progress.

    Returns:
        The engines by the name of their model.

    Raises:
        EdgeError: An artifact cannot be served.
    """
    from minimind_edge.runtime.batch.engine import BatchEngine as Engine
    from minimind_edge.runtime.thread_count import best_threads

    engines: dict[str, BatchEngine] = {}
    for name, path in settings.artifacts.items():
        tell(f"loading {name} from {path}")
        options = {key: value for key, value in asdict(settings.engine).items() if value is not None}
        if settings.engine.threads is None:
            options["threads"] = best_threads(
                path,
                settings.engine.precision,
                device=settings.engine.device,
                rows=min(settings.engine.slots, USUAL_ROWS),
                tell=tell,
            )
        engine = engines[name] = Engine.load(path, **options)
        if engine.prompts.template is not None:  # the first use takes as long as many later ones
            engine.prompts.build(WARM_UP)
        if engine.remark is not None:
            tell(f"{name}: {engine.remark}")
    return engines


def build_app(
    settings: ServeSettings, engines: Mapping[str, BatchEngine], presence: Presence, metrics: Metrics
) -> ASGIApp:
    """The application with its metrics, its page and what stands before them.

    Args:
        settings: What is served, and to whom.
        engines: The engines by the name of their model.
        presence: Where running requests are counted.
        metrics: Counts the answers.
    """
    app = create_app(engines, settings.app, metrics)
    page = page_routes(settings.artifacts, engines, settings.engine.precision)
    app.router.routes.extend([Route("/metrics", metrics.endpoint), *page])
    return guarded(
        app,
        presence,
        keys=settings.keys,
        hosts=settings.hosts,
        origins=settings.origins,
        max_body_bytes=settings.max_body_bytes,
        open_paths=page_files(),
    )


def prepare(
    settings: ServeSettings,
    tell: Tell,
    hooks: Hooks,
    *,
    rows: NDArray[np.float64] | None = None,
    worker: int = 0,
) -> DrainingServer:
    """Load the models, and make the server of them.

    Args:
        settings: What is served, and to whom.
        tell: Takes lines about the progress.
        hooks: What is called at the turns of the server's life.
        rows: The memory for the metrics of all workers; None for a single one.
        worker: The index of this worker.

    Raises:
        EdgeError: An artifact cannot be served.
    """
    engines, presence = load_engines(settings, tell), Presence()
    gc.collect()
    gc.freeze()  # what is loaded stays: looking through it again and again would make the streams stutter
    metrics = Metrics(engines, rows, worker)
    app = build_app(settings, engines, presence, metrics)

    def end_answers() -> None:
        for engine in engines.values():  # waits for a step of the model, which may be long
            asyncio.get_running_loop().run_in_executor(None, partial(engine.close, drain=False))

    compiles = settings.engine.device not in ("auto", "cpu")  # at its first step, maybe for minutes
    are_moving = progress({} if compiles else engines)

    def each_second() -> None:
        if rows is not None:  # other workers show this one's figures; alone, they are noted when they are asked for
            metrics.update()
        if are_moving():
            hooks.second()

    return make_server(app, presence, settings.timeout_s, replace(hooks, late=end_answers, second=each_second))


def progress(engines: Mapping[str, BatchEngine]) -> Callable[[], bool]:
    """A function that tells whether each engine with running requests has ended a step since its last call."""
    before: dict[str, int] = {}

    def are_moving() -> bool:
        counts = {name: engine.counts() for name, engine in engines.items()}
        standing = any(each.running and each.steps == before.get(name) for name, each in counts.items())
        before.update({name: each.steps for name, each in counts.items()})
        return not standing

    return are_moving


def serve_alone(
    settings: ServeSettings, listener: socket.socket, tell: Tell, before_serving: Callable[[], None]
) -> bool:
    """Load the models and serve them in this process, until a signal ends it.

    Args:
        settings: What is served, and to whom.
        listener: The listening socket.
        tell: Takes lines about the progress, the last of which gives the address.
        before_serving: Called when all is loaded, right before the server handles signals itself.

    Returns:
        Whether Ctrl-C ended the server.

    Raises:
        EdgeError: An artifact cannot be served.
    """
    server = prepare(settings, tell, Hooks(ready=lambda: tell(greeting(settings, listener))))
    before_serving()
    with writing_logs(requests=settings.access_log):
        server.run([listener])
    return server.interrupted


def greeting(settings: ServeSettings, listener: socket.socket) -> str:
    """The line that tells where the server is."""
    address = address_of(listener)
    return f"serving {', '.join(settings.artifacts)} at {address}/ (a chat page; OpenAI's API is at {address}/v1)"
