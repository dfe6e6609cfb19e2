from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from minimind_edge.runtime.errors import ContextLengthError, MissingError, PromptError, UsageError
from minimind_edge.runtime.load import load_session

TARGETS = ["portable", "ort"]
GRAPHS = [(target, precision) for target in TARGETS for precision in ("fp32", "fp16")]
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
"""Of the largest logit. float16 keeps 11 bits of each key: scores about 20 are off by 0.01, their weights by 1 %."""

pytestmark = pytest.mark.usefixtures("short_steps")


def random_ids(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 32, shape)


def close(found: np.ndarray, expected: np.ndarray, precision: str = "fp32") -> bool:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    return bool(np.abs(found - expected).max() < TOLERANCE[precision] * np.abs(expected).max())


@pytest.mark.parametrize(("target", "precision"), GRAPHS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_prefill_and_decode_equal_one_pass(load, decoder, target, precision, batch_size):
    session = load(target, precision)
    ids = random_ids(batch_size, 90)
    expected = decoder.logits(ids)
    assert np.abs(expected).max() > 5
    assert close(session.prefill(ids[:, :6]), expected[:, 5], precision)
    assert (session.batch_size, session.length, session.vocab_size) == (batch_size, 6, 32)
    for slot in range(6, 90):  # across buffers of 8, 16, 32, 64 and 128 slots, and pages of attention masks
        assert close(session.decode(ids[:, slot]), expected[:, slot], precision), slot
    assert session.length == 90


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sizes", [[12], [1] * 12, [5, 1, 6], [3, 9]])
@pytest.mark.parametrize("prefill_chunk", [4, 512])
def test_every_split_into_chunks_gives_the_same(load, decoder, target, sizes, prefill_chunk):
    session = load(target, prefill_chunk=prefill_chunk)
    ids = random_ids(2, 12)
    expected = decoder.logits(ids)
    ends = np.cumsum(sizes)
    for size, end in zip(sizes, ends, strict=True):
        assert close(session.prefill(ids[:, end - size : end]), expected[:, end - 1])
    assert session.length == 12


def test_no_step_looks_for_a_run_option_that_is_not_set(load, monkeypatch):
    session, missing = load("ort"), []
    find = onnxruntime.RunOptions.get_run_config_entry

    def watched(options, key):
        try:
            return find(options, key)
        except RuntimeError:
            missing.append(key)
            raise

    monkeypatch.setattr(onnxruntime.RunOptions, "get_run_config_entry", watched)
    session.prefill(random_ids(1, 3))
    session.decode(np.array([5]))
    assert missing == []


MASKS = {
    "left": [[0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1]],
    "right": [[1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 0]],
    "both": [[0, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0, 0]],
}
LAST = {"left": [6, 6, 6], "right": [3, 6, 0], "both": [4, 6, 3]}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("side", MASKS)
@pytest.mark.parametrize("prefill_chunk", [2, 512])
def test_each_row_of_a_padded_batch_is_that_row_alone(load, decoder, target, side, prefill_chunk):
    session = load(target, prefill_chunk=prefill_chunk)
    mask = np.array(MASKS[side])
    ids, new = random_ids(3, 7), random_ids(3, 40, seed=1)
    logits = session.prefill(ids, mask).copy()
    decoded = [session.decode(new[:, step]).copy() for step in range(40)]
    for row in range(3):
        prompt = ids[row][mask[row].astype(bool)]
        alone = decoder.logits(np.concatenate([prompt, new[row]])[None])[0]
        assert close(logits[row], alone[len(prompt) - 1])
        for step in range(40):
            assert close(decoded[step][row], alone[len(prompt) + step]), (row, step)


@pytest.mark.parametrize("target", TARGETS)
def test_a_padded_chunk_behind_a_past(load, decoder, target):
    session = load(target)
    ids = random_ids(2, 14)
    mask = np.ones_like(ids)
    mask[0, 3:5] = mask[1, 8:11] = 0
    expected = decoder.logits(ids, mask)
    session.prefill(ids[:, :5], mask[:, :5])
    session.decode(ids[:, 5])
    assert close(session.prefill(ids[:, 6:11], mask[:, 6:11]), np.stack([expected[0, 10], expected[1, 7]]))
    for slot in range(11, 14):
        assert close(session.decode(ids[:, slot]), expected[:, slot])


@pytest.mark.parametrize("target", TARGETS)
def test_a_chunk_that_is_padding_alone_for_one_row(load, decoder, target):
    session = load(target)
    ids = random_ids(2, 8)
    mask = np.array([[0, 0, 0, 0, 1, 1, 1, 1], [1] * 8])
    session.prefill(ids[:, :4], mask[:, :4])
    assert close(session.prefill(ids[:, 4:], mask[:, 4:]), decoder.logits(ids, mask)[:, -1])


@pytest.mark.parametrize(("target", "precision"), GRAPHS)
@pytest.mark.parametrize("keep", [0, 1, 5, 9, 20])
def test_rolled_back_and_continued(load, decoder, target, precision, keep):
    session = load(target, precision)
    first, second = random_ids(2, 20), random_ids(2, 12, seed=1)
    session.prefill(first[:, :18])
    session.decode(first[:, 18])
    session.decode(first[:, 19])
    session.truncate(keep)
    assert session.length == keep
    expected = decoder.logits(np.concatenate([first[:, :keep], second], axis=1))
    assert close(session.prefill(second[:, :4]), expected[:, keep + 3], precision)
    for step in range(4, 12):
        assert close(session.decode(second[:, step]), expected[:, keep + step], precision)


@pytest.mark.parametrize("target", TARGETS)
def test_rolled_back_by_a_token_again_and_again(load, decoder, target):
    session = load(target)
    ids = random_ids(1, 6)
    session.prefill(ids)
    for token in range(10):
        changed = np.append(ids, token)[None]
        assert close(session.decode(np.array([token])), decoder.logits(changed)[:, -1])
        session.truncate(6)


@pytest.mark.parametrize("target", TARGETS)
def test_padding_is_rolled_back_too(load, decoder, target):
    session = load(target)
    ids, mask = random_ids(2, 6), np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 1]])
    session.prefill(ids, mask)
    session.decode(ids[:, 0])
    session.truncate(3)  # what is left has none
    changed = np.concatenate([ids[:, :3], ids[:, :4]], axis=1)
    expected = decoder.logits(changed)
    assert close(session.prefill(ids[:, :2]), expected[:, 4])
    assert close(session.decode(ids[:, 2]), expected[:, 5])
    session.truncate(0)
    assert close(session.prefill(ids), decoder.logits(ids)[:, -1])


@pytest.mark.parametrize("target", TARGETS)
def test_reset_to_another_batch_size(load, decoder, target):
    session = load(target)
    for batch_size in (2, 1, 1, 4):
        session.reset(batch_size)
        assert (session.batch_size, session.length) == (batch_size, 0)
        ids = random_ids(batch_size, 5, seed=batch_size)
        expected = decoder.logits(ids)
        assert close(session.prefill(ids[:, :4]), expected[:, 3])
        assert close(session.decode(ids[:, 4]), expected[:, 4])


def test_an_empty_session_takes_the_prompts_batch_size(load):
    session = load("ort")
    assert session.batch_size == 1
    assert session.prefill(random_ids(3, 2)).shape == (3, 32)
    assert session.batch_size == 3
    with pytest.raises(PromptError, match="expected a chunk for 3 rows, found 2"):
        session.prefill(random_ids(2, 2))


def test_a_batch_beyond_any_memory(load, decoder):
    session = load("ort")
    with pytest.raises(MissingError, match="lower the batch size"):
        session.reset(1 << 50)
    ids = random_ids(1, 4)
    assert close(session.prefill(ids), decoder.logits(ids)[:, -1])


@pytest.mark.parametrize("target", TARGETS)
def test_the_limit(load, decoder, target):
    session = load(target, max_length=10)
    assert session.max_length == 10
    ids = random_ids(1, 10)
    with pytest.raises(ContextLengthError, match="11 more tokens after 0 cached positions exceed the maximum of 10"):
        session.prefill(random_ids(1, 11))
    session.prefill(ids[:, :9])
    with pytest.raises(ContextLengthError, match="2 more tokens after 9 cached"):
        session.prefill(ids[:, :2])
    assert session.length == 9
    assert close(session.decode(ids[:, 9]), decoder.logits(ids)[:, 9])
    with pytest.raises(ContextLengthError) as caught:
        session.decode(ids[:, 0])
    assert caught.value.exit_code == 3
    session.truncate(9)
    assert close(session.decode(ids[:, 9]), decoder.logits(ids)[:, 9])


@pytest.mark.parametrize(("metadata", "asked", "limit"), [("40", None, 40), ("40", 64, 40), ("40", 8, 8)])
def test_the_graphs_own_limit_stands_where_it_is_less(save_graph, metadata, asked, limit):
    path = save_graph("portable", max_length=metadata)
    assert load_session(path, max_length=asked).max_length == limit


@pytest.mark.parametrize("token", [-1, 32, 1 << 40])
def test_a_token_id_outside_of_the_vocabulary(load, token):
    session = load("ort")
    ids = random_ids(2, 3)
    ids[1, 2] = token
    with pytest.raises(PromptError, match=f"token id {token} is outside of the vocabulary of 32 tokens"):
        session.prefill(ids)
    session.prefill(random_ids(2, 3))
    with pytest.raises(PromptError, match=f"token id {token} "):
        session.decode(ids[:, 2])
    assert session.length == 3


@pytest.mark.parametrize(
    ("ids", "mask"),
    [
        (np.zeros((1, 0), np.int64), None),
        (np.zeros((0, 3), np.int64), None),
        (np.zeros(3, np.int64), None),
        (np.zeros((1, 3)), None),
        (np.zeros((1, 3), np.int64), np.ones((1, 2), np.int64)),
        (np.zeros((1, 3), np.int64), np.array([[1, 2, 1]])),
        (np.zeros((1, 3), np.int64), np.array([[1, -1, 1]])),
    ],
)
def test_a_misshapen_prompt(load, ids, mask):
    session = load("portable")
    with pytest.raises(PromptError):
        session.prefill(ids, mask)
    assert session.length == 0


@pytest.mark.parametrize("tokens", [np.zeros(1, np.int64), np.zeros((2, 1), np.int64), np.zeros(2)])
def test_a_misshapen_step(load, tokens):
    session = load("portable")
    session.prefill(random_ids(2, 3))
    with pytest.raises(PromptError, match="expected 2 token ids"):
        session.decode(tokens)


@pytest.mark.parametrize("length", [-1, 4])
def test_rolled_back_to_what_is_not_there(load, length):
    session = load("portable")
    session.prefill(random_ids(1, 3))
    with pytest.raises(UsageError, match="that holds 3"):
        session.truncate(length)


@pytest.mark.parametrize("argument", ["threads", "max_length", "prefill_chunk"])
def test_numbers_out_of_range(save_graph, argument):
    with pytest.raises(UsageError, match=f"{argument} must be at least 1, found 0"):
        load_session(save_graph("portable"), **{argument: 0})
    with pytest.raises(UsageError, match="batch_size"):
        load_session(save_graph("portable")).reset(0)


def test_runs_without_torch_transformers_and_onnx(save_graph):
    code = (
        "import sys, numpy as np\n"
        "from minimind_edge.runtime.artifact.folder import Artifact\n"
        "from minimind_edge.runtime.load import load_session\n"
        "session = load_session(Artifact.open(sys.argv[1]).graph)\n"
        "session.prefill(np.array([[1, 2]])); session.decode(np.array([3]))\n"
        "print([name for name in ('torch', 'transformers', 'onnx', 'onnxscript') if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, str(save_graph("ort", target="ort"))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "[]", "")


def test_a_session_starts_without_what_only_artifacts_need(save_graph):
    code = (
        "import sys, numpy as np\n"
        "from minimind_edge.runtime import SamplingParams, generate, load_session\n"
        "session = load_session(sys.argv[1])\n"
        "assert len(list(generate(session, [np.array([1, 2])], SamplingParams(greedy=True), 2))) == 2\n"
        "print([name for name in ('msgspec', 'shutil', 'tokenizers', 'numpy.random') if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, str(save_graph("ort", target="ort"))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "[]", "")
