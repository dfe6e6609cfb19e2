"""The session on the real driver, its arithmetic done on the device by PyTorch: TensorRT itself need not be there."""

from __future__ import annotations

import numpy as np
import pytest
from described_plan import PLAN_BYTES, describe
from static_decoder import VOCAB

from minimind_edge.runtime.session.session import Session
from minimind_edge.runtime.tensorrt.model import TensorRTModel
from minimind_edge.runtime.tensorrt.plan import Plan


@pytest.fixture
def session(driver, decoder, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch does the arithmetic here")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch was built without CUDA")
    from torch_standin import TorchContext

    content = describe(decoder, tmp_path, length=64, chunk=8)
    path = tmp_path / "model.plan"
    path.write_bytes(PLAN_BYTES)
    plan = Plan.parse(path, content)
    return Session(TensorRTModel(plan, driver, (TorchContext(decoder), TorchContext(decoder))))


def check(found, decoder, *rows):
    for logits, row in zip(found, rows, strict=True):
        expected = decoder.logits([int(each) for each in row])[-1]
        assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_chunks_and_recorded_steps(session, decoder):
    row = np.random.default_rng(0).integers(3, VOCAB, 40)
    check(session.prefill(row[None, :19]), decoder, row[:19])
    for end in range(20, 40):
        check(session.decode(row[end - 1 : end]), decoder, row[:end])
    session.truncate(25)
    check(session.decode(row[25:26]), decoder, row[:26])


def test_a_padded_batch_and_another_size(session, decoder):
    rows = np.random.default_rng(1).integers(3, VOCAB, (3, 12))
    mask = np.ones((3, 9), np.int64)
    mask[0, :4] = mask[1, 5:] = 0
    session.prefill(rows[:, :9], mask)
    for column in (9, 10, 11):
        found = session.decode(rows[:, column])
    check(found, decoder, rows[0, 4:], [*rows[1, :5], *rows[1, 9:]], rows[2])
    session.reset(1)
    check(session.prefill(rows[:1]), decoder, rows[0])
    check(session.decode(rows[1, :1]), decoder, [*rows[0], rows[1, 0]])
