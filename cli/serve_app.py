"""`minimind-serve`: serves artifacts by OpenAI's HTTP interface."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .artifact_options import MACHINE, DeviceOption, MaxLengthOption, PrecisionOption
from .choices import Device
from .entry import INTERRUPTED, compute_without_blas, guarded, run
from .help_text import HelpCommand
from .version import VersionOption

if TYPE_CHECKING:
    import socket

    from minimind_edge.server.settings import ServeSettings

app = typer.Typer(rich_markup_mode=None)

WHERE, LOAD, ACCESS = "Where", "Load and limits", "Access"

KEY_VARIABLE = "MINIMIND_EDGE_API_KEY"
"""The environment variable that holds API keys, separated by commas."""

MIB = 1 << 20

EXIT_CODES = (
    "Exit codes: 0 ended by SIGTERM after the running requests, 1 a bug, 2 usage, 3 bad input, 4 something is missing, "
    "130 Ctrl-C."
)


@app.command(epilog=EXIT_CODES, cls=HelpCommand)
def serve(
    artifacts: Annotated[
        list[Path],
        typer.Argument(metavar="ARTIFACT...", help="Artifact folders, or hf://OWNER/NAME.", show_default=False),
    ],
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.", rich_help_panel=WHERE)] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any.", rich_help_panel=WHERE)
    ] = 8000,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name of the model; for several artifacts NAME=ARTIFACT.  (default: the artifact's)",
            rich_help_panel=WHERE,
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Requests that run at once.  (default: 16)", rich_help_panel=LOAD),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Requests that wait for a slot.  (default: 4 a slot)", rich_help_panel=LOAD
        ),
    ] = None,
    step_ms: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="MS",
            help="Prompt work between two tokens of the others.  (default: 64 to 128 tokens)",
            rich_help_panel=LOAD,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, metavar="N", help="Processes that share the port.", rich_help_panel=LOAD)
    ] = 1,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="S",
            help="Seconds for a request to arrive, for a client to read, and for the end.",
            rich_help_panel=LOAD,
        ),
    ] = 60.0,
    keepalive: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="S",
            help="Seconds without an event after which a stream gets a comment; 0 for never.",
            rich_help_panel=LOAD,
        ),
    ] = 15.0,
    max_body: Annotated[
        float, typer.Option(min=0.001, metavar="MIB", help="Most MiB of a request.", rich_help_panel=LOAD)
    ] = 4.0,
    prefix_cache: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="MIB",
            help="MiB of finished prompts and answers kept for later requests.  (default: 256)",
            rich_help_panel=LOAD,
        ),
    ] = None,
    invariant: Annotated[
        bool | None,
        typer.Option(
            "--invariant/--no-invariant",
            help="The same text, whatever runs next to it.  (default: with more than one slot)",
            rich_help_panel=LOAD,
        ),
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help=f"API key; repeatable.  (or {KEY_VARIABLE})", rich_help_panel=ACCESS),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="Site whose pages may use the server, or *; repeatable.", rich_help_panel=ACCESS
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Host name to answer to, or *; repeatable.  (default: all, on 127.0.0.1 its own)",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    access_log: Annotated[
        bool,
        typer.Option("--access-log/--no-access-log", help="Log a line for each request.", rich_help_panel=ACCESS),
    ] = True,
    precision: PrecisionOption = None,
    device: DeviceOption = Device.AUTO,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="CPU threads of each worker.  (default: as measured; workers divide the physical cores)",
            show_default=False,
            rich_help_panel=MACHINE,
        ),
    ] = None,
    max_length: MaxLengthOption = None,
    version: VersionOption = False,
) -> int:
    """Serve artifacts by OpenAI's HTTP interface, many requests at once.

    SIGTERM and Ctrl-C let the running requests finish; a second Ctrl-C ends the server at once.

    \b
    Examples:
      minimind-serve minimind-demo
      minimind-serve minimind-demo my-model --port 8080 --slots 32
      minimind-serve hf://OWNER/NAME@REVISION
      MINIMIND_EDGE_API_KEY=secret minimind-serve minimind-demo --host 0.0.0.0
    """
    from minimind_edge.runtime.hub import local_path
    from minimind_edge.server.settings import EngineSettings, ServerSettings, ServeSettings

    graph = precision.value if precision else None
    named = named_artifacts(artifacts, name or [])
    settings = ServeSettings(
        artifacts={key: local_path(path, precision=graph, is_artifact=True) for key, path in named.items()},
        engine=EngineSettings(
            slots=slots if slots is not None else EngineSettings.slots,
            threads=threads,
            max_length=max_length,
            precision=graph,
            device=device.value,
            step_ms=step_ms,
            queue=queue,
            invariant=invariant,
            prefix_cache_mib=prefix_cache,
        ),
        app=ServerSettings(keepalive_s=keepalive),
        workers=workers,
        timeout_s=timeout,
        keys=api_keys(api_key),
        origins=tuple(cors or ()),
        hosts=None,
        max_body_bytes=round(max_body * MIB),
        access_log=access_log,
    )
    return serve_until_the_end(settings, host, port, allow_host or [])


def serve_until_the_end(settings: ServeSettings, host: str, port: int, allowed: list[str]) -> int:
    """Listen and serve; the exit code."""
    from dataclasses import replace

    from minimind_edge.runtime.errors import MissingError

    from .interruption import release_signals

    try:
        from minimind_edge.server.middleware import LOOPBACK_NAMES
        from minimind_edge.server.run import allow_many_connections, is_loopback, listening_socket
        from minimind_edge.server.serving import serve_alone
        from minimind_edge.server.workers import Supervisor
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("minimind_edge"):
            raise
        package = (error.name or "").partition(".")[0]
        raise MissingError(
            f"the Python package {package!r} is not installed: run pip install 'minimind-edge[serve]'"
        ) from error
    if is_loopback(host):
        settings = replace(settings, hosts=(*LOOPBACK_NAMES, host, *allowed))
    else:
        settings = replace(settings, hosts=tuple(allowed) or None)
        if not settings.keys:
            tell(f"warning: everyone who reaches {host} may use this server: set an API key by {KEY_VARIABLE}")
    if "*" in allowed:
        settings = replace(settings, hosts=None)
    allow_many_connections()
    listener = listening_socket(host, port)
    if settings.workers == 1:
        return INTERRUPTED if serve_alone(settings, listener, tell, release_signals) else 0
    release_signals()
    return Supervisor(settings, listener, work, tell).run()


def work(settings: ServeSettings, channel: socket.socket, rows: Any, index: int) -> NoReturn:
    """Be one of several workers; the function of its process."""
    from minimind_edge.server.workers import run_worker

    from .entry import end_at_once, prepare_streams

    prepare_streams()
    silent = index > 0
    end_at_once(guarded(lambda: run_worker(settings, channel, rows, index, ignore if silent else tell)))


def named_artifacts(artifacts: list[Path], names: list[str]) -> dict[str, Path]:
    """The artifacts by the names under which they are served.

    Args:
        artifacts: The artifacts.
        names: A single name for a single artifact, or `NAME=ARTIFACT` for some of them.

    Raises:
        typer.BadParameter: A name fits no artifact, or two artifacts would have one name.
        UsageError: The path of an artifact begins like the address of a repository on the Hub, and is none.
    """
    chosen: dict[Path, str] = {}
    for given in names:
        name, equals, path = given.partition("=")
        if not equals and len(artifacts) == 1:
            path = str(artifacts[0])
        if not name or Path(path) not in artifacts:
            raise typer.BadParameter(
                f"{given!r} names none of the artifacts: expected NAME=ARTIFACT", param_hint="--name"
            )
        chosen[Path(path)] = name
    found: dict[str, Path] = {}
    for artifact in artifacts:
        name = chosen.get(artifact) or own_name(artifact)
        if name in found:
            raise typer.BadParameter(
                f"{found[name]} and {artifact} would both be served as {name}: name one by NAME=ARTIFACT",
                param_hint="--name",
            )
        found[name] = artifact
    return found


def own_name(artifact: Path) -> str:
    """The name of an artifact's folder, or of its repository on the Hub.

    Raises:
        UsageError: The path begins like a repository's address, and is none.
    """
    from minimind_edge.runtime.hub import hub_address

    address = hub_address(artifact)
    return artifact.resolve().name if address is None else address.repository.partition("/")[2]


def api_keys(given: list[str] | None) -> tuple[str, ...]:
    """The API keys of the options, or else of the environment.

    Raises:
        typer.BadParameter: A key is empty.
    """
    keys = given if given is not None else [key for key in os.environ.get(KEY_VARIABLE, "").split(",") if key]
    if not all(key.strip() for key in keys):
        raise typer.BadParameter("a key may not be empty", param_hint="--api-key")
    return tuple(key.strip() for key in keys)


def tell(line: str) -> None:
    """Print a line about the progress."""
    print(line, file=sys.stderr, flush=True)


def ignore(_: str) -> None:
    """Print nothing: the first worker has told it."""


def main() -> NoReturn:
    """Run `minimind-serve`."""
    compute_without_blas()
    run(app, "minimind-serve", at_once=True)
