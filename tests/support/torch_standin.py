"""A stand-in for TensorRT on a GPU without it: `StaticDecoder` by PyTorch, on the very addresses and stream.

Buffers, copies, streams and CUDA graphs of the session are the real ones then; the arithmetic alone is not TensorRT's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from static_decoder import HEAD_DIM, HEADS, KV_HEADS, LAYERS, VOCAB, StaticDecoder

TYPES = {torch.int32: "<i4", torch.float32: "<f4"}


class DeviceArray:
    """Memory at an address, as `__cuda_array_interface__` tells it to PyTorch."""

    def __init__(self, address: int, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.__cuda_array_interface__ = {
            "shape": tuple(shape),
            "typestr": TYPES[dtype],
            "data": (address, False),
            "version": 3,
            "stream": None,
        }


class TorchContext:
    """TensorRT's `IExecutionContext`, as far as it is used; float32, one launch an `execute_async_v3`."""

    def __init__(self, decoder: StaticDecoder) -> None:
        self._weights = {name: torch.tensor(value, device="cuda") for name, value in decoder.weights.items()}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    @torch.inference_mode()
    def execute_async_v3(self, stream_handle: int) -> bool:
        with torch.cuda.stream(torch.cuda.ExternalStream(stream_handle)):
            self._compute()
        return True

    def _compute(self) -> None:
        ids, last = self._tensor("input_ids", torch.int32).long(), self._tensor("last_index", torch.int32).long()
        batch, length = ids.shape
        positions = self._positions(length)
        x = self._weights["embedding"][ids]
        for layer in range(LAYERS):
            x = x + self._attention(layer, x, positions)
        rows = x[torch.arange(batch, device="cuda"), last]
        logits = self._tensor("logits", torch.float32, (batch, 1, VOCAB))
        logits.copy_((rows @ self._weights["head"])[:, None])

    def _attention(self, layer: int, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        q, k, v = (self._heads(x, f"{name}_{layer}") for name in ("wq", "wk", "wv"))
        q, k = self._rotated(q, positions), self._rotated(k, positions)
        keys, values, mask = self._cached(layer, k, v, positions)
        group = HEADS // KV_HEADS
        keys, values = (each.repeat_interleave(group, dim=1) for each in (keys, values))
        mixed = functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        return mixed.transpose(1, 2).flatten(2) @ self._weights[f"wo_{layer}"]

    def _positions(self, length: int) -> torch.Tensor:
        """Of the chunk's tokens, [B, S]."""
        return self._tensor("write_indices", torch.int32).long()[:, None] + torch.arange(length, device="cuda")

    def _cached(
        self, layer: int, k: torch.Tensor, v: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys and values with the chunk's in place, and which of them each token sees."""
        keys, values = (self._tensor(f"past_key_values.{layer}.{part}", torch.float32) for part in ("key", "value"))
        slots = positions[:, None, :, None]
        keys.scatter_(2, slots.expand_as(k), k)
        values.scatter_(2, slots.expand_as(v), v)
        return keys, values, torch.arange(keys.shape[2], device="cuda") <= slots

    def _heads(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return (x @ self._weights[name]).unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2)

    def _rotated(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cos, sin = (torch.cat([self._weights[name][positions]] * 2, -1)[:, None] for name in ("cos_table", "sin_table"))
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    def _tensor(self, name: str, dtype: torch.dtype, shape: tuple[int, ...] | None = None) -> torch.Tensor:
        return torch.as_tensor(DeviceArray(self._addresses[name], shape or self._shapes[name], dtype), device="cuda")
