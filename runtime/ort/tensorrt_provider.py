"""TensorRT inside ONNX Runtime: its provider for full TensorRT, and NVIDIA's plugin provider for TensorRT-RTX."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from ..errors import ArtifactError, MissingError, UsageError
from ..session.contract import GraphFacts, cache_names
from ..session.model import DEFAULT_MAX_LENGTH
from ..tensorrt.cuda import CudaLibrary, find_device
from .environment import CPU, execution_providers
from .loading import onnxruntime_errors, session_facts, session_options, summary

PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "rtx": "NvTensorRTRTXExecutionProvider"}
"""The names of the execution providers by device."""

OPTION_PREFIX = {"tensorrt": "trt", "rtx": "nv"}

INSTALL = {
    "tensorrt": "run `pip uninstall -y onnxruntime`, then `pip install onnxruntime-gpu tensorrt`",
    "rtx": "run `pip install 'minimind-edge[rtx]'`",
}

PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
"""The module of the wheel that contains TensorRT-RTX's provider."""

MOST_ROWS = 8
MOST_TOKENS = 512
"""The most tokens in one run; a session cuts longer prompts into chunks."""

Shape = tuple[int, ...]


def open_by_tensorrt(onnxruntime: ModuleType, path: str | os.PathLike[str], device: str, threads: int | None) -> Any:
    """Load a graph in ONNX Runtime on a TensorRT provider; CUDA or the CPU runs the operators that it does not support.

    Args:
        onnxruntime: The imported module.
        path: The `.onnx` file.
        device: `tensorrt` or `rtx`.
        threads: Threads for one operator on the CPU; None for the physical cores.

    Raises:
        ArtifactError: The provider cannot load the graph.
        MissingError: There is no GPU, or the provider is not installed or does not start.
        UsageError: The graph is for another target than `portable`.
    """
    facts = _read_facts(onnxruntime, path)
    if facts.target != "portable":
        remedy = "build a plan with `minimind-export engine`" if facts.target == "tensorrt" else "take --device cuda"
        raise UsageError(
            f"--device {device} runs graphs of target portable, and {os.fspath(path)} is for {facts.target}: {remedy}, "
            "or export with --target portable"
        )
    try:
        find_device(CudaLibrary())
    except MissingError as error:
        raise MissingError(
            f"--device {device} needs an NVIDIA driver and GPU, and none is here: take --device cpu"
        ) from error
    options = session_options(onnxruntime, threads)
    profile = profile_options(facts, device)
    try:
        if device == "rtx":
            options.add_provider_for_devices(_plugin_devices(onnxruntime)[:1], profile)
            session = onnxruntime.InferenceSession(os.fspath(path), options)
        else:
            _require(device, PROVIDERS[device] in onnxruntime.get_available_providers(), "is not installed")
            providers = [(PROVIDERS[device], profile), *execution_providers(onnxruntime, "cuda")]
            session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except onnxruntime_errors(onnxruntime) as error:
        raise ArtifactError(f"{PROVIDERS[device]} cannot load {os.fspath(path)}: {summary(error)}") from error
    _require(device, PROVIDERS[device] in session.get_providers(), "did not start")
    return session


def profile_options(facts: GraphFacts, device: str) -> dict[str, str]:
    """The provider's optimization profile; without it, a growing cache would make TensorRT rebuild for each token.

    Args:
        facts: Facts of a graph of target `portable`.
        device: `tensorrt` or `rtx`.

    Returns:
        The provider's options, with shapes in the form `name:AxBxC,...`.
    """
    length = facts.max_length or DEFAULT_MAX_LENGTH
    shapes = {
        "min": dict(_shapes(facts, 1, 1, 0)),
        "opt": dict(_shapes(facts, 1, 1, length // 2)),
        "max": dict(_shapes(facts, MOST_ROWS, min(MOST_TOKENS, length), length - 1)),
    }
    shapes["max"]["attention_mask"] = (MOST_ROWS, length)
    return {
        f"{OPTION_PREFIX[device]}_profile_{which}_shapes": ",".join(
            f"{name}:{'x'.join(map(str, shape))}" for name, shape in named.items()
        )
        for which, named in shapes.items()
    }


def _read_facts(onnxruntime: ModuleType, path: str | os.PathLike[str]) -> GraphFacts:
    """The facts of a graph, read by a session on the CPU without graph optimizations."""
    options = session_options(onnxruntime, 1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        plain = onnxruntime.InferenceSession(os.fspath(path), options, providers=[CPU], enable_fallback=False)
    except onnxruntime_errors(onnxruntime) as error:
        raise ArtifactError(f"cannot load {os.fspath(path)}: {summary(error)}") from error
    return session_facts(plain)


def _shapes(facts: GraphFacts, rows: int, tokens: int, past: int) -> Iterator[tuple[str, Shape]]:
    yield "input_ids", (rows, tokens)
    yield "attention_mask", (rows, past + tokens)
    yield "position_ids", (rows, tokens)
    for name in cache_names("past_key_values", facts.num_layers):
        yield name, (rows, facts.num_key_value_heads, past, facts.head_dim)


def _plugin_devices(onnxruntime: ModuleType) -> list[Any]:
    """The GPUs that TensorRT-RTX's provider runs on; registers the provider once in a process."""
    name = PROVIDERS["rtx"]
    _require("rtx", find_spec(PLUGIN) is not None, "is not installed")
    if not any(each.ep_name == name for each in onnxruntime.get_ep_devices()):
        onnxruntime.register_execution_provider_library(name, str(import_module(PLUGIN).get_library_path()))
    devices = [each for each in onnxruntime.get_ep_devices() if each.ep_name == name]
    _require("rtx", bool(devices), "knows no GPU here")
    return devices


def _require(device: str, met: bool, miss: str) -> None:
    if not met:
        raise MissingError(
            f"ONNX Runtime's {PROVIDERS[device]} {miss}: {INSTALL[device]}, or take --device cuda or cpu"
        )
