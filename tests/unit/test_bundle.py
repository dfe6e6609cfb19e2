"""Bundles: the wheels of another platform, the own wheel, and what the device's installer refuses."""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

import pytest
from packaging.markers import default_environment

from minimind_edge.export import bundle as bundle_package
from minimind_edge.export.bundle import BundleRequest, write_bundle
from minimind_edge.export.bundle.bundle import first_words
from minimind_edge.export.bundle.own_wheel import pack_own_wheel
from minimind_edge.export.bundle.platforms import PLATFORMS, platform_of
from minimind_edge.export.bundle.wheels import collect_wheels
from minimind_edge.export.progress import silent
from minimind_edge.runtime.errors import ArtifactError, MissingError, UsageError

REQUIREMENTS_SHA256 = "8d77f2c1602fa6bae2f2153fdeeb5630d8dcaabe518c39614d93515d6e600d2f"
"""What `printf 'nothing==1.0\\n' | sha256sum` prints."""

PURE = "py3-none-any"
DEVICE = Path(bundle_package.__file__).parent / "device"


def make_wheel(
    folder: Path, name: str, version: str = "1.0", requires: tuple[str, ...] = (), tag: str = "py3-none-any"
):
    """A wheel without modules."""
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Provides-Extra: {extra}" for extra in ("serve", "more")]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    path = folder / f"{name.replace('-', '_')}-{version}-{tag}.whl"
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """The only place where pip looks for wheels."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PIP_CONFIG_FILE", raising=False)
    return folder


@pytest.fixture
def wheels(tmp_path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


def names(paths: list[Path]) -> list[str]:
    return sorted(path.name for path in paths)


def test_markers_are_those_of_the_device(index, wheels):
    root = make_wheel(
        wheels,
        "root",
        requires=(
            "for-windows; sys_platform == 'win32'",
            "for-arm; platform_machine == 'aarch64'",
            "for-old; python_version < '3.11'",
            "for-serving; extra == 'serve'",
            "for-more; extra == 'more'",
        ),
    )
    for name in ("for-windows", "for-arm", "for-old", "for-serving", "for-more"):
        make_wheel(index, name)
    found = collect_wheels(root, set(), platform_of("windows-amd64"), "3.12", silent)
    assert names(found) == ["for_windows-1.0-py3-none-any.whl"]
    found = collect_wheels(root, {"serve"}, platform_of("linux-aarch64"), "3.10", silent)
    expected = [f"for_{name}-1.0-py3-none-any.whl" for name in ("arm", "old", "serving")]
    assert names(found) == expected


def test_wheels_are_those_of_the_device(index, wheels):
    root = make_wheel(wheels, "root", requires=("native",))
    tags = {
        "linux-aarch64": "cp311-cp311-manylinux_2_28_aarch64",
        "linux-x86_64": "cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "macos-arm64": "cp311-cp311-macosx_14_0_arm64",
        "windows-amd64": "cp311-cp311-win_amd64",
    }
    for tag in tags.values():
        make_wheel(index, "native", tag=tag)
    for name, tag in tags.items():
        (wheels / name).mkdir()
        own = Path(shutil.copy(root, wheels / name))
        (found,) = collect_wheels(own, set(), platform_of(name), "3.11", silent)
        assert found.name == f"native-1.0-{tag}.whl"


def test_all_that_a_requirement_requires_comes_in_one_version_that_fits(index, wheels):
    root = make_wheel(wheels, "root", requires=("first", "second"))
    make_wheel(index, "first", requires=("shared>=1",))
    make_wheel(index, "second", requires=("shared<2", "third[more]"))
    make_wheel(index, "third", requires=("fourth; extra == 'more'",))
    make_wheel(index, "fourth", requires=("first",))  # a circle
    make_wheel(index, "shared", "1.5")
    make_wheel(index, "shared", "2.0")
    found = collect_wheels(root, set(), platform_of("linux-x86_64"), "3.11", silent)
    assert [path.name.split("-")[:2] for path in sorted(found)] == [
        ["first", "1.0"],
        ["fourth", "1.0"],
        ["second", "1.0"],
        ["shared", "1.5"],
        ["third", "1.0"],
    ]
    assert names([path for path in wheels.iterdir() if path != root]) == names(found)


def test_what_pip_cannot_find_is_named(index, wheels):
    root = make_wheel(wheels, "root", requires=("first",))
    make_wheel(index, "first", requires=("native>=2",))
    make_wheel(index, "native", "2.0", tag="cp311-cp311-win_amd64")
    with pytest.raises(
        MissingError, match=r"native>=2 for linux-aarch64 with Python 3\.11, which first needs"
    ) as caught:
        collect_wheels(root, set(), platform_of("linux-aarch64"), "3.11", silent)
    assert caught.value.exit_code == 4


def test_a_platform_has_a_value_for_each_marker_of_the_standard():
    for each in PLATFORMS.values():
        assert each.environment("3.11").keys() >= default_environment().keys()


def test_the_own_wheel_is_what_was_installed(wheels):
    files = [str(file) for file in distribution("minimind-edge").files or ()]
    if not any(name.startswith("minimind_edge/") for name in files):
        with pytest.raises(MissingError, match="editable"):
            pack_own_wheel(wheels)
        return
    packed = pack_own_wheel(wheels)
    with zipfile.ZipFile(packed) as wheel:
        assert wheel.testzip() is None
        members = set(wheel.namelist())
        record = wheel.read(next(name for name in members if name.endswith("/RECORD"))).decode().splitlines()
    assert {line.rsplit(",", 2)[0] for line in record} == members
    assert {"minimind_edge/runtime/__init__.py", "minimind_edge/page/interface/index.html"} <= members
    assert not any("__pycache__" in name or name.startswith("..") for name in members)
    first = packed.read_bytes()
    assert pack_own_wheel(wheels).read_bytes() == first


@pytest.fixture
def device(tmp_path) -> Path:
    """A bundle's folder for this machine, with one file to install from."""
    shutil.copy(DEVICE / "install.py", tmp_path)
    (tmp_path / "requirements.txt").write_text("nothing==1.0\n")
    facts = {
        "system": platform.system(),
        "machine": platform.machine(),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "first_words": "Hi",
        "files": {"requirements.txt": REQUIREMENTS_SHA256},
    }
    (tmp_path / "bundle.json").write_text(json.dumps(facts))
    return tmp_path


def installer(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bundle_install", folder / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def change(folder: Path, **facts: object) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(content | facts))


def test_a_changed_byte_is_refused_before_anything_is_installed(device, capsys):
    installer(device).check_files({"requirements.txt": REQUIREMENTS_SHA256})
    (device / "requirements.txt").write_text("nothing==1.1\n")
    assert installer(device).main() == 3
    assert "requirements.txt is not what it was" in capsys.readouterr().err
    assert not (device / "venv").exists()


def test_a_missing_file_and_one_outside_are_refused(device, capsys):
    change(device, files={"wheels/gone.whl": "0"})
    assert installer(device).main() == 3
    assert "wheels/gone.whl is missing" in capsys.readouterr().err
    change(device, files={"../outside": "0"})
    assert installer(device).main() == 3
    assert "not inside of the bundle" in capsys.readouterr().err


@pytest.mark.parametrize(("field", "value"), [("machine", "riscv64"), ("python", "3.7"), ("system", "Plan9")])
def test_another_machine_is_refused(device, capsys, field, value):
    change(device, **{field: value})
    assert installer(device).main() == 3
    assert value in capsys.readouterr().err


def test_a_model_without_a_tokenizer_is_tried_by_token_ids(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"")
    (tmp_path / "config.json").write_text("{}")
    assert first_words(tmp_path) == "--ids 1,2,3"
    (tmp_path / "tokenizer.json").write_text("{}")
    assert first_words(tmp_path) == '"Who are you?"'


def test_requests_that_cannot_be_met_are_refused_before_pip_runs(tmp_path):
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "config.json").write_text("{}")
    request = BundleRequest(artifact, tmp_path / "out", "linux-x86_64")
    with pytest.raises(ArtifactError):
        write_bundle(request)
    with pytest.raises(UsageError, match="--platform"):
        write_bundle(BundleRequest(artifact, tmp_path / "out", "amiga"))
    with pytest.raises(UsageError, match="--python"):
        write_bundle(BundleRequest(artifact, tmp_path / "out", "linux-x86_64", python="3.9"))
    assert not (tmp_path / "out").exists()
