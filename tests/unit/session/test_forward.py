"""Several tokens in one run, and the logits of those that are asked for alone."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from minimind_edge.runtime.errors import ContextLengthError, PromptError
from minimind_edge.runtime.load import load_session

TARGETS = ["portable", "ort"]

pytestmark = pytest.mark.usefixtures("short_steps")


def starts_late(model):
    """Give a graph the input `logits_start`, with its default of 0, as exported ones have it."""
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info("logits_start", TensorProto.INT64, [1]))
    constants = {"logits_start": [0], "end": [1 << 62], "second_axis": [1]}
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    head = graph.node[-1]
    slicing = helper.make_node("Slice", [head.input[0], "logits_start", "end", "second_axis"], ["wanted"])
    head.input[0] = "wanted"
    graph.node.insert(len(graph.node) - 1, slicing)
    graph.output[0].type.tensor_type.shape.dim[1].dim_param = "wanted"


@pytest.fixture(params=[None, starts_late], ids=["all logits", "logits_start"])
def load_either(request, save_graph):
    def load(target, **arguments):
        return load_session(save_graph(target, change=request.param, target=target), threads=1, **arguments)

    return load


def random_ids(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 32, shape)


def close(found, expected):
    assert found.shape == expected.shape
    return bool(np.abs(found - expected).max() < 1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_verified_tokens_equal_one_pass(load_either, decoder, target, batch_size):
    session = load_either(target)
    ids = random_ids(batch_size, 80)
    expected = decoder.logits(ids)
    assert close(session.prefill(ids[:, :5]), expected[:, 4])
    start = 5
    for size in (1, 4, 2, 4, 40, 1, 7):
        assert close(session.forward(ids[:, start : start + size]), expected[:, start : start + size]), size
        start += size
        assert session.length == start
        assert close(session.decode(ids[:, start]), expected[:, start])
        start += 1


@pytest.mark.parametrize("target", TARGETS)
def test_rolled_back_behind_a_draft_again_and_again(load_either, decoder, target):
    session = load_either(target)
    ids = random_ids(1, 60)
    expected = decoder.logits(ids)
    session.prefill(ids[:, :3])
    for right in (0, 2, 3, 1, 0, 3, 2):
        length = session.length
        draft = np.append(ids[:, length : length + right + 1], random_ids(1, 3 - right, seed=length), axis=1)
        assert close(session.forward(draft)[:, : right + 1], expected[:, length : length + right + 1])
        session.truncate(length + right + 1)
    assert close(session.decode(ids[:, session.length]), expected[:, session.length - 1])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("prefill_chunk", [3, 512])
def test_prompts_that_end_at_different_places(load_either, decoder, target, prefill_chunk):
    session = load_either(target, prefill_chunk=prefill_chunk)
    ids = random_ids(3, 8)
    mask = np.array([[1, 1, 0, 0, 0, 0, 0, 0], [1] * 8, [0, 0, 1, 1, 1, 0, 0, 0]])
    expected = decoder.logits(ids, mask)
    assert close(session.prefill(ids, mask), expected[[0, 1, 2], [1, 7, 4]])


def test_a_prompt_computes_the_logits_of_its_last_token_alone(save_graph, decoder):
    session = load_session(save_graph("ort", change=starts_late, target="ort"), threads=1)
    bound = []
    take = session._model.arrays
    session._model.arrays = lambda *args: bound.append(take(*args)) or bound[-1]
    ids = random_ids(1, 50)
    assert close(session.prefill(ids), decoder.logits(ids)[:, -1])
    assert [arrays.logits.shape for arrays in bound] == [(1, 1, 32)]


@pytest.mark.parametrize("target", TARGETS)
def test_what_cannot_be_verified(load_either, decoder, target):
    session = load_either(target, max_length=10)
    ids = random_ids(1, 10)
    session.prefill(ids[:, :7])
    with pytest.raises(ContextLengthError, match="4 more tokens after 7"):
        session.forward(random_ids(1, 4))
    with pytest.raises(PromptError, match="token id 32"):
        session.forward(np.array([[1, 32]]))
    with pytest.raises(PromptError, match="2; reset first"):
        session.forward(random_ids(2, 2))
    with pytest.raises(PromptError, match="at least one token"):
        session.forward(ids[:, :0])
    assert session.length == 7
    assert close(session.forward(ids[:, 7:]), decoder.logits(ids)[:, 7:])
