"""Building the model from a configuration and tensors, which are checked and converted to float32."""

from __future__ import annotations

from collections.abc import Collection

import torch

from ..causal_lm import MiniMindForCausalLM
from ..config import MiniMindConfig
from ..errors import CheckpointError
from .admission import require_finite
from .inference import same_values
from .names import EMBEDDING, HEAD, NamedTensors
from .rotary_order import interleaved_to_rotate_half

SHOWN = 3


def assemble(config: MiniMindConfig, named: NamedTensors) -> MiniMindForCausalLM:
    """Build the model from tensors, without allocating initial weights.

    Args:
        config: The complete configuration.
        named: The checkpoint's tensors; emptied on the way, so that each is freed once it is converted.

    Returns:
        The model in eval mode, float32 on the CPU, sharing no memory with the checkpoint.

    Raises:
        CheckpointError: A tensor is missing, surplus, misshapen, or not finite once adapters are merged.
    """
    with torch.device("meta"):
        model = MiniMindForCausalLM(config)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        _drop_tied_head(named)
        del expected[HEAD]
    _require_names(expected, named)
    state = {name: _own_float32(named, name, expected[name], config) for name in expected}
    if config.tie_word_embeddings:
        state[HEAD] = state[EMBEDDING]
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    model.train(False)
    return model


def _drop_tied_head(named: NamedTensors) -> None:
    head = named.tensors.pop(HEAD, None)
    if head is not None and not same_values(head, named.tensors[EMBEDDING]):
        raise CheckpointError(
            f"tensor {named.file_name(HEAD)} differs from {named.file_name(EMBEDDING)}; expected tied embeddings"
        )


def _require_names(expected: Collection[str], named: NamedTensors) -> None:
    missing = [named.file_name(name) for name in expected if name not in named.tensors]
    surplus = [named.file_name(name) for name in named.tensors if name not in expected]
    if missing:
        raise CheckpointError(f"missing {_listed(missing)}; the checkpoint is incomplete")
    if surplus:
        raise CheckpointError(f"surplus {_listed(surplus)}; expected a MiniMind language model and nothing else")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"tensor{'s' if len(names) > 1 else ''} {shown}{more}"


def _own_float32(named: NamedTensors, name: str, shape: torch.Size, config: MiniMindConfig) -> torch.Tensor:
    """Remove a tensor from `named`, check it, and copy it to float32 with the model's order of rows."""
    tensor, label = named.tensors.pop(name), named.file_name(name)
    if tensor.shape != shape:
        raise CheckpointError(f"tensor {label} has shape {list(tensor.shape)}; expected {list(shape)}")
    if named.legacy and name.endswith((".q_proj.weight", ".k_proj.weight")):
        heads = config.num_attention_heads if name.endswith(".q_proj.weight") else config.num_key_value_heads
        tensor = interleaved_to_rotate_half(tensor, heads)
    own = tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    require_finite(own, f"tensor {label}")  # merging may overflow, and a float64 may exceed float32
    return own
