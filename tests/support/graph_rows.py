"""Runs graphs on padded batches in chunks, and eager PyTorch on each row alone: what a graph is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

CAPACITY = 40
"""Slots of a shared buffer, and `max_length` of the graphs."""

GARBAGE = 1e4
"""What lies in the slots of a shared buffer that are not in use; of int8, the lowest."""

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}

VARIANTS: dict[str, dict[str, Any]] = {
    "mha": {"num_key_value_heads": 4},
    "gqa": {},
    "mqa": {"num_key_value_heads": 1, "tie_word_embeddings": False},
    "yarn": {"inference_rope_scaling": True, "rope_scaling_parameters": {"attention_factor": 1.2}},
    "moe": {"use_moe": True},
    "moe-unnormalised": {"use_moe": True, "norm_topk_prob": False, "n_shared_experts": 2, "n_routed_experts": 5},
    "minimind3": {"qk_norm": True, "head_dim": 32, "rms_norm_eps": 1e-6},
    "minimind3-heads-of-24": {"qk_norm": True, "head_dim": 24, "inference_rope_scaling": True},
    "heads-of-8": {"head_dim": 8},
    "minimind3-moe": {"qk_norm": True, "use_moe": True, "n_shared_experts": 0, "num_experts_per_tok": 1},
}

PROMPTS = ((5, 9, 2, 7, 11, 4), (8, 3, 6), (12, 10, 14, 13))
CONTINUATIONS = ((21, 22, 23), (24, 25, 26), (27, 28, 29))


def make_model(variant: str, **overrides: Any) -> Any:
    """A tiny model whose attention is far from uniform and whose greedy text does not stand still."""
    from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

    fields = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 131,
        "intermediate_size": 96,
    }
    model = MiniMindForCausalLM(MiniMindConfig(**fields | VARIANTS[variant] | overrides)).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if parameter.dim() == 1 else noise * 1.4 / parameter.shape[1] ** 0.5)
    return model


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Batch:
    """Prompts of several lengths padded on one side, and tokens behind them that no row lacks.

    Attributes:
        ids: Token ids in slots, [B, T] int64; padding is token 0.
        mask: 1 for real tokens, [B, T] int64.
        positions: Of each slot's token among its row's real ones, [B, T] int64.
    """

    ids: np.ndarray
    mask: np.ndarray
    positions: np.ndarray

    @classmethod
    def of(cls, padding: str, offset: int = 0) -> Batch:
        """`padding` is `none` (then the prompts are cut to one length), `left` or `right`."""
        size = (min if padding == "none" else max)(map(len, PROMPTS))
        ids = np.zeros((len(PROMPTS), size + len(CONTINUATIONS[0])), np.int64)
        mask = np.ones_like(ids)
        for row, (prompt, continuation) in enumerate(zip(PROMPTS, CONTINUATIONS, strict=True)):
            tokens = prompt[:size]
            start = size - len(tokens) if padding == "left" else 0
            mask[row, :size] = 0
            mask[row, start : start + len(tokens)] = 1
            ids[row, start : start + len(tokens)] = tokens
            ids[row, size:] = continuation
        return cls(ids, mask, np.maximum(mask.cumsum(1) - 1, 0) + offset)


@dataclass(frozen=True)
class Output:
    """Logits [B, T, V] and, for each layer, key and value [B, H_kv, T, D] one after the other."""

    logits: np.ndarray
    presents: list[np.ndarray]


class GraphRunner:
    """Runs a graph chunk by chunk.

    Args:
        path: The graph.
        shared: Give it one buffer for past and present instead of arrays that grow.
    """

    def __init__(self, path: Path, *, shared: bool) -> None:
        self.session = open_graph(path)
        self.shared = shared
        cache = self.session.get_inputs()[3:]
        self.dtype = DTYPES[cache[0].type]
        self.shapes = [(node.shape[1], node.shape[3]) for node in cache]
        self.pasts = [node.name for node in cache]
        self.presents = [node.name for node in self.session.get_outputs()[1:]]

    def run(self, batch: Batch, splits: Sequence[int]) -> Output:
        """Run the batch in chunks of these sizes."""
        assert sum(splits) == batch.ids.shape[1]
        rows, past, logits = len(batch.ids), 0, []
        size = CAPACITY if self.shared else 0
        garbage = -128 if self.dtype is np.int8 else GARBAGE
        cache = [np.full((rows, heads, size, dim), garbage, self.dtype) for heads, dim in self.shapes]
        for length in splits:
            chunk = slice(past, past + length)
            feeds = {
                "input_ids": batch.ids[:, chunk],
                "attention_mask": batch.mask[:, : chunk.stop],
                "position_ids": batch.positions[:, chunk],
            }
            result, cache = (self._run_shared if self.shared else self._run_growing)(feeds, cache)
            logits.append(result)
            past = chunk.stop
        return Output(np.concatenate(logits, axis=1), [tensor[:, :, :past] for tensor in cache])

    def _run_growing(self, feeds: dict, cache: list) -> tuple[np.ndarray, list]:
        logits, *presents = self.session.run(None, feeds | dict(zip(self.pasts, cache, strict=True)))
        return logits, presents

    def _run_shared(self, feeds: dict, cache: list) -> tuple[np.ndarray, list]:
        binding = self.session.io_binding()
        feeds = {name: np.ascontiguousarray(array) for name, array in feeds.items()}  # alive until the run is over
        for name, array in feeds.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        buffers = [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in cache]
        for past, present, buffer in zip(self.pasts, self.presents, buffers, strict=True):
            binding.bind_ortvalue_input(past, buffer)
            binding.bind_ortvalue_output(present, buffer)
        binding.bind_output("logits")
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy().copy(), [buffer.numpy().copy() for buffer in buffers]


def eager_row(model: Any, ids: np.ndarray, positions: np.ndarray) -> Output:
    """One unpadded row in a single pass; logits [n, V], keys and values [H_kv, n, D]."""
    with torch.inference_mode():
        output = model(torch.from_numpy(ids)[None], position_ids=torch.from_numpy(positions)[None], use_cache=True)
    presents = [tensor[0].numpy() for pair in output.past_key_values for tensor in pair]
    return Output(output.logits[0].numpy(), presents)


def largest_errors(model: Any, batch: Batch, output: Output) -> tuple[float, float]:
    """Of logits, over the largest |logit|, and of keys and values: real tokens against their row run alone."""
    errors = []
    for row, real in enumerate(batch.mask.astype(bool)):
        expected = eager_row(model, batch.ids[row, real], batch.positions[row, real])
        logits = np.abs(output.logits[row, real] - expected.logits).max() / np.abs(expected.logits).max()
        pairs = zip(output.presents, expected.presents, strict=True)
        errors.append((logits, max(np.abs(found[row][:, real] - wanted).max() for found, wanted in pairs)))
    worst = np.max(errors, axis=0)
    return float(worst[0]), float(worst[1])


def eager_greedy(model: Any, prompt: Sequence[int], steps: int) -> list[int]:
    """Greedy text without any cache."""
    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(steps):
            tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens[len(prompt) :]
