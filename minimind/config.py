"""The configuration of both living MiniMind generations."""

from __future__ import annotations

import inspect
import math
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.activations import ACT2FN

from .errors import ConfigError
from .rope_scaling import complete_scaling, is_number

MINIMIND3_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "qk_norm": True,
    "n_shared_experts": 0,
    "num_experts_per_tok": 1,
    "aux_loss_alpha": 5e-4,
    "seq_aux": False,
}


MINIMIND3_NAMES = frozenset({"num_experts", "router_aux_loss_coef", "moe_intermediate_size"})
"""The fields that upstream's MiniMind-3 has in its config.json, dense or not, and that its MiniMind2 lacks."""


class MiniMindConfig(PretrainedConfig):  # type: ignore[misc]
    """The architecture of a MiniMind, by default MiniMind2-small (26M); `minimind3` has the defaults of MiniMind-3.

    Args:
        hidden_size: Width H of the residual stream.
        num_hidden_layers: Number of blocks.
        num_attention_heads: Number of query heads H_q.
        num_key_value_heads: Number of key and value heads H_kv; None means as many as query heads.
        head_dim: Width D of a head, even; None means `hidden_size // num_attention_heads`.
        vocab_size: Number of entries V of the embedding and the head.
        intermediate_size: Inner width of the feed-forward network; None means `64 * ceil(int(8 H / 3) / 64)`.
        hidden_act: Name of the gate's activation in `transformers.activations.ACT2FN`.
        max_position_embeddings: Nominal context length in tokens.
        rope_theta: Base of the rotary frequencies.
        inference_rope_scaling: Scale RoPE's frequencies; by MiniMind's YaRN, unless `rope_scaling` names another type.
        rope_scaling: A type of `rope_scaling.SCALINGS` and its parameters; giving them turns the scaling on.
        dropout: Dropout probability, in training only.
        rms_norm_eps: Epsilon of every RMSNorm.
        flash_attn: Attention by `scaled_dot_product_attention`; False uses plain operators, with the same result.
        qk_norm: RMSNorm over each query and key head before RoPE, which MiniMind-3 has and MiniMind2 lacks.
        tie_word_embeddings: The head shares the embedding's weight.
        use_moe: Mixture of experts in every block's feed-forward network.
        n_routed_experts: Number of experts that the router chooses from.
        n_shared_experts: Number of further experts that every token uses.
        num_experts_per_tok: Number of routed experts per token.
        moe_intermediate_size: Inner width of an expert; None means `intermediate_size`.
        scoring_func: Function of the router's scores; only `softmax` is supported.
        aux_loss_alpha: Weight of the load-balancing loss in training.
        seq_aux: Balance each sequence by itself instead of the whole batch.
        norm_topk_prob: Rescale the chosen experts' weights to sum to 1.
        rope_scaling_parameters: As `rope_scaling`, without turning the scaling on.

    Raises:
        ConfigError: Values contradict each other or are out of range.
    """

    model_type = "minimind"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(  # noqa: PLR0917
        self,
        hidden_size: int = 512,
        num_hidden_layers: int = 8,
        num_attention_heads: int = 8,
        num_key_value_heads: int | None = 2,
        head_dim: int | None = None,
        vocab_size: int = 6400,
        intermediate_size: int | None = None,
        hidden_act: str = "silu",
        max_position_embeddings: int = 32768,
        rope_theta: float = 1e6,
        inference_rope_scaling: bool = False,
        rope_scaling: dict[str, Any] | None = None,
        dropout: float = 0.0,
        rms_norm_eps: float = 1e-5,
        flash_attn: bool = True,
        qk_norm: bool = False,
        tie_word_embeddings: bool = True,
        bos_token_id: int | None = 1,
        eos_token_id: int | list[int] | None = 2,
        pad_token_id: int | None = 0,
        use_moe: bool = False,
        n_routed_experts: int = 4,
        n_shared_experts: int = 1,
        num_experts_per_tok: int = 2,
        moe_intermediate_size: int | None = None,
        scoring_func: str = "softmax",
        aux_loss_alpha: float = 0.01,
        seq_aux: bool = True,
        norm_topk_prob: bool = True,
        rope_scaling_parameters: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        _require_positive(
            hidden_size=hidden_size,
            num_hidden_layers=num_hidden_layers,
            num_attention_heads=num_attention_heads,
            vocab_size=vocab_size,
            max_position_embeddings=max_position_embeddings,
        )
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_attention_heads if num_key_value_heads is None else num_key_value_heads
        self.head_dim = hidden_size // num_attention_heads if head_dim is None else head_dim
        self.vocab_size = vocab_size
        self.intermediate_size = (
            default_intermediate_size(hidden_size) if intermediate_size is None else intermediate_size
        )
        self.hidden_act = hidden_act
        self.max_position_embeddings = max_position_embeddings
        self.rope_theta = rope_theta
        self.inference_rope_scaling = inference_rope_scaling or rope_scaling is not None
        self.rope_scaling_parameters = complete_scaling((rope_scaling_parameters or {}) | (rope_scaling or {}))
        self.dropout = dropout
        self.rms_norm_eps = rms_norm_eps
        self.flash_attn = flash_attn
        self.qk_norm = qk_norm
        self.use_moe = use_moe
        self.n_routed_experts = n_routed_experts
        self.n_shared_experts = n_shared_experts
        self.num_experts_per_tok = num_experts_per_tok
        self.moe_intermediate_size = self.intermediate_size if moe_intermediate_size is None else moe_intermediate_size
        self.scoring_func = scoring_func
        self.aux_loss_alpha = aux_loss_alpha
        self.seq_aux = seq_aux
        self.norm_topk_prob = norm_topk_prob
        self._check()
        super().__init__(
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
            tie_word_embeddings=tie_word_embeddings,
            **kwargs,
        )

    @classmethod
    def minimind3(cls, **overrides: Any) -> MiniMindConfig:
        """A configuration with the defaults of MiniMind-3 (64M; with `use_moe` 198M) and the given overrides."""
        fields = MINIMIND3_DEFAULTS | overrides
        if fields.get("intermediate_size") is None:
            fields["intermediate_size"] = default_intermediate_size_minimind3(fields["hidden_size"])
        return cls(**fields)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read a `config.json`, ours or upstream's of either generation, as `load_checkpoint` reads it.

        Upstream's MiniMind-3 has no field for `qk_norm`; it is recognized by the names of its experts' fields.

        Raises:
            ConfigError: The config is of another model, has an unknown key, or a value of the wrong type.
        """
        from .checkpoint.config_fields import translate_config
        from .checkpoint.ignored_keys import IGNORED

        if config_dict.get("model_type", cls.model_type) != cls.model_type:
            raise ConfigError(
                f"config.json: model_type {config_dict['model_type']!r} is not {cls.model_type!r}; "
                "load_checkpoint reads it"
            )
        fields = translate_config(config_dict, "config.json").fields
        if "qk_norm" not in fields and MINIMIND3_NAMES & config_dict.keys() and "n_routed_experts" not in config_dict:
            fields = cls.minimind3(**fields).arguments() | fields
        kept = {name: value for name, value in config_dict.items() if name in IGNORED and name != "auto_map"}
        return super().from_dict(kept | fields, **kwargs)

    @property
    def generation(self) -> str:
        """The generation: `minimind3` with `qk_norm`, else `minimind2`."""
        return "minimind3" if self.qk_norm else "minimind2"

    def arguments(self) -> dict[str, Any]:
        """The arguments that recreate this config, as JSON values."""
        names = inspect.signature(type(self)).parameters.keys() - {"rope_scaling", "kwargs"}
        return {name: getattr(self, name) for name in sorted(names)}

    @property
    def rope_scaling(self) -> dict[str, Any] | None:
        """The type and parameters of the scaling that is on, or None for plain RoPE."""
        return dict(self.rope_scaling_parameters) if self.inference_rope_scaling else None

    @property
    def normalizes_expert_weights(self) -> bool:
        """Whether the chosen experts' weights are rescaled: in MiniMind2 for two or more, in MiniMind-3 always."""
        return self.norm_topk_prob and (self.num_experts_per_tok > 1 or self.qk_norm)

    @property
    def counts_every_choice(self) -> bool:
        """Whether the balancing loss sums the loads of a token's k choices, as in MiniMind-3, or averages them."""
        return self.qk_norm

    def _check(self) -> None:
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        _require_positive(
            num_key_value_heads=kv_heads, head_dim=self.head_dim, intermediate_size=self.intermediate_size
        )
        if heads % kv_heads:
            raise ConfigError(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
        if self.head_dim % 2:
            raise ConfigError(f"head_dim {self.head_dim} is odd; RoPE rotates pairs: set an even head_dim")
        self._check_numbers()
        if self.hidden_act not in ACT2FN:
            raise ConfigError(f"hidden_act {self.hidden_act!r} is unknown to transformers; MiniMind uses 'silu'")
        if self.use_moe:
            self._check_moe()

    def _check_numbers(self) -> None:
        for name in ("rope_theta", "rms_norm_eps"):
            if not is_number(getattr(self, name)) or getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be a positive number, found {getattr(self, name)!r}")
        if self.rope_theta <= 1:
            raise ConfigError(f"rope_theta must be above 1, found {self.rope_theta!r}")
        if not is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be a number from 0 to below 1, found {self.dropout!r}")

    def _check_moe(self) -> None:
        _require_positive(
            n_routed_experts=self.n_routed_experts,
            num_experts_per_tok=self.num_experts_per_tok,
            moe_intermediate_size=self.moe_intermediate_size,
        )
        if self.n_shared_experts != 0:
            _require_positive(n_shared_experts=self.n_shared_experts)
        if self.num_experts_per_tok > self.n_routed_experts:
            raise ConfigError(
                f"num_experts_per_tok {self.num_experts_per_tok} exceeds n_routed_experts {self.n_routed_experts}"
            )
        if self.scoring_func != "softmax":
            raise ConfigError(f"scoring_func {self.scoring_func!r} is not supported; MiniMind's router uses 'softmax'")


def default_intermediate_size(hidden_size: int) -> int:
    """The feed-forward width of MiniMind2: 8/3 of the hidden size, rounded up to a multiple of 64."""
    return 64 * -(-int(hidden_size * 8 / 3) // 64)


def default_intermediate_size_minimind3(hidden_size: int) -> int:
    """The feed-forward width of MiniMind-3: pi times the hidden size, rounded up to a multiple of 64."""
    return 64 * math.ceil(hidden_size * math.pi / 64)


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a positive integer, found {value!r}")


AutoConfig.register(MiniMindConfig.model_type, MiniMindConfig)
