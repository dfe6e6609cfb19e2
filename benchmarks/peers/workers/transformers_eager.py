"""The worker of plain transformers: the stock architecture, eager, `generate()`."""

from __future__ import annotations

from pathlib import Path

import serving
import torch
from hugging_face import HuggingFace


def convert(source: Path, folder: Path, build: str) -> None:
    """Store the weights in the build's type."""
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(source, dtype=DTYPES[build]).save_pretrained(folder)


def load(folder: Path, threads: int) -> HuggingFace:
    """Load the model in the type that it is stored in."""
    from transformers import AutoModelForCausalLM

    return HuggingFace(AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval(), threads)


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

if __name__ == "__main__":
    serving.main(load, convert)
