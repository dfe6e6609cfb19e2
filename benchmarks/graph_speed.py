"""Graphs against one another in ONNX Runtime: a decode step and a prefill, in turns, medians.

    python benchmarks/graph_speed.py GRAPH[@CAPACITY] ... [--past 256] [--prefill 512] [--rounds 15] [--threads 1]

With CAPACITY, past and present are one buffer of so many slots. With one thread, CPU time is measured instead of wall
time, so that other load on the machine counts for less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime

STEPS = 20
"""Decode steps of one round."""

PAUSE = 0.15
"""Seconds between two contestants: idle workers spin that long, and would take a core from the next."""


@dataclass
class Contestant:
    """A graph with what is bound for a step and for a prefill, and what they took, seconds."""

    name: str
    session: onnxruntime.InferenceSession
    step: onnxruntime.IOBinding
    prefill: onnxruntime.IOBinding
    step_times: list[float] = field(default_factory=list)
    prefill_times: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, and print one line a graph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="+")
    parser.add_argument("--past", type=int, default=256, help="slots before a decode step")
    parser.add_argument("--prefill", type=int, default=512, help="tokens of a prefill")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    clock = time.thread_time if arguments.threads == 1 else time.perf_counter
    contestants = [enter(name, arguments) for name in arguments.graphs]
    for _ in range(arguments.rounds):
        for one in contestants:
            one.step_times.append(timed(one.session, one.step, STEPS, clock))
            one.prefill_times.append(timed(one.session, one.prefill, 1, clock))
    width = max(len(one.name) for one in contestants)
    print(f"onnxruntime {onnxruntime.__version__}, {arguments.threads} thread(s), {clock.__name__}")
    for one in contestants:
        print(
            f"{one.name:{width}}  decode at {arguments.past} {spread(one.step_times, 1e6)} us"
            f"   prefill of {arguments.prefill} {spread(one.prefill_times, 1e3)} ms"
        )


def enter(name: str, arguments: argparse.Namespace) -> Contestant:
    """Load a graph and bind its inputs."""
    path, _, capacity = name.partition("@")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    slots = int(capacity) if capacity else None
    step, prefill = bind(session, arguments.past, 1, slots), bind(session, 0, arguments.prefill, slots)
    return Contestant(f"{Path(path).stem}{'@' if capacity else ''}{capacity}", session, step, prefill)


def bind(session: onnxruntime.InferenceSession, past: int, length: int, capacity: int | None) -> onnxruntime.IOBinding:
    """Bind arrays of one run of `length` tokens behind `past` slots; they live as long as the binding."""
    binding, alive = session.io_binding(), []

    def value(array: np.ndarray) -> onnxruntime.OrtValue:
        alive.append(array)
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)

    binding.bind_ortvalue_input("input_ids", value(np.arange(length)[None] % 100))
    binding.bind_ortvalue_input("attention_mask", value(np.ones((1, past + length), np.int64)))
    binding.bind_ortvalue_input("position_ids", value(np.arange(past, past + length)[None]))
    for node in session.get_inputs()[3:]:
        dtype = np.float16 if "float16" in node.type else np.float32
        present = node.name.replace("past_key_values", "present")
        shape = (1, node.shape[1], past if capacity is None else capacity, node.shape[3])
        cache = value(np.random.default_rng(0).standard_normal(shape).astype(dtype))
        binding.bind_ortvalue_input(node.name, cache)
        if capacity is None:
            cache = value(np.zeros((1, node.shape[1], past + length, node.shape[3]), dtype))
        binding.bind_ortvalue_output(present, cache)
    vocabulary, rows = session.get_outputs()[0].shape[2], length
    if any(node.name == "logits_start" for node in session.get_overridable_initializers()):
        binding.bind_ortvalue_input("logits_start", value(np.array([-1])))
        rows = 1
    binding.bind_ortvalue_output("logits", value(np.zeros((1, rows, vocabulary), np.float32)))
    binding.alive = alive
    return binding


def timed(session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding, count: int, clock) -> float:
    """Seconds of one run, mean of `count` after one that warms up."""
    time.sleep(PAUSE)
    session.run_with_iobinding(binding)
    start = clock()
    for _ in range(count):
        session.run_with_iobinding(binding)
    return (clock() - start) / count


def spread(times: list[float], scale: float) -> str:
    """Median and range."""
    return f"{statistics.median(times) * scale:8.1f} ({min(times) * scale:.1f} to {max(times) * scale:.1f})"


if __name__ == "__main__":
    main()
