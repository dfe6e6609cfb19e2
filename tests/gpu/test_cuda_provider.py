"""The bundled checkpoint by ONNX Runtime's CUDA provider, against eager PyTorch on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.export.graph import build_graph, save_graph
from minimind_edge.minimind.checkpoint import read_checkpoint
from minimind_edge.runtime.errors import MissingError
from minimind_edge.runtime.load import load_session


@pytest.fixture(scope="module", params=["dense", "moe"])
def model(request):
    return read_checkpoint(bundled_checkpoint(moe=request.param == "moe")).model


@pytest.fixture(params=["ort", "portable"])
def session(request, model, tmp_path):
    save_graph(build_graph(model, request.param, "fp32", 128), tmp_path / "model.onnx")
    try:
        return load_session(tmp_path / "model.onnx", device="cuda")
    except MissingError as error:
        pytest.skip(str(error))


def test_a_prompt_and_greedy_steps(session, model):
    import torch

    text = np.random.default_rng(0).integers(3, model.config.vocab_size, 16).tolist()
    found = session.prefill(np.array([text]))
    for _ in range(32):
        with torch.inference_mode():
            expected = model(torch.tensor([text])).logits[0, -1].numpy()
        # The provider multiplies float32 by way of TF32 where it can: ten bits of each number.
        assert np.abs(found[0] - expected).max() <= 1e-2 * np.abs(expected).max()
        text.append(int(expected.argmax()))
        found = session.decode(np.array(text[-1:]))
