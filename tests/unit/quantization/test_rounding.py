"""Scales, zeros and integers, by hand, and as ONNX Runtime's own operator reads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from minimind_edge.export.graph.quantized_weights import half_scales, packed_integers, packed_zero_points
from minimind_edge.export.quantization import QuantizedMatrix
from minimind_edge.export.quantization.formats import Format
from minimind_edge.export.quantization.rounding import fit_grid, nearest


def test_a_matrix_by_hand() -> None:
    matrix = QuantizedMatrix(
        bits=4,
        block=2,
        integers=np.array([[0, 15, 8, 9]], np.uint8),
        scales=np.array([[0.5, 1.0]], np.float32),
        zero_points=np.array([[1, 8]], np.uint8),
    )
    assert matrix.dequantized().tolist() == [[-0.5, 7.0, 0.0, 1.0]]
    stored = (packed_integers(matrix), half_scales(matrix), packed_zero_points(matrix))
    assert [part.nbytes for part in stored] == [2, 4, 1]


def test_a_matrix_is_split_by_rows() -> None:
    matrix = nearest(torch.randn(7, 64, generator=torch.Generator().manual_seed(0)), Format(4, 32, False))
    parts = matrix.split([4, 1, 2])
    assert [len(part.integers) for part in parts] == [4, 1, 2]
    assert np.array_equal(np.concatenate([part.dequantized() for part in parts]), matrix.dequantized())


def test_the_grid_of_a_row_does_not_depend_on_the_rows_that_are_searched_with_it() -> None:
    weight = torch.randn(3000, 96, generator=torch.Generator().manual_seed(0))  # more than are searched at once
    together, alone = fit_grid(weight, 4, 32, symmetric=False), fit_grid(weight[2990:], 4, 32, symmetric=False)
    assert torch.equal(together.scales[2990:], alone.scales)
    assert torch.equal(together.zeros[2990:], alone.zeros)


def test_weights_on_a_grid_stay_there() -> None:
    weight = torch.tensor([[0.25 * (number - 3) for number in range(16)]])
    grid = fit_grid(weight, 4, 16, symmetric=False)
    assert (grid.scales.item(), grid.zeros.item()) == (0.25, 3)
    assert grid.integers(weight).tolist() == [list(range(16))]


def test_eight_symmetric_bits_reach_the_largest_weight() -> None:
    weight = torch.tensor([[-1.0, 0.5] + [0.0] * 14])
    matrix = nearest(weight, Format(8, 16, True))
    assert matrix.zero_points is None
    assert np.abs(matrix.dequantized() - weight.numpy()).max() <= 1 / 254


def test_a_clipped_range_serves_many_small_weights_better_than_one_large_one() -> None:
    weight = torch.cat((torch.linspace(-0.4, 0.4, 31), torch.tensor([1.0])))[None]
    full = 1.4 / 15
    assert fit_grid(weight, 4, 32, symmetric=False).scales.item() < full


def test_importance_decides_what_is_clipped() -> None:
    weight = torch.cat((torch.linspace(-0.4, 0.4, 31), torch.tensor([1.0])))[None]
    importance = torch.ones(32)
    importance[-1] = 1e4
    grid = fit_grid(weight, 4, 32, symmetric=False, importance=importance)
    assert abs(grid.values(grid.integers(weight))[0, -1].item() - 1.0) < 0.01


@pytest.mark.parametrize("wanted", [Format(4, 32, False), Format(4, 64, True), Format(8, 32, True)])
def test_blocks_narrower_than_asked_for(wanted: Format) -> None:
    assert [wanted.block_of(width) for width in (128, 96, 48, 40)] == [wanted.block, 32, 16, 32]  # 40: 32 and 8
    assert replace(wanted, pads=False).block_of(40) is None
    assert replace(wanted, block=None).block_of(40) == 40


@pytest.mark.parametrize("wanted", [Format(4, 32, False), Format(4, 64, True), Format(8, 32, True)])
@pytest.mark.parametrize("width", [192, 200, 100])
def test_onnx_runtime_reads_what_was_meant(wanted: Format, width: int) -> None:
    weight = torch.randn(24, width, generator=torch.Generator().manual_seed(0)) + 0.3
    matrix = nearest(weight, wanted)
    assert np.abs(matrix.dequantized() - weight.numpy()).mean() < 0.5 * matrix.scales.mean()
    x = np.random.default_rng(0).standard_normal((5, width), np.float32)
    found = _by_onnx_runtime(x, matrix)
    np.testing.assert_allclose(found, x @ matrix.dequantized().T, atol=2e-4)


def _by_onnx_runtime(x: np.ndarray, matrix: QuantizedMatrix) -> np.ndarray:
    """`MatMulNBits` with float32 activations."""
    (outputs, inputs), blocks = matrix.integers.shape, matrix.scales.shape[1]
    tensors = {
        "integers": packed_integers(matrix).reshape(outputs, blocks, -1),
        "scales": half_scales(matrix).astype(np.float32).reshape(-1),
        "zeros": packed_zero_points(matrix).reshape(-1),
    }
    node = helper.make_node(
        *("MatMulNBits", ["x", *tensors], ["y"]),
        domain="com.microsoft",
        K=inputs,
        N=outputs,
        bits=matrix.bits,
        block_size=matrix.block,
        accuracy_level=1,
    )
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            helper.make_tensor(name, _code(array), array.shape, array.tobytes(), raw=True)
            for name, array in tensors.items()
        ],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"x": x})
    return np.asarray(product)


def _code(array: np.ndarray) -> int:
    return TensorProto.UINT8 if array.dtype == np.uint8 else TensorProto.FLOAT
