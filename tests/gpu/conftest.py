"""What runs on a GPU; every test here is skipped, with the reason, where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from static_decoder import StaticDecoder

if TYPE_CHECKING:
    from minimind_edge.runtime.tensorrt.cuda import CudaDevice, CudaDriver


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def decoder() -> StaticDecoder:
    return StaticDecoder()


@pytest.fixture(scope="session")
def device() -> CudaDevice:
    from minimind_edge.runtime.tensorrt.cuda import CudaLibrary, find_device

    return find_device(CudaLibrary())


@pytest.fixture
def driver(device: CudaDevice) -> CudaDriver:
    from minimind_edge.runtime.tensorrt.cuda import CudaDriver, CudaLibrary

    return CudaDriver(CudaLibrary(), device)
