"""From the bytes of a plan to contexts that run it."""

from __future__ import annotations

import weakref
from typing import Any

from ..errors import ArtifactError, MissingError
from .backend import Backend, error_text
from .device import CudaDevice
from .interfaces import Context, Driver, Engine
from .kernel_cache import KernelCache, kernel_file
from .plan import DECODE, PREFILL, Plan


class LoadedEngine:
    """A plan in the GPU's memory; its logger and runtime must live as long as it does.

    Args:
        backend: TensorRT, of the plan's kind and version.
        plan: What the plan is.
        data: The plan; a driver and a GPU must be there.
        device: The GPU; None keeps no compiled kernels.

    Attributes:
        engine: TensorRT's.
        replays_by_itself: Whether contexts record their launches as CUDA graphs without being asked.

    Raises:
        MissingError: TensorRT does not start, or says that this GPU does not do.
        ArtifactError: TensorRT does not take the plan.
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
        # Kernels for new shapes are compiled while the plan runs: they are kept when it is let go, or at the end.
        weakref.finalize(self, self._kernels.save)

    def reason(self) -> str:
        """What TensorRT said last of what went wrong."""
        return error_text(self._logger)

    def contexts(self, driver: Driver) -> tuple[Context, Context]:
        """One context for each profile: prefill, decode.

        They share weights, not working memory, so that neither has to be set up again when the other has run.

        Raises:
            MissingError: The GPU has no room for them.
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
        if self._plan.cache_form == "static":
            config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        else:
            # Each step has shapes of its own: a graph, or kernels, made for them would never be used again.
            config.cuda_graph_strategy = module.CudaGraphStrategy.DISABLED
            kernels = module.DynamicShapesKernelSpecializationStrategy.NONE
            config.dynamic_shapes_kernel_specialization_strategy = kernels
        self._kernels.attach(config)
        return engine.create_execution_context(config)


def _check_validity(backend: Backend, runtime: Any, plan: Plan, data: bytes) -> None:
    """Ask TensorRT-RTX, which can tell before it loads a plan."""
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
