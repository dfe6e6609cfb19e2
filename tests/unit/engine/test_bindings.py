"""The part of TensorRT's Python API that is used, held against both real bindings by introspection.

Full TensorRT's libraries are not to be had from a package registry, so its bindings are imported over TensorRT-RTX's,
which export the same entry points; nothing of it is run. Each import has a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

from minimind_edge.runtime.tensorrt.backend import rtx_libraries
from minimind_edge.runtime.tensorrt.loading import Engine
from minimind_edge.runtime.tensorrt.model import Context

USED = {
    "Builder": {
        "create_network": ["flags"],
        "create_builder_config": [],
        "create_optimization_profile": [],
        "build_serialized_network": ["network", "config"],
    },
    "IBuilderConfig": {
        "add_optimization_profile": ["profile"],
        "clear_flag": ["flag"],
        "set_memory_pool_limit": ["pool", "pool_size"],
        "create_timing_cache": ["serialized_timing_cache"],
        "set_timing_cache": ["cache", "ignore_mismatch"],
        "get_timing_cache": [],
        "progress_monitor": None,
    },
    "ITimingCache": {"serialize": []},
    "IOptimizationProfile": {"set_shape": ["input", "min", "opt", "max"]},
    "INetworkDefinition": {
        "num_inputs": None,
        "num_outputs": None,
        "get_input": ["index"],
        "get_output": ["index"],
    },
    "ITensor": {"name": None, "dtype": None, "shape": None},
    "OnnxParser": {
        "parse": ["model", "path"],
        "num_errors": None,
        "get_error": ["index"],
        "supports_operator": ["op_name"],
    },
    "ParserError": {"desc": [], "node_name": [], "node_operator": []},
    "ILogger": {"log": ["severity", "msg"]},
    "IProgressMonitor": {
        "phase_start": ["phase_name", "parent_phase", "num_steps"],
        "step_complete": ["phase_name", "step"],
        "phase_finish": ["phase_name"],
    },
    "Runtime": {"deserialize_cuda_engine": ["serialized_engine"]},
    "ICudaEngine": {
        "create_execution_context": ["strategy"],
        "get_tensor_name": ["index"],
        "get_tensor_shape": ["name"],
        "num_io_tensors": None,
        "num_optimization_profiles": None,
    },
    "IExecutionContext": {
        "set_optimization_profile_async": ["profile_index", "stream_handle"],
        "set_input_shape": ["name", "shape"],
        "set_tensor_address": ["name", "memory"],
        "execute_async_v3": ["stream_handle"],
    },
    "BuilderFlag": {"TF32": None},
    "NetworkDefinitionCreationFlag": {"STRONGLY_TYPED": None},
    "MemoryPoolType": {"WORKSPACE": None},
    "ExecutionContextAllocationStrategy": {"ON_PROFILE_CHANGE": None},
    "DataType": {"FLOAT": None, "HALF": None, "BF16": None, "INT32": None, "INT64": None},
}
"""Class, then method with the names of its arguments, or attribute; the order of arguments is checked too."""

USED_OF_RTX = {
    "IBuilderConfig": {"num_compute_capabilities": None, "set_compute_capability": ["compute_capability", "index"]},
    "ComputeCapability": {f"SM{each}": None for each in (75, 80, 86, 89, 120, 121)},
    "ICudaEngine": {"create_runtime_config": []},
    "IRuntimeConfig": {
        "set_execution_context_allocation_strategy": ["strategy"],
        "cuda_graph_strategy": None,
        "dynamic_shapes_kernel_specialization_strategy": None,
        "create_runtime_cache": [],
        "set_runtime_cache": ["cache"],
    },
    "IRuntimeCache": {"serialize": [], "deserialize": ["blob"]},
    "CudaGraphStrategy": {"WHOLE_GRAPH_CAPTURE": None, "DISABLED": None},
    "DynamicShapesKernelSpecializationStrategy": {"NONE": None},
    "Runtime": {"get_engine_validity": ["buffer"]},
    "EngineValidity": {"INVALID": None},
    "EngineInvalidityDiagnostics": {"MALFORMED_ENGINE": None},
}

SHOW = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
used = json.loads(sys.argv[2])
found = {}
for name, members in used.items():
    owner = getattr(module, name, None)
    found[name] = {each: getattr(owner, each).__doc__ or "" for each in members if hasattr(owner, each)}
print(json.dumps({"version": module.__version__, "found": found}))
"""

NEEDS_RTX = pytest.mark.skipif(
    not rtx_libraries() or not find_spec("tensorrt_rtx_bindings"),
    reason="TensorRT-RTX's wheels are not installed: run `make setup`",
)
pytestmark = NEEDS_RTX


def introspect(module, used, folder):
    """What a process that has the libraries sees of a module."""
    for name, library in libraries(module):
        (folder / name).symlink_to(library)
    result = subprocess.run(
        [sys.executable, "-c", SHOW, module, json.dumps(used)],
        env=os.environ | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def libraries(module):
    inference, parser = rtx_libraries()
    if module == "tensorrt_rtx_bindings":
        return [("libtensorrt_rtx.so.1", inference), ("libtensorrt_onnxparser_rtx.so.1", parser)]
    names = ["libnvinfer.so.11", "libnvonnxparser.so.11", "libtensorrt_rtx.so.1"]
    return list(zip(names, (inference, parser, inference), strict=True))


def check(used, found):
    for owner, members in used.items():
        for name, arguments in members.items():
            assert name in found[owner], f"{owner} has no {name}"
            if arguments is not None:
                signatures = re.findall(rf"{name}\(([^)]*)\)", found[owner][name])
                named = [re.findall(r"(\w+): ", each)[1:] for each in signatures]
                assert any(each[: len(arguments)] == arguments for each in named), f"{owner}.{name} takes {named}"


def test_tensorrt_rtx(tmp_path):
    used = {name: USED.get(name, {}) | USED_OF_RTX.get(name, {}) for name in (*USED, *USED_OF_RTX)}
    seen = introspect("tensorrt_rtx_bindings", used, tmp_path)
    assert seen["version"].startswith("1.7.")
    check(used, seen["found"])


@pytest.mark.skipif(not find_spec("tensorrt_bindings"), reason="tensorrt_cu13_bindings is not installed: `make setup`")
@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler for the entry point that TensorRT-RTX lacks")
def test_full_tensorrt(tmp_path):
    source = "int initLibNvInferPlugins(void *logger, const char *space) { return 0; }"
    plugins = tmp_path / "libnvinfer_plugin.so.11"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", plugins], input=source, text=True, check=True)
    seen = introspect("tensorrt_bindings", USED, tmp_path)
    assert seen["version"].startswith("11.4.")
    check(USED, seen["found"])


def test_the_session_uses_nothing_else():
    """`Engine` and `Context` are TensorRT's own objects: what they promise is checked above."""
    for protocol, owner in ((Engine, "ICudaEngine"), (Context, "IExecutionContext")):
        members = {name for name in vars(protocol) if not name.startswith("_")}
        assert members <= USED[owner].keys()
