"""Loading a 26M checkpoint needs little more memory than the weights and the mapped file."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

# Peak resident memory is the process's own, so the load happens in a fresh one that has loaded something small before.
MEASURE = """
import sys
from pathlib import Path
from minimind_edge.minimind import load_checkpoint

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024

load_checkpoint(sys.argv[1])
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
model = load_checkpoint(sys.argv[2])
weights = sum(parameter.numel() for parameter in model.parameters()) * 4
print((resident("VmHWM") - before) / weights)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 2.0), (torch.float32, 2.4)])
def test_peak(dtype, limit, tmp_path):
    for name, layers in (("small", 1), ("large", 8)):
        with torch.device("meta"):
            shapes = MiniMindForCausalLM(MiniMindConfig(num_hidden_layers=layers)).state_dict()
        state = {key: torch.full(tensor.shape, 0.01, dtype=dtype) for key, tensor in shapes.items()}
        torch.save(state, tmp_path / f"{name}.pth")
    command = [sys.executable, "-c", MEASURE, tmp_path / "small.pth", tmp_path / "large.pth"]
    ratio = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 0.9 < ratio < limit
