"""A plan held against its checkpoint, on the GPU that runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from minimind_edge.runtime.tensorrt.plan import Plan
from minimind_edge.runtime.tensorrt.session import TensorRTSession

from ..errors import ExportError
from ..parity.case import Case
from ..parity.compare import THOROUGH_GREEDY_STEPS, compare_runners
from ..parity.runner import Presents
from ..parity.session_runner import SessionRunner
from ..parity.suite import Suite
from ..parity.tolerance import tolerance_of
from ..verification import Verification, VerifiedGraph, find_checkpoint, load_exported

if TYPE_CHECKING:
    from .monitor import Progress


class PlanRunner(SessionRunner):
    """A plan's session, with its cache to be seen.

    Args:
        session: Of the plan.
    """

    name = "plan"

    def __init__(self, session: TensorRTSession) -> None:
        super().__init__(session)
        self._plan_session = session

    def presents(self) -> Presents:
        """See `GraphRunner.presents`."""
        tensors = self._plan_session.cache()
        return list(zip(tensors[::2], tensors[1::2], strict=True))


class PlanSuite(Suite):
    """The cases that a plan can hold.

    Args:
        plan: Its limits are the suite's.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.vocab_size, plan.cache.capacity, thorough=True)
        self._max_batch = plan.max_batch

    def cases(self) -> Iterator[Case]:
        """See `Suite.cases`; batches of more rows than the plan's are left out."""
        return (case for case in super().cases() if len(case.rows) <= self._max_batch)


def verify_plan(path: Path, against: Path | None = None, progress: Progress | None = None) -> Verification:
    """Compare a plan with eager PyTorch, thoroughly.

    Args:
        path: The `.plan`, its description beside it.
        against: The checkpoint; None looks for the one that the description names: among the bundled ones, beside the
            plan's folder and in the current folder.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        ArtifactError: The plan or its description is missing or broken.
        MissingError: The plan cannot run here.
        ExportError: The checkpoint is not to be found, or nobody knows which one it is.
        MiniMindError: The checkpoint is not what the description says.
    """
    tell = progress or (lambda stage, done: None)
    session = TensorRTSession.load(path)
    plan = session.facts
    checkpoint = plan.content.child("checkpoint")
    if not checkpoint or not plan.content.child("config"):
        raise ExportError(
            f"{path} was built from a graph alone: build it from an artifact or a checkpoint to verify it"
        )
    tell("reading the checkpoint", 0.0)
    source = against or find_checkpoint(
        path.parent, checkpoint.required("file", str), checkpoint.required("sha256", str)
    )
    loaded = load_exported(source, path.parent, plan.content)
    report = compare_runners(
        loaded.model,
        [lambda: PlanRunner(session)],
        suite := PlanSuite(plan),
        tolerance_of(plan.precision, plan.cache.num_layers),
        target="tensorrt",
        precision=plan.precision,
        steps=suite.greedy_steps(THOROUGH_GREEDY_STEPS),
        progress=progress,
        shows_experts=False,
    )
    notes = ["batches of three rows are left out: the plan holds fewer"] if plan.max_batch < 3 else []
    if loaded.report.sha256 != checkpoint["sha256"]:
        notes.append(f"{source} is not the file that the plan was built from; its weights are compared all the same")
    tell("done", 1.0)
    return Verification(path.parent, source, tuple(notes), (VerifiedGraph(path.name, False, report),))
