from __future__ import annotations

import json
import time

import pytest

from minimind_edge.runtime.completion import Completion
from minimind_edge.runtime.decode import generate
from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.sampling import SamplingParams
from minimind_edge.runtime.text.prompt import Prompt

GREEDY = SamplingParams(greedy=True)
END = 2


@pytest.fixture
def script(make_session, tokenizer):
    """A session that writes a given text, then the token that ends it; and the text's token ids."""

    def build(text, max_length=500, fail_in=None):
        ids = [*tokenizer.encode(text), END]

        class Scripted(make_session):
            def next_token(self, row):
                return ids[min(len(row) - 1, len(ids) - 1)]

        session = Scripted(vocab_size=tokenizer.vocab_size, max_length=max_length)
        session.fail_in = fail_in
        return session, ids

    return build


def complete(session, tokenizer, stop=(), max_new_tokens=200, stop_token_ids=(END,), **options):
    prompt = Prompt((1,))
    generation = generate(session, [prompt.token_ids], GREEDY, max_new_tokens, stop_token_ids)
    return Completion(generation, prompt, tokenizer, stop, **options)


def test_pieces_and_result(script, tokenizer, corpus):
    for text in corpus:
        session, ids = script(text)
        completion = complete(session, tokenizer)
        pieces = list(completion)
        assert all(pieces)
        assert "".join(pieces) == completion.result.text == text
        assert completion.result.token_ids == ids
        assert completion.result.finish_reason == "stop"
        assert (completion.result.prompt_tokens, completion.result.completion_tokens) == (1, len(ids))


def test_length_gives_what_is_left_of_a_character(script, tokenizer):
    session, ids = script("😀 ok")
    result = complete(session, tokenizer, max_new_tokens=1).run()
    assert result.finish_reason == "length"
    assert result.text == tokenizer.decode(ids[:1])


def test_a_stop_string_across_tokens(script, tokenizer):
    session, ids = script("The quick brown fox. The lazy dog.")
    completion = complete(session, tokenizer, stop=["n fo"])
    assert completion.run().text == "The quick brow"
    assert completion.result.finish_reason == "stop"
    assert completion.result.token_ids == ids[: len(completion.token_ids)]
    assert len(completion.token_ids) < len(ids)
    assert "n fo" in tokenizer.decode(completion.token_ids)


def test_a_beginning_of_a_stop_string_is_given_in_the_end(script, tokenizer):
    session, _ = script("a quick b")
    assert complete(session, tokenizer, stop=["brown"]).run().text == "a quick b"


def test_a_stop_token_that_is_no_special_one_is_not_shown(script, tokenizer):
    session, ids = script("Hello! How are you")
    result = complete(session, tokenizer, stop_token_ids=[ids[2]]).run()
    assert result.text == tokenizer.decode(ids[:2])
    assert result.token_ids == ids[:3]


def test_closing_early(script, tokenizer):
    session, _ = script("The quick brown fox jumps over the lazy dog")
    ends = []
    completion = complete(session, tokenizer, on_end=ends.append)
    first = [next(completion), next(completion)]
    completion.close()
    completion.close()
    assert completion.result.text == "".join(first)
    assert completion.result.finish_reason == "cancelled"
    assert ends == [completion.result]
    assert list(completion) == []


def test_ctrl_c(script, tokenizer):
    session, _ = script("The quick brown fox jumps over the lazy dog", fail_in=6)
    ends, pieces = [], []
    completion = complete(session, tokenizer, on_end=ends.append)
    with pytest.raises(KeyboardInterrupt):
        pieces.extend(iter(completion))
    assert completion.result.text == "".join(pieces) != ""
    assert ends == [completion.result]
    assert ends[0].finish_reason == "cancelled"


def test_nothing_ends_what_never_began(script, tokenizer):
    session, _ = script("Hello")
    ends = []
    completion = complete(session, tokenizer, on_end=ends.append)
    assert not completion.has_begun
    completion.close()
    assert ends == []


def test_without_a_tokenizer(script, tokenizer):
    session, ids = script("Hello")
    completion = complete(session, None)
    assert list(completion) == []
    assert completion.result.text == ""
    assert completion.result.token_ids == ids


def test_json_has_the_contracts_names(script, tokenizer):
    session, ids = script("Hello 你好")
    asked_at = time.perf_counter() - 5
    values = json.loads(json.dumps(complete(session, tokenizer, load_s=1.5, asked_at=asked_at).run().to_json()))
    timings = values.pop("timings")
    assert values == {
        "text": "Hello 你好",
        "token_ids": ids,
        "prompt_tokens": 1,
        "completion_tokens": len(ids),
        "finish_reason": "stop",
        "drafted_tokens": 0,
        "accepted_tokens": 0,
    }
    assert set(timings) == {"load_s", "prefill_s", "decode_s", "decode_tokens_per_s", "time_to_first_token_s"}
    assert timings["load_s"] == 1.5
    assert 5 < timings["time_to_first_token_s"] < 6
    assert timings["decode_tokens_per_s"] == pytest.approx((len(ids) - 1) / timings["decode_s"])


def test_an_empty_stop_string(script, tokenizer):
    session, _ = script("Hello")
    with pytest.raises(UsageError, match="stop string is empty"):
        complete(session, tokenizer, stop=[""])
