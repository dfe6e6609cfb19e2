"""Native operators in place of stock ones: which nodes of exported graphs they replace, and which graphs stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from graph_files import changed_graph, write_graph
from graph_rows import make_model
from native_graphs import LAYERS, SHAPES, attributes_of, graph_maker, kinds, named, native, swiglus
from onnx import helper, numpy_helper

from minimind_edge.export.parity.graph_file import expert_names
from minimind_edge.export.quantization.kv_cache_scales import cache_scales

PREPARED = {
    "lengths.Cast": 2,
    "lengths.Shape": 3,
    "lengths.Min": 2,
    "lengths.Sub": 1,
    "lengths.Expand": 2,
    "attention_bias.Cast": 1,
    "attention_bias.Where": 1,
    "attention_bias.Concat": 1,
    "attention_bias.Unsqueeze": 1,
    "attention_bias.Expand": 1,
}
"""The nodes that prepare the inputs of the stock attention, as docs/graphs.md describes them, and how many."""

QK_NORM = {"Split": 1, "Reshape": 4, "RMSNormalization": 2}
"""The nodes of a block with norms of queries and keys, before its attention."""

SORTING = {
    **dict.fromkeys(["OneHot", "Min", "Mod", "NonZero", "GatherND", "ScatterND", "Slice"], 1),
    **{"Concat": 4, "Split": 3, "Shape": 2, "ReduceSum": 2, "Reshape": 2},
}
"""The nodes of a block that sort the choices of experts, and the experts' rows."""


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    return graph_maker(tmp_path_factory)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_attention_norms_and_gates_are_replaced_and_every_other_node_stays(graphs, shape, precision):
    path = graphs(shape, precision)
    stock, found = onnx.load(path), native(path)
    assert found is not None
    expected = kinds(stock)
    replaced = {"GroupQueryAttention": "CachedAttention", "SkipSimplifiedLayerNormalization": "SkipRMSNorm"}
    for old, new in replaced.items():
        expected[new] = expected.pop(old)
    assert expected["CachedAttention"] == LAYERS
    assert expected["SkipRMSNorm"] == 2 * LAYERS
    for name, count in PREPARED.items():
        expected[name.partition(".")[2]] -= count
    if shape.startswith("minimind3"):
        expected.subtract({kind: count * LAYERS for kind, count in QK_NORM.items()})
    halves = {name for node in named(stock, "Split") for name in node.output}
    gates = sum(node.input[0] in halves for node in named(stock, "Sigmoid"))
    # Experts are one product of gate and up, and so are quantized layers, one of which MiniMind2's experts share.
    assert gates == LAYERS * (("moe" in shape) + (precision != "fp32" and shape != "minimind3-moe"))
    expected.subtract({"Split": gates, "Sigmoid": gates, "Mul": 2 * gates})
    products = {node.output[0] for node in named(stock, "MatMulNBits")}
    gated = sum(node.input[0] in products and len(node.output) == 2 for node in named(stock, "Split"))
    assert gated == LAYERS * (precision != "fp32" and shape != "minimind3-moe")
    expected["SwiGLU"] = gates - gated
    expected["QuantizedMatMul"] = expected.pop("MatMulNBits", 0)
    if "moe" in shape and precision != "fp32":
        expected.subtract({kind: count * LAYERS for kind, count in SORTING.items()})
        expected["Div"] -= LAYERS * (shape == "minimind2-moe")  # a choice's token, where a token has several
        expected.update(dict.fromkeys(["GatherByExpert", "ScatterByExpert"], LAYERS))
        expected["SwiGLU"] = 0
        gated += LAYERS * make_model("moe").config.n_routed_experts
    assert swiglus(found) == gated
    expected["Reshape"] -= precision != "fp32"  # the embedding's: an initializer in another shape
    assert kinds(found) == +expected
    untouched = [node for node in found.graph.node if node.domain != "minimind_edge"]
    everything = list(stock.graph.node)
    places = [everything.index(node) for node in untouched]  # equal in every field, and in the same order
    assert places == sorted(places)
    onnx.load_external_data_for_model(found, str(path.parent))
    onnx.checker.check_model(found)  # all but the operators that it does not know


def test_an_attention_takes_its_inputs_from_where_the_contract_says(graphs):
    stock, found = onnx.load(graphs("minimind3", "int4")), native(graphs("minimind3", "int4"))
    for layer, (old, new) in enumerate(
        zip(named(stock, "GroupQueryAttention"), named(found, "CachedAttention"), strict=True)
    ):
        split = named(stock, "Split")[2 * layer]
        assert list(new.input) == [
            split.input[0],
            *(f"past_key_values.{layer}.{part}" for part in ("key", "value")),
            *("attention_mask", "row_lengths", "row_tokens", "rotary_emb.cos", "rotary_emb.sin", "position_ids"),
            *(f"model.layers.{layer}.self_attn.{part}_norm.weight" for part in "qk"),
        ]
        assert new.output == old.output
        attributes = {each.name: helper.get_attribute_value(each) for each in new.attribute}
        assert attributes == {"num_heads": 4, "kv_num_heads": 2, "scale": 1.0, "epsilon": pytest.approx(1e-6)}


def test_what_nothing_reads_any_more_is_gone(graphs):
    stock, found = onnx.load(graphs("minimind3", "int8")), native(graphs("minimind3", "int8"))
    names = {tensor.name for tensor in found.graph.initializer}
    gone = {tensor.name for tensor in stock.graph.initializer} - names
    assert "attention.sinks" in gone
    assert all(name == "attention.sinks" or name.startswith("constant") for name in gone)
    read = {name for node in found.graph.node for name in node.input}
    embedding = next(node for node in named(stock, "Reshape") if node.input[0].startswith("model.embed_tokens"))
    read.update(embedding.input)  # whose shape ONNX Runtime drops by itself
    assert {name for name in names if name.startswith("constant")} <= read
    assert names >= {"logits_start", "row_lengths", "row_tokens"}
    assert [value.name for value in found.graph.input][-3:] == ["logits_start", "row_lengths", "row_tokens"]
    assert {(each.domain, each.version) for each in found.opset_import} - {
        (each.domain, each.version) for each in stock.opset_import
    } == {("minimind_edge", 1)}


def test_experts_can_be_shown(graphs):
    names = expert_names(LAYERS)
    found = native(graphs("minimind3-moe"), outputs=names)
    assert [value.name for value in found.graph.output][-LAYERS:] == names
    assert {name for node in named(found, "TopK") for name in node.output} >= set(names)


def test_a_sum_that_nothing_reads_is_no_output(graphs, tmp_path):
    def unread(model: onnx.ModelProto) -> None:
        node = named(model, "SkipSimplifiedLayerNormalization")[-1]
        for other in model.graph.node:
            other.input[:] = [node.output[0] if name == node.output[3] else name for name in other.input]
        node.output[:] = node.output[:1]

    found = native(changed_graph(graphs("minimind2"), tmp_path, unread))
    assert [len(node.output) for node in named(found, "SkipRMSNorm")] == [2, 2, 2, 1]


def attribute(op_type: str, name: str, value: Any) -> Callable[[onnx.ModelProto], None]:
    """Give the last node of an operator an attribute, in place of the one that it has."""

    def change(model: onnx.ModelProto) -> None:
        node = named(model, op_type)[-1]
        for each in [each for each in node.attribute if each.name == name]:
            node.attribute.remove(each)
        node.attribute.append(helper.make_attribute(name, value))

    return change


def constant(value: float, replacement: Any) -> Callable[[onnx.ModelProto], None]:
    """Replace every constant of this value."""

    def change(model: onnx.ModelProto) -> None:
        found = 0
        for tensor in model.graph.initializer:
            if tensor.name.startswith("constant") and np.array_equal(numpy_helper.to_array(tensor), np.array(value)):
                kind = numpy_helper.to_array(tensor).dtype
                tensor.CopyFrom(numpy_helper.from_array(np.asarray(replacement, kind), tensor.name))
                found += 1
        assert found

    return change


def attention_input(index: int, name: str) -> Callable[[onnx.ModelProto], None]:
    """Give the last attention another input."""

    def change(model: onnx.ModelProto) -> None:
        node = named(model, "GroupQueryAttention")[-1]
        node.input.extend([""] * (index + 1 - len(node.input)))
        node.input[index] = name

    return change


def windowed(model: onnx.ModelProto) -> None:
    """Give the last block a bias that is computed from the mask in another way."""
    node = named(model, "GroupQueryAttention")[-1]
    model.graph.node.insert(
        list(model.graph.node).index(node), helper.make_node("Add", [node.input[10], node.input[10]], ["windowed"])
    )
    node.input[10] = "windowed"


def real_sinks(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "attention.sinks":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(4, np.float32), tensor.name))


def replaceable(name: str) -> Callable[[onnx.ModelProto], None]:
    """Make a constant the default of an input, in whose place a caller may give another."""

    def change(model: onnx.ModelProto) -> None:
        tensor = next(each for each in model.graph.initializer if each.name == name)
        model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))

    return change


def metadata(**values: str) -> Callable[[onnx.ModelProto], None]:
    """Replace properties; an empty value removes one."""

    def change(model: onnx.ModelProto) -> None:
        properties = {each.key: each.value for each in model.metadata_props}
        properties |= {f"minimind_edge.{key}": value for key, value in values.items()}
        helper.set_model_props(model, {key: value for key, value in properties.items() if value})

    return change


def subgraph(model: onnx.ModelProto) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["lengths.Cast"], ["branch"])],
        "branch",
        [],
        [helper.make_tensor_value_info("branch", onnx.TensorProto.INT32, [1])],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    model.graph.node.append(helper.make_node("If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch))


def function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Identity", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 23)]
    model.functions.append(helper.make_function("com.microsoft", "GroupQueryAttention", ["x"], ["y"], body, opsets))


def another_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 24


def own_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("minimind_edge", 1))


def same_name_twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def float16_cache(model: onnx.ModelProto) -> None:
    for value in model.graph.input:
        if value.name == "past_key_values.1.key":
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


STAYS = {
    "a sliding window": attribute("GroupQueryAttention", "local_window_size", 16),
    "a soft cap": attribute("GroupQueryAttention", "softcap", 30.0),
    "smooth softmax": attribute("GroupQueryAttention", "smooth_softmax", 1),
    "interleaved rotation": attribute("GroupQueryAttention", "rotary_interleaved", 1),
    "no rotation": attribute("GroupQueryAttention", "do_rotary", 0),
    "other heads than the cache": attribute("GroupQueryAttention", "kv_num_heads", 4),
    "heads that no group divides": attribute("GroupQueryAttention", "num_heads", 3),
    "a scale that is no number": attribute("GroupQueryAttention", "scale", float("nan")),
    "an attribute of a later version": attribute("GroupQueryAttention", "k_quant_type", "PER_TENSOR"),
    "another bias": windowed,
    "no bias": attention_input(10, ""),
    "a bias that adds something to slots that are seen": constant(0.0, 1.0),
    "a bias that hides too little": constant(np.float32(-1e30), -10.0),
    "sinks": real_sinks,
    "a norm inside": attention_input(14, "model.layers.1.self_attn.q_norm.weight"),
    "other lengths": attention_input(5, "lengths.Min"),
    "other tokens": attention_input(16, "lengths.Cast_2"),
    "one total for all": attention_input(6, "lengths.Cast_2"),
    "other positions": attention_input(9, "input_ids"),
    "one less than the slots": constant(1, 2),
    "another table of angles": attention_input(7, "model.layers.1.self_attn.q_norm.weight"),
    "a table that a caller may give": replaceable("rotary_emb.cos"),
    "sinks that a caller may give": replaceable("attention.sinks"),
    "norms of two epsilons": attribute("RMSNormalization", "epsilon", 1e-3),
    "a norm over another axis": attribute("RMSNormalization", "axis", 1),
    "a norm in another type": attribute("RMSNormalization", "stash_type", 16),
    "parts of other widths": constant([256, 128, 128], [128, 256, 128]),
    "heads of another width": constant([0, 0, 4, 64], [0, 0, 2, 128]),
    "another target": metadata(target="portable"),
    "another precision": metadata(precision="fp16"),
    "an unknown precision": metadata(precision=""),
    "a graph of an earlier version": metadata(optional_inputs=""),
    "a subgraph": subgraph,
    "a function": function,
    "another opset": another_opset,
    "its own domain": own_domain,
    "one name twice": same_name_twice,
    "a float16 cache": float16_cache,
}


@pytest.fixture(scope="module")
def heads_of_64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph with norms of queries and keys, whose last norm is one of these."""
    return write_graph(tmp_path_factory.mktemp("graph"), make_model("minimind3", head_dim=64))


def test_the_graph_that_is_changed_has_native_operators(heads_of_64):
    assert native(heads_of_64) is not None


@pytest.mark.parametrize("reason", STAYS)
def test_a_graph_that_differs_in_what_attention_relies_on_stays_as_it_is(heads_of_64, tmp_path, reason):
    assert native(changed_graph(heads_of_64, tmp_path, STAYS[reason])) is None


def biased(model: onnx.ModelProto) -> None:
    named(model, "SkipSimplifiedLayerNormalization")[-1].input.append("model.norm.weight")


def broadcast(model: onnx.ModelProto) -> None:
    node = named(model, "SkipSimplifiedLayerNormalization")[-1]
    for value in model.graph.value_info:
        if value.name == node.input[1]:
            value.type.tensor_type.shape.dim[0].dim_value = 1


def other_activation(model: onnx.ModelProto) -> None:
    named(model, "Sigmoid")[-1].op_type = "Tanh"


def other_axis(model: onnx.ModelProto) -> None:
    attribute("Split", "axis", 1)(model)


def halves_exchanged(model: onnx.ModelProto) -> None:
    split = named(model, "Split")[-1]
    split.output[:] = reversed(split.output)


@pytest.mark.parametrize(
    ("change", "op_type", "left"),
    [
        (biased, "SkipRMSNorm", 3),
        (broadcast, "SkipRMSNorm", 3),
        (attribute("SkipSimplifiedLayerNormalization", "mean", 1), "SkipRMSNorm", 3),
    ],
)
def test_another_node_that_differs_stays_alone(graphs, tmp_path, change, op_type, left):
    path = graphs("minimind2", "int4")
    assert kinds(native(changed_graph(path, tmp_path, change)))[op_type] == left


@pytest.mark.parametrize("change", [other_activation, other_axis, halves_exchanged])
@pytest.mark.parametrize("shape", ["minimind2", "minimind2-moe"])
def test_a_gate_that_differs_stays_alone(graphs, tmp_path, change, shape):
    """Of the two models, one has a gate with all experts' hidden numbers, which no product makes."""
    path = graphs(shape, "int4")
    whole, found = native(path), native(changed_graph(path, tmp_path, change))
    assert kinds(found)["QuantizedMatMul"] == kinds(whole)["QuantizedMatMul"]
    assert kinds(found)["SwiGLU"] + swiglus(found) == kinds(whole)["SwiGLU"] + swiglus(whole) - 1


def output_projection(model: onnx.ModelProto) -> onnx.NodeProto:
    """The product after the last attention: 256 inputs, 64 columns, int4 weights in blocks of 32."""
    return next(
        node for node in reversed(model.graph.node) if node.op_type == "MatMulNBits" and "o_proj" in node.output[0]
    )


def product_attribute(name: str, value: Any) -> Callable[[onnx.ModelProto], None]:
    """Give the product another attribute, or take away the one that it has."""

    def change(model: onnx.ModelProto) -> None:
        node = output_projection(model)
        for each in [each for each in node.attribute if each.name == name]:
            node.attribute.remove(each)
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))

    return change


def product_input(index: int, array: np.ndarray | None) -> Callable[[onnx.ModelProto], None]:
    """Give the product another constant as an input; None for a value that some node makes."""

    def change(model: onnx.ModelProto) -> None:
        node = output_projection(model)
        name = "other_input" if array is not None else "attention_bias.Cast"
        if array is not None:
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        node.input.extend([""] * (index + 1 - len(node.input)))
        node.input[index] = name

    return change


def product_type(kind: int, *axes: int | str) -> Callable[[onnx.ModelProto], None]:
    """Give the activations of the product another type; no axes for a shape that is unknown."""

    def change(model: onnx.ModelProto) -> None:
        name = output_projection(model).input[0]
        (value,) = (each for each in model.graph.value_info if each.name == name)
        value.CopyFrom(helper.make_tensor_value_info(name, kind, axes or None))

    return change


def weight_of_the_caller(model: onnx.ModelProto) -> None:
    replaceable(output_projection(model).input[1])(model)


def scales_cast(**attributes: int) -> Callable[[onnx.ModelProto], None]:
    """Change the node that makes scales of float32 from those in float16."""

    def change(model: onnx.ModelProto) -> None:
        (cast,) = (node for node in model.graph.node if node.output[0] == output_projection(model).input[2])
        assert cast.op_type == "Cast"
        for name, value in attributes.items():
            for each in [each for each in cast.attribute if each.name == name]:
                cast.attribute.remove(each)
            cast.attribute.append(helper.make_attribute(name, value))

    return change


def scales_of_the_caller(model: onnx.ModelProto) -> None:
    (cast,) = (node for node in model.graph.node if node.output[0] == output_projection(model).input[2])
    replaceable(cast.input[0])(model)


def another_domain(model: onnx.ModelProto) -> None:
    output_projection(model).domain = ""


INTEGERS = np.zeros((64, 8, 16), np.uint8)
SCALES = np.ones((64, 8), np.float32)
ZEROS = np.zeros((64, 4), np.uint8)

STOCK_PRODUCTS = {
    "float activations": product_attribute("accuracy_level", 1),
    "no accuracy level": product_attribute("accuracy_level", None),
    "an accuracy level that is a list": product_attribute("accuracy_level", [4]),
    "an attribute of a later version": product_attribute("weight_prepacked", 1),
    "integers of 2 bits": product_attribute("bits", 2),
    "no bits": product_attribute("bits", None),
    "blocks of 8": product_attribute("block_size", 8),
    "blocks of 512": product_attribute("block_size", 512),
    "blocks of 24": product_attribute("block_size", 24),
    "blocks of another size than the weight's": product_attribute("block_size", 64),
    "a block size that is a number with a fraction": product_attribute("block_size", 32.0),
    "another width": product_attribute("K", 128),
    "no width": product_attribute("K", 0),
    "a negative width": product_attribute("K", -256),
    "more columns than the weight's": product_attribute("N", 65),
    "no columns": product_attribute("N", 0),
    "another domain": another_domain,
    "activations in float16": product_type(onnx.TensorProto.FLOAT16, "batch", "tokens", 256),
    "activations of another width": product_type(onnx.TensorProto.FLOAT, "batch", "tokens", 128),
    "activations of an unknown width": product_type(onnx.TensorProto.FLOAT, "batch", "tokens", "width"),
    "activations of an unknown shape": product_type(onnx.TensorProto.FLOAT),
    "a computed weight": product_input(1, None),
    "a weight that a caller may give": weight_of_the_caller,
    "a weight of other blocks": product_input(1, INTEGERS.reshape(64, 4, 32)),
    "a weight without blocks": product_input(1, INTEGERS.reshape(64, 128)),
    "a weight of signed bytes": product_input(1, INTEGERS.astype(np.int8)),
    "computed scales": product_input(2, None),
    "scales that a caller may give": scales_of_the_caller,
    "scales in float64": product_input(2, SCALES.astype(np.float64)),
    "scales of one axis": product_input(2, SCALES.ravel()),
    "scales cast to float64": scales_cast(to=onnx.TensorProto.DOUBLE),
    "scales cast in another way": scales_cast(saturate=0),
    "computed zero points": product_input(3, None),
    "zero points of one axis": product_input(3, ZEROS.ravel()),
    "zero points of other blocks": product_input(3, np.zeros((64, 8), np.uint8)),
    "zero points in float32": product_input(3, np.zeros((64, 8), np.float32)),
    "an order of the inputs": product_input(4, np.arange(256, dtype=np.int32)),
    "a bias": product_input(5, np.ones(64, np.float32)),
}


@pytest.mark.parametrize("reason", STOCK_PRODUCTS)
def test_a_product_that_differs_stays_alone(graphs, tmp_path, reason):
    path = graphs("minimind2", "int4")
    whole = kinds(native(path))
    changed_path = changed_graph(path, tmp_path, STOCK_PRODUCTS[reason])
    product = output_projection(onnx.load(changed_path, load_external_data=False))
    found = native(changed_path)
    assert named(found, "MatMulNBits") == [product]
    assert kinds(found)["QuantizedMatMul"] == whole["QuantizedMatMul"] - 1


def own_zero_points(model: onnx.ModelProto) -> None:
    product_input(3, ZEROS)(model)


def three_inputs(model: onnx.ModelProto) -> None:
    node = output_projection(model)
    assert list(node.input[3:]) == [""]
    del node.input[3]


def scales_in_float32(model: onnx.ModelProto) -> None:
    product_input(2, SCALES)(model)


@pytest.mark.parametrize("change", [own_zero_points, three_inputs, scales_in_float32])
def test_every_form_of_a_product_is_replaced(graphs, tmp_path, change):
    path = changed_graph(graphs("minimind2", "int4"), tmp_path, change)
    stock, found = output_projection(onnx.load(path, load_external_data=False)), native(path)
    assert not named(found, "MatMulNBits")
    (own,) = (node for node in named(found, "QuantizedMatMul") if node.output == stock.output)
    assert list(own.input) == [name for name in stock.input if name]
    attributes = attributes_of(stock)
    assert attributes.pop("accuracy_level") == 4
    assert attributes_of(own) == attributes | {"swiglu": 0}


def test_a_product_with_a_gate_is_one_operator(graphs):
    stock, found = onnx.load(graphs("minimind2", "int4")), native(graphs("minimind2", "int4"))
    makers = {name: node for node in stock.graph.node for name in node.output}
    readers = {node.input[0]: node for node in named(stock, "MatMulNBits")}
    gated = [node for node in named(found, "QuantizedMatMul") if attributes_of(node)["swiglu"]]
    assert len(gated) == LAYERS
    for node in gated:
        product = makers[makers[makers[node.output[0]].input[1]].input[0]]  # Mul, Split, MatMulNBits
        assert list(node.input) == [name for name in product.input if name]
        assert attributes_of(node)["N"] == 192
        assert "down_proj" in readers[node.output[0]].input[1]


def test_a_product_that_others_read_too_is_kept_next_to_the_one_with_its_gate(graphs, tmp_path):
    path = graphs("minimind2", "int4")
    stock = onnx.load(path, load_external_data=False)
    product = next(node for node in named(stock, "MatMulNBits") if "gate_proj" in node.input[1])

    def read(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Identity", [product.output[0]], ["other"]))

    for found in (native(path, outputs=[product.output[0]]), native(changed_graph(path, tmp_path, read))):
        assert named(found, "MatMulNBits") == [product]
        assert swiglus(found) == LAYERS
        (gated,) = (node for node in named(found, "QuantizedMatMul") if node.input[1] == product.input[1])
        assert attributes_of(gated)["swiglu"] == 1
        assert {*gated.input} <= {tensor.name for tensor in found.graph.initializer} | {
            name for node in found.graph.node for name in node.output
        }


def test_a_gate_whose_columns_are_no_whole_vectors_is_a_product_and_swiglu(graphs, tmp_path):
    def narrower(model: onnx.ModelProto) -> None:
        """Only what the exchange looks at: 88 instead of 96 columns of each half."""
        node = [each for each in named(model, "MatMulNBits") if "gate_proj" in each.input[1]][-1]
        (columns,) = (each for each in node.attribute if each.name == "N")
        assert columns.i == 192
        columns.i = 176
        arrays = {"narrow_weight": np.zeros((176, 2, 16), np.uint8), "narrow_scales": np.ones((176, 2), np.float32)}
        model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
        node.input[1:3] = arrays
        (value,) = (each for each in model.graph.value_info if each.name == node.output[0])
        value.type.tensor_type.shape.dim[2].dim_value = 176

    found = native(changed_graph(graphs("minimind2", "int4"), tmp_path, narrower))
    (swiglu,) = named(found, "SwiGLU")
    (product,) = (node for node in named(found, "QuantizedMatMul") if node.output == swiglu.input)
    assert attributes_of(product)["N"] == 176
    assert swiglus(found) == LAYERS - 1
    assert not named(found, "MatMulNBits")


@pytest.mark.parametrize("kind", ["heads of 32", "fp16", "int8 cache", "portable"])
def test_graphs_that_the_operators_do_not_compute_stay_as_they_are(tmp_path, kind):
    model = make_model("minimind3", head_dim=32 if kind == "heads of 32" else 64)
    scales = cache_scales(model, torch.arange(5, 25)[None]) if kind == "int8 cache" else None
    target, precision = "portable" if kind == "portable" else "ort", "fp16" if kind == "fp16" else "fp32"
    assert native(write_graph(tmp_path, model, target, precision, cache_scales=scales)) is None


def test_a_scale_of_0_is_the_one_that_the_stock_operator_takes_it_for(heads_of_64, tmp_path):
    path = changed_graph(heads_of_64, tmp_path, attribute("GroupQueryAttention", "scale", 0.0))
    scales = [
        helper.get_attribute_value(each)
        for node in named(native(path), "CachedAttention")
        for each in node.attribute
        if each.name == "scale"
    ]
    assert scales == [1.0, pytest.approx(1 / 8)]  # 1/sqrt(64)
