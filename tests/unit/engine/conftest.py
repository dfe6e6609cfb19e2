"""Plans described for a decoder small enough to write down twice, and sessions that run them on the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from described_plan import PLAN_BYTES, describe
from static_decoder import StaticDecoder
from tensorrt_standin import StandInDriver, StandInEngine

from minimind_edge.runtime.session.session import Session
from minimind_edge.runtime.tensorrt.model import TensorRTModel
from minimind_edge.runtime.tensorrt.plan import Plan


@pytest.fixture(scope="session")
def decoder() -> StaticDecoder:
    return StaticDecoder()


@pytest.fixture
def description(decoder: StaticDecoder, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The content of a `.plan.json`: `description(precision="fp32", batch_size=4, length=32, chunk=8, **changes)`."""
    return lambda *arguments, **changes: describe(decoder, tmp_path, *arguments, **changes)


@pytest.fixture
def plan(description: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Plan]:
    """What is known of a plan; takes the arguments of `description`."""

    def make(*arguments: Any, **changes: Any) -> Plan:
        path = tmp_path / "model.plan"
        path.write_bytes(PLAN_BYTES)
        return Plan.parse(path, description(*arguments, **changes))

    return make


class StandIn:
    """A session and the stand-in under it, for tests to look at."""

    def __init__(self, plan: Plan, *, max_length: int | None = None, **options: Any) -> None:
        self.driver = StandInDriver()
        self.engine = StandInEngine(self.driver, plan, plan.path.with_name("model.onnx"))
        self.prefill, self.decode = self.engine.context(0), self.engine.context(1)
        model = TensorRTModel(plan, self.driver, (self.prefill, self.decode), **options)
        self.session = Session(model, max_length=max_length)


@pytest.fixture
def standin(plan: Callable[..., Plan]) -> Callable[..., StandIn]:
    """A session on the stand-in: `standin(precision="fp32", batch_size=4, length=32, chunk=8, **session options)`."""

    def make(precision: str = "fp32", **options: Any) -> StandIn:
        limits = {name: options.pop(name) for name in ("batch_size", "length", "chunk") if name in options}
        return StandIn(plan(precision, **limits), **options)

    return make
