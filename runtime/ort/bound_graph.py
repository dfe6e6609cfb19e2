"""A graph of target `tensorrt` in ONNX Runtime, with all that it reads and writes bound."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError
from ..session.graph_facts import GraphFacts
from ..session.session import Logits
from .buffers import DeviceMemory
from .environment import CUDA
from .kv_cache import KVCache
from .session_options import SILENT, onnxruntime_errors, summary

DEFAULT_MAX_LENGTH = 32768
"""Slots of a graph that does not tell its own limit."""


class BoundGraph:
    """ONNX Runtime's session of a graph, and its binding.

    Args:
        onnxruntime: The module.
        session: Its session for the graph.

    Attributes:
        facts: What the graph says of itself.
        device: `cpu` or `cuda`.
        binding: What the next run reads and writes.
        memory: On the device.

    Raises:
        ArtifactError: The graph is not what this runtime runs.
    """

    def __init__(self, onnxruntime: ModuleType, session: Any) -> None:
        self.facts = GraphFacts.read(
            session.get_inputs(), session.get_outputs(), session.get_modelmeta().custom_metadata_map
        )
        self.device = "cuda" if CUDA in session.get_providers() else "cpu"
        self.binding = session.io_binding()
        self.memory = DeviceMemory(onnxruntime, self.device)
        self._host = DeviceMemory(onnxruntime, "cpu")
        self._session = session
        self._errors = onnxruntime_errors(onnxruntime)
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = SILENT

    @property
    def max_length(self) -> int:
        """Most slots."""
        return self.facts.max_length or DEFAULT_MAX_LENGTH

    def clear(self) -> None:
        """Let go of all buffers."""
        self.binding.clear_binding_inputs()
        self.binding.clear_binding_outputs()

    def bind(self, inputs: Mapping[str, NDArray[np.int32]], logits: Logits) -> None:
        """Have the next runs read these arrays of the host, each in one piece, and write the logits into that one."""
        # Kept, because a binding need not keep the arrays behind its values alive.
        self._bound = {name: self._host.put(array) for name, array in (*inputs.items(), ("logits", logits))}
        for name in inputs:
            self.binding.bind_ortvalue_input(name, self._bound[name])
        self.binding.bind_ortvalue_output("logits", self._bound["logits"])

    def run(self, cache: KVCache, past: int, total: int) -> None:
        """Run what is bound; where that fails, nothing has changed.

        Args:
            cache: Of this graph.
            past: Slots that it has to keep.
            total: Slots behind the run.

        Raises:
            ArtifactError: The graph failed.
            MissingError: There is no memory for so many slots.
        """
        try:
            cache.bind(past, total)
            self._session.run_with_iobinding(self.binding, self._options)
        except self._errors as error:
            raise ArtifactError(f"the graph failed at positions {past} to {total - 1}: {summary(error)}") from error
        cache.commit(total)
