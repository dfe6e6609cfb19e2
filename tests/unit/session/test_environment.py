from __future__ import annotations

import logging
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from minimind_edge.runtime.errors import MissingError, UsageError
from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.ort import environment
from minimind_edge.runtime.ort.environment import (
    execution_providers,
    import_onnxruntime,
    physical_cores,
    require_cuda,
    require_fused_attention,
)
from minimind_edge.runtime.ort.loading import session_options

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
MEND = "run `pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install onnxruntime-gpu`"


def build(*providers: str) -> SimpleNamespace:
    """An ONNX Runtime with some providers."""
    return SimpleNamespace(get_available_providers=lambda: list(providers), preload_dlls=lambda: print("noise"))


@pytest.fixture
def installed(monkeypatch):
    """Which distributions seem to be installed."""

    def install(*names: str) -> None:
        def distribution(name: str) -> object:
            if name not in names:
                raise metadata.PackageNotFoundError(name)
            return object()

        monkeypatch.setattr(metadata, "distribution", distribution)

    install("onnxruntime")
    return install


@pytest.fixture
def nvidia_driver(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "NVIDIA_DRIVER", tmp_path)


def test_auto_takes_cuda_where_it_is(capsys):
    assert execution_providers(build(CUDA, CPU), "auto") == [CUDA, CPU]
    assert execution_providers(build(CUDA, CPU), "cuda") == [CUDA, CPU]
    assert execution_providers(build(CUDA, CPU), "cpu") == [CPU]
    assert execution_providers(build(CPU), "auto") == [CPU]
    assert capsys.readouterr() == ("", "")


def test_an_unknown_device():
    with pytest.raises(UsageError, match="'tpu': expected one of auto, cpu, cuda, tensorrt, rtx"):
        execution_providers(build(CPU), "tpu")


def test_cuda_without_its_provider(installed):
    with pytest.raises(MissingError, match="pip install onnxruntime-gpu") as caught:
        execution_providers(build(CPU), "cuda")
    assert caught.value.exit_code == 4
    assert "pip uninstall -y onnxruntime`" in str(caught.value)


def test_cuda_with_both_packages(installed):
    installed("onnxruntime", "onnxruntime-gpu")
    with pytest.raises(MissingError, match="overwrite each other") as caught:
        execution_providers(build(CPU), "cuda")
    assert MEND in str(caught.value)


def test_both_packages_on_a_machine_with_a_gpu(installed, nvidia_driver, caplog):
    installed("onnxruntime", "onnxruntime-gpu")
    assert execution_providers(build(CPU), "auto") == [CPU]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert MEND in caplog.text


def test_one_package_on_a_machine_with_a_gpu(installed, nvidia_driver, caplog):
    for name in ("onnxruntime", "onnxruntime-gpu"):
        installed(name)
        assert execution_providers(build(CPU), "auto") == [CPU]
    assert not caplog.records


def test_cuda_that_did_not_start():
    require_cuda([CUDA, CPU])
    with pytest.raises(MissingError, match=r"onnxruntime-gpu\[cuda,cudnn\]"):
        require_cuda([CPU])


def test_cuda_is_asked_for_here(save_graph, installed):
    if CUDA in import_onnxruntime().get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(MissingError, match="pip install onnxruntime-gpu"):
        load_session(save_graph("portable"), device="cuda")


def test_no_onnxruntime(monkeypatch, installed):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingError, match="run `pip install onnxruntime`"):
        import_onnxruntime()


@pytest.mark.parametrize(
    ("names", "remedy"), [(["onnxruntime"], "--force-reinstall"), (["onnxruntime", "onnxruntime-gpu"], MEND)]
)
def test_an_onnxruntime_without_its_files(monkeypatch, installed, names, remedy):
    installed(*names)
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    with pytest.raises(MissingError) as caught:
        import_onnxruntime()
    assert remedy in str(caught.value)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A Linux machine with these cores, each a pair of hardware threads, and a quota."""

    def make(affinity: set[int], quota: str | None = None) -> None:
        for cpu in range(8):
            folder = tmp_path / f"cpu{cpu}" / "topology"
            folder.mkdir(parents=True)
            (folder / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
        if quota is not None:
            (tmp_path / "cpu.max").write_text(quota)
        monkeypatch.setattr(environment, "TOPOLOGY", tmp_path)
        monkeypatch.setattr(environment, "CGROUP_QUOTA", tmp_path / "cpu.max")
        monkeypatch.setattr(environment.sys, "platform", "linux")
        monkeypatch.setattr(environment.os, "sched_getaffinity", lambda pid: affinity, raising=False)

    return make


@pytest.mark.parametrize(
    ("affinity", "quota", "cores"),
    [
        (set(range(8)), None, 4),
        (set(range(8)), "max 100000\n", 4),
        (set(range(8)), "200000 100000\n", 2),
        (set(range(8)), "50000 100000\n", 1),
        (set(range(8)), "900000 100000\n", 4),
        (set(range(8)), "gibberish", 4),
        ({0, 4}, None, 1),
        ({0, 1, 6}, None, 3),
        ({8, 9}, None, 2),
    ],
)
def test_physical_cores(machine, affinity, quota, cores):
    machine(affinity, quota)
    assert physical_cores() == cores


def test_another_system(monkeypatch):
    monkeypatch.setattr(environment.sys, "platform", "darwin")
    assert physical_cores() is None


def test_threads(machine):
    onnxruntime = import_onnxruntime()
    machine({0, 1, 4})
    assert session_options(onnxruntime, None).intra_op_num_threads == 2
    assert session_options(onnxruntime, 3).intra_op_num_threads == 3


def test_an_older_onnxruntime_is_told_from_a_broken_graph():
    current, old = SimpleNamespace(__version__="1.32.0"), SimpleNamespace(__version__="1.31.1")
    require_fused_attention(current)
    with pytest.raises(
        MissingError, match=r"needs ONNX Runtime 1\.32, found 1\.31\.1.*--target portable, or, for a GPU, .*fp16"
    ):
        require_fused_attention(old)
