"""Sessions of a graph's file, and what it says of itself against what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minimind_edge.runtime.ort.environment import import_onnxruntime
from minimind_edge.runtime.ort.loading import onnxruntime_errors, session_options, summary
from minimind_edge.runtime.session.graph_facts import GraphFacts

from ..errors import ExportError
from ..graph.ort_int8_cache import scale_name

if TYPE_CHECKING:
    import onnxruntime

    from minimind_edge.minimind import MiniMindConfig

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""Where onnxruntime looks for the weights beside a graph that it gets as bytes."""


def open_session(source: Path | bytes, folder: Path | None = None) -> onnxruntime.InferenceSession:
    """Load a graph on the CPU.

    Args:
        source: The file, or a graph's bytes.
        folder: Where the weights beside those bytes lie.

    Raises:
        ExportError: There is no such file, or it is no graph that onnxruntime loads.
    """
    onnxruntime = import_onnxruntime()
    options = session_options(onnxruntime, threads=None)
    if folder is not None:
        options.add_session_config_entry(WEIGHTS_FOLDER, str(folder))
    model = str(source) if isinstance(source, Path) else source
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except onnxruntime_errors(onnxruntime) as error:
        raise ExportError(f"onnxruntime cannot load the graph: {summary(error)}; export it again") from error


def read_facts(
    session: onnxruntime.InferenceSession, config: MiniMindConfig, target: str, precision: str
) -> GraphFacts:
    """Read what the graph says of itself, and see that it can be this model's.

    Args:
        session: Of the graph.
        config: The architecture it is compared with.
        target: That it must be made for.
        precision: That it must have, where it tells.

    Raises:
        ExportError: It is another model's graph, or another kind.
        ArtifactError: It breaks the contract of every graph.
    """
    metadata = session.get_modelmeta().custom_metadata_map
    facts = GraphFacts.read(session.get_inputs(), session.get_outputs(), metadata)
    for name, found, expected in (
        ("target", facts.target, target),
        ("precision", facts.precision or precision, precision),
        ("num_hidden_layers", facts.num_layers, config.num_hidden_layers),
        ("num_key_value_heads", facts.num_key_value_heads, config.num_key_value_heads),
        ("head_dim", facts.head_dim, config.head_dim),
        ("vocab_size", facts.vocab_size, config.vocab_size),
    ):
        if found != expected:
            raise ExportError(f"the graph's {name} is {found}, expected {expected}: compare it with its own checkpoint")
    return facts


def expert_names(num_layers: int) -> list[str]:
    """Names of the values that hold the chosen experts of each layer."""
    return [f"layers.{layer}.moe.topk_indices" for layer in range(num_layers)]


def cache_scales(path: Path, facts: GraphFacts) -> list[NDArray[np.float32]] | None:
    """What a step of each cached integer stands for, [H_kv, 1, D] a tensor, key before value; None for a float cache.

    Raises:
        ExportError: The graph has no scale for one.
    """
    if not facts.has_int8_cache:
        return None
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    names = [scale_name(layer, part) for layer in range(facts.num_layers) for part in ("k_scale", "v_scale")]
    if missing := [name for name in names if name not in stored]:
        raise ExportError(f"the graph has no {missing[0]}, the scale of its cache: export it again")
    arrays = (onnx.numpy_helper.to_array(stored[name], base_dir=str(path.parent)) for name in names)
    return [array.reshape(facts.num_key_value_heads, 1, facts.head_dim) for array in arrays]


def with_outputs(path: Path, names: Sequence[str]) -> bytes:
    """A copy of the graph that has some of its inner values as outputs too; its weights may lie beside the original.

    Raises:
        ExportError: The graph has no value of such a name.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    produced = {name for node in model.graph.node for name in node.output}
    missing = [name for name in names if name not in produced]
    if missing:
        raise ExportError(f"the graph has no value {missing[0]}, the experts chosen: export it again")
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return bytes(model.SerializeToString())
