"""Inspection of a plan by the JSON file next to it: the plan itself cannot be read without a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind_edge.runtime.tensorrt.plan import Plan
from minimind_edge.runtime.tensorrt.plan_description import ProfileEntry, TensorEntry

from .table import Inspection, Section, byte_count, checkpoint_rows


@dataclass(frozen=True)
class PlanInspection(Inspection):
    """A plan whose description was read.

    Attributes:
        plan: The content of its description.
        size: Size of the plan's file in bytes.
    """

    plan: Plan
    size: int

    @classmethod
    def read(cls, path: Path) -> PlanInspection:
        """Read the description next to a plan.

        Raises:
            ArtifactError: Plan or description is missing, or the description is broken.
        """
        return cls(Plan.read(path), path.stat().st_size)

    def to_json(self) -> dict[str, Any]:
        """See `Inspection.to_json`."""
        return {"kind": "plan", "path": str(self.plan.path), "bytes": self.size, **self.plan.content}

    def sections(self) -> tuple[Section, ...]:
        """See `Inspection.sections`."""
        plan, cache = self.plan, self.plan.cache
        summary = (
            ("path", str(plan.path)),
            ("size", byte_count(self.size)),
            ("built by", f"{plan.title}, which has to run it too"),
            ("runs on", f"compute capability {', '.join(map(str, plan.compute_capabilities))}"),
            ("precision", plan.precision),
            ("rows", "1" if plan.max_batch == 1 else f"1 to {plan.max_batch}"),
            ("positions", f"{cache.capacity:,} a row, in chunks of up to {plan.max_chunk}"),
            (
                "kv cache",
                f"{cache.dtype}, {byte_count(2 * cache.num_layers * cache.tensor_bytes(1))} a row",
            ),
        )
        return (
            Section("plan", summary),
            *(_profile(each) for each in plan.description.profiles),
            Section("tensors", tuple(_tensor(each) for each in plan.description.tensors)),
            Section("built from", tuple(_origin(plan))),
        )


def _profile(profile: ProfileEntry) -> Section:
    shapes = {name: shapes[::2] for name, shapes in profile.shapes.items() if not name.startswith("past")}
    rows = [(name, " to ".join(str(list(shape)) for shape in ends)) for name, ends in shapes.items()]
    return Section(f"profile {profile.name}", tuple(rows))


def _tensor(tensor: TensorEntry) -> tuple[str, str]:
    return tensor.name, f"{tensor.mode} {tensor.dtype} {list(tensor.shape)}"


def _origin(plan: Plan) -> list[tuple[str, str]]:
    checkpoint, graph = plan.description.checkpoint, plan.description.graph
    parity = graph.parity
    verdict = "not verified" if parity is None else f"{'passed' if parity.passed else 'FAILED'} in ONNX Runtime"
    return [
        *checkpoint_rows(checkpoint),
        *((f"graph {name}", str(getattr(graph, name))) for name in ("file", "sha256", "opset")),
        ("graph parity", verdict),
    ]
