from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minimind_edge.export.artifact.destination import choose_folder, plan_destination
from minimind_edge.export.request import ExportRequest
from minimind_edge.runtime.errors import UsageError

CONFIG = {"hidden_size": 64}


def _artifact(folder: Path, *graphs: tuple[str, str]) -> Path:
    folder.mkdir()
    content: dict[str, Any] = {
        "format": 1,
        "tool": {"name": "minimind-edge"},
        "checkpoint": {"file": "full_sft_64.pth", "sha256": "aa"},
        "config": CONFIG,
        "graphs": [
            {"file": f"{precision}.onnx", "target": target, "precision": precision} for target, precision in graphs
        ],
    }
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def _kept(folder: Path, request: ExportRequest, sha256: str = "aa") -> list[str]:
    return [graph["precision"] for graph in plan_destination(folder, request, sha256, CONFIG).kept]


def test_another_precision_of_the_same_model_goes_beside(tmp_path: Path) -> None:
    folder = _artifact(tmp_path / "a", ("portable", "fp32"))
    assert _kept(folder, ExportRequest(target="portable", precision="fp16")) == ["fp32"]


def test_another_cache_of_the_same_precision_goes_beside(tmp_path: Path) -> None:
    folder = _artifact(tmp_path / "a", ("ort", "fp32"))
    assert _kept(folder, ExportRequest(kv_cache="int8")) == ["fp32"]
    with pytest.raises(UsageError, match="--force"):
        _kept(folder, ExportRequest())


def test_the_same_precision_needs_force_and_leaves_the_others(tmp_path: Path) -> None:
    folder = _artifact(tmp_path / "a", ("portable", "fp32"), ("portable", "fp16"))
    with pytest.raises(UsageError, match="--force"):
        _kept(folder, ExportRequest(target="portable", precision="fp16"))
    assert _kept(folder, ExportRequest(target="portable", precision="fp16", force=True)) == ["fp32"]


@pytest.mark.parametrize(("target", "sha256"), [("ort", "aa"), ("portable", "bb")])
def test_another_model_or_target_needs_force_and_keeps_nothing(tmp_path: Path, target: str, sha256: str) -> None:
    folder = _artifact(tmp_path / "a", ("portable", "fp32"))
    with pytest.raises(UsageError, match="--force"):
        _kept(folder, ExportRequest(target=target, precision="fp16"), sha256)
    assert _kept(folder, ExportRequest(target=target, precision="fp16", force=True), sha256) == []


def test_force_never_touches_what_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds no artifact"):
        choose_folder(ExportRequest(output=tmp_path / "home", force=True))
    with pytest.raises(UsageError, match="is a file"):
        choose_folder(ExportRequest(output=tmp_path / "home" / "thesis.tex", force=True))


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    assert choose_folder(ExportRequest(output=tmp_path)) == tmp_path
    assert _kept(tmp_path, ExportRequest()) == []


def test_the_folder_is_named_after_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf").mkdir()
    assert choose_folder(ExportRequest()) == Path("minimind-demo")
    assert choose_folder(ExportRequest(moe=True)) == Path("minimind-demo-moe")
    assert choose_folder(ExportRequest(checkpoint=tmp_path / "out" / "full_sft_512.pth")) == Path("full_sft_512")
    assert choose_folder(ExportRequest(checkpoint=Path("hf"), target="ort")) == Path("hf-ort")
