"""The comparison of emulated Arm with this machine (scripts/test_arm64.py), and of a bundle's size with the page."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
LOGITS = np.array([[1.0, -10.0], [4.0, 2.0]], dtype=np.float32)


@pytest.fixture
def script(monkeypatch):
    """Import a script by its name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def found(machine="aarch64", tokens=(5, 7, 2), logits=LOGITS):
    names = ("fp32", "int8", "int4", "MoE", "portable")
    arrays = {"machine": np.array(machine)}
    for name in names:
        arrays |= {f"{name} tokens": np.array(tokens), f"{name} logits": logits}
    return arrays


@pytest.mark.parametrize("name", ["fp32", "int8", "int4", "MoE", "portable"])
def test_another_token_is_a_fault_in_every_precision(script, name):
    differs = script("test_arm64").differs
    here = found(machine="x86_64")
    assert differs(name, here, found()) == ""
    assert differs(name, here, found(tokens=(5, 8, 2))) == "tokens [5, 8, 2] instead of [5, 7, 2]"
    assert "instead of" in differs(name, here, found(tokens=(5, 7)))
    assert "instead of" in differs(name, found(tokens=()), found(tokens=()))


def test_logits_may_differ_by_rounding_alone(script):
    differs = script("test_arm64").differs
    here = found(machine="x86_64")
    moved = found(logits=LOGITS + np.float32(0.01))  # a thousandth of the largest
    assert [name for name in ("fp32", "MoE", "portable") if differs(name, here, moved)] == ["fp32", "MoE", "portable"]
    assert differs("int8", here, moved) == differs("int4", here, moved) == ""
    swapped = found(logits=LOGITS[:, ::-1])
    assert "logits differ by 1.1e+00" in differs("int4", here, swapped)
    assert "logits" in differs("fp32", here, found(logits=LOGITS * np.float32("nan")))


def test_answers_from_another_machine_than_arm_are_a_fault(script):
    assert script("test_arm64").differs("fp32", found(), found(machine="x86_64")) == "ran on x86_64"


def test_a_size_that_the_page_does_not_name_is_a_fault(script, monkeypatch, tmp_path):
    sizes = script("bundle_sizes")
    page = tmp_path / "bundle.md"
    page.write_text(
        "| platform | `minimind-run` | with `--serve` |\n|---|---|---|\n| `linux-aarch64` | 60.0 | 70.5 |\n"
    )
    monkeypatch.setattr(sizes, "PAGE", page)
    assert sizes.wrong_size("linux-aarch64", 61_000_000, serve=False) == ""
    assert sizes.wrong_size("linux-aarch64", 70_400_000, serve=True) == ""
    assert "names 60.0 for linux-aarch64, and it takes 65.0 MB" in sizes.wrong_size(
        "linux-aarch64", 65_000_000, serve=False
    )
    assert "names 70.5 for linux-aarch64 --serve" in sizes.wrong_size("linux-aarch64", 60_000_000, serve=True)
    assert "names nothing" in sizes.wrong_size("macos-arm64", 60_000_000, serve=True)
