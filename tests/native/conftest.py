"""Skips, where the operators are not installed or this CPU has nothing to run them with, and the instruction sets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


def missing() -> str | None:
    """Why the operators cannot run here, or None where they can."""
    try:
        from minimind_edge.native import library
    except ImportError:
        return "minimind-edge-native is not installed: make test-native"
    return None if library() else "minimind-edge-native is not built, or this CPU has neither AVX2 nor AVX-512"


REASON = missing()


@pytest.fixture(autouse=True)
def _needs_the_operators() -> None:
    if REASON is not None:
        pytest.skip(REASON)


@pytest.fixture(params=[8, 16], ids=["avx2", "avx512"])
def lanes(request, _needs_the_operators) -> Iterator[int]:
    """The floats of a vector, for each instruction set that this CPU has."""
    from native_nodes import limit_lanes

    if limit_lanes(request.param) != request.param:
        limit_lanes(16)
        pytest.skip(f"this CPU has no vectors of {request.param} floats")
    yield request.param
    limit_lanes(16)
