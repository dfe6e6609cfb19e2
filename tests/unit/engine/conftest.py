"""Plans described for a decoder small enough to write down twice, and sessions that run them on the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from static_decoder import StaticDecoder
from tensorrt_standin import StandInDriver, StandInEngine

from minimind_edge.export.engine.builder import TensorInfo
from minimind_edge.export.engine.description import describe_plan
from minimind_edge.export.engine.profiles import Limits, static_profiles
from minimind_edge.export.engine.static_graph import StaticGraph
from minimind_edge.runtime.json_object import JsonObject
from minimind_edge.runtime.tensorrt.compute_capability import ComputeCapability
from minimind_edge.runtime.tensorrt.plan import Plan
from minimind_edge.runtime.tensorrt.session import TensorRTSession

PLAN_BYTES = b"vtrt: no plan, but what it would begin with"


@pytest.fixture(scope="session")
def decoder() -> StaticDecoder:
    return StaticDecoder()


@pytest.fixture
def description(decoder: StaticDecoder, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The content of a `.plan.json`: `description(precision="fp32", batch_size=4, length=32, chunk=8, **changes)`."""

    def describe(
        precision: str = "fp32", *, batch_size: int = 4, length: int = 32, chunk: int = 8, **changes: Any
    ) -> dict[str, Any]:
        graph = StaticGraph.read(decoder.save(tmp_path / "model.onnx", precision))
        limits = Limits(batch_size, length, chunk)
        inputs = [TensorInfo(each.name, "input", "int32", ()) for each in graph.model.graph.input]
        outputs = [TensorInfo(each.name, "output", "float32", ()) for each in graph.model.graph.output]
        content = describe_plan(
            graph,
            limits,
            static_profiles(limits, graph.cache_of(length)),
            backend="rtx",
            backend_version="1.7.1.116",
            capabilities=[ComputeCapability(8, 6), ComputeCapability(12, 0)],
            data=PLAN_BYTES,
            tensors=[*inputs, *outputs],
            checkpoint={"file": "tiny.pth", "sha256": "0" * 64, "generation": "minimind2"},
            config=None,
            parity=None,
        )
        return content | changes

    return describe


@pytest.fixture
def plan(description: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Plan]:
    """What is known of a plan; takes the arguments of `description`."""

    def make(*arguments: Any, **changes: Any) -> Plan:
        path = tmp_path / "model.plan"
        path.write_bytes(PLAN_BYTES)
        return Plan.parse(path, JsonObject(description(*arguments, **changes), f"{path}.json"))

    return make


class StandIn:
    """A session and the stand-in under it, for tests to look at."""

    def __init__(self, plan: Plan, **options: Any) -> None:
        self.driver = StandInDriver()
        self.engine = StandInEngine(self.driver, plan, plan.path.with_name("model.onnx"))
        self.prefill, self.decode = self.engine.context(0), self.engine.context(1)
        self.session = TensorRTSession(plan, self.driver, (self.prefill, self.decode), **options)


@pytest.fixture
def standin(plan: Callable[..., Plan]) -> Callable[..., StandIn]:
    """A session on the stand-in: `standin(precision="fp32", batch_size=4, length=32, chunk=8, **session options)`."""

    def make(
        precision: str = "fp32", *, batch_size: int = 4, length: int = 32, chunk: int = 8, **options: Any
    ) -> StandIn:
        return StandIn(plan(precision, batch_size=batch_size, length=length, chunk=chunk), **options)

    return make
