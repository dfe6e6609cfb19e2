"""The servers of the benchmark: how each is started, and with which builds of the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..peers.contenders import EDGE, PEERS, Contender, Peer
from ..peers.preparation import Prepared

HERE = Path(__file__).resolve().parent

POSITIONS = 512
"""The positions that a request may take, in each server: its longest prompt and its longest answer."""

LLAMA_SERVER = Peer(
    "llama-server",
    str(HERE / "llama_server.py"),
    {"Q8_0": "int8", "Q4_0": "int4"},
    ("cmake==4.4.5", "ninja==1.13.2", "gguf==0.19.0", "numpy==2.4.6", "safetensors==0.8.0"),
)

OPENVINO = PEERS["OpenVINO GenAI"]


@dataclass(frozen=True)
class Site:
    """Where and for whom a server is started.

    Attributes:
        port: The port on 127.0.0.1.
        clients: The number of clients, for each of which a server keeps a slot.
        threads: The number of threads that compute.
    """

    port: int
    clients: int
    threads: int


@dataclass(frozen=True)
class Server:
    """A server in one configuration: a row of every table.

    Attributes:
        contender: The peer and its build.
        command: The command line that starts it, for a prepared model.
        variant: What distinguishes it from other configurations of the same build.
        fields: Fields of its requests in addition to those that all servers get.
        closes_connections: Whether it closes a connection after a streamed answer, although it announces to keep it.
        speaks_in_main_thread: Whether its main threads do nothing but HTTP, so that their processor time is HTTP's own.
    """

    contender: Contender
    command: Callable[[Prepared, Site], list[str]]
    variant: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    closes_connections: bool = False
    speaks_in_main_thread: bool = True

    @property
    def name(self) -> str:
        """The names of peer, build and variant."""
        return f"{self.contender.name}{self.variant and f', {self.variant}'}"

    @property
    def is_ours(self) -> bool:
        """Whether it is this project's."""
        return self.contender.peer is EDGE


def edge_command(prepared: Prepared, site: Site) -> list[str]:
    """This project's server with one process."""
    return serve_command(prepared, site, workers=1)


def edge_workers_command(prepared: Prepared, site: Site) -> list[str]:
    """This project's server with a process of one thread for each of the threads."""
    return serve_command(prepared, site, workers=site.threads)


def serve_command(prepared: Prepared, site: Site, *, workers: int) -> list[str]:
    """`minimind-serve`, by the interpreter that has this checkout's packages.

    A worker has a slot for every client, since the system deals connections out unevenly.
    """
    program = "from minimind_edge.cli.serve_app import main; main()"
    options = {"port": site.port, "slots": site.clients, "max-length": POSITIONS, "prefix-cache": 0}
    machine = {"workers": workers, "threads": site.threads // workers, "precision": prepared.contender.build}
    return [
        str(prepared.python),
        "-c",
        program,
        str(prepared.folder),
        *as_options(options | machine),
        "--no-access-log",
    ]


def llama_command(prepared: Prepared, site: Site) -> list[str]:
    """llama-server with a slot for each client, its caches apart, and its default of flash attention."""
    program = prepared.python.parent.parent / "build" / "bin" / "llama-server"
    options = {"model": prepared.folder / "model.gguf", "port": site.port, "threads": site.threads}
    slots = {"parallel": site.clients, "ctx-size": site.clients * POSITIONS, "cache-ram": 0}
    return [str(program), *as_options(options | slots), "--no-ui", "--offline", "--log-verbosity", "1"]


def openvino_command(prepared: Prepared, site: Site) -> list[str]:
    """The pipeline in the small server next to this file."""
    options = {"port": site.port, "threads": site.threads, "clients": site.clients}
    return [str(prepared.python), str(HERE / "openvino_server.py"), str(prepared.folder), *as_options(options)]


LLAMA_OPTIONS: dict[str, Any] = {
    "fields": {"cache_prompt": False},
    "closes_connections": True,
    "speaks_in_main_thread": False,
}


def as_options(values: Mapping[str, object]) -> list[str]:
    """Values as options of a command line."""
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def servers(precision: str) -> list[Server]:
    """All servers of a precision, this project's first."""
    found = [
        Server(Contender(EDGE, precision), edge_command),
        Server(Contender(EDGE, precision), edge_workers_command, "2 workers"),
    ]
    for peer, command, options in (
        (LLAMA_SERVER, llama_command, LLAMA_OPTIONS),
        (OPENVINO, openvino_command, {}),
    ):
        build = next(build for build, of in peer.builds.items() if of == precision)
        found.append(Server(Contender(peer, build), command, **options))
    return found
