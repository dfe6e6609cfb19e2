"""The `genai_config.json` by which onnxruntime-genai runs an artifact."""

from __future__ import annotations

from typing import Any

from minimind_edge.minimind.config import MiniMindConfig
from minimind_edge.runtime.ort.loading import WIDEN_INTEGERS


def genai_config(
    config: MiniMindConfig, generation: dict[str, Any], *, filename: str, target: str, max_length: int
) -> dict[str, Any]:
    """The content of `genai_config.json`, of the generic decoder-only type.

    Args:
        config: The architecture.
        generation: The content of `generation_config.json`.
        filename: The graph, relative to the artifact folder.
        target: `ort` graphs share one buffer for past and present; `portable` ones do not.
        max_length: Context length in tokens.
    """
    return {
        "model": {
            "type": "decoder",
            "vocab_size": config.vocab_size,
            "context_length": max_length,
            "bos_token_id": config.bos_token_id,
            "eos_token_id": generation["eos_token_id"],
            "pad_token_id": config.pad_token_id,
            "decoder": {
                "session_options": {
                    "log_id": "onnxruntime-genai",
                    "provider_options": [],
                    WIDEN_INTEGERS: "1",  # `minimind-run` sets this too, and parity was measured with it
                },
                "filename": filename,
                "hidden_size": config.hidden_size,
                "num_hidden_layers": config.num_hidden_layers,
                "num_attention_heads": config.num_attention_heads,
                "num_key_value_heads": config.num_key_value_heads,
                "head_size": config.head_dim,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "position_ids": "position_ids",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "do_sample": bool(generation.get("do_sample", False)),
            "temperature": float(generation.get("temperature", 1.0)),
            "top_k": int(generation.get("top_k", 50)),
            "top_p": float(generation.get("top_p", 1.0)),
            "repetition_penalty": float(generation.get("repetition_penalty", 1.0)),
            "max_length": max_length,
            "past_present_share_buffer": target == "ort",
        },
    }
