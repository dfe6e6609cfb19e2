"""The site's folder and where its libraries come from, with libraries of a few bytes and no npm."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import stat
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from stand_in_libraries import stand_in_libraries

from minimind_edge.export.request import ExportRequest
from minimind_edge.export.web import SiteRequest, write_site
from minimind_edge.export.web.libraries import LIBRARIES
from minimind_edge.export.web.library_source import check_integrity, find_libraries, unpack
from minimind_edge.export.web.site import PAGE
from minimind_edge.export.web.title import model_name
from minimind_edge.page import INTERFACE
from minimind_edge.runtime.errors import ArtifactError, MissingError, UsageError

HOMES = (INTERFACE, PAGE)
OWN = Path(__file__).resolve().parents[2] / "server" / "page"
"""The server's part of the page."""


@pytest.fixture
def node_modules(tmp_path) -> Path:
    """Every library in its version, each file one line."""
    return stand_in_libraries(tmp_path / "node_modules")


@pytest.fixture
def no_npm(tmp_path, monkeypatch) -> None:
    """Nothing here, nothing kept, and no npm."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def artifact(export_demo) -> Path:
    """The bundled model for target portable."""
    return export_demo(target="portable")


def site_request(output, node_modules, **options) -> SiteRequest:
    precision = options.pop("precision", None)
    export = ExportRequest(output=output, target="portable", verify=False, **options)
    return SiteRequest(export, node_modules, precision)


def test_a_site_holds_the_page_the_libraries_and_an_artifact(tmp_path, node_modules, artifact):
    result = write_site(site_request(tmp_path / "site", node_modules, checkpoint=artifact))
    names = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*") if path.is_file()}
    page = {path.relative_to(home).as_posix() for home in HOMES for path in home.rglob("*") if path.is_file()}
    assert page <= names
    assert {"vendor/jinja.mjs", "vendor/tokenizers.mjs", "vendor/NOTICE", "model/tokenizer.json"} <= names
    assert "vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm" in names
    assert result.size == sum((result.folder / name).stat().st_size for name in names)
    webgpu = sum((result.folder / name).stat().st_size for name in names if ".jspi." in name)
    assert 0 < result.download <= result.size - webgpu
    assert result.manifest["graphs"][0]["target"] == "portable"


@pytest.mark.parametrize(
    ("file", "source", "generation", "moe", "name"),
    [
        ("full_sft_512.pth", "out/full_sft_512.pth", "minimind2", False, "MiniMind2"),
        ("full_sft_640_moe.pth", "out/full_sft_640_moe.pth", "minimind2", True, "MiniMind2 MoE"),
        ("pretrain_768_resume.pth", "pretrain_768_resume.pth", "minimind3", False, "MiniMind-3"),
        ("lora_identity_512.pth", None, "v1", False, "MiniMind"),
        ("my-model_dpo_512.pth", "my-model_dpo_512.pth", "minimind2", False, "my-model"),
        ("story_teller.safetensors", "story_teller.safetensors", "minimind3", False, "story_teller"),
        ("model.safetensors", "hub/MiniMind2-Small", "minimind2", False, "MiniMind2-Small"),
        ("model-00001-of-00002.safetensors", "hub/MiniMind2", "minimind2", False, "MiniMind2"),
        ("full_sft_512.pth", "my-artifact", "minimind2", False, "my-artifact"),
        ("pretraining.pth", None, "minimind2", False, "pretraining"),
        (None, None, None, None, "MiniMind"),
    ],
)
def test_a_page_is_named_after_its_model_without_the_stage_of_its_training(file, source, generation, moe, name):
    manifest = {
        "checkpoint": {"file": file, "generation": generation},
        "architecture": {"moe": {} if not moe else {"n": 4}},
    }
    assert model_name(None if source is None else Path(source), manifest) == name


def test_a_title_is_text_in_the_page(tmp_path, node_modules, artifact):
    request = site_request(tmp_path / "site", node_modules, checkpoint=artifact)
    title = "<script>alert('1')</script> & \"two\" \\1 中文"
    page = (write_site(replace(request, title=title)).folder / "index.html").read_text(encoding="utf-8")
    escaped = "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt; &amp; &quot;two&quot; \\1 中文"
    assert f"<title>{escaped}</title>" in page
    assert f'<h1 id="title">{escaped}</h1>' in page
    assert "<script>" not in page


@pytest.mark.parametrize("title", ["", "  ", "a\nb", "a\x00", "x" * 201])
def test_a_title_that_cannot_be_shown_is_refused_before_anything_is_done(tmp_path, node_modules, artifact, title):
    with pytest.raises(UsageError, match="--title"):
        write_site(replace(site_request(tmp_path / "site", node_modules, checkpoint=artifact), title=title))
    assert not (tmp_path / "site").exists()


def test_the_page_names_no_address_but_its_own():
    for path in (path for home in (*HOMES, OWN) for path in home.rglob("*.*")):
        text = path.read_text()
        strangers = [word for word in ("https://", "http://", "//cdn") if word in text.replace("http://www.w3.org", "")]
        assert strangers == [], path.name


def test_an_artifact_of_another_target_is_refused(tmp_path, node_modules, artifact):
    other = Path(shutil.copytree(artifact, tmp_path / "other"))
    content = json.loads((other / "manifest.json").read_text())
    content["graphs"][0]["target"] = "ort"
    (other / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="of target portable"):
        write_site(site_request(tmp_path / "site", node_modules, checkpoint=other))
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_length": 64}, "--max-length"),
        ({"lora": (Path("lora.pth"),)}, "--lora"),
        ({"config": Path("config.json")}, "--config"),
        ({"tokenizer": Path("tokenizer.json")}, "--tokenizer"),
        ({"moe": True}, "--moe"),
        ({"yarn": False}, "--no-yarn"),
    ],
)
def test_options_for_checkpoints_are_refused_with_an_artifact(tmp_path, node_modules, artifact, options, named):
    with pytest.raises(UsageError, match=f"{named} is for checkpoints, and .* is an artifact"):
        write_site(site_request(tmp_path / "site", node_modules, checkpoint=artifact, **options))
    assert not (tmp_path / "site").exists()


def test_one_graph_goes_on_the_site_and_precision_chooses_it(tmp_path, node_modules, artifact):
    """Of an artifact in two precisions, with a file of the user's own in its folder."""
    both = Path(shutil.copytree(artifact, tmp_path / "both"))
    content = json.loads((both / "manifest.json").read_text())
    shutil.copyfile(both / "onnx" / "model.onnx", both / "onnx" / "model_fp16.onnx")
    content["graphs"].append({**content["graphs"][0], "file": "onnx/model_fp16.onnx", "precision": "fp16"})
    (both / "manifest.json").write_text(json.dumps(content))
    (both / "notes.txt").write_text("mine")
    for precision, name in ((None, "model.onnx"), ("fp16", "model_fp16.onnx")):
        site = tmp_path / f"site-{precision}"
        result = write_site(site_request(site, node_modules, checkpoint=both, precision=precision))
        assert [path.name for path in (site / "model" / "onnx").iterdir()] == [name]
        assert result.manifest["default_graph"] == f"onnx/{name}"
        assert [graph["file"] for graph in result.manifest["graphs"]] == [f"onnx/{name}"]
        assert not (site / "model" / "notes.txt").exists()
    with pytest.raises(ArtifactError, match=r"portable in int4, .*found portable fp32, portable fp16"):
        write_site(site_request(tmp_path / "no", node_modules, checkpoint=both, precision="int4"))


def test_a_link_out_of_the_artifact_is_not_published(tmp_path, node_modules, artifact):
    other = Path(shutil.copytree(artifact, tmp_path / "other"))
    (tmp_path / "secret").write_text("{}")
    (other / "generation_config.json").unlink()
    (other / "generation_config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactError, match="link that leads out"):
        write_site(site_request(tmp_path / "site", node_modules, checkpoint=other))


def test_an_artifact_without_a_tokenizer_is_refused(tmp_path, node_modules, artifact):
    other = Path(shutil.copytree(artifact, tmp_path / "other"))
    (other / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match="no tokenizer"):
        write_site(site_request(tmp_path / "site", node_modules, checkpoint=other))


def test_only_a_site_is_replaced_and_only_by_force(tmp_path, node_modules, artifact):
    write_site(site_request(tmp_path / "site", node_modules, checkpoint=artifact))
    with pytest.raises(UsageError, match="--force"):
        write_site(site_request(tmp_path / "site", node_modules, checkpoint=artifact))
    write_site(site_request(tmp_path / "site", node_modules, checkpoint=artifact, force=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    with pytest.raises(UsageError, match="no site of this tool"):
        write_site(site_request(tmp_path / "mine", node_modules, checkpoint=artifact, force=True))


def test_without_a_library_and_npm_the_command_to_run_is_told(no_npm):
    with pytest.raises(MissingError, match=r"npm install onnxruntime-web@[\d.]+ ") as caught:
        find_libraries(None, lambda stage: None)
    assert caught.value.exit_code == 4


def test_another_version_is_told(node_modules):
    (node_modules / "onnxruntime-web" / "package.json").write_text('{"version": "1.20.0"}')
    with pytest.raises(MissingError, match=r"has version 1\.20\.0: expected"):
        find_libraries(node_modules, lambda stage: None)


def test_node_modules_of_the_current_folder_is_found(node_modules, no_npm):
    found = find_libraries(None, lambda stage: None)
    assert set(found) == set(LIBRARIES)


def packed(library, folder, leave_out=None) -> Path:
    """An archive as npm packs it."""
    archive = folder / "library.tgz"
    with tarfile.open(archive, "w:gz") as content:
        for file in (*library.files, "package.json", "../../escape"):
            if file == leave_out:
                continue
            data = json.dumps({"version": library.version}).encode()
            member = tarfile.TarInfo(f"package/{file}")
            member.size = len(data)
            content.addfile(member, io.BytesIO(data))
    return archive


def test_what_npm_brings_is_checked_and_only_what_is_needed_is_taken(tmp_path):
    library = LIBRARIES[1]
    archive = packed(library, tmp_path)
    with pytest.raises(ArtifactError, match="has digest sha512-"):
        check_integrity(archive, library)
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    check_integrity(archive, replace(library, integrity=f"sha512-{digest}"))
    unpack(archive, library, tmp_path / "kept")
    assert {path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*.*")} == {
        "package.json",
        *map(str, library.files),
    }
    assert not (tmp_path.parent / "escape").exists()


def test_an_archive_without_a_needed_file_is_told(tmp_path):
    library = LIBRARIES[2]
    with pytest.raises(ArtifactError, match="has no dist"):
        unpack(packed(library, tmp_path, leave_out=next(iter(library.files))), library, tmp_path / "kept")


def test_npm_that_fails_is_quoted_in_one_line(no_npm, tmp_path):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'no\nsuch network' >&2\nexit 1\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(MissingError, match="could not download onnxruntime-web") as caught:
        find_libraries(None, lambda stage: None)
    assert "\n" not in str(caught.value)


def test_the_tests_take_the_versions_of_the_page():
    asked = json.loads((Path(__file__).parents[1] / "web" / "package.json").read_text())["dependencies"]
    assert {library.name: library.version for library in LIBRARIES}.items() <= asked.items()
