"""What the library refuses: shapes, lengths, positions and attributes that do not fit, each with a line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from native_nodes import Heads, limit_lanes, make_session, make_step, session_of
from onnx import ModelProto, helper, numpy_helper
from onnxruntime import OrtValue
from quantized_product import make_weight, multiply, product_graph, product_session

ONE = np.ones(1, np.int32)
FLOATS = {
    "qkv": (2, 3, 512),
    "past_key": (2, 2, 9, 64),
    "past_value": (2, 2, 9, 64),
    "cos": (16, 32),
    "sin": (16, 32),
    "q_norm": (64,),
    "k_norm": (64,),
}
HOSTILE_SHAPES = [
    *[("qkv", shape) for shape in ((2, 3), (2, 3, 511), (2, 3, 0), (3, 3, 512), (2, 2, 512), (1, 2, 3, 512))],
    *[("past_key", shape) for shape in ((2, 2, 9), (2, 2, 9, 63), (2, 1, 9, 64), (1, 2, 9, 64), (2, 2, 9, 128))],
    *[("past_value", shape) for shape in ((2, 2, 8, 64), (2, 2, 9, 96), (2, 2, 9), (0, 2, 9, 64))],
    *[("cos", shape) for shape in ((16,), (16, 31), (16, 64), (15, 32))],
    *[("sin", shape) for shape in ((16, 31), (15, 32), (32,))],
    *[("q_norm", shape) for shape in ((63,), (1,), (64, 1))],
    ("k_norm", (65,)),
]


def hostile_step(norms: bool = True):
    return make_step(Heads(4, 2, 64, norms=norms, any_rank=True), tokens=[3, 2], past=[6, 7])


@pytest.mark.parametrize(("name", "shape"), HOSTILE_SHAPES)
def test_shapes_that_do_not_fit_are_refused(lanes, name, shape):
    step = hostile_step().with_feeds(**{name: np.zeros(shape, np.float32)})
    with pytest.raises(Exception, match=r"CachedAttention: .*expected"):
        step.run(lanes)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("attention_mask", np.ones(9, np.int64)),
        ("attention_mask", np.ones((3, 9), np.int64)),
        ("attention_mask", np.ones((0, 9), np.int64)),
        ("attention_mask", np.ones((2, 0), np.int64)),
        ("row_lengths", np.array([9, 9, 9], np.int32)),
        ("row_lengths", np.zeros(0, np.int32)),
        ("row_lengths", np.array(9, np.int32)),
        ("row_tokens", np.array([[3], [2]], np.int32)),
        ("position_ids", np.zeros((2, 2), np.int64)),
        ("position_ids", np.zeros(3, np.int64)),
        ("position_ids", np.zeros((3, 3), np.int64)),
    ],
)
def test_counts_and_positions_of_other_shapes_are_refused(lanes, name, array):
    with pytest.raises(Exception, match=r"CachedAttention: .*expected"):
        hostile_step().with_feeds(**{name: array}).run(lanes)


@pytest.mark.parametrize(("slots", "tokens"), [(-1, 3), (9, -1), (2, 3), (-(2**31), 3), (-1, 0), (-5, -5)])
def test_rows_with_more_tokens_than_slots_are_refused(lanes, slots, tokens):
    step = hostile_step()
    step.feeds["row_lengths"][1], step.feeds["row_tokens"][1] = slots, tokens
    with pytest.raises(Exception, match=r"CachedAttention: row 1 has .* tokens and .* slots"):
        step.run(lanes)


def test_a_mask_shorter_than_the_tokens_is_refused(lanes):
    with pytest.raises(Exception, match="row 0 has 3 tokens and 2 slots"):
        hostile_step().with_feeds(attention_mask=np.ones((2, 2), np.int64)).run(lanes)


@pytest.mark.parametrize("position", [-1, 16, 2**31, -(2**63), 2**63 - 1])
def test_positions_without_an_angle_are_refused(lanes, position):
    step = hostile_step()
    step.feeds["position_ids"][1, 1] = position
    with pytest.raises(Exception, match=rf"row 1 has a token at position {position}, expected 0 to 15"):
        step.run(lanes)


def test_a_grown_present_in_the_memory_of_the_past_is_refused(lanes):
    step = make_step(Heads(), tokens=[1], past=[4])
    session = session_of(step.heads, lanes)
    memory = OrtValue.ortvalue_from_numpy(np.zeros((1, 2, 5, 64), np.float32), "cpu", 0)
    binding = session.io_binding()
    for name, array in step.feeds.items():
        binding.bind_cpu_input(name, array)
    for name, shape in (("past_key", (1, 2, 4, 64)), ("past_value", (1, 2, 4, 64))):
        binding.bind_input(name, "cpu", 0, np.float32, shape, memory.data_ptr())
    binding.bind_output("mixed")
    for name in ("present_key", "present_value"):
        binding.bind_output(name, "cpu", 0, np.float32, (1, 2, 5, 64), memory.data_ptr())
    with pytest.raises(Exception, match="the memory of the past has fewer slots than the present"):
        session.run_with_iobinding(binding)


@pytest.mark.parametrize(
    "changed",
    [
        {"num_heads": 0},
        {"kv_num_heads": 0},
        {"num_heads": 3},
        {"num_heads": 2**40, "kv_num_heads": 2**40},
        {"num_heads": -4, "kv_num_heads": -2},
        {"scale": 0.0},
        {"scale": float("nan")},
        {"scale": float("inf")},
    ],
)
def test_attributes_out_of_range_are_refused_when_a_graph_is_loaded(lanes, changed):
    with pytest.raises(Exception, match=r"CachedAttention: .*(num_heads|scale)"):
        make_session(replace(Heads(), **changed).graph())


def test_a_missing_attribute_is_refused(lanes):
    graph = Heads().graph()
    del graph.graph.node[0].attribute[0]
    with pytest.raises(Exception, match="No attribute with name"):
        make_session(graph)


def test_a_cpu_without_the_instructions_gets_a_line(lanes):
    assert limit_lanes(4) == 0
    with pytest.raises(Exception, match="minimind-edge-native has no operators for this CPU"):
        make_session(Heads().graph())


def product_with(**arrays: np.ndarray) -> ModelProto:
    """A product of K = 64 and N = 48 by int4 weights in blocks of 32, with other constants than fit."""
    model = product_graph(make_weight())
    for tensor in model.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return model


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        *[({"bits": bits}, "bits is .*, expected 4 or 8") for bits in (-4, 0, 2, 3, 16, 2**32 + 4, 2**62)],
        *[
            ({"block_size": size}, "block_size is .*, expected a power of two from 16 to 256")
            for size in (-32, 0, 1, 8, 24, 33, 48, 512, 2**31, 2**62, -(2**63))
        ],
        *[({"K": size}, "K or N is out of range") for size in (-64, 0, 2**24 + 1, 2**63 - 1, -(2**63))],
        *[({"N": size}, "K or N is out of range") for size in (-48, 0, 2**24 + 1, 2**63 - 1, -(2**63))],
        *[({"K": size}, r"weight is \[48, 2, 16\], expected") for size in (1, 32, 65, 2**24)],
        *[({"N": size}, r"weight is \[48, 2, 16\], expected") for size in (1, 47, 49, 2**24)],
        ({"bits": 8}, r"weight is \[48, 2, 16\], expected \[48, 2, 32\]"),
        ({"block_size": 16}, r"weight is \[48, 2, 16\], expected \[48, 4, 8\]"),
        ({"swiglu": 1, "N": 40}, "N is 40, expected a multiple of .* for SwiGLU"),
        ({"swiglu": 1, "N": 8}, "N is 8, expected a multiple of .* for SwiGLU"),
        *[({name: None}, "No attribute with name") for name in ("K", "N", "bits", "block_size", "swiglu")],
    ],
)
def test_attributes_of_a_product_that_do_not_fit_are_refused_when_a_graph_is_loaded(lanes, changed, told):
    with pytest.raises(Exception, match=told) as error:
        make_session(product_graph(make_weight(), **changed))
    assert "\n" not in str(error.value)


PRODUCT_SHAPES = [
    *[
        ("weight", np.uint8, shape)
        for shape in ((48, 2), (48, 32), (1536,), (), (2, 48, 16), (47, 2, 16), (49, 2, 16), (48, 3, 16), (48, 2, 15))
    ],
    *[("weight", np.uint8, shape) for shape in ((0, 2, 16), (48, 0, 16), (48, 2, 0), (1, 48, 2, 16))],
    *[("scales", np.float32, shape) for shape in ((96,), (48,), (), (2, 48), (48, 1), (48, 3), (0, 2), (48, 2, 1))],
    *[("zeros", np.uint8, shape) for shape in ((48,), (), (48, 2), (47, 1), (1, 48), (48, 0), (48, 1, 1))],
]


@pytest.mark.parametrize(("name", "kind", "shape"), PRODUCT_SHAPES)
def test_constants_of_a_product_of_other_shapes_are_refused(lanes, name, kind, shape):
    told = {"zeros": "zero points"}.get(name, name)
    with pytest.raises(Exception, match=rf"QuantizedMatMul: {told} is \[.*\], expected \[48, ") as error:
        make_session(product_with(**{name: np.zeros(shape, kind)}))
    assert "\n" not in str(error.value)


def test_constants_of_too_many_axes_are_refused(lanes):
    with pytest.raises(Exception, match="scales has too many axes"):
        make_session(product_with(scales=np.zeros((1,) * 8 + (48, 2), np.float32)))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("weight", np.int8),
        ("weight", np.float32),
        ("scales", np.float16),
        ("scales", np.float64),
        ("zeros", np.float32),
    ],
)
def test_constants_of_a_product_of_other_types_are_refused(lanes, name, kind):
    weight = make_weight()
    with pytest.raises(Exception, match=r"Type .* of input parameter .* is invalid"):
        make_session(product_with(**{name: weight.inputs[name].astype(kind)}))


@pytest.mark.parametrize("default", [False, True], ids=["no default", "a default"])
@pytest.mark.parametrize("name", ["weight", "scales", "zeros"])
def test_a_product_of_what_a_caller_may_give_is_refused(lanes, name, default):
    model = product_graph(make_weight())
    tensor = next(each for each in model.graph.initializer if each.name == name)
    model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    if not default:
        model.graph.initializer.remove(tensor)
    told = {"zeros": "zero points"}.get(name, name)
    with pytest.raises(Exception, match=f"QuantizedMatMul: {told} is no constant"):
        make_session(model)


@pytest.mark.parametrize("shape", [(), (63,), (65,), (64, 1), (3, 0), (0, 63), (64, 2, 63)])
def test_activations_of_another_width_are_refused(lanes, shape):
    session = product_session(make_weight(), lanes)
    with pytest.raises(Exception, match=r"QuantizedMatMul: x is \[.*\], expected a last axis of 64"):
        multiply(session, np.zeros(shape, np.float32))
    assert multiply(session, np.zeros((3, 64), np.float32)).shape == (3, 48)


def test_activations_of_too_many_axes_are_refused(lanes):
    with pytest.raises(Exception, match="x has too many axes"):
        multiply(product_session(make_weight(), lanes), np.zeros((1,) * 8 + (64,), np.float32))


def test_zero_points_with_an_empty_name_are_refused(lanes):
    """The runtime leaves the input out, as ONNX allows for the last one."""
    model = product_graph(make_weight(zero_points=False))
    model.graph.node[0].input.append("")
    with pytest.raises(Exception, match="QuantizedMatMul: zero points is no constant"):
        make_session(model)
