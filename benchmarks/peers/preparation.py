"""Preparing each contender's model: converted from one Hugging Face folder by the peer's own tool, and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .contenders import EAGER, EDGE, PEERS, Contender
from .environment import python_of
from .failure import Unmeasurable, last_line
from .models import MODELS
from .worker import Worker, worker_environment
from .workers.serving import IN_HASTE

PATIENCE_S = 1800
"""The most seconds for one conversion."""

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = ("export", "minimind", "runtime")
"""The packages of this project that an export depends on."""


@dataclass(frozen=True)
class Prepared:
    """A contender that is ready to run a model.

    Attributes:
        contender: The contender.
        python: The interpreter of the contender's environment.
        folder: The folder of the converted model.
        log: The file for the workers' stderr.
    """

    contender: Contender
    python: Path
    folder: Path
    log: Path

    def start(self, threads: int) -> Worker:
        """Start a worker; it loads the model meanwhile.

        Raises:
            Unmeasurable: The worker could not be started.
        """
        return Worker(self.python, self.contender.worker, self.folder, threads=threads, log=self.log)

    def disk_bytes(self) -> int:
        """The bytes of the model on the disk, without a tokenizer: the weights and the graph's description."""
        files = [self.folder] if self.folder.is_file() else [path for path in self.folder.rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files if path.suffix in MODEL_FILES)


MODEL_FILES = (".onnx", ".data", ".onnx_data", ".gguf", ".bin", ".safetensors", ".pte", ".mnn", ".weight", ".litertlm")


def prepare(
    contender: Contender, source: Path, workspace: Path, threads: int, *, convert_peers: bool = True
) -> Prepared:
    """Convert a model for a contender, if that has not been done.

    Args:
        contender: The contender.
        source: The Hugging Face folder.
        workspace: The folder for environments, models and logs.
        threads: The number of CPU threads for the conversion.
        convert_peers: Whether a peer's model that is not there is converted; this project's own always is.

    Raises:
        Unmeasurable: The contender's environment cannot be made, or its converter fails or may not run.
    """
    python = python_of(contender.peer, workspace)
    name = contender.name.replace(" ", "-")
    models, log = workspace / "converted" / source.name, workspace / "logs" / f"{source.name}-{name}.log"
    if contender.peer is EAGER:
        return Prepared(contender, python, source, log)
    if contender.peer.models_of:
        owner = Contender(PEERS[contender.peer.models_of], contender.build)
        return Prepared(
            contender, python, prepare(owner, source, workspace, threads, convert_peers=convert_peers).folder, log
        )
    prepared = Prepared(contender, python, models / name, log)
    if not prepared.folder.is_dir() or (contender.peer is EDGE and is_outdated(prepared.folder)):
        if not convert_peers and contender.peer is not EDGE:
            raise Unmeasurable("the model has not been converted for it yet")
        convert(prepared, source, threads)
    return prepared


def is_outdated(folder: Path) -> bool:
    """Whether this project's code has changed since its export was made."""
    made = folder.stat().st_mtime
    return any(path.stat().st_mtime > made for name in SOURCES for path in (PROJECT / name).rglob("*.py"))


def has_random_weights(source: Path) -> bool:
    """Whether a folder is one of the benchmark's models: `A`, or `A-served` with another tokenizer."""
    return source.name.partition("-")[0] in MODELS


def convert(prepared: Prepared, source: Path, threads: int) -> None:
    """Run a peer's converter; its result is put in place only when it has succeeded.

    Raises:
        Unmeasurable: The converter fails, or takes too long.
    """
    contender, folder, log = prepared.contender, prepared.folder, prepared.log
    print(f"converting {source.name} for {contender.name}", file=sys.stderr, flush=True)
    half_done = folder.with_name(folder.name + ".partial")
    for old in (half_done, folder):
        shutil.rmtree(old, ignore_errors=True)
    for parent in (half_done.parent, log.parent):
        parent.mkdir(parents=True, exist_ok=True)
    program = [str(prepared.python), str(contender.worker)]
    command = [*program, "convert", str(source), str(half_done), contender.build]
    environment = worker_environment(threads) | ({IN_HASTE: "1"} if has_random_weights(source) else {})
    with log.open("w", encoding="utf-8") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        try:
            subprocess.run(command, check=True, timeout=PATIENCE_S, env=environment, **streams)
        except (OSError, subprocess.SubprocessError) as error:
            raise Unmeasurable(f"could not be converted: {last_line(log) or error}") from error
    half_done.rename(folder)
