"""MiniMind for optimum's exporters: once this is imported, `main_export` knows the model type `minimind`.

`optimum-cli export onnx` imports it by itself where minimind-edge is installed next to optimum-onnx. optimum traces the
model by TorchScript; its graph has the names of target `portable`. `minimind-export onnx` needs neither, and compares.
"""

from __future__ import annotations

from typing import Any

from optimum.exporters.onnx.model_configs import LlamaOnnxConfig
from optimum.exporters.tasks import TasksManager
from transformers import AutoModelForCausalLM

from minimind_edge.minimind.causal_lm import MiniMindForCausalLM
from minimind_edge.minimind.config import MiniMindConfig
from minimind_edge.minimind.errors import ConfigError
from minimind_edge.runtime.ort.environment import disable_telemetry

disable_telemetry()  # optimum checks what it exported by ONNX Runtime


class ExportedMiniMind(MiniMindForCausalLM):
    """The model under a module's name that optimum takes for transformers' own, as it does that of a Hub's code."""

    __module__ = "transformers_modules.minimind_edge"


@TasksManager.create_register("onnx")("minimind", "text-generation", "text-generation-with-past")
class MiniMindOnnxConfig(LlamaOnnxConfig):  # type: ignore[misc]
    """Inputs, outputs and cache are those of a Llama, whatever is inside a block.

    Raises:
        ConfigError: `--trust-remote-code` made the config, and with it the model, the folder's own.
    """

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(config, MiniMindConfig):
            raise ConfigError(
                "--trust-remote-code loads the folder's own model, which ignores the cache that optimum traces it "
                "with; leave it out: minimind-edge reads this folder by itself"
            )
        super().__init__(config, *args, **kwargs)


AutoModelForCausalLM.register(MiniMindConfig, ExportedMiniMind, exist_ok=True)
