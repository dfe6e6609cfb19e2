"""What happens to a graph on its way to the parser: sizes, limits, profiles and GPUs, by hand-computed numbers."""

from __future__ import annotations

import onnx
import pytest

from minimind_edge.export.errors import ExportError
from minimind_edge.export.plan.backend import choose_capabilities
from minimind_edge.export.plan.builder import PhaseCount
from minimind_edge.export.plan.graph import PlanGraph
from minimind_edge.export.plan.pipeline import choose_limits
from minimind_edge.export.plan.profiles import Limits, profiles_of
from minimind_edge.export.plan.request import PlanRequest
from minimind_edge.runtime.errors import ArtifactError, UsageError
from minimind_edge.runtime.session.contract import cache_names
from minimind_edge.runtime.tensorrt.plan import CacheLayout, ComputeCapability

FLOAT, BF16, FP8, FP4 = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.FLOAT8E4M3FN,
    onnx.TensorProto.FLOAT4E2M1,
)


@pytest.fixture
def graph(decoder, tmp_path):
    def read(precision="fp32", **metadata):
        return PlanGraph.read(decoder.save(tmp_path / "model.onnx", precision, **metadata))

    return read


def test_what_a_graph_says(graph):
    assert graph("fp16").cache == CacheLayout(2, 2, 16, 256, "float16")
    found = graph(eos_token_id="2,3", max_length="100")
    assert (found.precision, found.opset, found.vocab_size, found.eos_token_ids) == ("fp32", 24, 64, [2, 3])
    assert found.cache == CacheLayout(2, 2, 16, 100, "float32")


def test_the_capacity_is_written_in_and_the_graph_left_as_it_was(graph):
    found = graph()
    before = found.model.SerializeToString()
    ready = onnx.load_from_string(found.for_parser(48))
    names = [*cache_names("past_key_values", 2), *cache_names("present", 2)]
    values = {each.name: each for each in (*ready.graph.input, *ready.graph.output)}
    for name in names:
        dims = values[name].type.tensor_type.shape.dim
        assert [dims[0].dim_param, *(each.dim_value for each in dims[1:])] == ["batch_size", 2, 48, 16]
    assert found.model.SerializeToString() == before


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_attention_may_be_taken_apart(graph, precision):
    """Float32 has no fused kernel, nor have narrow heads in any type."""
    ready = onnx.load_from_string(graph(precision).for_parser(48))
    attributes = [each.name for node in ready.graph.node if node.op_type == "Attention" for each in node.attribute]
    assert attributes == ["TRT_decomposable"] * 2


def test_graphs_that_are_none_of_this_target(graph, tmp_path):
    with pytest.raises(ExportError, match=r"is for target ort, expected tensorrt.*--target tensorrt"):
        graph(target="ort")
    older = graph().model
    del older.graph.input[[each.name for each in older.graph.input].index("write_indices")]
    (tmp_path / "older.onnx").write_bytes(older.SerializeToString())
    with pytest.raises(ExportError, match=r"has no input write_indices.*export the checkpoint again"):
        PlanGraph.read(tmp_path / "older.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no graph at all")
    with pytest.raises(ExportError, match="is no ONNX graph"):
        PlanGraph.read(tmp_path / "bad.onnx")


@pytest.mark.parametrize("sizes", [[], [1, 2, 3], [1, -1, 3, 16], [1, 2**62, 3, 16]])
def test_a_cache_of_another_form_is_refused(graph, tmp_path, sizes):
    model = graph().model
    tensor = next(each for each in model.graph.input if each.name == "past_key_values.0.key").type.tensor_type
    tensor.ClearField("shape")
    for size in sizes:
        tensor.shape.dim.add().dim_value = size
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="lacks the sizes of its cache"):
        PlanGraph.read(tmp_path / "odd.onnx")


def test_logits_without_a_shape_are_refused(graph, tmp_path):
    model = graph().model
    model.graph.output[0].type.tensor_type.ClearField("shape")
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="lacks the size of its vocabulary"):
        PlanGraph.read(tmp_path / "odd.onnx")


@pytest.mark.parametrize(
    ("key", "value"), [("max_length", "many"), ("max_length", "9" * 5000), ("eos_token_id", "1;2")]
)
def test_metadata_that_is_no_number_is_refused(graph, key, value):
    with pytest.raises(ArtifactError, match=f"minimind_edge.{key} is .*expected (integers|at most)"):
        graph(**{key: value}).eos_token_ids  # noqa: B018


def test_limits(graph):
    found = graph(max_length="100")
    assert choose_limits(PlanRequest(), found) == Limits(1, 100, 100)
    assert choose_limits(PlanRequest(max_batch=3, max_length=80, max_chunk=16), found) == Limits(3, 80, 16)
    with pytest.raises(UsageError, match="--max-length 101 is more than the 100 positions"):
        choose_limits(PlanRequest(max_length=101), found)


def test_profiles():
    prefill, decode = profiles_of(Limits(4, 1000, 512), CacheLayout(1, 2, 16, 1000, "float16"))
    assert (prefill.name, decode.name) == ("prefill", "decode")
    assert prefill.shapes["input_ids"] == ((1, 1), (1, 128), (4, 512))
    assert decode.shapes["input_ids"] == ((1, 1), (1, 1), (4, 1))
    for profile in (prefill, decode):
        assert profile.shapes["write_indices"] == profile.shapes["last_index"] == ((1,), (1,), (4,))
        assert profile.shapes["past_key_values.0.key"] == ((1, 2, 1000, 16), (1, 2, 1000, 16), (4, 2, 1000, 16))
        assert len(profile.shapes) == 5


def test_rows_vary_in_both_profiles_or_the_plan_would_have_the_weights_twice():
    prefill, decode = profiles_of(Limits(1, 64, 16), CacheLayout(1, 2, 16, 64, "float16"))
    assert prefill.shapes["input_ids"] == ((1, 1), (1, 16), (2, 16))
    assert decode.shapes["input_ids"] == ((1, 1), (1, 1), (2, 1))
    assert decode.shapes["write_indices"] == ((1,), (1,), (2,))


def chosen(*asked, backend="rtx", types=(FLOAT,), device=None):
    found = choose_capabilities(asked, backend, set(types), device and ComputeCapability.parse(device))
    return " ".join(map(str, found))


def test_gpus_to_build_for():
    assert chosen() == "8.0 8.6 8.9 12.0 12.1"
    assert chosen("8.9", "7.5", "8.9") == "7.5 8.9"
    assert chosen(backend="tensorrt", device="8.7") == "8.7"
    assert chosen("8.7", backend="tensorrt", device="8.7") == "8.7"


def test_gpus_without_a_type_are_left_out_or_refused():
    assert chosen(types=[FP8]) == "8.9 12.0 12.1"
    assert chosen(types=[FP4]) == "12.0 12.1"
    with pytest.raises(UsageError, match=r"8\.0 does not calculate in fp8, which takes 8\.9"):
        chosen("8.0", types=[FP8])
    with pytest.raises(UsageError, match=r"8\.9 does not calculate in fp4"):
        chosen("8.9", "12.0", types=[FP4])
    with pytest.raises(UsageError, match=r"7\.5 does not calculate in bf16"):
        chosen("7.5", types=[BF16])


@pytest.mark.parametrize(("capability", "gpu"), [("8.7", "Jetson Orin"), ("9.0", "H100"), ("10.0", "B200")])
def test_gpus_that_rtx_has_no_plan_for(capability, gpu):
    with pytest.raises(UsageError, match=f"{gpu}.*--backend tensorrt"):
        chosen("8.6", capability)


def test_full_tensorrt_builds_for_the_gpu_at_hand_alone():
    with pytest.raises(UsageError, match=r"only for this machine's GPU \(8\.7\), not for 8\.6"):
        chosen("8.6", backend="tensorrt", device="8.7")


def test_phases_become_one_share():
    told = []
    count = PhaseCount(lambda stage, done: told.append((stage, round(done, 3))))
    count.start("Building engine", None, 2)
    count.start("Optimizing", "Building engine", 4)
    count.step("Optimizing", 1)
    count.start("Timing", "Optimizing", 2)
    count.step("Timing", 0)
    count.finish("Timing")
    count.finish("Optimizing")
    count.step("Building engine", 0)
    count.step("unknown", 3)
    assert told == [
        ("building the plan", 0.0),
        ("optimizing", 0.0),
        ("optimizing", 0.25),
        ("optimizing", 0.25),
        ("optimizing", 0.312),
        ("optimizing", 0.5),
    ]
