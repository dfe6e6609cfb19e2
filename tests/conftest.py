"""What all tests share: no network, the guard that the built wheel is under test, and the skips that need a reason."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Before torch is imported: a second thread costs tiny models more than it gives, on a busy machine minutes.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parent.parent


def pytest_report_header() -> str:
    import minimind_edge.runtime

    return f"minimind_edge from {Path(minimind_edge.runtime.__file__).parent.parent}"


def pytest_configure() -> None:
    stay_on_one_core(os.environ.get("PYTEST_XDIST_WORKER", ""))
    require_the_wheel()


def stay_on_one_core(worker: str) -> None:
    """Give each of pytest-xdist's processes (gw0, gw1, ...) a core: its commands and threads are in nobody's way."""
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def require_the_wheel() -> None:
    """`make test` promises the wheel: an editable install would hide a file that is not shipped."""
    import minimind_edge.runtime

    location = Path(minimind_edge.runtime.__file__).resolve()
    if os.environ.get("MINIMIND_EDGE_TEST_INSTALLED") == "1" and "site-packages" not in location.parts:
        pytest.exit(
            f"minimind_edge comes from {location.parent}, expected the installed wheel: run make test", returncode=4
        )


def gpu_is_missing() -> str | None:
    """Why GPU tests cannot run here, or None where they can."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1)"
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "no NVIDIA GPU"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    reason = gpu_is_missing() if marked else None
    if reason is not None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Exempt what is imported by now from the garbage collections of comparisons, each of which would look at it."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared_folder() -> Path | None:
    """The folder of real checkpoints and data outside the repository, or None: tests that use it run without it too."""
    folder = Path(os.environ.get("MINIMIND_EDGE_SHARED", ROOT.parent / "shared"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def export_demo(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Export the bundled model with these options, once, into a folder `demo` that every test leaves as it is."""

    @functools.cache
    def export(**options: object) -> Path:
        from minimind_edge.export import ExportRequest, export_onnx

        folder = tmp_path_factory.mktemp("bundled") / "demo"
        return export_onnx(ExportRequest(output=folder, verify=False, **options)).folder

    return export
