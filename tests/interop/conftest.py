"""The artifacts that every tool is given, and what eager PyTorch says to the same prompts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_rows import make_model
from interop_tools import NEW_TOKENS, PROMPTS
from transformers import AutoTokenizer

from minimind_edge.export import ExportRequest, export_onnx
from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.export.quantization import QuantizationSettings
from minimind_edge.minimind import load_checkpoint
from minimind_edge.runtime import Session, load_session

CALIBRATION = QuantizationSettings(rows=4, length=32, measured_rows=2, held_out_rows=1)
"""Next to none: what a tool makes of integers does not depend on how well they were chosen."""

EOS = 2
VOCABULARY = 2048
DEMOS = {"minimind2": False, "minimind2-moe": True}
RANDOM = {
    "minimind2-moe-tiny": ("moe", {}),
    "minimind3": ("minimind3", {"head_dim": 16}),
    "minimind3-wide-heads": ("minimind3", {"head_dim": 32}),
    "minimind3-moe": ("minimind3-moe", {}),
}
"""By kind, the variant of `graph_rows` and what is different."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A kind's checkpoint with a tokenizer: the bundled demos, and tiny random models in MiniMind-3's shape."""
    made: dict[str, Path] = {}

    def save(kind: str) -> Path:
        if kind in DEMOS:
            return bundled_checkpoint(moe=DEMOS[kind])
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind) / "checkpoint"
            variant, changes = RANDOM[kind]
            make_model(variant, vocab_size=VOCABULARY, **changes).save_pretrained(folder)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(bundled_checkpoint(moe=False).parent / name, folder)
            made[kind] = folder
        return made[kind]

    return save


@pytest.fixture(scope="session")
def artifact(checkpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The artifact folder of a kind, a target and one or more precisions, exported once."""
    made: dict[tuple[Any, ...], Path] = {}

    def export(kind: str, target: str = "portable", *precisions: str) -> Path:
        key = (kind, target, *precisions)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("-".join(key)) / "my-model"
            for precision in precisions or ("fp32",):
                request = ExportRequest(
                    checkpoint=checkpoint(kind),
                    output=made[key],
                    target=target,
                    precision=precision,
                    max_length=512,
                    quantization=CALIBRATION,
                    verify=False,
                )
                export_onnx(request)
        return made[key]

    return export


@pytest.fixture(scope="session")
def expected(checkpoint: Any) -> Callable[..., list[tuple[list[int], list[int]]]]:
    """Of each prompt, its ids by transformers' own tokenizer and template, and the greedy tokens behind it.

    Float graphs are held against eager PyTorch. What integers are meant to be is not in the checkpoint: those graphs
    are held against ONNX Runtime, by this project's session, on the same file.
    """
    made: dict[Any, Any] = {}

    def reference(kind: str, integers: Path | None = None) -> list[tuple[list[int], list[int]]]:
        key = integers or kind
        if key not in made:
            prompts = [_prompt_ids(checkpoint(kind), prompt) for prompt in PROMPTS]
            model = load_checkpoint(checkpoint(kind)) if integers is None else load_session(integers, device="cpu")
            made[key] = [(ids, (_by_eager if integers is None else _by_session)(model, ids)) for ids in prompts]
        return made[key]

    return reference


def _prompt_ids(checkpoint: Path, prompt: str) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint if checkpoint.is_dir() else checkpoint.parent)
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]


def _by_eager(model: Any, prompt_ids: list[int]) -> list[int]:
    """Greedy tokens without any cache, to the end token."""
    tokens = list(prompt_ids)
    with torch.inference_mode():
        while len(tokens) < len(prompt_ids) + NEW_TOKENS and tokens[len(prompt_ids) :][-1:] != [EOS]:
            tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens[len(prompt_ids) :]


def _by_session(session: Session, prompt_ids: list[int]) -> list[int]:
    session.reset()
    tokens = [int(session.prefill(np.array([prompt_ids]))[0].argmax())]
    while len(tokens) < NEW_TOKENS and tokens[-1] != EOS:
        tokens.append(int(session.decode(np.array(tokens[-1:]))[0].argmax()))
    return tokens
