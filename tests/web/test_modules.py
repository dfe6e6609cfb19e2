"""The page's modules, one by one, against numbers by hand and against the runtime's own."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from minimind_edge.runtime.artifact.tokenizer_config import JsonObject
from minimind_edge.runtime.sampling import Sampler, SamplingParams, TokenHistory
from minimind_edge.runtime.text.chat_template import ChatTemplate
from minimind_edge.runtime.text.text_stream import StopStrings, open_text_stream
from minimind_edge.runtime.text.think import ThinkSplitter
from minimind_edge.runtime.text.tokenizer import Tokenizer

DISTRIBUTION = """
const { distribution, checkedParams } = await load("sampling");
const { ids, probabilities } = distribution(
  Float32Array.from(argument.logits), argument.history, checkedParams(argument.params));
return { ids, probabilities: Array.from(probabilities) };
"""

# Probabilities 0.5, 0.25, 0.125, 0.125.
HALVES = [math.log(8), math.log(4), math.log(2), math.log(2)]

STEPS = """
const { generate } = await load("generation");
const { checkedParams } = await load("sampling");
const logits = Float32Array.from({ length: 200000 }, (_, id) => Math.sin(id));
const session = { length: 0, truncate: async () => {}, run: async () => logits };
const timings = { prefill: 0, decode: 0, steps: 0 };
const limits = { maxNewTokens: 8, maxLength: 100, stopTokenIds: [], cachedLength: 0 };
const options = { ...limits, signal: new AbortController().signal, timings };
let started = 0;
for await (const _ of generate(session, [1], checkedParams({ topP: 0.5 }), options)) started ||= performance.now();
return { ...timings, elapsed: (performance.now() - started) / 1000 };
"""

TEXTS = [
    "Hello, world!",
    "  two  spaces\tand\n\nlines  ",
    "你是谁？法国的首都是哪里？",
    "mixed 中文 and English, 123456 ½ €",
    "emoji 👩‍👩‍👧 🇫🇷 \u0301e",
    "<|im_start|>user\nspelled out<|im_end|>\n",
    "<think>\n\n</think>",
    "don't we'll I'M",
    "",
]


@pytest.mark.parametrize(
    ("params", "ids", "probabilities"),
    [
        ({}, [0, 1, 2, 3], [0.5, 0.25, 0.125, 0.125]),
        ({"topK": 2}, [0, 1], [2 / 3, 1 / 3]),
        ({"topK": 3}, [0, 1, 2, 3], [0.5, 0.25, 0.125, 0.125]),  # the third and the fourth are equal
        ({"topP": 0.7}, [0, 1], [2 / 3, 1 / 3]),
        ({"topP": 0.8}, [0, 1, 3], [4 / 7, 2 / 7, 1 / 7]),  # of equal ones on the border the later stays
        ({"topP": 0}, [0], [1]),
        ({"minP": 0.4}, [0, 1], [2 / 3, 1 / 3]),
        ({"temperature": 0.5}, [0, 1, 2, 3], [64 / 88, 16 / 88, 4 / 88, 4 / 88]),
        ({"repetitionPenalty": 3}, [0, 1, 2, 3], [2 / 10, 4 / 10, 2 / 10, 2 / 10]),  # of token 0: log 8 / 3 = log 2
    ],
)
def test_filters_by_hand(module_page, params, ids, probabilities):
    found = module_page(DISTRIBUTION, {"logits": HALVES, "history": [0], "params": params})
    assert found["ids"] == ids
    assert found["probabilities"] == pytest.approx(probabilities, abs=1e-6)


def test_a_negative_logit_is_multiplied_by_the_penalty(module_page):
    found = module_page(DISTRIBUTION, {"logits": [-1, -2], "history": [0], "params": {"repetitionPenalty": 2}})
    assert found["probabilities"] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("seed", range(4))
def test_filters_equal_the_runtimes(module_page, seed):
    random = np.random.default_rng(seed)
    logits = (random.standard_normal(2048) * 4).astype(np.float32)
    history = random.integers(0, 2048, 40).tolist()
    names = {"topK": "top_k", "topP": "top_p", "minP": "min_p", "repetitionPenalty": "repetition_penalty"}
    params = {"temperature": 0.85, "topK": 50, "topP": 0.85, "minP": 0.02 * seed, "repetitionPenalty": 1.1}
    own = SamplingParams(**{names.get(name, name): value for name, value in params.items()})
    ids, probabilities = Sampler(own).distribution(logits, TokenHistory(2048, history))
    found = module_page(DISTRIBUTION, {"logits": logits.tolist(), "history": history, "params": params})
    assert found["ids"] == ids.tolist()
    assert found["probabilities"] == pytest.approx(probabilities.tolist(), abs=1e-6)


def test_drawing_follows_the_distribution_and_the_seed(module_page):
    draws = """
    const { Sampler, checkedParams } = await load("sampling");
    const draw = (seed) => {
      const sampler = new Sampler(checkedParams({ seed }));
      const logits = Float32Array.from(argument.logits);
      return Array.from({ length: argument.count }, () => sampler.choose(logits, new Set()));
    };
    return [draw(7), draw(7), draw(8)];
    """
    first, again, other = module_page(draws, {"logits": HALVES, "count": 4000})
    assert first == again != other
    shares = np.bincount(first, minlength=4) / 4000
    # Five standard deviations of a share of one half are 0.04.
    assert shares == pytest.approx([0.5, 0.25, 0.125, 0.125], abs=0.04)


def test_the_choice_of_a_token_is_a_part_of_its_time(module_page):
    found = module_page(STEPS)
    assert found["steps"] == 7
    assert 0.9 * found["elapsed"] < found["decode"] <= found["elapsed"]  # all time is the choice's here


def test_a_browser_without_memory_is_told(module_page):
    script = """
    const { OnnxRuntime } = await load("onnx-runtime");
    const runtime = new OnnxRuntime({ _malloc: () => 0 });
    try { runtime.allocate(argument); } catch ({ code, details }) { return [code, details]; }
    """
    assert module_page(script, 5_000_001) == ["no-memory", {"megabytes": 6}]


@pytest.mark.parametrize("logits", [[0.0, "NaN"], ["-Infinity", "-Infinity"], [0.0, "Infinity"]])
def test_broken_logits_are_told(module_page, logits):
    script = """
    const { Sampler, checkedParams } = await load("sampling");
    try { new Sampler(checkedParams({ greedy: true })).choose(Float32Array.from(argument, Number), new Set()); }
    catch (error) { return error.code; }
    """
    assert module_page(script, logits) == "broken-logits"


@pytest.mark.parametrize("params", [{"temperature": -1}, {"topK": 1.5}, {"topP": 1.1}, {"repetitionPenalty": 0}])
def test_a_setting_out_of_its_range_is_told(module_page, params):
    script = """
    const { checkedParams } = await load("sampling");
    try { checkedParams(argument); } catch (error) { return [error.code, error.details.name]; }
    """
    assert module_page(script, params) == ["bad-option", next(iter(params))]


@pytest.mark.parametrize(
    "pieces", [["a", "bEN", "D", "c"], ["EN", "E", "ND"], ["no stop", "E"], ["xEND OF", " ALL"], ["", "STOP"]]
)
def test_stop_strings_equal_the_runtimes(module_page, pieces):
    strings = ["END", "STOP", "END OF"]
    own = StopStrings(strings)
    expected = [*map(own.push, pieces), own.finish(), own.hit]
    script = """
    const { StopStrings } = await load("stop-strings");
    const stops = new StopStrings(argument.strings);
    return [...argument.pieces.map((piece) => stops.push(piece)), stops.finish(), stops.hit];
    """
    assert module_page(script, {"strings": strings, "pieces": pieces}) == expected


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize(
    "pieces", [["<thi", "nk>\n\nhm</thi", "nk>\n\nYes."], ["a < b", "<think>"], ["x</think>", "\ny"]]
)
def test_thinking_is_split_as_in_the_runtime(module_page, pieces, thinking):
    own = ThinkSplitter(thinking)
    expected = [segment for piece in pieces for segment in own.push(piece)] + own.finish()
    script = """
    const { ThinkSplitter } = await load("think-splitter");
    const splitter = new ThinkSplitter(argument.thinking);
    return [...argument.pieces.flatMap((piece) => splitter.push(piece)), ...splitter.finish()];
    """
    found = module_page(script, {"pieces": pieces, "thinking": thinking})
    assert [(segment["kind"], segment["text"]) for segment in found] == [tuple(segment) for segment in expected]


def tokenizer_folders(site, shared_folder):
    """The bundled model's tokenizer, and upstream's where they are at hand."""
    upstream = sorted((shared_folder / "data" / "tokenizers").glob("*")) if shared_folder else []
    return [site / "model", *upstream]


def read_tokenizer(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    return json.loads((folder / "tokenizer.json").read_text()), config


def test_tokens_equal_the_runtimes(module_page, site, shared_folder):
    script = """
    const { Tokenizer } = await load("tokenizer");
    const { openTextStream } = await load("text-stream");
    const tokenizer = new Tokenizer(argument.description, argument.config);
    const ids = argument.texts.map((text) => tokenizer.encode(text));
    const streamed = argument.streams.map((tokens) => {
      const stream = openTextStream(tokenizer);
      return [...tokens.map((token) => stream.push(token)), stream.finish()];
    });
    return { ids, streamed, eos: tokenizer.eosTokenId };
    """
    for folder in tokenizer_folders(site, shared_folder):
        description, config = read_tokenizer(folder)
        own = Tokenizer.load(folder / "tokenizer.json", JsonObject(config, "tokenizer_config.json"))
        ids = [own.encode(text, add_special_tokens=False) for text in TEXTS]
        # Every second token only: characters fall apart, and what is left is no UTF-8.
        streams = [*ids, *(tokens[::2] for tokens in ids)]
        argument = {"description": description, "config": config, "texts": TEXTS, "streams": streams}
        found = module_page(script, argument)
        assert found["ids"] == ids, folder.name
        assert found["eos"] == own.eos_token_id
        assert found["streamed"] == [stream_pieces(own, tokens) for tokens in streams], folder.name


def stream_pieces(tokenizer, tokens):
    stream = open_text_stream(tokenizer)
    return [*map(stream.push, tokens), stream.finish()]


@pytest.mark.parametrize("thinking", [None, True, False])
def test_prompts_equal_the_runtimes(module_page, site, shared_folder, thinking):
    conversations = [
        [{"role": "user", "content": "Hi!"}],
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "你好"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello."},
            {"role": "user", "content": "And?"},
        ],
    ]
    script = """
    const { findChatTemplate } = await load("chat-template");
    const template = findChatTemplate(argument.config, argument.specialTokens);
    return argument.conversations.map((messages) => template.render(messages, argument.thinking));
    """
    choice = {} if thinking is None else {"enable_thinking": thinking, "open_thinking": thinking}
    for folder in tokenizer_folders(site, shared_folder):
        _, config = read_tokenizer(folder)
        own = Tokenizer.load(folder / "tokenizer.json", JsonObject(config, "tokenizer_config.json"))
        template = ChatTemplate.find(None, JsonObject(config, "tokenizer_config.json"), own.special_tokens)
        expected = [template.render(one, add_generation_prompt=True, **choice) for one in conversations]
        argument = {"config": config, "specialTokens": own.special_tokens, "thinking": thinking}
        assert module_page(script, {**argument, "conversations": conversations}) == expected, folder.name
