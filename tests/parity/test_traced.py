"""Graphs traced from a model's own code, against that code; and of our own model, against the written graph."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from minimind_edge.export import ExportRequest, ParityError, build_graph, export_onnx, save_graph, verify_artifact
from minimind_edge.export.errors import ExportError
from minimind_edge.export.parity import compare
from minimind_edge.export.parity.tolerance import rounded_weights_tolerance
from minimind_edge.export.quantization import QuantizationSettings
from minimind_edge.export.traced.code import load_code
from minimind_edge.export.traced.owner import understand
from minimind_edge.export.traced.reference import OwnersReference
from minimind_edge.export.traced.rounding import round_model
from minimind_edge.export.traced.storage import WeightStorage
from minimind_edge.export.traced.trace import trace
from minimind_edge.export.traced.verification import verify_against_code
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM
from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.load import load_session

CODE = Path(__file__).parent.parent / "data" / "changed_models.py"
CHANGED = [
    "Gelu",
    "Halved",
    "SlidingWindow",
    "PostNorm",
    "PartialRotary",
    "LearnedPositions",
    "SharedGate",
    "Capped",
]
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 120,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
}
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]
NEW_TOKENS = 80
MAX_LENGTH = 512


def lively(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights that do not make every token the same."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if parameter.dim() == 1 else 0.15 * noise)
    return model.eval()


def changed_model(name: str, **overrides: Any) -> torch.nn.Module:
    return lively(load_code(f"{CODE}:{name}").factory(MiniMindConfig(**SMALL | overrides)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Write a changed model as its owner has it: tensors in a .pth, sizes in a JSON file next to it."""

    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        torch.save(changed_model(name).state_dict(), folder / "mine.pth")
        (folder / "mine.json").write_text(json.dumps(SMALL))
        return folder / "mine.pth"

    return write


def greedy(model: torch.nn.Module, steps: int) -> list[int]:
    """The model's own text, each token from one unpadded pass without a cache."""
    ids = list(PROMPT)
    for _ in range(steps):
        tokens = torch.tensor([ids])
        with torch.no_grad():
            output = model(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                position_ids=torch.arange(len(ids))[None],
            )
        logits = output[0] if isinstance(output, tuple) else output.logits
        ids.append(int(logits[0, -1].argmax()))
    return ids[len(PROMPT) :]


def session_greedy(graph: Path, steps: int) -> list[int]:
    session = load_session(graph, device="cpu")
    session.reset(1)
    logits = session.prefill(np.array([PROMPT]))
    found = []
    for _ in range(steps):
        found.append(int(logits[0].argmax()))
        logits = session.decode(np.array(found[-1:]))
    return found


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_model_is_exported_by_its_own_code_and_runs_as_it_does(name, checkpoint, tmp_path):
    file = checkpoint(name)
    request = ExportRequest(checkpoint=file, output=tmp_path / name, target="portable", model=f"{CODE}:{name}")
    result = export_onnx(request)
    assert result.parity is not None
    assert result.parity
    assert result.parity.max_rel <= 1e-4
    assert result.parity.reference == f"changed_models.py:{name}"
    assert result.manifest["traced"] == load_code(f"{CODE}:{name}").to_json()
    assert session_greedy(result.graph, NEW_TOKENS) == greedy(changed_model(name), NEW_TOKENS)
    graph = onnx.load(result.graph)
    assert {opset.domain for opset in graph.opset_import} == {""}
    assert str(CODE.parent).encode() not in result.graph.read_bytes()  # the exporter notes files of this machine


def test_the_graph_of_a_changed_model_is_not_that_of_the_stock_one(tmp_path):
    """What this guards against: the same tensors by stock MiniMind's code are another model."""
    model = changed_model("Gelu")
    stock = MiniMindForCausalLM(MiniMindConfig(**SMALL)).eval()
    stock.load_state_dict(model.state_dict())
    save_graph(build_graph(stock, "portable", "fp32", MAX_LENGTH), tmp_path / "model.onnx")
    report = compare(OwnersReference(understand(model)), tmp_path / "model.onnx", target="portable", precision="fp32")
    assert not report


def run(file: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"flash_attn": True, "num_hidden_layers": 2}, id="dense, flash"),
        pytest.param({"flash_attn": False, "use_moe": True, "qk_norm": True}, id="moe, manual"),
    ],
)
def test_our_own_model_traced_and_written_are_one_graph(config, tmp_path):
    model = lively(MiniMindForCausalLM(MiniMindConfig(**SMALL | config)))
    traced, step = trace(understand(model), "portable", MAX_LENGTH)
    WeightStorage(traced, step).turn_weights()
    save_graph(traced, tmp_path / "traced.onnx")
    save_graph(build_graph(model, "portable", "fp32", MAX_LENGTH), tmp_path / "written.onnx")
    random = np.random.default_rng(5)
    for batch, tokens, past in ((1, 7, 0), (3, 1, 6), (2, 5, 9), (1, 1, 0)):
        mask = np.ones((batch, past + tokens), np.int64)
        mask[0, : (past + tokens) // 3] = 0
        positions = np.maximum(mask.cumsum(1) - 1, 0)[:, past:]
        feeds = {
            "input_ids": random.integers(0, SMALL["vocab_size"], (batch, tokens)),
            "attention_mask": mask,
            "position_ids": positions,
        }
        for layer in range(model.config.num_hidden_layers):
            for part in ("key", "value"):
                feeds[f"past_key_values.{layer}.{part}"] = random.normal(size=(batch, 2, past, 16)).astype(np.float32)
        found, expected = run(tmp_path / "traced.onnx", feeds), run(tmp_path / "written.onnx", feeds)
        assert found.keys() == expected.keys()
        real = mask[:, past:].astype(bool)
        for name, values in expected.items():
            assert found[name].shape == values.shape
            got, wanted = (found[name], values) if name != "logits" else (found[name][real], values[real])
            if name != "logits":
                rows = np.broadcast_to(mask[:, None, :, None].astype(bool), values.shape)
                got, wanted = got[rows], wanted[rows]
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(values).max())


@pytest.fixture(scope="module")
def traced_experts():
    """A changed mixture of experts and its traced graph, as bytes: each storage rewrites a copy."""
    model = changed_model("SharedGate", vocab_size=128)
    own = understand(model)
    graph, step = trace(own, "portable", MAX_LENGTH)
    WeightStorage(graph, step).turn_weights()
    return own, ir.to_proto(graph).SerializeToString(), step


def stored(traced, precision: str, folder: Path, store) -> Path:
    """Write the graph, its weights stored by `store(storage)`."""
    _, content, step = traced
    graph = ir.from_proto(onnx.load_from_string(content))
    store(WeightStorage(graph, step))
    graph.metadata_props.update(
        {"minimind_edge.target": "portable", "minimind_edge.precision": precision, "minimind_edge.max_length": "512"}
    )
    save_graph(graph, folder / "model.onnx")
    return folder / "model.onnx"


def test_half_floats_stay_within_the_bounds_of_fp16(traced_experts, tmp_path):
    file = stored(traced_experts, "fp16", tmp_path, lambda storage: storage.halve())
    report = compare(OwnersReference(traced_experts[0]), file, target="portable", precision="fp16")
    assert report, report.failures
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(file).graph.initializer}
    assert kinds["model.lm_head.weight.fp16"] == onnx.TensorProto.FLOAT16
    assert not any(name.endswith("q_proj.weight.T") for name in kinds)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_integers_compute_what_they_stand_for(precision, traced_experts, tmp_path):
    settings = QuantizationSettings(rows=4, length=64, measured_rows=4, held_out_rows=1)
    rounded, quantized = round_model(
        traced_experts[0], precision, "portable", [(1,)], settings=settings, progress=lambda stage, done: None
    )
    matrices = {f"model.{name}": matrix for name, matrix in quantized.matrices.items()}
    assert {matrix.bits for matrix in matrices.values()} == ({8} if precision == "int8" else {4, 8})
    file = stored(traced_experts, precision, tmp_path, lambda storage: storage.as_integers(matrices))
    report = compare(
        OwnersReference(rounded),
        file,
        target="portable",
        precision=precision,
        tolerance=rounded_weights_tolerance(SMALL["num_hidden_layers"]),
    )
    assert report, report.failures
    assert file.stat().st_size < len(traced_experts[1]) * (0.45 if precision == "int8" else 0.35)


@pytest.mark.parametrize("precision", ["int8"])
def test_the_target_tensorrt_writes_its_cache_in_place(precision, checkpoint, tmp_path):
    """By integers, which store the rest as fp16 does, so that one trace shows all of it."""
    code = f"{CODE}:PartialRotary"
    request = ExportRequest(
        checkpoint=checkpoint("PartialRotary"),
        output=tmp_path / "own",
        target="tensorrt",
        precision=precision,
        model=code,
    )
    result = export_onnx(request)
    assert result.parity
    operators = {node.op_type for node in onnx.load(result.graph).graph.node}
    assert {"TensorScatter", "DequantizeLinear"} <= operators
    with pytest.raises(ExportError, match=r"traced from a model's own code.*--against-code"):
        verify_artifact(tmp_path / "own")
    assert verify_against_code(tmp_path / "own", code, request.checkpoint)
    assert not verify_against_code(tmp_path / "own", f"{CODE}:Halved", request.checkpoint)


class Upstream(torch.nn.Module):
    """Upstream MiniMind's way with positions, cache and experts, in few lines: tables read by slot, [B, S, H, D]."""

    def __init__(self) -> None:
        super().__init__()
        rates = 1e4 ** (-torch.arange(0, 16, 2).float() / 16)
        angles = torch.outer(torch.arange(256).float(), rates).repeat(1, 2)
        self.register_buffer("freqs_cos", angles.cos(), persistent=False)
        self.register_buffer("freqs_sin", angles.sin(), persistent=False)
        self.embed_tokens = torch.nn.Embedding(50, 32)
        self.q_proj, self.k_proj, self.v_proj = (torch.nn.Linear(32, 32, bias=False) for _ in range(3))
        self.mlp = BranchingExperts()
        self.flash = True

    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=False, **kwargs):
        past = past_key_values[0] if past_key_values else None
        start, tokens = 0 if past is None else past[0].shape[1], input_ids.shape[1]
        x = self.embed_tokens(input_ids)
        if self.freqs_cos[0, 0] == 0:
            raise AssertionError("the tables are lost")
        cos, sin = self.freqs_cos[start : start + tokens], self.freqs_sin[start : start + tokens]
        q, k, v = (p(x).view(*x.shape[:2], 2, 16) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (t * cos.unsqueeze(1) + torch.cat((-t[..., 8:], t[..., :8]), -1) * sin.unsqueeze(1) for t in (q, k))
        if past is not None:
            k, v = torch.cat((past[0], k), dim=1), torch.cat((past[1], v), dim=1)
        keys, values = k.transpose(1, 2), v.transpose(1, 2)
        if self.flash and tokens > 1 and past is None and (attention_mask is None or torch.all(attention_mask == 1)):
            mixed = torch.nn.functional.scaled_dot_product_attention(q.transpose(1, 2), keys, values, is_causal=True)
        else:
            scores = q.transpose(1, 2) @ keys.transpose(2, 3) / 4
            scores[:, :, :, -tokens:] += torch.full((tokens, tokens), float("-inf")).triu(1)
            if attention_mask is not None:
                scores += (1.0 - attention_mask.unsqueeze(1).unsqueeze(2)) * -1e9
            mixed = scores.softmax(-1) @ values
        x = x + mixed.transpose(1, 2).flatten(2)
        x = x + self.mlp(x)
        return x @ self.embed_tokens.weight.T, [(k, v)]


class BranchingExperts(torch.nn.Module):
    """The best 1 of 3, by branches on data, as in MiniMind-3."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = torch.nn.Linear(32, 3, bias=False)
        self.gate.top_k = 1
        self.experts = torch.nn.ModuleList(torch.nn.Linear(32, 32, bias=False) for _ in range(3))

    def forward(self, x):
        flat = x.view(-1, 32)
        scores = self.gate(flat).softmax(-1)
        weights, chosen = scores.topk(1, dim=-1)
        output = torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            mask = (chosen == index).any(-1)
            if mask.any():
                output[mask] = expert(flat[mask]) * weights[mask]
        return output.view_as(x)


def test_code_like_upstreams_is_taken_as_it_is(tmp_path):
    """No position_ids, a cache with tokens before heads, experts that branch: none of it is changed by its owner."""
    model = lively(Upstream())
    result = export_onnx(model, output=tmp_path / "upstream", max_length=200)
    assert result.parity
    assert result.parity.max_rel <= 1e-4
    assert result.manifest["graphs"][0]["max_length"] == 200
    assert model.flash
    assert isinstance(model.mlp, BranchingExperts)


class Branching(Upstream):
    """An activation that depends on the data by a branch: no graph can hold it."""

    def forward(self, input_ids, attention_mask=None, past_key_values=None, **kwargs):
        logits, presents = super().forward(input_ids, attention_mask, past_key_values)
        return (logits * 2 if logits.max() > 1 else logits), presents


def test_code_that_branches_on_data_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ExportError, match="branches on data must be written without the branch"):
        export_onnx(lively(Branching()), output=tmp_path / "branching")
    assert not (tmp_path / "branching").exists()


class Positionless(torch.nn.Module):
    def forward(self, input_ids, attention_mask=None, past_key_values=None):
        return input_ids


class Forgetful(torch.nn.Module):
    def forward(self, input_ids, attention_mask, position_ids, past_key_values=None):
        return torch.zeros(*input_ids.shape, 8)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (torch.nn.Linear(2, 2), "has no input_ids, attention_mask, past_key_values"),
        (Positionless(), "has no position_ids.*freqs_cos"),
        (Forgetful(), "no logits with a .key, value. per layer"),
    ],
)
def test_a_module_that_keeps_no_protocol_is_refused(model, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        export_onnx(model, output=tmp_path / "none")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": "ort"}, UsageError, "portable or tensorrt"),
        ({"lora": (Path("adapter.pth"),)}, UsageError, "--lora is for stock MiniMind"),
        ({"model": "changed_models"}, UsageError, "FILE.py:CLASS"),
        ({"model": f"{CODE}:Missing"}, ExportError, "has no class Missing; it has .*Gelu"),
        ({"model": f"{CODE}:LearnedPositions"}, ExportError, "lacks model.embed_positions.weight"),
        ({"model": f"{CODE}:SharedGate"}, ExportError, "the checkpoint lacks"),
    ],
)
def test_what_does_not_go_together_is_said(options, error, message, checkpoint, tmp_path):
    base = {"target": "portable", "model": f"{CODE}:Gelu"}
    request = ExportRequest(checkpoint=checkpoint("Gelu"), output=tmp_path / "none", **base | options)
    with pytest.raises(error, match=message):
        export_onnx(request)


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_model_given_as_stock_is_refused_or_spoken_of(name, checkpoint, tmp_path):
    """In memory it is refused; a file is refused by its tensors, or taken with a word on whose code is assumed."""
    from minimind_edge.export.graph import build_graph
    from minimind_edge.minimind.checkpoint import read_checkpoint
    from minimind_edge.minimind.errors import MiniMindError

    with pytest.raises(MiniMindError, match=r"--model FILE\.py:CLASS"):
        build_graph(changed_model(name), "portable", "fp32", MAX_LENGTH)
    file = checkpoint(name)
    if name in ("LearnedPositions", "SharedGate"):
        with pytest.raises(MiniMindError):
            read_checkpoint(file)
        return
    assert any(
        line.startswith("code       stock minimind2;") and "--model FILE.py:CLASS" in line
        for line in read_checkpoint(file).report.lines()
    )
    shutil.copy(CODE, file.with_name("modeling_mine.py"))
    (note,) = read_checkpoint(file).report.notes
    assert "has code of its own (modeling_mine.py), which was not read" in note


def test_parity_failure_is_an_error(checkpoint, tmp_path, monkeypatch):
    """A trace that lost something must not become an artifact: here the reference is another model's code."""
    other = understand(changed_model("Halved"))
    monkeypatch.setattr(
        "minimind_edge.export.traced.pipeline.OwnersReference", lambda own, name=None: OwnersReference(other)
    )
    request = ExportRequest(
        checkpoint=checkpoint("Gelu"), output=tmp_path / "none", target="portable", model=f"{CODE}:Gelu"
    )
    with pytest.raises(ParityError):
        export_onnx(request)
    assert not (tmp_path / "none").exists()
