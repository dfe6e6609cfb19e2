"""The model type `minimind` for optimum's exporters: importing this module registers it with `main_export`.

`optimum-cli export onnx` imports it by itself where minimind-edge is installed next to optimum-onnx. optimum traces the
model by TorchScript; its graph has the names of target `portable`. `minimind-export onnx` needs neither optimum nor
TorchScript, and compares the graph with the checkpoint.
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

disable_telemetry()  # optimum runs the exported graph in ONNX Runtime


class ExportedMiniMind(MiniMindForCausalLM):
    """The model in a module whose name optimum accepts as one of transformers' own, as for code from the Hub."""

    __module__ = "transformers_modules.minimind_edge"


@TasksManager.create_register("onnx")("minimind", "text-generation", "text-generation-with-past")
class MiniMindOnnxConfig(LlamaOnnxConfig):  # type: ignore[misc]
    """The graph's inputs, outputs and cache, which are those of a Llama whatever a block computes.

    Raises:
        ConfigError: `--trust-remote-code` was given, so that config and model come from the folder's own code.
    """

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(config, MiniMindConfig):
            raise ConfigError(
                "--trust-remote-code loads the folder's own model, which ignores the cache that optimum traces it "
                "with; leave it out: minimind-edge reads this folder by itself"
            )
        super().__init__(config, *args, **kwargs)


AutoModelForCausalLM.register(MiniMindConfig, ExportedMiniMind, exist_ok=True)
