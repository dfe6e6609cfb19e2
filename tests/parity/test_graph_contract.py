"""What a graph's file promises beside its numbers: names, shapes, metadata, size; and errors for the rest."""

from __future__ import annotations

import getpass
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from graph_files import write_graph
from graph_rows import CAPACITY, VARIANTS, Batch, GraphRunner, make_model, open_graph
from rounded_weights import quantized

from minimind_edge.export.errors import ExportError
from minimind_edge.export.graph import build_graph
from minimind_edge.export.graph.ort import WHOLE_SCORES
from minimind_edge.export.parity.graph_file import expert_names, with_outputs
from minimind_edge.export.quantization.kv_cache_scales import cache_scales
from minimind_edge.runtime.session.contract import GraphFacts

TARGETS = ("portable", "ort")
PRECISIONS = ("fp32", "fp16")
OPTIONAL = {"portable": [], "ort": ["logits_start", "row_lengths", "row_tokens"]}
"""The constants of the file that the runtime makes inputs."""


def graph_file(folder: Path, variant: str, target: str, precision: str = "fp32", **overrides) -> Path:
    return write_graph(folder, make_model(variant, **overrides), target, precision, CAPACITY)


def dims(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_checker_takes_it(variant, target, precision, tmp_path):
    path = graph_file(tmp_path, variant, target, precision)
    onnx.checker.check_model(path, full_check=True)


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_and_outputs_are_the_contracts(target, tmp_path):
    graph = onnx.load(graph_file(tmp_path, "gqa", target)).graph
    tokens, slots = ["batch_size", "sequence_length"], ["batch_size", "total_sequence_length"]
    assert [(value.name, dims(value)) for value in graph.input[:4]] == [
        ("input_ids", tokens),
        ("attention_mask", slots),
        ("position_ids", tokens),
        ("past_key_values.0.key", ["batch_size", 2, "past_sequence_length", 16]),
    ]
    assert [value.name for value in graph.input[4:]] == [
        "past_key_values.0.value",
        "past_key_values.1.key",
        "past_key_values.1.value",
    ]
    assert [tensor.name for tensor in graph.initializer if tensor.name in OPTIONAL["ort"]] == OPTIONAL[target]
    assert [value.name for value in graph.output] == [
        "logits",
        *(f"present.{layer}.{part}" for layer in range(2) for part in ("key", "value")),
    ]
    rows = "logits_length" if target == "ort" else "sequence_length"
    assert dims(graph.output[0]) == ["batch_size", rows, 131]
    assert dims(graph.output[1]) == ["batch_size", 2, "total_sequence_length", 16]


@pytest.mark.parametrize("target", TARGETS)
def test_every_value_has_a_type_and_a_shape_with_known_names(target, tmp_path):
    model = onnx.load(graph_file(tmp_path, "minimind3-moe", target))
    values = {value.name: dims(value) for value in (*model.graph.value_info, *model.graph.output)}
    produced = {name for node in model.graph.node for name in node.output if name}
    assert produced == set(values)
    names = {dim for shape in values.values() for dim in shape if isinstance(dim, str)}
    assert {"batch_size", "sequence_length", "total_sequence_length"} <= names
    assert not [name for name in names if name.startswith("unk")]  # as shape inference calls what it cannot tell


@pytest.mark.parametrize("target", TARGETS)
def test_metadata_lets_the_file_run_alone(target, tmp_path):
    session = open_graph(graph_file(tmp_path, "minimind3", target, eos_token_id=[2, 5]))
    metadata = session.get_modelmeta()
    facts = GraphFacts.read(session.get_inputs(), session.get_outputs(), metadata.custom_metadata_map)
    assert (facts.target, facts.precision, facts.max_length) == (target, "fp32", CAPACITY)
    assert (facts.generation, facts.eos_token_ids) == ("minimind3", (2, 5))
    assert metadata.producer_name == "minimind-edge"


@pytest.mark.parametrize("target", TARGETS)
def test_nodes_carry_their_module_path_and_nothing_of_this_machine(target, tmp_path):
    path = graph_file(tmp_path, "gqa", target)
    model = onnx.load(path)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert f"layers.1.self_attn.{'qkv_proj' if target == 'ort' else 'q_proj'}.MatMul" in names
    assert "layers.0.mlp.down_proj.MatMul" in names
    content = path.read_bytes()
    for trace in (str(Path.cwd()), str(Path(torch.__file__).parent), str(Path.home()), getpass.getuser() + "@"):
        assert trace.encode() not in content
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("variant", ["gqa", "mqa", "moe"])
def test_each_weight_is_stored_once(variant, target, tmp_path):
    # A tied head is the embedding's own table; an untied one, mqa here, has its own.
    model = make_model(variant)
    path = write_graph(tmp_path, model, target, max_length=CAPACITY)
    stored = sum(tensor.ByteSize() for tensor in onnx.load(path).graph.initializer)
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    assert weights <= stored < weights + 16384


@pytest.mark.parametrize("target", TARGETS)
def test_chosen_experts_are_found_by_name(target, tmp_path):
    path = graph_file(tmp_path, "moe", target)
    model, names = make_model("moe"), expert_names(2)
    (tmp_path / "shown.onnx").write_bytes(with_outputs(path, names))
    ids = np.array([[5, 9, 2, 7]])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(4)[None]}
    feeds |= {name: np.zeros((1, 2, 0, 16), np.float32) for name in GraphRunner(path, shared=False).pasts}
    found = open_graph(tmp_path / "shown.onnx").run(names, feeds)
    chosen = []
    for layer in model.model.layers:
        layer.mlp.gate.register_forward_hook(lambda _module, _inputs, outputs: chosen.append(outputs[0].numpy()))
    with torch.inference_mode():
        model(torch.from_numpy(ids))
    for layer, experts in enumerate(found):
        assert experts.dtype == np.int64
        assert np.array_equal(experts.reshape(4, 2), chosen[layer])


def test_static_experts_hold_every_expert_and_no_branch(tmp_path):
    nodes = onnx.load(graph_file(tmp_path, "moe", "portable")).graph.node
    assert not {node.op_type for node in nodes} & {"If", "Loop", "Scan", "NonZero", "GatherND"}
    assert {node.domain for node in nodes} == {""}
    assert sum("mlp.experts." in node.name and node.op_type == "MatMul" for node in nodes) == 2 * 4 * 3


def test_ort_reads_only_the_chosen_experts(tmp_path):
    """ONNX Runtime's profile has the number of rows of every product; where there are none, no weight is read."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = 1, True
    options.profile_file_prefix = str(tmp_path / "profile")
    path = graph_file(tmp_path, "minimind3-moe", "ort")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ids = np.array([[5]])
    feeds = {"input_ids": ids, "attention_mask": ids * 0 + 1, "position_ids": ids * 0}
    feeds |= {name: np.zeros((1, 2, 0, 16), np.float32) for name in GraphRunner(path, shared=False).pasts}
    session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    products = [each for each in events if re.search(r"mlp\.experts\.\d\.MatMul(_2)?_kernel_time", each["name"])]
    rows = [next(iter(each["args"]["input_type_shape"][0].values()))[0] for each in products]
    assert sorted(rows) == [0] * 12 + [1] * 4  # two layers, two products, one of four experts


def test_ort_uses_the_fused_operators(tmp_path):
    nodes = onnx.load(graph_file(tmp_path, "moe", "ort")).graph.node
    count = {kind: sum(node.op_type == kind for node in nodes) for kind in {node.op_type for node in nodes}}
    assert count["GroupQueryAttention"] == 2
    assert count["SkipSimplifiedLayerNormalization"] == 4  # every norm but the first, behind whose input no sum stands
    assert count["RMSNormalization"] == 1


LOAD = """
import sys
import onnxruntime
for path in sys.argv[1:]:
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
"""


def test_bare_onnxruntime_has_nothing_to_warn_of(tmp_path):
    """In a process of its own, as the binding writes to the process's stderr; at onnxruntime's default severity."""
    paths = []
    for target in TARGETS:
        for variant in ("gqa", "minimind3", "heads-of-8", "moe"):
            paths.append(graph_file(tmp_path / f"{variant}-{target}", variant, target))
    model = make_model("gqa")
    integers = quantized(model, 4, 32)
    scales = cache_scales(model, torch.arange(3, 35)[None])
    options = {"quantized": integers, "cache_scales": scales}
    paths.append(write_graph(tmp_path / "int4", model, "ort", "int4", CAPACITY, **options))
    result = subprocess.run(
        [sys.executable, "-c", LOAD, *map(str, paths)], capture_output=True, encoding="utf-8", check=True
    )
    assert result.stderr == ""


@pytest.mark.parametrize(("max_length", "has_sinks"), [(WHOLE_SCORES, True), (WHOLE_SCORES + 1, False)])
def test_short_contexts_have_the_attention_that_flash_attention_is_turned_off_for(
    max_length, has_sinks, tmp_path, monkeypatch
):
    path = write_graph(tmp_path, make_model("gqa"), max_length=max_length)
    rng = np.random.default_rng(0)
    ids = rng.integers(3, 131, (1, 100))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(100)[None]}
    feeds |= {name: np.zeros((1, 2, 0, 16), np.float32) for name in GraphRunner(path, shared=False).pasts}
    monkeypatch.delenv("ORT_GQA_DISABLE_FLASH_ATTENTION", raising=False)
    by_default = open_graph(path).run(["logits"], feeds)[0]
    monkeypatch.setenv("ORT_GQA_DISABLE_FLASH_ATTENTION", "1")
    without_flash = open_graph(path).run(["logits"], feeds)[0]
    assert np.array_equal(by_default, without_flash) is has_sinks
    assert np.abs(by_default - without_flash).max() < 1e-5 * np.abs(without_flash).max()


def test_progress_grows_to_one():
    stages: list[tuple[str, float]] = []
    build_graph(make_model("gqa"), "ort", "fp32", CAPACITY, lambda *stage: stages.append(stage))
    shares = [share for _, share in stages]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert "layer 2 of 2" in [name for name, _ in stages]


@pytest.mark.parametrize(
    ("overrides", "arguments", "message"),
    [
        ({}, ("gpu", "fp32", 8), "target 'gpu' cannot be exported; choose portable or ort"),
        ({}, ("ort", "int3", 8), "precision 'int3' cannot be exported; choose fp32 or fp16"),
        ({}, ("ort", "fp32", 0), "max_length must be at least 1, found 0"),
        (
            {"hidden_act": "tanh"},
            ("portable", "fp32", 8),
            "hidden_act 'tanh' cannot be exported; a graph can",
        ),
        ({"head_dim": 12}, ("ort", "fp32", 8), "head_dim that is a multiple of 8, found 12"),
    ],
)
def test_what_cannot_be_exported_is_told(overrides, arguments, message):
    with pytest.raises(ExportError, match=r"^[^\n]*$") as caught:
        build_graph(make_model("gqa", **overrides), *arguments)
    assert message in str(caught.value)


def test_a_head_dim_that_ort_lacks_is_portables(tmp_path):
    path = graph_file(tmp_path, "gqa", "portable", head_dim=12)
    batch = Batch.of("left")
    assert np.isfinite(GraphRunner(path, shared=False).run(batch, (batch.ids.shape[1],)).logits).all()
