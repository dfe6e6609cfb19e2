"""Which of llama.cpp's server tests run against `minimind-serve`, which with relaxed texts, and which cannot apply.

An entry names a file, a test, or a test with the beginning of its parameters; the first that fits a test decides. Tests
without an entry run as they are.
"""

from __future__ import annotations

FIELDS = "asks for fields of llama-server's own `/completion` that OpenAI's interface has not"
TEMPLATES = "asks for a chat template by option; here it is the artifact's"
COUNTS = "has numbers of tokens by llama.cpp's tokenizer in its code"
CORS = "expects llama-server's rules for origins; here each is named by `--cors`, and others are refused with 403"
NO_TOOLS = "tools that the model may call; the demo's chat template does not show them, and the request is refused"
MODELS = "needs another model, of gigabytes"

NOT_APPLICABLE: dict[str, str] = {
    "test_basic.py::test_server_multiple_addresses": "one address to listen on, not a list",
    "test_basic.py::test_server_props": "no `/props`",
    "test_basic.py::test_server_slots": "no `/slots`; the metrics tell how many requests run",
    "test_basic.py::test_load_split_model": "loads a GGUF file in parts",
    "test_basic.py::test_no_ui": "no option that takes the chat page away",
    "test_basic.py::test_server_model_aliases_and_tags": "no aliases and tags by option",
    'test_chat_completion.py::test_chat_completion[None-Book-What is the best book-8-(Suddenly)+|\\\\{ " Sarax.-77-8-'
    "length-True-chatml": TEMPLATES,
    "test_chat_completion.py::test_chat_completion[None-Book-What is the best book-8-^ blue": TEMPLATES,
    "test_chat_completion.py::test_chat_completion_cached_tokens": COUNTS,
    "test_chat_completion.py::test_chat_template": TEMPLATES,
    "test_chat_completion.py::test_chat_template_assistant_prefill": TEMPLATES,
    "test_chat_completion.py::test_chat_template_continue_final_message_vllm_compat": TEMPLATES,
    "test_chat_completion.py::test_apply_chat_template": TEMPLATES,
    "test_chat_completion.py::test_completion_with_response_format[response_format0": "a schema in `json_object`",
    "test_chat_completion.py::test_completion_with_response_format[response_format1": "a schema in `json_object`",
    "test_chat_completion.py::test_completion_with_json_schema": "`json_schema` at top level",
    "test_chat_completion.py::test_completion_with_grammar": "`grammar`: GBNF",
    "test_chat_completion.py::test_invalid_chat_completion_req[messages7": "two answers in a row are taken here",
    "test_chat_completion.py::test_chat_completion_with_timings_per_token": "`timings` in the answer",
    "test_chat_completion.py::test_context_size_exceeded": "llama.cpp's own type and fields of this error",
    "test_chat_completion.py::test_context_size_exceeded_stream": "llama.cpp's own type and fields of this error",
    "test_chat_completion.py::test_return_progress": "`return_progress`",
    "test_chat_completion.py::test_chat_completions_token_count": "no `/chat/completions/input_tokens`",
    "test_chat_completion.py::test_verbose_debug": "`verbose`",
    "test_compat_anthropic.py": "Anthropic's interface",
    "test_compat_gcp.py": "Google's interface",
    "test_compat_oai_responses.py": "OpenAI's Responses interface",
    "test_completion.py::test_completion[Write": "`return_tokens`: the token ids of an answer",
    "test_completion.py::test_completion_stream": FIELDS,
    "test_completion.py::test_completion_stream_with_openai_library_stops": MODELS,
    "test_completion.py::test_consistent_result_different_batch_size": "no option for the size of a prompt's chunks",
    "test_completion.py::test_cache_vs_nocache_prompt": "skipped by its authors",
    "test_completion.py::test_json_prompt_no_mtmd": "a prompt in a JSON object",
    "test_completion.py::test_completion_with_tokens_input": "mixes texts and token ids in one request",
    "test_completion.py::test_completion_unified": "slots that share one context",
    "test_completion.py::test_completion_response_fields": FIELDS,
    "test_completion.py::test_n_probs": FIELDS,
    "test_completion.py::test_n_probs_stream": FIELDS,
    "test_completion.py::test_n_probs_post_sampling": FIELDS,
    "test_completion.py::test_n_probs_post_backend_sampling": FIELDS,
    "test_completion.py::test_logit_bias[False": "`logit_bias` by texts instead of token ids",
    "test_completion.py::test_completion_prompt_cache": COUNTS,
    "test_ctx_shift.py::test_ctx_shift_enabled": "no answer goes on beyond the context",
    "test_ctx_shift.py::test_ctx_shift_disabled_long_prompt": "llama.cpp's own words of this error",
    "test_embedding.py": "embeddings",
    "test_ignore_eos.py": FIELDS,
    "test_infill.py": "infill, with a model for code",
    "test_kv_keep_only_active.py": "reads llama-server's own log",
    "test_lora.py": "adapters that change while it runs; here they are merged at the export",
    "test_mcp_servers.py": "tools that the server itself runs",
    "test_metrics.py::test_metrics_disabled": "the metrics are always there",
    "test_metrics.py::test_metrics_prometheus_format": "counts of speculation and of decode steps",
    "test_metrics.py::test_metrics_generation_rate_excludes_first_token": "`timings` in the answer",
    "test_metrics.py::test_metrics_timings_are_finite": "`timings` in the answer",
    "test_metrics.py::test_metrics_timings_on_prompt_progress": "`return_progress`",
    "test_metrics.py::test_metrics_embedding_prompt_is_counted": "embeddings",
    "test_proxy.py": "a proxy for the chat page",
    "test_rerank.py": "reranking",
    "test_router.py": "a router that starts servers",
    "test_security.py::test_access_static_assets_without_api_key": "the files of llama-server's page",
    "test_security.py::test_correct_api_key_anthropic_header": "Anthropic's interface",
    "test_security.py::test_cors_options": CORS,
    "test_security.py::test_cors_origins_localhost_reflects": CORS,
    "test_security.py::test_cors_origins_localhost_rejects": CORS,
    "test_security.py::test_cors_origins_defaults_to_localhost_with_tools_enabled": CORS,
    "test_security.py::test_cors_proxy_only_forwards_explicit_proxy_headers": "a proxy for the chat page",
    "test_security.py::test_local_media_file": "images in messages",
    "test_sleep.py": "unloads the model while nothing is asked",
    "test_slot_save.py": "slots saved to files",
    "test_speculative.py": "drafts by a second model",
    "test_stream.py": "a router that starts servers",
    "test_template.py": TEMPLATES,
    "test_tokenize.py::test_tokenize_with_bos": "MiniMind's tokenizer puts no token before a text",
    "test_tool_call.py::test_completion_with_required_tool_real_model": MODELS,
    "test_tool_call.py::test_completion_without_tool_call_slow": MODELS,
    "test_tool_call.py::test_completion_without_tool_call_fast[meta-llama-Llama-3.3-70B-Instruct-128-tools1": NO_TOOLS,
    "test_tool_call.py::test_weather": MODELS,
    "test_tool_call.py::test_calc_result": MODELS,
    "test_tool_call.py::test_thoughts": MODELS,
    "test_tool_call.py::test_hello_world": MODELS,
    "test_tools_builtin.py": "tools that the server itself runs",
    "test_vision_api.py": "images in messages",
}
"""The reasons why tests cannot apply."""

TEXTS = "its text, and numbers of tokens of prompts, are those of llama.cpp's model: any text and any number will do"

RELAXED: dict[str, str] = {
    "test_chat_completion.py::test_chat_completion": TEXTS,
    "test_chat_completion.py::test_chat_completion_stream": TEXTS,
    "test_chat_completion.py::test_chat_completion_with_openai_library": TEXTS,
    "test_completion.py::test_completion": TEXTS,
    "test_completion.py::test_completion_with_openai_library": TEXTS,
    "test_completion.py::test_completion_stream_with_openai_library": TEXTS,
    "test_ctx_shift.py::test_ctx_shift_disabled_short_prompt[-1": TEXTS,
    "test_tool_call.py::test_completion_without_tool_call_fast": "with the artifact's own chat template",
}
"""Tests that run with less than they ask for, and with what."""

MODEL_NUMBERS = ("n_prompt", "n_token_output")
"""The parameters of relaxed tests that are numbers of tokens by llama.cpp's tokenizer."""


def entry_of(test: str, entries: dict[str, str]) -> str | None:
    """The first entry that fits a test.

    Args:
        test: `FILE::TEST[PARAMETERS]`, without the parameters where it has none.
        entries: `NOT_APPLICABLE` or `RELAXED`.
    """
    return next((entry for entry in entries if _fits(entry, test)), None)


def _fits(entry: str, test: str) -> bool:
    return test == entry or test.startswith((f"{entry}::", f"{entry}[")) or ("[" in entry and test.startswith(entry))
