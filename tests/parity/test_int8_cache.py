"""`ort` graphs with a cache of eight bits, against eager PyTorch that rounds keys and values by NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graph_files import write_graph
from graph_rows import CAPACITY, Batch, GraphRunner, Output, eager_row, make_model
from rounded_cache import integers, with_rounded_cache

from minimind_edge.export.graph import build_graph
from minimind_edge.export.parity import compare
from minimind_edge.export.quantization.kv_cache_scales import CacheScales, cache_scales
from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.load import load_session

VARIANTS = ("gqa", "mqa", "yarn", "minimind3", "moe", "minimind3-moe")
PADDINGS = ("none", "left", "right")

LOGITS = 1e-5
"""Over the largest |logit|: float32's own, as for a graph with a float cache."""

TIPPED = 2e-3
"""Share of cached numbers that float32's last digits may tip to the neighbouring integer: those within 1e-6 of their
size of a tie are 2 * 127 * 1e-6 of all; ten times that, because what a tipped one changes tips others."""

TIPPED_LOGITS = 0.02
"""Largest difference of logits where a number was tipped: by a step, 1 % of a typical one."""


def scales_of(model) -> tuple[CacheScales, ...]:
    generator = torch.Generator().manual_seed(5)
    return cache_scales(model, torch.randint(0, 131, (4, 32), generator=generator))


def file_of(folder: Path, model, scales, precision: str = "fp32") -> Path:
    return write_graph(folder, model, "ort", precision, CAPACITY, cache_scales=scales)


def tipped_and_error(model, scales, batch: Batch, output: Output) -> tuple[float, float]:
    """The share of cached integers that are not NumPy's, none by more than one, and the logits' largest error."""
    rounding = with_rounded_cache(model, scales)
    flat = [part for layer in scales for part in (layer.key, layer.value)]
    steps, errors = [], []
    for row, real in enumerate(batch.mask.astype(bool)):
        expected = eager_row(rounding, batch.ids[row, real], batch.positions[row, real])
        for found, wanted, scale in zip(output.presents, expected.presents, flat, strict=True):
            assert found.dtype == np.int8
            steps.append(np.abs(found[row][:, real].astype(int) - integers(wanted, scale)).ravel())
        errors.append(np.abs(output.logits[row, real] - expected.logits).max() / np.abs(expected.logits).max())
    steps = np.concatenate(steps)
    assert steps.size
    assert steps.max() <= 1
    return float(steps.mean()), float(max(errors))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_graph_computes_what_its_cached_integers_say(tmp_path, variant, padding):
    model = make_model(variant)
    scales = scales_of(model)
    path, batch = file_of(tmp_path, model, scales), Batch.of(padding)
    length = batch.ids.shape[1]
    for splits in ((length,), (4, length - 4), (length - 2, 1, 1), (1,) * length):
        for shared in (True, False):
            output = GraphRunner(path, shared=shared).run(batch, splits)
            tipped, error = tipped_and_error(model, scales, batch, output)
            assert tipped <= TIPPED
            assert error <= (LOGITS if tipped == 0 else TIPPED_LOGITS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_first_keys_and_values_are_off_by_half_a_step_at_most(tmp_path, variant):
    """Against the model whose cache is float: in the first layer nothing but the rounding can be the cause."""
    model = make_model(variant)
    scales = tuple(
        CacheScales(*(part * 4 for part in (layer.key, layer.value))) for layer in scales_of(model)
    )  # so that nothing saturates
    batch = Batch.of("left")
    output = GraphRunner(file_of(tmp_path, model, scales), shared=True).run(batch, (batch.ids.shape[1],))
    for row, real in enumerate(batch.mask.astype(bool)):
        expected = eager_row(model, batch.ids[row, real], batch.positions[row, real])
        for part, scale in enumerate((scales[0].key, scales[0].value)):
            found = output.presents[part][row][:, real] * scale[:, None]
            errors = np.abs(found - expected.presents[part]) / scale[:, None]
            assert 0.4 < errors.max() <= 0.5 + 1e-3


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("variant", ["gqa", "minimind3", "minimind3-moe"])
def test_parity_passes_and_shows_the_rounding(tmp_path, variant, precision):
    model = make_model(variant)
    path = file_of(tmp_path, model, scales_of(model), precision)
    report = compare(model, path, target="ort", precision=precision, steps=16)
    assert report, report.summary()
    shown = report.to_json()
    assert shown["presents"]["max_abs"] > 0
    assert shown["logits"]["mean_kl"] > 1e-5


@pytest.mark.parametrize(
    "break_scale",
    [lambda scale: scale * 3, lambda scale: np.roll(scale, 1), lambda scale: scale[::-1]],
    ids=["three times as large", "the next channel's", "in reverse"],
)
def test_parity_fails_where_the_operator_has_another_scale(tmp_path, break_scale):
    """The cache comes out scaled by another number than the operator wrote it with."""
    model = make_model("gqa")
    scales = scales_of(model)
    uneven = np.geomspace(1, 30, 16, dtype=np.float32)
    scales = tuple(CacheScales(layer.key * uneven, layer.value) for layer in scales)
    path = file_of(tmp_path, model, scales)
    graph = onnx.load(path)
    for node in (node for node in graph.graph.node if node.op_type == "GroupQueryAttention"):
        stored = next(each for each in graph.graph.initializer if each.name == node.input[12])
        broken = break_scale(onnx.numpy_helper.to_array(stored).ravel()).reshape(stored.dims)
        graph.graph.initializer.append(onnx.numpy_helper.from_array(broken, f"{stored.name}.broken"))
        node.input[12] = f"{stored.name}.broken"
    onnx.save(graph, path)
    assert not compare(model, path, target="ort", precision="fp32", steps=16)


def test_a_session_rolls_back_and_grows_as_if_it_had_never_been_longer(tmp_path):
    model = make_model("gqa")
    path = file_of(tmp_path, model, scales_of(model))
    prompt = np.arange(2, 14)[None]
    fresh, rolled = load_session(path, threads=1), load_session(path, threads=1)
    expected = fresh.prefill(prompt).copy()
    rolled.prefill(prompt[:, :5])
    rolled.prefill(np.full((1, 6), 99))
    rolled.truncate(5)
    rolled.prefill(prompt[:, 5:8])
    for token in prompt[0, 8:]:
        found = rolled.decode(np.array([token]))
    assert np.abs(found - expected).max() <= TIPPED_LOGITS * np.abs(expected).max()
    assert found.argmax() == expected.argmax()


def test_a_session_takes_a_quarter_of_the_memory(tmp_path):
    model = make_model("gqa")
    rounded = load_session(file_of(tmp_path, model, scales_of(model)), threads=1)
    plain = load_session(write_graph(tmp_path, model, "ort", "fp32", CAPACITY, name="float"), threads=1)
    assert (rounded.facts.kv_dtype, rounded.facts.has_int8_cache, plain.facts.has_int8_cache) == (np.int8, True, False)
    assert rounded.facts.kv_bytes_per_slot == 2 * 2 * 2 * 16
    assert rounded.kv_cache_bytes == 0
    for session in (rounded, plain):
        session.prefill(np.ones((3, 4), np.int64))
    assert rounded.kv_cache_bytes == 3 * CAPACITY * 2 * 2 * 2 * 16
    assert plain.kv_cache_bytes == 4 * rounded.kv_cache_bytes


@pytest.mark.parametrize("target", ["portable", "tensorrt"])
def test_there_is_no_such_cache_elsewhere(target):
    model = make_model("gqa")
    with pytest.raises(UsageError, match="--kv-cache int8"):
        build_graph(model, target, "fp32", CAPACITY, cache_scales=scales_of(model))


def test_no_rotation_takes_a_key_out_of_range():
    """Scales come from positions 0 to 31; at later ones the keys turn, and plain maxima would be too small."""
    model = make_model("gqa", rope_theta=1e6)
    tokens = torch.randint(0, 131, (4, 32), generator=torch.Generator().manual_seed(5))
    scales = scales_of(model)
    with torch.inference_mode():
        near = model(tokens, use_cache=True).past_key_values
        seen = [key.abs().amax(dim=(0, 2)).numpy() for key, _ in near]
        exceeded = 0
        for start in (100, 1000, 10_000):
            positions = (torch.arange(32) + start).expand(4, -1)
            for layer, (key, _) in enumerate(model(tokens, position_ids=positions, use_cache=True).past_key_values):
                largest = key.abs().amax(dim=(0, 2)).numpy()
                assert (largest <= 127 * scales[layer].key).all()
                exceeded += int((largest > 1.25 * seen[layer]).sum())
    assert exceeded > 0, "no key turned far enough to tell the two apart"


def test_numbers_that_are_not_finite_are_refused():
    model = make_model("gqa")
    with torch.no_grad():
        model.model.layers[1].self_attn.v_proj.weight[0, 0] = float("inf")
    from minimind_edge.export.errors import ExportError

    with pytest.raises(ExportError, match="layer 1 caches a number that is not finite"):
        scales_of(model)


def test_scales_are_positive_where_a_channel_is_all_zeros():
    model = make_model("gqa")
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.weight.zero_()
    scales = scales_of(model)
    assert (scales[0].value > 0).all()
    assert np.isfinite(1 / scales[0].value).all()
