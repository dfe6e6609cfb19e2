"""The content of `model.plan.json`: what a plan is, for machines that cannot load it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from minimind_edge.runtime.tensorrt.compute_capability import ComputeCapability
from minimind_edge.runtime.tensorrt.plan_description import FORMAT

from ..artifact.manifest import file_sha256
from .builder import TensorInfo
from .engine_graph import EngineGraph
from .profiles import Limits, Profile

KV_LAYOUTS = {
    "static": "[batch, num_key_value_heads, capacity, head_dim], past and present at one address, written in place",
    "growing": "[batch, num_key_value_heads, slots in use, head_dim], past and present in two buffers that take turns",
}


def describe_plan(
    graph: EngineGraph,
    limits: Limits,
    profiles: Sequence[Profile],
    *,
    backend: str,
    backend_version: str,
    capabilities: Sequence[ComputeCapability],
    data: bytes,
    tensors: Sequence[TensorInfo],
    checkpoint: Mapping[str, Any] | None,
    config: Mapping[str, Any] | None,
    parity: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """All that is known of a plan.

    Args:
        graph: That it was built from.
        limits: That it was built for.
        profiles: In its order.
        backend: `tensorrt` or `rtx`.
        backend_version: Of the TensorRT that built it.
        capabilities: Of the GPUs that it was built for.
        data: The plan.
        tensors: Its inputs and outputs.
        checkpoint: File, sha256 and generation of the checkpoint, None where nobody knows.
        config: The model's fields, from which verification rebuilds it, None where nobody knows.
        parity: The graph's parity report in ONNX Runtime, None where it has none.
    """
    return {
        "format": FORMAT,
        "tool": {"name": "minimind-edge", "version": version("minimind-edge")},
        "backend": backend,
        "backend_version": backend_version,
        "compute_capabilities": [str(each) for each in capabilities],
        "precision": graph.precision,
        "plan": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        "limits": {"batch_size": limits.batch_size, "length": limits.length, "chunk": limits.chunk},
        "vocab_size": graph.vocab_size,
        "eos_token_ids": graph.eos_token_ids,
        "kv_cache": {
            "form": graph.cache_form,
            "layout": KV_LAYOUTS[graph.cache_form],
            "num_layers": graph.cache.num_layers,
            "num_key_value_heads": graph.cache.num_key_value_heads,
            "head_dim": graph.cache.head_dim,
            "capacity": limits.length,
            "dtype": graph.cache.dtype,
        },
        "profiles": [profile.to_json() for profile in profiles],
        "tensors": [
            {"name": each.name, "mode": each.mode, "dtype": each.dtype, "shape": list(each.shape)} for each in tensors
        ],
        "checkpoint": None if checkpoint is None else dict(checkpoint),
        "config": None if config is None else dict(config),
        "graph": {
            "file": graph.path.name,
            "sha256": file_sha256(graph.path),
            "opset": graph.opset,
            "parity": None if parity is None else dict(parity),
        },
    }
