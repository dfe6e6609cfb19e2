"""Texts of the batch against those of `Engine.generate`, which runs each request alone."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime.sampling import SamplingParams

END = 2
TEXT = "The quick brown fox 😀 jumps over the lazy dog, 你好，世界! The end."


@pytest.fixture
def script(tokenizer):
    """Logits of a model that writes a text after any prompt of one token, then the token that ends it."""

    def build(text):
        ids = [*tokenizer.encode(text), END]

        def logits(row):
            scores = np.zeros(tokenizer.vocab_size, np.float32)
            scores[ids[min(len(row) - 1, len(ids) - 1)]] = 9
            return scores

        return logits, ids

    return build


def text_of(pieces):
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize(
    "stop",
    [(), ("n fo",), ("fox 😀",), ("😀",), ("zebra",), ("dog", "lazy dog,"), ("，世", "好，世界"), ("end.x",), ("T",)],
)
@pytest.mark.parametrize("count", [1, 7, 25, 200])
def test_text_is_that_of_an_engine_alone(bench, alone, request_of, tokenizer, script, stop, count):
    logits, _ = script(TEXT)
    options = {"vocab_size": tokenizer.vocab_size, "logits": logits}
    made, one = bench(2, tokenizer, **options), alone(tokenizer, **options)
    asked = request_of([5], count, stop=stop, stop_token_ids=frozenset({END}))
    ticket = made.add(asked)
    pieces = made.finish(ticket)[ticket]
    expected = one(asked)
    assert text_of(pieces) == expected.text
    assert ticket.token_ids == expected.token_ids
    assert pieces[-1].finish_reason == expected.finish_reason
    if not stop and count == 200:
        assert expected.text == TEXT  # an empty comparison would pass


def test_text_that_may_become_a_stop_string_is_held_back(bench, request_of, tokenizer, script):
    logits, ids = script("abc abd")
    made = bench(1, tokenizer, vocab_size=tokenizer.vocab_size, logits=logits)
    ticket = made.add(request_of([5], 20, stop=("abd",), stop_token_ids=frozenset({END})))
    texts = [piece.text for piece in made.finish(ticket)[ticket]]
    assert "".join(texts) == "abc "
    assert tokenizer.decode(ids[:1]) == "a"
    assert texts[0] == ""  # "a" may begin "abd"


def test_the_token_that_completes_a_constraint_has_its_text_and_a_stop_token_has_none(
    bench, request_of, tokenizer, script
):
    logits, ids = script("Hello")

    class Until:
        def __init__(self, count):
            self.count = count

        def allowed(self):
            return None

        def accept(self, token_id):
            self.count -= 1
            return self.count == 0

    for count, expected in ((len(ids) - 1, "Hello"), (len(ids), "Hello")):
        made = bench(1, tokenizer, vocab_size=tokenizer.vocab_size, logits=logits)
        ticket = made.add(request_of([5], 50, constraint=Until(count), stop_token_ids=frozenset({END})))
        pieces = made.finish(ticket)[ticket]
        assert text_of(pieces) == expected
        assert pieces[-1].finish_reason == "stop"
        assert len(ticket.token_ids) == count


def test_a_model_without_a_tokenizer_has_no_text(bench, request_of, tokens):
    made = bench(1)
    ticket = made.add(request_of(tokens(4), 6))
    assert text_of(made.finish(ticket)[ticket]) == ""
    assert len(ticket.token_ids) == 6


def test_many_sampled_texts_at_once(bench, alone, request_of, tokens, tokenizer):
    options = {"vocab_size": tokenizer.vocab_size}
    made, one = bench(6, tokenizer, **options), alone(tokenizer, **options)
    asked = [
        request_of(
            tokens(3 + seed, seed, tokenizer.vocab_size),
            1 + 2 * seed,
            params=SamplingParams(temperature=1.2, top_p=0.95, seed=seed),
            stop=("a", "the", "\n"),
            stop_token_ids=frozenset({END}),
        )
        for seed in range(30)
    ]
    tickets = [made.add(each) for each in asked]
    pieces = made.finish(*tickets)
    reasons = set()
    for ticket in tickets:
        expected = one(ticket.request)
        assert text_of(pieces[ticket]) == expected.text
        assert pieces[ticket][-1].finish_reason == expected.finish_reason
        reasons.add(expected.finish_reason)
    assert reasons == {"stop", "length"}
