"""A model's own code, named as `FILE.py:CLASS` and imported because its owner said so."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from torch import nn

from minimind_edge.runtime.errors import UsageError

from ..errors import ExportError

EXPECTED = "FILE.py:CLASS, such as my_model.py:MyMiniMind"


@dataclass(frozen=True)
class OwnCode:
    """The code of a changed model.

    Attributes:
        factory: The class or function that makes the model.
        file: The name of the Python file, without its folder.
        name: The name of the class or function in the file.
        sha256: The hex digest of the file; None where the class has no file.
    """

    factory: Callable[..., nn.Module]
    file: str
    name: str
    sha256: str | None

    def __str__(self) -> str:
        return f"{self.file}:{self.name}"

    def to_json(self) -> dict[str, str | None]:
        """The manifest's entry about the code."""
        return {"class": self.name, "file": self.file, "sha256": self.sha256}


def load_code(text: str) -> OwnCode:
    """Import the file that `FILE.py:CLASS` names; it can import other files of its folder.

    Raises:
        UsageError: The text has another form.
        ExportError: The file cannot be imported, or has no such class.
    """
    file, separator, name = text.rpartition(":")
    if not separator or not name.isidentifier() or not file.endswith(".py"):
        raise UsageError(f"{text!r} names no model; expected {EXPECTED}")
    path = Path(file)
    if not path.is_file():
        raise ExportError(f"{path}: no such file; expected {EXPECTED}")
    module = _imported(path)
    factory = getattr(module, name, None)
    if not callable(factory):
        classes = [key for key, value in vars(module).items() if _is_model_of(value, module)]
        raise ExportError(f"{path} has no class {name}; it has {', '.join(classes) or 'no model'}")
    return OwnCode(factory, path.name, name, hashlib.sha256(path.read_bytes()).hexdigest())


def code_of(model: nn.Module) -> OwnCode:
    """The code of a model object."""
    owner = type(model)
    try:
        path = Path(inspect.getfile(owner))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (TypeError, OSError):  # the class was defined at an interactive prompt
        return OwnCode(owner, "<interactive>", owner.__name__, None)
    return OwnCode(owner, path.name, owner.__name__, digest)


def _imported(path: Path) -> ModuleType:
    name = f"minimind_edge_own_code_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the owner's code may raise anything, and the owner has to read it
        del sys.modules[name]
        raise ExportError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    return module


def _is_model_of(value: object, module: ModuleType) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
