"""The rules that look back, against transformers' own; OpenAI's two penalties against hand-computed numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minimind_edge.runtime.artifact.generation_config import GenerationConfig
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.logits_processors import OccurrencePenalty
from minimind_edge.runtime.sampling import Sampler, SamplingParams, TokenHistory

VOCAB = 40
PROMPT = 9
LENGTH = 30
MAX_NEW = LENGTH - PROMPT + 1


def history_of(tokens: list[int], prompt_length: int = PROMPT) -> TokenHistory:
    history = TokenHistory(VOCAB, tokens[:prompt_length])
    for token in tokens[prompt_length:]:
        history.add(token)
    return history


def ours(params: SamplingParams, logits: np.ndarray, tokens: list[int]) -> np.ndarray:
    """Probabilities of all tokens, 0 for one that is filtered out."""
    ids, probabilities = Sampler(params, MAX_NEW).distribution(logits, history_of(tokens))
    whole = np.zeros(VOCAB, np.float32)
    whole[ids] = probabilities
    return whole


def theirs(settings: dict, logits: np.ndarray, tokens: list[int]) -> np.ndarray:
    """The same by the processors that transformers' `generate` makes of a generation config."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.generation.utils import GenerationMixin

    class Model(GenerationMixin):
        config = transformers.LlamaConfig(vocab_size=VOCAB)

    config = transformers.GenerationConfig(do_sample=True, max_length=PROMPT + MAX_NEW, **settings)
    config._eos_token_tensor = torch.tensor(settings["eos_token_id"])
    processors = Model()._get_logits_processor(config, input_ids_seq_length=PROMPT, device="cpu")
    scores = processors(torch.tensor([tokens]), torch.tensor(logits)[None])
    return torch.softmax(scores, -1)[0].numpy()


SETTINGS = [
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"bad_words_ids": [[3], [2], [5, 6], [1, 2, 3], [7, 7, 7, 7]]},
    {"min_new_tokens": 12},
    {"suppress_tokens": [0, 5, 39, 8]},
    {"forced_eos_token_id": 2},
    {
        **{"no_repeat_ngram_size": 2, "bad_words_ids": [[4], [1, 2]], "min_new_tokens": 10, "suppress_tokens": [9]},
        **{"repetition_penalty": 1.3, "temperature": 0.7, "top_k": 12, "top_p": 0.8},
    },
]


@pytest.mark.parametrize("settings", SETTINGS, ids="+".join)
@pytest.mark.parametrize("length", [PROMPT, PROMPT + 1, 20, LENGTH])
def test_a_rule_gives_what_transformers_gives(settings, length) -> None:
    settings = {"eos_token_id": [2, 5], **settings}
    config = GenerationConfig.parse(settings)
    params = SamplingParams.of_artifact(config, config.eos_token_ids)
    for seed in range(20):
        random = np.random.default_rng(seed)
        tokens = random.integers(0, 8, length).tolist()  # few tokens, so that they repeat themselves
        logits = random.normal(0, 3, VOCAB).astype(np.float32)
        expected = theirs(settings, logits, tokens)
        found = ours(params, logits, tokens)
        assert ((found > 0) == (expected > 0)).all()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_logit_bias_is_the_sequence_bias_of_transformers_for_single_tokens() -> None:
    random = np.random.default_rng(0)
    tokens = random.integers(0, 8, LENGTH).tolist()
    logits = random.normal(0, 3, VOCAB).astype(np.float32)
    shared = {"repetition_penalty": 1.3, "top_k": 12}
    expected = theirs({"eos_token_id": [2], "sequence_bias": {(3,): 2.5, (20,): -4.0}, **shared}, logits, tokens)
    found = ours(SamplingParams(logit_bias=((3, 2.5), (20, -4.0)), **shared), logits, tokens)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert abs(found - ours(SamplingParams(**shared), logits, tokens)).max() > 0.01


def test_presence_and_frequency_by_hand() -> None:
    scores = np.zeros(VOCAB, np.float32)
    OccurrencePenalty(0.5, 0.25)(scores, history_of([1, 1, 2, 3, 3, 3, 4], prompt_length=3))
    assert scores[[1, 2]].tolist() == [0.0, 0.0]  # only the prompt has them
    assert scores[3] == -(0.5 + 3 * 0.25)
    assert scores[4] == -(0.5 + 0.25)


def test_greedy_keeps_the_rules_too() -> None:
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, [7, 8]] = 2.0, 1.0
    sampler = Sampler(SamplingParams(greedy=True, suppress_tokens=(7, 10**9)))
    assert sampler.needs_history
    assert sampler(logits, [history_of([1])]).tolist() == [8]
    assert logits[0, 7] == 2.0


def test_ids_that_the_model_does_not_have_forbid_nothing() -> None:
    params = SamplingParams(suppress_tokens=(99,), min_new_tokens=3, eos_token_ids=(77,), forced_eos_token_ids=(66,))
    assert (ours(params, np.zeros(VOCAB, np.float32), list(range(LENGTH))) > 0).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"top_k": -1}, {"top_k": 0}),
        ({"temperature": "0.7", "top_p": "1"}, {"temperature": 0.7, "top_p": 1.0}),
        ({"eos_token_id": 2.0}, {"eos_token_ids": (2,)}),
        ({"eos_token_id": [2.0, 5]}, {"eos_token_ids": (2, 5)}),
        ({"pad_token_id": -1, "eos_token_id": [2, -1]}, {"pad_token_id": None, "eos_token_ids": (2,)}),
        ({"stop_strings": "###"}, {"stop_strings": ("###",)}),
        ({"max_new_tokens": 64.0}, {"max_new_tokens": 64}),
    ],
)
def test_what_other_tools_write_is_read(values, expected) -> None:
    config = GenerationConfig.parse(values)
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": "inf"},
        {"temperature": True},
        {"eos_token_id": 2.5},
        {"bad_words_ids": [[]]},
        {"bad_words_ids": [1, 2]},
        {"stop_strings": [""]},
        {"suppress_tokens": 5},
        {"min_new_tokens": -1},
        {"top_k": 10**400},
        {"presence_penalty": {}},
    ],
)
def test_what_is_no_setting_is_refused_in_one_line(values) -> None:
    with pytest.raises(ArtifactError, match=next(iter(values))) as caught:
        config = GenerationConfig.parse(values)
        SamplingParams.of_artifact(config, config.eos_token_ids)
    assert len(str(caught.value)) < 400


def test_a_rule_out_of_its_range_is_the_artifacts_fault() -> None:
    with pytest.raises(ArtifactError, match=r"generation_config.json: presence_penalty is 1000"):
        SamplingParams.of_artifact(GenerationConfig(presence_penalty=1000.0), ())
    assert math.isfinite(SamplingParams().presence_penalty)
