"""Names and links that lead out of a folder, for every command that reads or copies what a folder names."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from minimind_edge.export.artifact.copying import copy_artifact
from minimind_edge.export.artifact.destination import plan_destination
from minimind_edge.export.artifact.hf_config import generation_config
from minimind_edge.export.artifact.staging import staged_folder
from minimind_edge.export.artifact.tokenizer_files import find_tokenizer
from minimind_edge.export.bundled import DEMO_FOLDER
from minimind_edge.export.inspection import inspect_path
from minimind_edge.export.plan.files import write_plan
from minimind_edge.export.request import ExportRequest
from minimind_edge.minimind import MiniMindConfig
from minimind_edge.runtime.artifact.paths import MEMORY_LOCATION, copy_member, external_data, member
from minimind_edge.runtime.errors import ArtifactError

SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "id_rsa").write_text(SECRET)
    return tmp_path / "id_rsa"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A folder as `onnx` writes it, with files that nobody named."""
    folder = tmp_path / "model"
    graph = {"file": "onnx/model.onnx", "target": "portable", "precision": "fp32"}
    manifest = {"format": 1, "tool": {"name": "minimind-edge"}, "graphs": [graph]}
    manifest |= {"checkpoint": {"file": "a.pth", "sha256": "aa"}, "config": {}}
    (folder / "onnx").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "onnx" / "model.onnx").write_bytes(b"graph")
    (folder / "onnx" / "model.onnx_data").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    (folder / "diary.txt").write_text("dear diary")
    return folder


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "C:\\x", "\\\\host\\x", "..\\x", "a\0b", "", ".", "a\x1b[2J", "a" * 5000],
)
def test_names_that_are_none_of_a_file_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        member(tmp_path, name)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_component_that_no_file_system_takes(tmp_path: Path) -> None:
    try:
        assert member(tmp_path, "b" * 300) is None
    except ArtifactError as error:
        assert "cannot read" in str(error)


def test_links_inside_are_followed_and_links_out_are_not(tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "real").write_text("inside")
    (folder / "deep" / "link").symlink_to("../real")
    (folder / "out").symlink_to(secret)
    (folder / "through").symlink_to(tmp_path, target_is_directory=True)
    (folder / "loop").symlink_to("loop")
    assert member(folder, "deep/link") == folder / "deep/link"
    assert member(folder, "nothing") is None
    assert member(folder, "loop") is None
    for name in ("out", "through/id_rsa"):
        with pytest.raises(ArtifactError, match="leads out of its folder"):
            copy_member(folder, name, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_the_cache_of_hugging_face_and_nobody_elses_blobs(tmp_path: Path) -> None:
    for owner, is_cache in (("models--a--b", True), ("project", False)):
        home = tmp_path / owner
        (home / "snapshots/0a1b/onnx").mkdir(parents=True)
        (home / "blobs").mkdir()
        (home / "blobs/ff").write_text("{}")
        (home / "snapshots/0a1b/config.json").symlink_to("../../blobs/ff")
        (home / "snapshots/0a1b/onnx/model.onnx_data").symlink_to("../../../blobs/ff")
        snapshot = home / "snapshots/0a1b"
        if is_cache:
            assert member(snapshot, "config.json") is not None
            assert external_data(snapshot / "onnx/model.onnx", "model.onnx_data") is not None
        else:
            with pytest.raises(ArtifactError, match="leads out of its folder"):
                member(snapshot, "config.json")


@pytest.mark.parametrize("location", [MEMORY_LOCATION, "*/_ORT_MEM_ADDR_/", "../w", "/dev/mem", "w\0"])
def test_weights_that_are_in_no_file_next_to_the_graph(tmp_path: Path, location: str) -> None:
    with pytest.raises(ArtifactError, match=r"not safe|not a file name|leads out"):
        external_data(tmp_path / "model.onnx", location)


def test_a_copy_has_what_the_artifact_names_and_nothing_else(tmp_path: Path, artifact: Path, secret: Path) -> None:
    (artifact / "notes.txt").symlink_to(secret)
    copy_artifact(artifact, tmp_path / "copy")
    names = {
        path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*") if path.is_file()
    }
    assert names == {"manifest.json", "config.json", "onnx/model.onnx", "onnx/model.onnx_data"}


@pytest.mark.parametrize("name", ["config.json", "README.md", "onnx/model.onnx", "onnx/model.onnx_data"])
def test_a_copy_does_not_publish_what_a_link_leads_to(tmp_path: Path, artifact: Path, secret: Path, name: str) -> None:
    (artifact / name).unlink(missing_ok=True)
    (artifact / name).symlink_to(secret)
    with pytest.raises(ArtifactError, match="leads out of its folder"):
        copy_artifact(artifact, tmp_path / "copy")


def test_a_plans_folder_gets_no_others_file(tmp_path: Path, artifact: Path, secret: Path) -> None:
    (artifact / "generation_config.json").symlink_to(secret)
    with pytest.raises(ArtifactError, match="leads out of its folder"):
        write_plan(tmp_path / "plan" / "model.plan", b"ftrt", {}, artifact)
    assert not (tmp_path / "plan").exists()


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
def test_an_export_does_not_take_a_tokenizers_links(tmp_path: Path, secret: Path, name: str) -> None:
    home = tmp_path / "checkpoint"
    home.mkdir()
    (home / "tokenizer.json").write_bytes(next(DEMO_FOLDER.glob("*/tokenizer.json")).read_bytes())
    (home / name).symlink_to(secret)
    with pytest.raises(ArtifactError, match="leads out of its folder"):
        find_tokenizer(home / "full_sft_64.pth", None)


def test_an_export_does_not_take_a_generation_configs_link(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "generation_config.json").symlink_to(secret)
    with pytest.raises(ArtifactError, match="leads out of its folder"):
        generation_config(MiniMindConfig(hidden_size=64), tmp_path / "checkpoint", 128)


def test_an_export_onto_a_folder_keeps_links_as_links(tmp_path: Path, artifact: Path, secret: Path) -> None:
    (artifact / "notes.txt").symlink_to(secret)
    with staged_folder(artifact, keep_existing=True) as stage:
        assert (stage / "notes.txt").is_symlink()
    (artifact / "onnx" / "model.onnx").unlink()
    (artifact / "onnx" / "model.onnx").symlink_to(secret)
    with pytest.raises(ArtifactError, match="leads out of its folder"):
        plan_destination(artifact, ExportRequest(target="portable", precision="fp16"), "aa", {})


def test_inspect_stays_in_the_folder(tmp_path: Path, artifact: Path, secret: Path) -> None:
    (artifact / "notes.txt").symlink_to(secret)
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=1)
    weight.external_data.add(key="location", value="model.onnx_data")
    output = helper.make_tensor_value_info("w", TensorProto.FLOAT, [1])
    graph = helper.make_model(helper.make_graph([], "g", [], [output], [weight]))
    (artifact / "onnx" / "model.onnx").write_bytes(graph.SerializeToString())
    assert "notes.txt" not in inspect_path(artifact).to_json()["files"]
    (artifact / "onnx" / "model.onnx_data").unlink()
    (artifact / "onnx" / "model.onnx_data").symlink_to(secret)
    with pytest.raises(ArtifactError, match="leads out of its folder"):
        inspect_path(artifact)
    assert onnx.load(artifact / "onnx" / "model.onnx", load_external_data=False).graph.name == "g"
