"""The models of the benchmark: random weights, as Hugging Face folders that every peer's converter reads."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindForCausalLM

SEED = 0
"""The seed of the random weights, on which no speed depends."""


@dataclass(frozen=True)
class Model:
    """One model of the benchmark.

    Attributes:
        name: The model's letter in tables.
        title: The model's description in the report.
        is_minimind3: Whether the model is a MiniMind-3; otherwise it is a MiniMind2.
        fields: The fields of the configuration that differ from the generation's defaults.
    """

    name: str
    title: str
    is_minimind3: bool = False
    fields: dict[str, Any] = field(default_factory=dict)

    def build(self) -> MiniMindForCausalLM:
        """The model with random weights, always the same ones."""
        import torch

        from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

        torch.manual_seed(SEED)
        config = (MiniMindConfig.minimind3 if self.is_minimind3 else MiniMindConfig)(**self.fields)
        return MiniMindForCausalLM(config).eval()


MODELS = {
    model.name: model
    for model in (
        Model("A", "MiniMind2-small, 512 x 8"),
        Model("B", "MiniMind2, 768 x 16", fields={"hidden_size": 768, "num_hidden_layers": 16}),
        Model("C", "MiniMind-3, 768 x 8", is_minimind3=True),
        Model("D", "MiniMind-3 MoE, 768 x 8, 4 experts, top-1", is_minimind3=True, fields={"use_moe": True}),
    )
}


def demo_checkpoint() -> Path:
    """The bundled dense checkpoint, which is trained, with its tokenizer next to it."""
    from importlib.resources import files

    return next((Path(str(files("minimind_edge.export"))) / "demo" / "dense").glob("*.pth"))


def write_folder(folder: Path, make: Callable[[], MiniMindForCausalLM], tokenizer: Path) -> None:
    """Write a Hugging Face folder of a stock architecture, float32; one that is there already stays.

    Args:
        folder: The folder to write.
        make: A function that makes the model; it is not called when the folder exists already.
        tokenizer: The folder that has `tokenizer.json` and `tokenizer_config.json`.
    """
    from safetensors.torch import save_file

    from minimind_edge.export.artifact.hf_config import generation_config, model_config

    if (folder / "config.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    model = make()
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / name)
    length = model.config.max_position_embeddings
    (folder / "generation_config.json").write_text(json.dumps(generation_config(model.config, None, length)))
    (folder / "config.json").write_text(json.dumps(model_config(model.config), indent=2))  # last: marks it complete


def write_demo(folder: Path) -> Path:
    """The bundled dense checkpoint as a Hugging Face folder in `folder`, named after its content; gives its path."""
    from minimind_edge.minimind import load_checkpoint

    checkpoint = demo_checkpoint()
    target = folder / f"demo-{hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:8]}"
    write_folder(target, lambda: load_checkpoint(checkpoint), checkpoint.parent)
    return target
