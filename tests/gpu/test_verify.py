"""The bundled checkpoints as plans, by the comparison that users run: `minimind-export verify model.plan`."""

from __future__ import annotations

import pytest

from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.export.plan import PlanRequest, build_plan
from minimind_edge.export.verification import verify_artifact
from minimind_edge.runtime.errors import MissingError


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_a_plan_is_its_checkpoint(device, tmp_path, kind, precision):
    checkpoint = bundled_checkpoint(moe=kind == "moe")
    plan = tmp_path / "model.plan"
    try:
        build_plan(PlanRequest(checkpoint, plan, precision=precision, max_batch=3, max_length=320, max_chunk=64))
        verification = verify_artifact(plan, checkpoint)
    except MissingError as error:
        pytest.skip(f"no TensorRT for {device.name}: {error}")
    report = verification.graphs[0].report
    assert verification, report.failures
    assert (report.experts[1] > 0) is (kind == "moe")
