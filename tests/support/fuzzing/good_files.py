"""Good files, as this project and other tools write them: what the mutations start from."""

from __future__ import annotations

from typing import Any

SHA = "0" * 64

MANIFEST: dict[str, Any] = {
    "format": 1,
    "tool": {"name": "minimind-edge", "version": "0.1.0"},
    "checkpoint": {
        "file": "tiny.pth",
        "sha256": SHA,
        "path": "../tiny.pth",
        "generation": "minimind2",
        "lora": [{"file": "lora.pth", "sha256": SHA, "path": "../lora.pth"}],
    },
    "architecture": {
        "generation": "minimind2",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 32,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "qk_norm": False,
        "tie_word_embeddings": True,
        "rope": {"theta": 1e6, "yarn": {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 2048}},
        "moe": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 96},
        "parameters": {"total": 1000, "active": 500},
    },
    "config": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 32, "rope_theta": 1e6},
    "graphs": [
        {
            "file": "onnx/model.onnx",
            "target": "portable",
            "precision": "fp32",
            "opset": 18,
            "max_length": 1024,
            "sha256": SHA,
            "bytes": 1000,
            "parity": {
                "passed": True,
                "logits": {"max_abs": 1e-6, "mean_kl": 1e-9},
                "greedy": {"equal": 100, "total": 100},
            },
            "quality": {"mean_kl": 0.1},
            "evaluation": {"facts": {"en": {"right": 1, "asked": 2}}},
            "loads_in": ["transformers.js"],
        },
        {"file": "onnx/model_q4.onnx", "target": "ort", "precision": "int4", "kv_cache": "int8"},
    ],
    "default_graph": "onnx/model.onnx",
    "versions": {"torch": "2.13.0"},
}

PLAN: dict[str, Any] = {
    "format": 1,
    "tool": {"name": "minimind-edge", "version": "0.1.0"},
    "backend": "rtx",
    "backend_version": "1.7.1.116",
    "compute_capabilities": ["8.6", "12.0"],
    "precision": "fp16",
    "plan": {"bytes": 40, "sha256": SHA},
    "limits": {"batch_size": 4, "length": 32, "chunk": 8},
    "vocab_size": 32,
    "eos_token_ids": [2],
    "kv_cache": {
        "form": "static",
        "num_layers": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "capacity": 32,
        "dtype": "float16",
    },
    "profiles": [{"name": "decode", "shapes": {"input_ids": [[1, 1], [1, 1], [4, 1]]}}],
    "tensors": [
        {"name": "input_ids", "mode": "input", "dtype": "int64", "shape": [-1, -1]},
        {"name": "layers.0.experts", "mode": "output", "dtype": "int64", "shape": [-1, -1, 2]},
    ],
    "checkpoint": {"file": "tiny.pth", "sha256": SHA, "generation": "minimind2"},
    "config": {"hidden_size": 64},
    "graph": {"file": "model.onnx", "sha256": SHA, "opset": 24, "parity": {"passed": True}},
}

GENERATION: dict[str, Any] = {
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "pad_token_id": 0,
    "forced_eos_token_id": 2,
    "do_sample": True,
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "no_repeat_ngram_size": 3,
    "max_new_tokens": 64,
    "min_new_tokens": 1,
    "suppress_tokens": [5],
    "bad_words_ids": [[6, 7]],
    "stop_strings": ["###"],
    "num_beams": 1,
    "max_length": 512,
    "_from_model_config": False,
    "transformers_version": "5.0.0",
}

CONFIGS: dict[str, dict[str, Any]] = {
    "v1": {
        "dim": 64,
        "n_layers": 2,
        "n_heads": 16,
        "n_kv_heads": 8,
        "vocab_size": 50,
        "hidden_dim": 96,
        "norm_eps": 1e-5,
        "max_seq_len": 512,
        "dropout": 0.0,
        "flash_attn": True,
        "use_moe": False,
        "rope_theta": 10000,
    },
    "minimind2": {
        "model_type": "minimind",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 50,
        "intermediate_size": 96,
        "hidden_act": "silu",
        "max_position_embeddings": 1024,
        "rope_theta": 1000000.0,
        "inference_rope_scaling": True,
        "rope_scaling": {"type": "yarn", "factor": 16, "original_max_position_embeddings": 2048, "beta_fast": 32},
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": [2],
        "auto_map": {"AutoConfig": "model_minimind.MiniMindConfig"},
    },
    "minimind3": {
        "model_type": "minimind",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "vocab_size": 50,
        "num_experts": 4,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 96,
        "router_aux_loss_coef": 5e-4,
        "tie_word_embeddings": True,
    },
    "qwen3": {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "vocab_size": 50,
        "layer_types": ["full_attention", "full_attention"],
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 1},
        "use_sliding_window": False,
        "sliding_window": None,
        "attention_bias": False,
        "quantization_config": None,
    },
}

TOKENIZER_CONFIG: dict[str, Any] = {
    "added_tokens_decoder": {
        "0": {"content": "<|endoftext|>", "lstrip": False, "normalized": False, "special": True},
        "1": {"content": "<|im_start|>", "special": True},
        "2": {"content": "<|im_end|>", "special": True},
    },
    "bos_token": "<|im_start|>",
    "eos_token": {"__type": "AddedToken", "content": "<|im_end|>", "special": True},
    "pad_token": "<|endoftext|>",
    "extra_special_tokens": ["<tool>"],
    "additional_special_tokens": [{"content": "<other>"}],
    "chat_template": [
        {"name": "default", "template": "{{ messages[0]['content'] }}"},
        {"name": "tool_use", "template": "{{ tools }}"},
    ],
    "model_max_length": 1024,
    "tokenizer_class": "PreTrainedTokenizerFast",
    "begins_with_bos": False,
}

SPECIAL_TOKENS_MAP: dict[str, Any] = {
    "bos_token": {"content": "<|im_start|>", "lstrip": False},
    "eos_token": "<|im_end|>",
    "additional_special_tokens": ["<tool>", {"content": "<other>"}],
}

ADDED_TOKENS: dict[str, Any] = {"<tool>": 20, "<other>": 21}

_LETTERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefghi", "ab", "Ġ", "Ġa"]

TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {"id": index, "content": text, "special": True, "normalized": False, "lstrip": False, "rstrip": False}
        | {"single_word": False}
        for index, text in enumerate(_LETTERS[:3])
    ],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "\u2581"}]},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
    },
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {text: index for index, text in enumerate(_LETTERS)},
        "merges": [["a", "b"], ["Ġ", "a"]],
    },
}

WORDPIECE: dict[str, Any] = TOKENIZER | {
    "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True},
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a+b"}, "behavior": "Isolated", "invert": False},
    "post_processor": None,
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {"[UNK]": 0, "a": 1, "##b": 2},
    },
}

UNIGRAM: dict[str, Any] = TOKENIZER | {
    "normalizer": {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
    "post_processor": None,
    "decoder": {
        "type": "Sequence",
        "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}],
    },
    "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0], ["\u2581b", -2.0]]},
}

TEMPLATES = (
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' "
    "}}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}",
    "{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}{% set ns = namespace(last=-1) %}{% for m in messages[::-1]"
    " %}{% if m.role == 'user' and not m.content.startswith('<x>') %}{% set ns.last = loop.index0 %}{% endif %}{% "
    "endfor %}{{ ns.last }}{% macro show(x) %}{{ x | trim | upper }}{% endmacro %}{{ show(messages[0].content) }}",
    "{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}{{ bos_token }}{% generation "
    "%}{{ messages[-1].content.split('</think>')[-1].lstrip('\\n') }}{% endgeneration %}{{ strftime_now('%Y') }}",
)

HELD_OUT: dict[str, Any] = {
    "format": 1,
    "facts": [{"language": "en", "answer": "Paris", "questions": ["Capital?", "Which city?"]}],
    "sums": [{"language": "en", "question": "1+1", "answer": "2"}],
    "stories": [{"language": "en", "request": "Tell", "names": ["fox"], "lookalikes": ["foxes"]}],
    "documents": [{"prompt": "a", "answer": "b"}],
}

INDEX: dict[str, Any] = {
    "metadata": {"total_size": 100},
    "weight_map": {
        "model.embed_tokens.weight": "model-00001-of-00002.safetensors",
        "model.norm.weight": "model-00002-of-00002.safetensors",
    },
}

ADAPTER: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "alpha_pattern": {"q_proj": 8},
    "rank_pattern": {},
    "use_rslora": False,
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "target_modules": ["q_proj"],
    "lora_bias": False,
}
