"""The Hugging Face Hub: checkpoints and artifacts by `hf://OWNER/NAME[@REVISION]`.

Nothing else in this package opens a connection.

Only safetensors, ONNX graphs, JSON and the text of tokenizers and templates are fetched: no pickle, no plan, no code.
They go to Hugging Face's cache, which is used without a connection where it has them (`HF_HUB_OFFLINE=1` opens none).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from .errors import ArtifactError, MissingError, UsageError

SCHEME = "hf:"

DESCRIPTIONS = (
    "config.json",
    "generation_config.json",
    "manifest.json",
    "genai_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "adapter_config.json",
    "*.safetensors.index.json",
)
"""The small files of a repository that are fetched first; they tell whether it is an artifact."""

WEIGHTS = ("*.safetensors",)
GRAPHS = ("*.onnx", "*.onnx_data")

LONGEST_REASON = 200
"""The length in characters to which an error of huggingface_hub is cut."""

NAME = re.compile(r"[\w.-]+")


class HubAddress(NamedTuple):
    """A repository of the Hub.

    Attributes:
        repository: Owner and name, as in `jingyaogong/MiniMind2`.
        revision: Branch, tag or commit hash; None for the default branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


def hub_address(path: Path) -> HubAddress | None:
    """The repository that a path names, None where it is a path of this machine.

    Args:
        path: A path; `hf://OWNER/NAME` has one slash less as a path.

    Raises:
        UsageError: It begins like a repository's address, and is none.
    """
    scheme, *rest = path.as_posix().split("/")
    if scheme != SCHEME:
        return None
    repository, mark, revision = "/".join(filter(None, rest)).partition("@")
    parts = repository.split("/")
    if len(parts) != 2 or not all(map(NAME.fullmatch, parts)) or (mark and not revision):
        raise UsageError(f"{path} is no address of a repository: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    return HubAddress(repository, revision or None)


def local_path(
    path: Path, *, precision: str | None = None, is_artifact: bool = False, all_graphs: bool = False
) -> Path:
    """A path of this machine for a path that may name a repository of the Hub, whose files are fetched then.

    Args:
        path: A path of this machine, which is returned as it is, or a repository.
        precision: Precision of the graph to fetch; None for an artifact's default graph.
        is_artifact: Whether graphs are wanted, also where the repository has no manifest; otherwise a repository
            without a manifest is a checkpoint.
        all_graphs: Whether all graphs of an artifact are wanted.

    Returns:
        The path itself, or the folder of the repository's snapshot in Hugging Face's cache.

    Raises:
        UsageError: It begins like a repository's address, and is none.
        ArtifactError: There is no such repository or revision, or it has no file that can be used.
        MissingError: The Hub cannot be reached, and the cache lacks the files.
    """
    address = hub_address(path)
    if address is None:
        return path
    folder = _fetch(address, DESCRIPTIONS)
    manifest = folder / "manifest.json"
    if manifest.is_file():
        wanted: Sequence[str] = GRAPHS if all_graphs else _graph_files(manifest, precision)
    else:
        wanted = GRAPHS if is_artifact else WEIGHTS
    folder = _fetch(HubAddress(address.repository, folder.name), wanted, address)
    if not any(next(folder.rglob(pattern), None) for pattern in wanted):
        kind = "graph (.onnx)" if wanted is GRAPHS else "safetensors file"
        raise ArtifactError(f"{address} has no {kind}; other files, such as pickles, are not fetched from the Hub")
    return folder


def snapshot_origin(path: Path) -> tuple[str, str] | None:
    """The repository and the commit that a file or folder in Hugging Face's cache comes from, None for any other path.

    Args:
        path: A path, such as `.../models--OWNER--NAME/snapshots/COMMIT/model.safetensors`; it is not resolved, since
            the files of a snapshot may be links.
    """
    for folder in (path.absolute(), *path.absolute().parents):
        repository = folder.parent.parent.name
        if folder.parent.name == "snapshots" and repository.startswith("models--"):
            return repository.removeprefix("models--").replace("--", "/"), folder.name
    return None


def _graph_files(manifest: Path, precision: str | None) -> tuple[str, str]:
    from .artifact.manifest import Manifest
    from .artifact.paths import check_name

    file = Manifest.read(manifest).graph(precision).file
    check_name(manifest.parent, file)
    return file, f"{file}_data"


def _fetch(address: HubAddress, patterns: Sequence[str], asked: HubAddress | None = None) -> Path:
    """Fetch the files of a revision that match a pattern, and return the folder that holds them."""
    hub = _import()
    try:
        return Path(hub.snapshot_download(address.repository, revision=address.revision, allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:
        raise _explained(hub, error, asked or address) from error


def _import() -> Any:
    """huggingface_hub, which tells errors by exceptions alone, and its progress to a terminal alone."""
    try:
        hub: Any = import_module("huggingface_hub")
        utilities: Any = import_module("huggingface_hub.utils")
        import_module("huggingface_hub.errors")
    except ImportError as error:
        raise MissingError("hf:// needs the package huggingface_hub: run pip install huggingface_hub") from error
    utilities.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        utilities.disable_progress_bars()
    return hub


def _explained(hub: Any, error: Exception, address: HubAddress) -> ArtifactError | MissingError:
    """The error in this program's words: bad input where the Hub refuses, a lack where it cannot be asked."""
    errors = hub.errors
    if isinstance(error, errors.GatedRepoError):
        return ArtifactError(f"{address} asks for access on its page on the Hub; then log in with `hf auth login`")
    if isinstance(error, errors.RevisionNotFoundError):
        return ArtifactError(f"{address}: the repository has no such revision")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ArtifactError(f"{address}: there is no such repository, or it is private (`hf auth login` opens yours)")
    reason = " ".join(str(error).split())[:LONGEST_REASON]
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return ArtifactError(f"{address}: {reason}")
    return MissingError(
        f"{address} cannot be fetched, and is not whole in Hugging Face's cache: connect to the Hub, or name a local "
        f"copy ({reason})"
    )
