"""The translation of llama-server's interface to OpenAI's, by which llama.cpp's tests run, and their table."""

from __future__ import annotations

import json

import pytest
from llama_server.table import NOT_APPLICABLE, RELAXED, entry_of
from llama_server.translation import PLENTY, llama_answer, llama_event, openai_path, openai_request, supplied_bytes

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 8,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 5},
}


def test_the_native_path_and_paths_without_a_version_are_openai_s():
    assert openai_path("/completion") == openai_path("/completions") == "/v1/completions"
    assert openai_path("/chat/completions") == "/v1/chat/completions"
    assert openai_path("/tokenize") == "/tokenize"


@pytest.mark.parametrize(("given", "tokens"), [({}, 64), ({"n_predict": 8}, 8), ({"n_predict": -1}, PLENTY)])
def test_a_request_gets_the_server_s_defaults_and_openai_s_names(given, tokens):
    asked = {"prompt": "x", "cache_prompt": False, "logit_bias": [[5, -100]], **given}
    body = openai_request("/completion", asked, {"seed": 42, "n_predict": 64})
    assert body == {"prompt": "x", "seed": 42, "max_tokens": tokens, "logit_bias": {"5": -100}}
    assert openai_request("/tokenize", {"content": "x"}, {"seed": 42}) == {"content": "x"}


def test_an_answer_has_llama_server_s_counts():
    """Tokens of the cache are no tokens that were processed; a full context is a truncated answer."""
    body = {"choices": [{"text": "a\nb", "finish_reason": "length"}], "usage": USAGE}
    answer = llama_answer("/completion", body, 256)
    assert answer["timings"] == {"prompt_n": 4, "cache_n": 5, "predicted_n": 8}
    assert (answer["content"], answer["has_new_line"], answer["truncated"]) == ("a\nb", True, False)
    assert llama_answer("/completion", body, 17)["truncated"] is True
    last = llama_event("/completion", {"choices": [], "usage": USAGE}, 256)
    assert (last["stop"], last["timings"]["predicted_n"]) == (True, 8)


def test_what_only_llama_cpp_has_is_supplied_to_a_stream():
    event = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
    first, done = supplied_bytes(f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode()).split(b"\n\n")[:2]
    assert json.loads(first.removeprefix(b"data: ")) == {
        "choices": [{"delta": {"role": "assistant", "content": None}}],
        "system_fingerprint": "b0",
    }
    assert done == b"data: [DONE]"


def test_an_entry_of_the_table_stands_for_its_file_its_test_or_some_parameters():
    assert entry_of("test_lora.py::test_lora[1]", NOT_APPLICABLE) == "test_lora.py"
    assert entry_of("test_completion.py::test_completion[I believe-8]", NOT_APPLICABLE) is None
    assert (
        entry_of("test_completion.py::test_completion[I believe-8]", RELAXED) == "test_completion.py::test_completion"
    )
    assert entry_of("test_completion.py::test_completion_parallel_slots[1-3]", RELAXED) is None
    assert entry_of("test_completion.py::test_logit_bias[False-True]", NOT_APPLICABLE) is not None
    assert entry_of("test_completion.py::test_logit_bias[True-True]", NOT_APPLICABLE) is None
