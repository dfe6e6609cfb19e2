"""The files of a plan: the plan, the JSON that describes it, and the tokenizer and configs that let its folder run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from minimind_edge.runtime.artifact.folder import CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG
from minimind_edge.runtime.artifact.paths import copy_member, member
from minimind_edge.runtime.tensorrt.plan import ComputeCapability, sidecar_path
from minimind_edge.runtime.tensorrt.plan_description import FORMAT

from ..artifact.json_file import write_json
from ..artifact.manifest import file_sha256, is_artifact, locked_artifact
from ..artifact.staging import staged_files
from .builder import TensorInfo
from .graph import PlanGraph
from .profiles import Limits, Profile

COMPANIONS = (TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE, "generation_config.json", "config.json")
"""Files of an artifact that a plan's folder needs to take and give text."""

KV_LAYOUT = "[batch, num_key_value_heads, capacity, head_dim], past and present at one address, written in place"


def write_plan(path: Path, data: bytes, description: Mapping[str, Any], artifact: Path | None) -> Path:
    """Write a plan and what belongs to it; each file is there whole or not at all.

    Args:
        path: The plan's path; its folder is made, and a plan that is there already is replaced.
        data: The plan.
        description: Content of the JSON file next to the plan; it holds the plan's digest, so that a plan which lost
            its own description in a crash is found out.
        artifact: The folder that tokenizer and configs are copied from, None where there are none. A file that the
            plan's folder has already stays.

    Returns:
        The path of the description.

    Raises:
        ArtifactError: A file to copy is a link that leads out of the artifact.
        BusyError: Another process writes the plan, or the artifact that it goes into.
        OSError: The disk is full or cannot be written.
    """
    sidecar = sidecar_path(path)
    with ExitStack() as stack:
        if is_artifact(path.parent):
            stack.enter_context(locked_artifact(path.parent))
        stage = stack.enter_context(staged_files(path))
        (stage / path.name).write_bytes(data)
        write_json(stage / sidecar.name, description)
        if artifact is not None:
            for name in _missing(artifact, path.parent):
                copy_member(artifact, name, stage / name)
    return sidecar


def describe_plan(
    graph: PlanGraph,
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
    """The content of `model.plan.json`, for machines that cannot load the plan itself.

    Args:
        graph: The graph that the plan was built from.
        limits: The largest input of the plan.
        profiles: The plan's profiles, in its order.
        backend: `tensorrt` or `rtx`.
        backend_version: Version of the TensorRT that built the plan.
        capabilities: Compute capabilities of the GPUs that the plan was built for.
        data: The plan.
        tensors: The plan's inputs and outputs.
        checkpoint: File, sha256 and generation of the checkpoint, None where they are unknown.
        config: The model's fields, from which verification rebuilds it, None where they are unknown.
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
            "form": "static",  # the only one; plans of version 0.1 could be "growing" too
            "layout": KV_LAYOUT,
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


def _missing(artifact: Path, folder: Path) -> list[str]:
    """Files to copy next to the plan. A folder with a tokenizer keeps it whole: parts of two would not fit."""
    names = list(COMPANIONS)
    if (folder / TOKENIZER).exists():
        names = [name for name in names if name not in (TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE)]
    return [name for name in names if member(artifact, name) is not None and not (folder / name).exists()]
