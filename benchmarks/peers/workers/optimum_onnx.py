"""The worker of optimum: its own export to ONNX, `ORTModelForCausalLM`, `generate()`."""

from __future__ import annotations

from pathlib import Path

import serving
from hugging_face import HuggingFace


def convert(source: Path, folder: Path, build: str) -> None:
    """Export; float32 is the only build."""
    from optimum.onnxruntime import ORTModelForCausalLM

    ORTModelForCausalLM.from_pretrained(source, export=True).save_pretrained(folder)


def load(folder: Path, threads: int) -> HuggingFace:
    """Load the graph."""
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTModelForCausalLM

    options = SessionOptions()
    options.intra_op_num_threads = threads
    return HuggingFace(ORTModelForCausalLM.from_pretrained(folder, session_options=options), threads)


if __name__ == "__main__":
    serving.main(load, convert)
