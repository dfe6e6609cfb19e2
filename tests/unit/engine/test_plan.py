"""What stands beside a plan, read as what it is; the plan itself, as the bytes that were built."""

from __future__ import annotations

import json

import pytest

from minimind_edge.runtime.errors import ArtifactError, UsageError
from minimind_edge.runtime.tensorrt.plan import ComputeCapability, Plan, rtx_refusal, runs_on


def cc(text):
    return ComputeCapability.parse(text)


@pytest.fixture
def written(plan, description, tmp_path):
    """A plan with its description on the disk; the function edits the description before."""

    def write(**changes):
        made = plan()
        content = description() | changes
        (tmp_path / "model.plan.json").write_text(json.dumps(content))
        return made.path

    return write


def refusal(path):
    with pytest.raises(ArtifactError) as caught:
        Plan.read(path).load_bytes()
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_known_of_a_plan(written):
    plan = Plan.read(written())
    assert (plan.backend, plan.version, plan.precision) == ("rtx", "1.7.1.116", "fp32")
    assert plan.compute_capabilities == (cc("8.6"), cc("12.0"))
    assert (plan.max_batch, plan.cache.capacity, plan.max_chunk, plan.vocab_size) == (4, 32, 8, 64)
    assert plan.cache.tensor_shape(3) == (3, 2, 32, 16)
    assert plan.cache.tensor_bytes(3) == 3 * 2 * 32 * 16 * 4
    assert plan.eos_token_ids == (2,)
    assert plan.load_bytes().startswith(b"vtrt")


def test_a_new_plan_whose_writer_was_killed_before_its_last_step(written):
    old = b"vtrt of the old description"
    path = written()
    new = path.read_bytes()
    path.write_bytes(old)
    assert "is not the plan that model.plan.json describes" in refusal(path)
    waiting = path.parent / ".model.plan.minimind-edge-files/model.plan"
    waiting.parent.mkdir()
    waiting.write_bytes(new[:-1])
    assert f"found {len(old)}" in refusal(path)
    waiting.write_bytes(new)
    assert Plan.read(path).load_bytes() == new


def test_a_plan_that_is_not_there(tmp_path):
    assert "no plan at" in refusal(tmp_path / "model.plan")


def test_a_plan_without_its_description(plan):
    message = refusal(plan().path)
    assert "model.plan.json is missing" in message
    assert "minimind-export engine -o" in message


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", "is no plan of TensorRT-RTX"), (b"ftrt...", "found b'ftrt'"), (b"vtrt: another one", "is damaged or was")],
)
def test_a_damaged_or_foreign_plan(written, data, expected):
    path = written()
    path.write_bytes(data)
    message = refusal(path)
    assert expected in message
    assert "minimind-export engine tiny.pth -o" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": 2}, "has format 2, this version reads 1"),
        ({"backend": "cuda"}, 'backend is "cuda": expected one of '),
        ({"compute_capabilities": []}, "compute_capabilities is a list: expected a list, at least 1 long"),
        ({"compute_capabilities": ["sm_86"]}, "'sm_86' is no compute capability"),
        ({"vocab_size": 0}, "vocab_size is 0: expected an integer, at least 1"),
        ({"kv_cache": {}}, "kv_cache.form is missing"),
        ({"limits": {"batch_size": 1}}, "limits.chunk is missing"),
        ({"plan": {}}, "plan.bytes is missing"),
    ],
)
def test_a_broken_description(written, changes, expected):
    assert expected in refusal(written(**changes))


def test_a_description_that_is_no_json(written):
    path = written()
    path.with_name("model.plan.json").write_text("{")
    assert "is not valid JSON" in refusal(path)


def test_the_command_that_builds_it_again(plan, tmp_path):
    made = plan()
    path = tmp_path / "model.plan"
    expected = f"minimind-export engine tiny.pth -o {path} --backend rtx --precision fp32 --max-batch 4 --max-length 32"
    assert made.rebuild_command() == expected
    wider = made.rebuild_command(capability=cc("8.9"))
    assert wider.endswith("--compute-capability 8.6 --compute-capability 8.9 --compute-capability 12.0")


@pytest.mark.parametrize("text", ["8", "8.6.1", "sm86", "", "-8.6", "8.66"])
def test_no_compute_capability(text):
    with pytest.raises(UsageError, match="is no compute capability"):
        cc(text)


@pytest.mark.parametrize(
    ("built_for", "device", "backend", "expected"),
    [
        ("8.6", "8.6", "rtx", True),
        ("8.6", "8.9", "rtx", False),
        ("8.0 8.6 8.9 12.0", "8.7", "rtx", False),
        ("8.0 12.0", "12.1", "rtx", True),
        ("12.1", "12.0", "rtx", False),
        ("8.7", "8.7", "tensorrt", True),
        ("12.0", "12.1", "tensorrt", False),
    ],
)
def test_which_gpu_a_plan_runs_on(built_for, device, backend, expected):
    assert runs_on([cc(each) for each in built_for.split()], cc(device), backend) is expected


@pytest.mark.parametrize("capability", ["7.5", "8.0", "8.6", "8.9", "12.0", "12.1", "12.3"])
def test_where_tensorrt_rtx_runs(capability):
    assert rtx_refusal(cc(capability)) is None


@pytest.mark.parametrize(
    ("capability", "gpu"), [("8.7", "Orin"), ("9.0", "H100"), ("10.0", "B200"), ("11.0", "Thor"), ("7.2", "on compute")]
)
def test_where_tensorrt_rtx_does_not_run(capability, gpu):
    assert gpu in rtx_refusal(cc(capability))
