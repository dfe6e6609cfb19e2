"""Reading the tensors of one weight file without executing code in it."""

from __future__ import annotations

import pickle
import re
import struct
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import CheckpointError, one_line
from .admission import require_admissible
from .names import BUFFER

HEAD_BYTES = 512
ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
LFS_MAGIC = b"version https://git-lfs"
FOREIGN_MAGICS = {
    b"GGUF": "a GGUF file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "a gzip archive",
}
FOREIGN_SUFFIXES = {".onnx": "an ONNX graph", ".gguf": "a GGUF file", ".plan": "an engine plan"}
WRAPPER_KEYS = ("model", "state_dict", "model_state_dict", "module")
"""The keys of the weights in training states: of upstream and accelerate, Lightning, hand-written ones, DeepSpeed."""
WRAPPERS = 2
"""The greatest depth of the weights in a training state."""

# The exceptions of torch's restricted unpickler for a damaged or foreign pickle, and that of safetensors, which torch
# asks to read every file that is named after it.
UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    OSError,
    struct.error,
)


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read a weight file's tensors on the CPU, memory-mapped where the format allows.

    The content decides the format, not the name: safetensors, or PyTorch's with `weights_only=True`, which builds
    tensors and plain containers and calls nothing else. The weights of a training state are unwrapped.

    Returns:
        Tensors by their names in the file, in its dtypes, without buffers that the model recomputes.

    Raises:
        CheckpointError: The file is empty, damaged, of another format or refused, or holds no tensors, or one that
            `require_admissible` rejects.
    """
    tensors = {name: tensor for name, tensor in _read(file).items() if not BUFFER.search(name)}
    require_admissible(tensors, file)
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _read(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file in any format, unchecked."""
    head, size = _head(file)
    _refuse_foreign(file, head, size)
    if _looks_like_safetensors(head, size):
        return _read_safetensors(file)
    if not head.startswith((ZIP_MAGIC, PICKLE_MAGIC)):
        kind = "a text file" if _looks_like_text(head) else "neither a PyTorch nor a safetensors file"
        raise CheckpointError(f"{file}: {kind}, or damaged; expected a .pth or .safetensors checkpoint")
    return _tensors_of(file, _read_pickle(file, mmap=head.startswith(ZIP_MAGIC)))


def _head(file: Path) -> tuple[bytes, int]:
    try:
        with file.open("rb") as stream:
            return stream.read(HEAD_BYTES), file.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error


def _refuse_foreign(file: Path, head: bytes, size: int) -> None:
    if size == 0:
        raise CheckpointError(f"{file}: the file is empty; copy or download it again")
    if head.startswith(LFS_MAGIC):
        raise CheckpointError(f"{file}: a git-lfs pointer, not the weights; run `git lfs pull` in its repository")
    kind = next((name for magic, name in FOREIGN_MAGICS.items() if head.startswith(magic)), None)
    kind = kind or FOREIGN_SUFFIXES.get(file.suffix)
    if kind:
        raise CheckpointError(f"{file}: {kind} is not supported; pass the .pth or .safetensors it was made from")


def _looks_like_safetensors(head: bytes, size: int) -> bool:
    """Whether a file begins with a header length of eight bytes, little endian, and a JSON object."""
    return size > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30


def _looks_like_text(head: bytes) -> bool:
    try:
        return "\0" not in head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > HEAD_BYTES - 4 and b"\0" not in head


def _read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(
            f"{file}: truncated or damaged safetensors file ({one_line(error)}); copy or download it again"
        ) from error


def _read_pickle(file: Path, mmap: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what follows is read or refused either way
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except UNREADABLE as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise CheckpointError(
                f"{file}: refused, because it would run {refused[1]} while loading; "
                "expected nothing but tensors: save model.state_dict()"
            ) from error
        raise CheckpointError(
            f"{file}: truncated, damaged or not a PyTorch checkpoint ({_cause(error)}); copy or download it again"
        ) from error


def _cause(error: BaseException) -> str:
    """The cause in torch's error message, without its advice to load the file unsafely."""
    unpickler = re.search(r"WeightsUnpickler error: (.+)", str(error))
    return textwrap.shorten(unpickler[1] if unpickler else one_line(error).split(". ")[0], 120)


def _tensors_of(file: Path, content: Any) -> dict[str, torch.Tensor]:
    """The tensors of an unpickled state dict, or of one wrapped in a training state."""
    for _ in range(WRAPPERS):
        if isinstance(content, Mapping):
            inner = (content[key] for key in WRAPPER_KEYS if isinstance(content.get(key), Mapping))
            content = next(inner, content)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{file}: holds {_kind(content)}; expected a state dict of tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{file}: entry {name!r} is {_kind(value)}; expected a state dict of tensors")
    return dict(content)


def _kind(value: Any) -> str:
    if isinstance(value, Mapping) and not value:
        return "an empty dict"
    return f"a value of type {type(value).__name__}"
