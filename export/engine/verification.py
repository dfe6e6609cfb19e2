"""A plan held against its checkpoint, on the GPU that runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.tensorrt.plan import Plan

from ..errors import ExportError
from ..parity.case import Case
from ..parity.compare import THOROUGH_GREEDY_STEPS, compare_runners, long_prompt
from ..parity.runner import GraphRunner
from ..parity.suite import Suite
from ..parity.tolerance import tolerance_of
from ..verification import Verification, VerifiedGraph, find_checkpoint, load_exported

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindConfig

    from ..plan.builder import Progress


class PlanSuite(Suite):
    """The cases that a plan can hold.

    Args:
        plan: Its limits are the suite's.
        config: Of the model.
    """

    def __init__(self, plan: Plan, config: MiniMindConfig) -> None:
        super().__init__(plan.vocab_size, plan.cache.capacity, thorough=True, long_prompt=long_prompt(config))
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
    session = load_session(path)
    plan = Plan.read(path)
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
        [lambda: GraphRunner(lambda slots: session, "plan")],
        suite := PlanSuite(plan, loaded.model.config),
        tolerance_of(plan.precision, plan.cache.num_layers),
        target="tensorrt",
        precision=plan.precision,
        steps=suite.greedy_steps(THOROUGH_GREEDY_STEPS),
        progress=progress,
        shows_experts=bool(plan.experts),
    )
    notes = ["batches of three rows are left out: the plan holds fewer"] if plan.max_batch < 3 else []
    if loaded.model.config.use_moe and not plan.experts:
        notes.append("the experts chosen are not compared: the plan does not tell them; build it again")
    if loaded.report.sha256 != checkpoint["sha256"]:
        notes.append(f"{source} is not the file that the plan was built from; its weights are compared all the same")
    tell("done", 1.0)
    return Verification(path.parent, source, tuple(notes), (VerifiedGraph(path.name, False, report),))
