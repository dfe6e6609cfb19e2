"""The session of a growing cache on the stand-in: it computes what eager does, and asks only what TensorRT allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from described_plan import PLAN_BYTES, describe_graph
from tensorrt_standin import StandInDriver, StandInEngine

from minimind_edge.export.graph import build_graph, save_graph
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM
from minimind_edge.runtime.decode import generate
from minimind_edge.runtime.errors import ArtifactError, ContextLengthError, PromptError, UsageError
from minimind_edge.runtime.sampling import SamplingParams
from minimind_edge.runtime.tensorrt.growing_session import GrowingTensorRTSession
from minimind_edge.runtime.tensorrt.plan import Plan

VOCAB = 128
CAPACITY = 32
TOLERANCE = {"fp32": 1e-4, "fp16": 3e-2}
"""Of the largest logit. float16 keeps 11 bits of each number on the way."""


@pytest.fixture(scope="module")
def model() -> MiniMindForCausalLM:
    generator = torch.Generator().manual_seed(1)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = MiniMindForCausalLM(MiniMindConfig(**sizes, vocab_size=VOCAB)).eval()
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + 0.3 * noise if parameter.dim() == 1 else 0.15 * noise
    model.tie_weights()
    return model


@pytest.fixture(scope="module")
def graphs(model, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("growing")
    for precision in TOLERANCE:
        save_graph(
            build_graph(model, "tensorrt", precision, CAPACITY, cache="growing"), folder / precision / "model.onnx"
        )
    return {precision: folder / precision / "model.onnx" for precision in TOLERANCE}


class StandIn:
    """A session and the stand-in under it."""

    def __init__(self, graph: Path, *, rows: int = 4, length: int = CAPACITY, chunk: int = 8, **options) -> None:
        content = describe_graph(graph, batch_size=rows, length=length, chunk=chunk)
        path = graph.with_name("model.plan")
        path.write_bytes(PLAN_BYTES)
        plan = Plan.parse(path, content)
        self.driver = StandInDriver()
        engine = StandInEngine(self.driver, plan, graph)
        self.prefill, self.decode = engine.context(0), engine.context(1)
        self.session = GrowingTensorRTSession(plan, self.driver, (self.prefill, self.decode), **options)


@pytest.fixture
def standin(graphs):
    return lambda precision="fp32", **options: StandIn(graphs[precision], **options)


@pytest.fixture
def check(model):
    def compare(found, *rows, precision="fp32"):
        """Each row's logits are those of eager for the row by itself."""
        assert len(found) == len(rows)
        for logits, row in zip(found, rows, strict=True):
            with torch.inference_mode():
                expected = model(torch.tensor([[int(each) for each in row]])).logits[0, -1].numpy()
            assert np.abs(logits - expected).max() <= TOLERANCE[precision] * np.abs(expected).max()

    return compare


def tokens(count, seed=0):
    return np.random.default_rng(seed).integers(3, VOCAB, count)


@pytest.mark.parametrize("precision", TOLERANCE)
def test_a_prompt_and_steps_behind_it(standin, check, precision):
    under = standin(precision)
    row = tokens(12)
    check(under.session.prefill(row[None, :5]), row[:5], precision=precision)
    for end in range(6, 13):
        check(under.session.decode(row[end - 1 : end]), row[:end], precision=precision)
    assert under.session.length == 12
    assert under.driver.launches == 0, "steps of a growing cache cannot be recorded"


def test_a_step_before_any_prompt(standin, check):
    check(standin().session.decode(np.array([7])), [7])


def test_long_prompts_and_chunks_behind_a_past(standin, check):
    under = standin(chunk=4)
    row = tokens(16)
    check(under.session.prefill(row[None, :11]), row[:11])
    assert under.prefill.runs == 3
    for start, end in ((11, 14), (14, 15), (15, 16)):
        check(under.session.prefill(row[None, start:end]), row[:end])


@pytest.mark.parametrize("side", ["left", "right", "inside"])
@pytest.mark.parametrize("chunk", [8, 3])
def test_padding_anywhere(standin, check, side, chunk):
    rows = [tokens(7, 1), tokens(2, 2), tokens(5, 3)]
    ids, mask = np.zeros((3, 7), np.int64), np.zeros((3, 7), np.int64)
    for index, row in enumerate(rows):
        places = {"left": np.arange(7 - len(row), 7), "right": np.arange(len(row))}
        at = places.get(side, np.sort(np.random.default_rng(index).permutation(7)[: len(row)]))
        ids[index, at], mask[index, at] = row, 1
    session = standin(chunk=chunk).session
    check(session.prefill(ids, mask), *rows)
    for step in range(3):
        more = tokens(3, 10 + step)
        rows = [np.append(row, each) for row, each in zip(rows, more, strict=True)]
        check(session.decode(more), *rows)
    assert session.length == 10


def test_padded_chunks_behind_padded_chunks(standin, check):
    session = standin().session
    first, second = tokens((2, 4), 1), tokens((2, 3), 2)
    session.prefill(first, np.array([[0, 0, 1, 1], [1, 1, 1, 1]]))
    found = session.prefill(second, np.array([[1, 1, 1], [0, 1, 0]]))
    check(found, [*first[0, 2:], *second[0]], [*first[1], second[1, 1]])


@pytest.mark.parametrize("kept", [4, 1, 0])
def test_rolling_back_gives_what_never_going_on_gives(standin, check, kept):
    session = standin().session
    rows = tokens((2, 9), 4)
    mask = np.ones((2, 6), np.int64)
    mask[0, 0] = 0
    session.prefill(rows[:, :6], mask)
    for column in range(6, 9):
        session.decode(rows[:, column])
    session.truncate(kept)
    assert session.length == kept
    more = tokens((2, 3), 5)
    check(session.prefill(more), [*rows[0, 1:kept], *more[0]], [*rows[1, :kept], *more[1]])


def test_the_cache_is_filled_to_its_last_slot_and_no_further(standin, check):
    session = standin(length=9).session
    row = tokens(9)
    session.prefill(row[None, :7])
    session.decode(row[7:8])
    check(session.decode(row[8:9]), row)
    with pytest.raises(ContextLengthError, match="1 more tokens behind 9 cached positions exceed the maximum of 9"):
        session.decode(row[:1])
    session.truncate(8)
    with pytest.raises(ContextLengthError, match="--max-length"):
        session.prefill(row[None, :2])
    check(session.decode(row[8:9]), row)


def test_a_reset_forgets_and_takes_other_rows(standin, check):
    under = standin()
    session = under.session
    session.prefill(tokens((1, 6)))
    rows = tokens((3, 4), 5)
    session.reset(3)
    assert (session.batch_size, session.length) == (3, 0)
    check(session.prefill(rows), *rows)
    assert len(under.driver.memory) == 4 + 1 + 2 * 4, "inputs, logits, and two sets of keys and values"
    memory = set(under.driver.memory)
    session.reset(2)
    check(session.prefill(rows[:2]), *rows[:2])
    assert set(under.driver.memory) == memory


def test_a_run_that_fails_leaves_the_session_as_it_was(standin, check):
    under = standin(reason=lambda: "out of luck")
    row = tokens(9)
    under.session.prefill(row[None, :4])
    under.decode.fails = True
    with pytest.raises(ArtifactError, match="out of luck"):
        under.session.decode(row[4:5])
    under.decode.fails = False
    assert under.session.length == 4
    check(under.session.decode(row[4:5]), row[:5])
    under.prefill.fails = True
    with pytest.raises(ArtifactError, match="out of luck"):
        under.session.prefill(row[None, 5:])
    under.prefill.fails = False
    check(under.session.prefill(row[None, 5:]), row)


def test_the_cache_can_be_looked_at(standin):
    session = standin().session
    row = tokens(6)
    session.prefill(np.stack([np.append([7], row[:5]), row]), np.array([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]))
    session.truncate(5)
    padded = session.cache()
    session.reset()
    session.prefill(row[None, :5])
    for both, one in zip(padded, session.cache(), strict=True):
        assert (both.shape, one.shape) == ((2, 2, 5, 16), (1, 2, 5, 16))
        np.testing.assert_allclose(both[0, :, 1:], one[0, :, :4], atol=1e-5)
        np.testing.assert_allclose(both[1], one[0], atol=1e-5)


def test_bad_calls_are_refused_before_anything_runs(standin):
    under = standin(rows=2)
    session = under.session
    with pytest.raises(PromptError, match=f"token id {VOCAB} is outside"):
        session.prefill(np.array([[3, VOCAB]]))
    with pytest.raises(UsageError, match="3 rows exceed the 2"):
        session.prefill(tokens((3, 2)))
    session.prefill(tokens((1, 2)))
    with pytest.raises(PromptError, match="expected a chunk for 1 rows, found 2"):
        session.prefill(tokens((2, 2)))
    with pytest.raises(UsageError, match="cannot keep 3 positions"):
        session.truncate(3)
    with pytest.raises(UsageError, match="one row of logits"):
        session.verify(tokens((1, 2)))
    assert (session.can_verify, under.prefill.runs) == (False, 1)
    assert standin(max_length=5).session.max_length == 5
    assert standin(max_length=99).session.max_length == CAPACITY


def test_a_generation_from_end_to_end(standin, model):
    """Greedy tokens of a padded batch are those of eager for each row by itself."""
    prompts = [list(map(int, tokens(6, 1))), list(map(int, tokens(3, 2)))]
    found = [[], []]
    for step in generate(standin().session, prompts, SamplingParams(greedy=True), max_new_tokens=12, stop_token_ids=()):
        for row, token in enumerate(step.token_ids):
            found[row].append(int(token))
    for prompt, answer in zip(prompts, found, strict=True):
        text = list(prompt)
        for token in answer:
            with torch.inference_mode():
                assert token == int(model(torch.tensor([text])).logits[0, -1].argmax())
            text.append(token)
        assert len(answer) == 12
