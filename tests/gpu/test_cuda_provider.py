"""The bundled checkpoints by ONNX Runtime's CUDA provider, against eager PyTorch on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from graph_files import write_graph

from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.export.parity.case import Suite
from minimind_edge.export.parity.compare import compare_runners
from minimind_edge.export.parity.runner import GraphRunner, RolledBackRunner, SessionRunner
from minimind_edge.export.parity.tolerance import tolerance_of
from minimind_edge.minimind.checkpoint import read_checkpoint
from minimind_edge.runtime.errors import MissingError
from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.ort.environment import CPU, CUDA, import_onnxruntime, require_cuda

MAX_LENGTH = 320


@pytest.fixture(scope="module")
def dense():
    return read_checkpoint(bundled_checkpoint(moe=False)).model


@pytest.fixture(scope="module", params=["dense", "moe"])
def model(request):
    return read_checkpoint(bundled_checkpoint(moe=request.param == "moe")).model


@pytest.fixture(scope="module")
def rows_graph(dense, tmp_path_factory):
    """The graph whose attention the CUDA provider computes in its fused kernels."""
    return write_graph(tmp_path_factory.mktemp("rows"), dense, "ort", "fp16", MAX_LENGTH)


def on_cuda(path, **arguments):
    try:
        return load_session(path, device="cuda", **arguments)
    except MissingError as error:
        pytest.skip(str(error))


def test_a_prompt_and_greedy_steps(model, tmp_path):
    import torch

    session = on_cuda(write_graph(tmp_path, model, "portable", max_length=128))
    text = np.random.default_rng(0).integers(3, model.config.vocab_size, 16).tolist()
    found = session.prefill(np.array([text]))
    for _ in range(32):
        with torch.inference_mode():
            expected = model(torch.tensor([text])).logits[0, -1].numpy()
        # The provider multiplies float32 by way of TF32 where it can: ten bits of each number.
        assert np.abs(found[0] - expected).max() <= 1e-2 * np.abs(expected).max()
        text.append(int(expected.argmax()))
        found = session.decode(np.array(text[-1:]))


def test_rows_of_their_own_length_are_each_row_alone(dense, rows_graph):
    """The comparison of every export: prompts of unequal lengths, chunks after a past, steps, and the whole cache."""
    session = on_cuda(rows_graph)
    layers = dense.config.num_hidden_layers
    report = compare_runners(
        dense,
        [
            lambda: GraphRunner(lambda slots: session, "graph on CUDA"),
            lambda: SessionRunner(on_cuda(rows_graph, prefill_chunk=7), "session in chunks"),
            lambda: RolledBackRunner(session),
        ],
        Suite(dense.config.vocab_size, MAX_LENGTH, thorough=True, long_prompt=MAX_LENGTH - 64),
        tolerance_of("fp16", layers),
        target="ort",
        precision="fp16",
        steps=32,
        shows_experts=False,
    )
    assert report, report.failures


def test_attention_runs_on_the_gpu(rows_graph, tmp_path):
    """By ONNX Runtime's profile: an attention that the CUDA provider refuses would run on the CPU."""
    onnxruntime = import_onnxruntime()
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider")
    assert providers_of_attention(onnxruntime, rows_graph, tmp_path, [CUDA, CPU]) == {CUDA}


def providers_of_attention(onnxruntime, path, folder, providers):
    """The providers that run the nodes of attention."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    if CUDA in providers:
        try:
            require_cuda(session.get_providers())
        except MissingError as error:
            pytest.skip(str(error))
    ids = np.array([[5, 9, 2, 7]])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(4)[None]}
    for node in session.get_inputs()[3:]:
        feeds[node.name] = np.zeros((1, node.shape[1], 0, node.shape[3]), np.float16)
    session.run(["logits"], feeds)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return {
        event["args"]["provider"] for event in events if event.get("args", {}).get("op_name") == "GroupQueryAttention"
    }
