"""MiniMind with its language-model head, as a Hugging Face model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import MoeCausalLMOutputWithPast

from .attention import KeyValue
from .config import MiniMindConfig
from .errors import CheckpointError, ConfigError
from .model import MiniMindModel
from .moe import MoEGate
from .rope import RotaryEmbedding
from .rope_scaling import YARN_TYPES

INITIALIZER_RANGE = 0.02


BUFFERS = (".freqs_cos", ".freqs_sin")
"""The name endings of upstream's tables of angles, which a checkpoint may hold and the model computes."""


class MiniMindForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A MiniMind with its language-model head: next-token logits, training loss, and transformers' `generate`."""

    config_class = MiniMindConfig
    base_model_prefix = "model"
    _no_split_modules = ("MiniMindBlock",)
    _supports_sdpa = True
    accepts_loss_kwargs = False  # the loss is a mean: transformers' Trainer divides it by its accumulation steps
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: MiniMindConfig | None = None) -> None:
        super().__init__(MiniMindConfig() if config is None else config)
        self.model = MiniMindModel(self.config)
        self.lm_head = nn.Linear(self.config.hidden_size, self.config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """Load a folder as `transformers` does, except that a missing or surplus tensor is an error.

        Raises:
            CheckpointError: The folder's tensors do not match its config.json.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        for kind, names in (("missing", info["missing_keys"]), ("unexpected", info["unexpected_keys"])):
            found = sorted(name for name in names if not name.endswith(BUFFERS))
            if found:
                raise CheckpointError(
                    f"{kind} tensor {found[0]} ({len(found)} in all): the weights are not the "
                    f"{model.config.generation} that config.json describes; load_checkpoint tells what they are"
                )
        return (model, info) if output_loading_info else model

    def _init_weights(self, module: nn.Module) -> None:
        """Draw initial weights: normal for matrices, and as `nn.Linear` does for the router."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=INITIALIZER_RANGE)
        elif isinstance(module, MoEGate):
            module.reset_parameters()

    def set_rope_scaling(self, enabled: bool) -> None:
        """Turn YaRN on or off, with the parameters of the config.

        Raises:
            ConfigError: The config has another scaling, which the model was trained with.
        """
        kind = self.config.rope_scaling_parameters["type"]
        if kind not in YARN_TYPES and enabled != self.config.inference_rope_scaling:
            raise ConfigError(f"--yarn and --no-yarn switch YaRN; this model's rope_scaling is of type {kind!r}")
        self.config.inference_rope_scaling = enabled
        self.model.rotary_emb = RotaryEmbedding(self.config)

    def forward(  # noqa: PLR0917
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | Sequence[KeyValue] | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> MoeCausalLMOutputWithPast:
        """Compute logits, and the loss where `labels` are given.

        Args:
            input_ids: Token ids, [B, S] int64.
            attention_mask: Mask [B, P+S], 1 for real tokens and 0 for padding on either side; None for no padding.
            position_ids: Positions, [B, S] int64; None counts each row's real tokens.
            past_key_values: A `DynamicCache`, which is extended, or a (key, value) per block, each [B, H_kv, P, D].
            labels: Token ids that the loss is computed for, [B, S] int64, -100 to skip one; they are shifted here.
            use_cache: Return the extended cache, in the form of the given one; None means unless training.
            logits_to_keep: Number of last positions whose logits are computed, 0 for all; or the indices of positions.
            kwargs: Further arguments of `transformers`, which are ignored.

        Returns:
            `logits` [B, S, V] in the weights' dtype, `past_key_values`, the balancing loss `aux_loss`, and `loss`
            without it: add the two in training.

        Raises:
            TypeError: The cache is of another type.
        """
        use_cache = not self.training if use_cache is None else use_cache
        cache = past_key_values if isinstance(past_key_values, Cache) else None
        past = _layers_of(cache) if cache is not None else past_key_values
        hidden_states, presents, aux_loss = self.model(input_ids, attention_mask, past, use_cache, position_ids)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden_states[:, kept])
        if cache is not None and use_cache:
            _extend(cache, presents, input_ids.shape[1])
        return MoeCausalLMOutputWithPast(
            loss=None if labels is None else next_token_loss(logits, labels),
            aux_loss=aux_loss,
            logits=logits,
            past_key_values=(cache if cache is not None else tuple(presents)) if use_cache else None,
        )


def next_token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy, in nats, of `logits` [B, S, V] and the next position's `labels` [B, S]; skips -100."""
    predictions = logits[:, :-1].float().flatten(0, 1)
    return cross_entropy(predictions, labels[:, 1:].flatten(), ignore_index=-100)


def _layers_of(cache: Cache) -> list[KeyValue] | None:
    """The cache's (key, value) pairs, or None where it is empty."""
    if not isinstance(cache, DynamicCache):
        raise TypeError(f"MiniMind takes a DynamicCache or (key, value) pairs, not a {type(cache).__name__}")
    if cache.get_seq_length() == 0:
        return None
    return [(layer.keys, layer.values) for layer in cache.layers]


def _extend(cache: Cache, presents: Sequence[KeyValue], length: int) -> None:
    """Append the last `length` positions of each block's key and value."""
    for index, (key, value) in enumerate(presents):
        cache.update(key[:, :, -length:], value[:, :, -length:], index)


AutoModelForCausalLM.register(MiniMindConfig, MiniMindForCausalLM)
