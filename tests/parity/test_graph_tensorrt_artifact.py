"""An artifact of target `tensorrt`: its files, and that it answers as any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from minimind_edge.export.pipeline import export_onnx
from minimind_edge.export.quantization import QuantizationSettings
from minimind_edge.export.request import ExportRequest
from minimind_edge.runtime import Engine, SamplingParams
from minimind_edge.runtime.errors import UsageError

PROMPT = [5, 9, 2, 7, 11]


def answer(folder: Path, precision: str | None = None) -> tuple[int, ...]:
    engine = Engine.load(folder, device="cpu", threads=1, precision=precision)
    result = engine.generate(PROMPT, params=SamplingParams(greedy=True), max_new_tokens=12, ignore_eos=True)
    return tuple(result.token_ids)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled dense demo in float32, int8 and int4."""
    folder = tmp_path_factory.mktemp("tensorrt") / "demo"
    for precision in ("int4", "fp32", "int8"):
        request = ExportRequest(
            output=folder,
            target="tensorrt",
            precision=precision,
            max_length=64,
            quantization=QuantizationSettings(rows=16, length=64, measured_rows=4, held_out_rows=2),
            verify=False,
        )
        export_onnx(request)
    return folder


def test_files(artifact: Path) -> None:
    content = json.loads((artifact / "manifest.json").read_text())
    entries = [(entry["file"], entry["precision"], entry["target"], entry["opset"]) for entry in content["graphs"]]
    assert entries == [
        ("onnx/model.onnx", "fp32", "tensorrt", 24),
        ("onnx/model_q8.onnx", "int8", "tensorrt", 24),
        ("onnx/model_q4.onnx", "int4", "tensorrt", 24),
    ]
    assert not (artifact / "genai_config.json").exists(), "onnxruntime-genai does not load such graphs"


def test_the_manifest_says_what_integers_cost(artifact: Path) -> None:
    graphs = json.loads((artifact / "manifest.json").read_text())["graphs"]
    quality = {entry["precision"]: entry.get("quality") for entry in graphs}
    assert quality["fp32"] is None
    assert 0 < quality["int8"]["mean_kl"] < 1e-3
    assert quality["int8"]["mean_kl"] < quality["int4"]["mean_kl"] < 0.02
    assert quality["int4"]["bits_per_weight"] < quality["int8"]["bits_per_weight"] < 12


def test_it_answers_as_the_portable_graph(artifact: Path, export_demo: Callable[..., Path]) -> None:
    assert answer(artifact) == answer(export_demo(target="portable"))


def test_integers_answer_too(artifact: Path) -> None:
    expected = answer(artifact)
    same = sum(one == other for one, other in zip(answer(artifact, "int8"), expected, strict=True))
    assert same >= 6, "int8 departs from float32 at once"
    assert len(answer(artifact, "int4")) == 12


def test_bfloat16_is_for_tensorrt(tmp_path: Path) -> None:
    request = ExportRequest(output=tmp_path / "no", target="portable", precision="bf16")
    with pytest.raises(UsageError, match=r"target portable comes in .*, not in bf16; choose --target tensorrt"):
        export_onnx(request)
    assert not (tmp_path / "no").exists()
