"""Loading a plan: checks its requirements against this machine, then makes the session's model.

The driver, the GPU and TensorRT's version are checked first: without a driver TensorRT would crash.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ..errors import ArtifactError, MissingError
from .backend import Backend, error_text, load_backend
from .cuda import CudaDevice, CudaDriver, CudaLibrary, Driver, find_device
from .model import Context, TensorRTModel
from .plan import BACKEND_NAMES, DECODE, PREFILL, Plan, rtx_refusal, runs_on

VERSION_PARTS = 3
"""The number of leading parts of a version that must equal the plan's; the fourth counts builds of one release."""

FOLDER = "minimind-edge"


class Engine(Protocol):
    """A loaded plan: the part of TensorRT's `ICudaEngine` that is used."""

    @property
    def num_io_tensors(self) -> int:
        """The number of inputs and outputs."""
        ...

    @property
    def num_optimization_profiles(self) -> int:
        """The number of optimization profiles."""
        ...

    def get_tensor_name(self, index: int) -> str:
        """The name of an input or output."""
        ...

    def get_tensor_shape(self, name: str) -> Sequence[int]:
        """The shape of an input or output, -1 where an axis varies."""
        ...


def load_plan(path: str | os.PathLike[str], *, device_ordinal: int = 0) -> TensorRTModel:
    """Load a plan on a GPU.

    Args:
        path: The `.plan`, with its `.plan.json` next to it.
        device_ordinal: Number of the GPU.

    Raises:
        ArtifactError: The plan or its description is missing, damaged or of another kind.
        MissingError: The driver, the GPU or TensorRT is missing or does not match, or there is not enough memory.
    """
    plan = Plan.read(path)
    data = plan.load_bytes()
    library, device = require_device(plan, device_ordinal)
    backend = require_backend(plan)
    driver = CudaDriver(library, device)
    loaded = LoadedEngine(backend, plan, data, device)
    contexts = loaded.contexts(driver)
    return TensorRTModel(plan, driver, contexts, records_steps=not loaded.replays_by_itself, reason=loaded.reason)


class LoadedEngine:
    """A plan in the GPU's memory; TensorRT's logger and runtime must live as long as it does.

    Args:
        backend: TensorRT, of the plan's kind and version.
        plan: Description of the plan.
        data: Bytes of the plan; loading them requires a driver and a GPU.
        device: The GPU, for the cache of compiled kernels; None keeps no kernels.

    Attributes:
        engine: TensorRT's `ICudaEngine`.
        replays_by_itself: Whether execution contexts record CUDA graphs on their own.

    Raises:
        MissingError: TensorRT does not start, or does not support this GPU.
        ArtifactError: TensorRT cannot load the plan.
    """

    def __init__(self, backend: Backend, plan: Plan, data: bytes, device: CudaDevice | None = None) -> None:
        self._backend = backend
        self._plan = plan
        self._logger = backend.logger()
        runtime = backend.module.Runtime(self._logger)
        if runtime is None:
            raise MissingError(f"{backend.title} does not start: {error_text(self._logger)}")
        self._runtime = runtime
        _check_validity(backend, runtime, plan, data)
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise ArtifactError(
                f"{backend.title} does not take {plan.path}: {error_text(self._logger)}; build it again with "
                f"`{plan.rebuild_command()}`"
            )
        self.engine: Engine = engine
        self.replays_by_itself = hasattr(backend.module, "CudaGraphStrategy")
        _check_interface(engine, plan)
        digest = None if plan.description.plan is None else plan.description.plan.sha256
        kernels = kernel_file(digest, str(device.capability)) if device is not None and digest else None
        self._kernels = KernelCache(kernels)
        # Kernels for new shapes are compiled while the plan runs, so they are saved when it is freed or at exit.
        weakref.finalize(self, self._kernels.save)

    def reason(self) -> str:
        """TensorRT's last message about a failure."""
        return error_text(self._logger)

    def contexts(self, driver: Driver) -> tuple[Context, Context]:
        """The execution contexts of the two profiles: prefill, decode.

        They share weights but not working memory, so that neither has to be set up again after the other has run.

        Raises:
            MissingError: The GPU has not enough memory.
        """
        prefill, decode = self._context(driver, PREFILL), self._context(driver, DECODE)
        driver.synchronize()
        self._kernels.save()
        return prefill, decode

    def _context(self, driver: Driver, profile: int) -> Context:
        context: Context | None = self._create_context()
        if context is None or not context.set_optimization_profile_async(profile, driver.stream):
            raise MissingError(f"no room to run {self._plan.path}: {error_text(self._logger)}")
        return context

    def _create_context(self) -> Any:
        engine: Any = self.engine
        module = self._backend.module
        # The default gives each context the memory of the larger profile.
        strategy = module.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        if not self.replays_by_itself:
            return engine.create_execution_context(strategy)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._kernels.attach(config)
        return engine.create_execution_context(config)


def _check_validity(backend: Backend, runtime: Any, plan: Plan, data: bytes) -> None:
    """Ask TensorRT-RTX whether it can run a plan here, before the plan is loaded."""
    if not hasattr(runtime, "get_engine_validity"):
        return
    validity, diagnostics = runtime.get_engine_validity(data)
    if validity != backend.module.EngineValidity.INVALID:
        return
    kinds = backend.module.EngineInvalidityDiagnostics
    reasons = [name for name, kind in kinds.__members__.items() if int(kind) & int(diagnostics)]
    error = ArtifactError if "MALFORMED_ENGINE" in reasons else MissingError
    raise error(
        f"{backend.title} cannot run {plan.path} here ({', '.join(reasons) or 'no reason given'}); build it again with "
        f"`{plan.rebuild_command()}`"
    )


def _check_interface(engine: Engine, plan: Plan) -> None:
    found = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
    expected = {each.name for each in plan.description.tensors}
    if found != expected or engine.num_optimization_profiles != 2:
        raise ArtifactError(
            f"{plan.path} has other inputs, outputs or profiles than its description; build it again with "
            f"`{plan.rebuild_command()}`"
        )


def require_device(plan: Plan, ordinal: int = 0) -> tuple[CudaLibrary, CudaDevice]:
    """The driver and the GPU, checked against a plan's requirements.

    Raises:
        MissingError: There is no driver or no GPU, or the plan was not built for this GPU.
    """
    try:
        library = CudaLibrary()
        device = find_device(library, ordinal)
    except MissingError as error:
        raise MissingError(f"{plan.path} needs {needs(plan)}: {error}") from error
    check_device(plan, device)
    return library, device


def require_backend(plan: Plan) -> Backend:
    """The TensorRT that a plan requires.

    Raises:
        MissingError: TensorRT is not installed, or in another version.
    """
    try:
        backend = load_backend(plan.backend)
    except MissingError as error:
        raise MissingError(f"{plan.path} needs {needs(plan)}: {error}") from error
    check_version(plan, backend.version)
    return backend


def check_device(plan: Plan, device: CudaDevice) -> None:
    """Check that a plan runs on a GPU.

    Raises:
        MissingError: The plan was not built for this GPU.
    """
    if runs_on(plan.compute_capabilities, device.capability, plan.backend):
        return
    refusal = rtx_refusal(device.capability) if plan.backend == "rtx" else None
    if refusal is not None:
        command = plan.rebuild_command(backend="tensorrt")
        remedy = f"{refusal}; build it on this machine with full TensorRT: `{command}`"
    elif plan.backend == "rtx":
        remedy = f"build it again with `{plan.rebuild_command(capability=device.capability)}`"
    else:
        remedy = f"plans of TensorRT run on the kind of GPU that built them; on this one, `{plan.rebuild_command()}`"
    raise MissingError(
        f"{plan.path} needs {needs(plan)}; here is {device.name} with compute capability {device.capability}: {remedy}"
    )


def check_version(plan: Plan, version: str) -> None:
    """Check the version of TensorRT, which reads only plans of its own version.

    Raises:
        MissingError: The plan is of another version.
    """
    if _release(version) == _release(plan.version):
        return
    raise MissingError(
        f"{plan.path} needs {needs(plan)}; here is {BACKEND_NAMES[plan.backend]} {version}: install the plan's "
        f"version, or build it again with `{plan.rebuild_command()}`"
    )


def needs(plan: Plan) -> str:
    """The requirements of a plan, for messages."""
    capabilities = ", ".join(map(str, plan.compute_capabilities))
    return f"{BACKEND_NAMES[plan.backend]} {plan.version} and a GPU of compute capability {capabilities}"


def _release(version: str) -> list[str]:
    return version.split(".")[:VERSION_PARTS]


class KernelCache:
    """A file of compiled kernels, which makes starting faster; as nothing depends on it, its failures are ignored.

    TensorRT-RTX itself checks the content against its version, the GPU and the driver; where they do not match, it
    compiles again, and the file is replaced.

    Args:
        path: Path of the file; None keeps no kernels.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._cache: Any = None
        self._stored = b""

    def attach(self, config: Any) -> None:
        """Make an execution context use the cache.

        Args:
            config: TensorRT-RTX's `IRuntimeConfig`, from which the context will be created.
        """
        if self._path is None or not hasattr(config, "create_runtime_cache"):
            return
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            self._load(self._path)
        if self._cache is not None:
            config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write the kernels atomically, if there are more than in the file."""
        if self._path is None or self._cache is None:
            return
        serialized = self._cache.serialize()
        data = b"" if serialized is None else bytes(serialized)
        if data in (b"", self._stored):
            return
        with contextlib.suppress(OSError):
            _replace(self._path, data)
            self._stored = data

    def _load(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except OSError:
            return
        if self._cache is not None and data and self._cache.deserialize(data):
            self._stored = data


def kernel_file(digest: str, capability: str) -> Path | None:
    """The file of a plan's compiled kernels, in the user's own cache folder because kernels are code.

    Args:
        digest: SHA-256 of the plan.
        capability: Compute capability of the GPU.

    Returns:
        The path; None where the user has no cache folder.
    """
    folder = _user_cache()
    return None if folder is None else folder / FOLDER / "kernels" / f"{digest[:32]}-{capability}.cache"


def _user_cache() -> Path | None:
    given = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    if given and Path(given).is_absolute():
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
