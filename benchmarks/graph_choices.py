"""The operators of an `ort` graph by themselves, in the forms that it could have: medians of runs in turns.

    python benchmarks/graph_choices.py [products] [attention] [experts] [--rows 1] [--past 140] [--threads 2]

Shapes are those of a 26M MiniMind2, experts those of MiniMind-3. The weights are random: only time is measured.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

MICROSOFT = "com.microsoft"
HIDDEN, WIDTH = 512, 1408
HEADS, KEY_HEADS, HEAD_DIM, CAPACITY = 8, 2, 64, 1024
EXPERTS, EXPERT_HIDDEN, EXPERT_WIDTH = 4, 768, 2432
RUNS, WARM_UP, ROUNDS = 20, 5, 9
PAUSE = 0.15
"""Seconds between two contestants: idle workers spin that long, and would take a core from the next."""

Arrays = dict[str, np.ndarray]
Contestant = tuple[list[onnx.NodeProto], Arrays, Arrays]
"""Nodes that make `y`, weights, inputs."""


def main() -> None:
    """Measure the groups that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", default=[*GROUPS], choices=[*GROUPS])
    parser.add_argument("--rows", type=int, default=1, help="tokens of a run")
    parser.add_argument("--past", type=int, default=140, help="slots before them")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    for group in arguments.groups:
        print(f"{group}, {arguments.rows} row(s), {arguments.threads} thread(s), onnxruntime {onnxruntime.__version__}")
        race(GROUPS[group](arguments.rows, arguments.past), arguments.threads)


def products(rows: int, past: int) -> dict[str, Contestant]:
    """`x` [rows, 512] times a weight of 1,408 outputs."""
    del past
    random = np.random.default_rng(0)
    x = {"x": random.standard_normal((1, rows, HIDDEN), np.float32)}
    found: dict[str, Contestant] = {}
    for bits in (4, 8):
        for block in (32, 64, 128, 256):
            for zero_points in (False, True):
                name = f"MatMulNBits int{bits} block {block}{' zero points' if zero_points else ''}"
                weights = blocks(random, (WIDTH,), HIDDEN, bits, block, zero_points=zero_points)
                node = helper.make_node(
                    *("MatMulNBits", ["x", *weights], ["y"]),
                    **{"domain": MICROSOFT, "K": HIDDEN, "N": WIDTH, "bits": bits, "block_size": block},
                    accuracy_level=4,
                )
                found[name] = [node], weights, x
    weight = random.standard_normal((HIDDEN, WIDTH), np.float32)
    found["MatMul float32"] = [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, x
    turned = {"w": np.ascontiguousarray(weight.T)}
    found["FusedMatMul float32"] = (
        [helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain=MICROSOFT, transB=1)],
        turned,
        x,
    )
    integers = {"w": random.integers(-100, 100, (HIDDEN, WIDTH), np.int8), "s": np.full(WIDTH, 0.01, np.float32)}
    dynamic = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s"], ["y"], domain=MICROSOFT)
    return found | {"DynamicQuantizeMatMul int8": ([dynamic], integers, x)}


def attention(rows: int, past: int) -> dict[str, Contestant]:
    """GroupQueryAttention with and without what makes padded rows right."""
    random, total = np.random.default_rng(0), past + rows
    every: Arrays = {
        "qkv": random.standard_normal((1, rows, (HEADS + 2 * KEY_HEADS) * HEAD_DIM), np.float32),
        "past_key": random.standard_normal((1, KEY_HEADS, CAPACITY, HEAD_DIM), np.float32),
        "past_value": random.standard_normal((1, KEY_HEADS, CAPACITY, HEAD_DIM), np.float32),
        "seqlens_k": np.array([total - 1], np.int32),
        "total": np.array([total], np.int32),
        "cos": random.standard_normal((CAPACITY, HEAD_DIM // 2), np.float32),
        "sin": random.standard_normal((CAPACITY, HEAD_DIM // 2), np.float32),
        "positions": np.arange(past, total)[None],
        "bias": np.zeros((1, 1, rows, total), np.float32),
        "query_seqlens": np.array([rows], np.int32),
    }
    found = {}
    for name, left_out in {
        "as the graph has it": (),
        "no attention_bias": ("bias",),
        "no query_seqlens": ("query_seqlens",),
        "neither": ("bias", "query_seqlens"),
    }.items():
        given = {key: array for key, array in every.items() if key not in left_out}
        slots = ("qkv", "", "", *[*every][1:9], *[""] * 5, "query_seqlens")
        node = helper.make_node(
            *("GroupQueryAttention", [slot if slot in given else "" for slot in slots], ["y", "key", "value"]),
            **{"domain": MICROSOFT, "num_heads": HEADS, "kv_num_heads": KEY_HEADS, "do_rotary": 1},
        )
        found[name] = [node], {}, given
    return found


def experts(rows: int, past: int) -> dict[str, Contestant]:
    """One block's four experts of which each token chooses one."""
    del past
    random = np.random.default_rng(0)
    x = {
        "x": random.standard_normal((1, rows, EXPERT_HIDDEN), np.float32),
        "router": random.standard_normal((rows, EXPERTS), np.float32),
    }
    swiglu = {"domain": MICROSOFT, "k": 1, "activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.0}
    shapes = {"w1": (EXPERTS, 2 * EXPERT_WIDTH, EXPERT_HIDDEN), "w2": (EXPERTS, EXPERT_HIDDEN, EXPERT_WIDTH)}
    floats = {name: random.standard_normal(shape, np.float32) * 0.02 for name, shape in shapes.items()}
    node = helper.make_node("MoE", ["x", "router", "w1", "", "w2"], ["y"], activation_beta=0.0, **swiglu)
    found: dict[str, Contestant] = {"MoE float32": ([node], floats, x)}
    for bits, block, level in ((4, 32, 0), (4, 32, 4), (4, 128, 4), (8, 32, 4), (8, 128, 4)):
        w1 = blocks(random, shapes["w1"][:2], EXPERT_HIDDEN, bits, block)
        w2 = blocks(random, shapes["w2"][:2], EXPERT_WIDTH, bits, block)
        flat = {
            f"{key}{number}": array.reshape(*array.shape[:2], -1) if key == "w" else array
            for number, weights in enumerate((w1, w2), start=1)
            for key, array in weights.items()
        }
        node = helper.make_node(
            *("QMoE", ["x", "router", "w1", "s1", "", "w2", "s2"], ["y"]),
            **{"expert_weight_bits": bits, "block_size": block, "accuracy_level": level, "activation_beta": 0.0},
            **swiglu,
        )
        found[f"QMoE int{bits} block {block} level {level}"] = [node], flat, x
    return found


GROUPS: dict[str, Callable[[int, int], dict[str, Contestant]]] = {
    "products": products,
    "attention": attention,
    "experts": experts,
}


def blocks(
    random: np.random.Generator, rows: tuple[int, ...], inputs: int, bits: int, block: int, *, zero_points: bool = False
) -> Arrays:
    """Random integers, scales and zero points of a weight."""
    count = inputs // block
    found: Arrays = {
        "w": random.integers(0, 256, (*rows, count, block * bits // 8), np.uint8),
        "s": random.random((*rows, count), np.float32) * 0.01,
    }
    if zero_points:
        found["z"] = random.integers(0, 256, (*rows, -(-count * bits // 8)), np.uint8)
    return found


class Run:
    """A contestant, bound."""

    def __init__(self, contestant: Contestant, threads: int) -> None:
        nodes, weights, inputs = contestant
        outputs = [name for node in nodes for name in node.output]
        graph = helper.make_graph(
            nodes,
            "choice",
            [onnx.helper.make_tensor_value_info(name, code(array), array.shape) for name, array in inputs.items()],
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
            [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
        self.binding: Any = self.session.io_binding()
        self.values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        for name, value in self.values.items():
            self.binding.bind_ortvalue_input(name, value)
        for name in outputs:
            past = self.values.get(f"past_{name}")
            if past is None:
                self.binding.bind_output(name)
            else:
                self.binding.bind_ortvalue_output(name, past)

    def seconds(self) -> float:
        """Of one run, the median of `RUNS`."""
        time.sleep(PAUSE)
        times = []
        for _ in range(WARM_UP + RUNS):
            start = time.perf_counter()
            self.session.run_with_iobinding(self.binding)
            times.append(time.perf_counter() - start)
        return statistics.median(times[WARM_UP:])


def code(array: np.ndarray) -> int:
    """The element type of an input."""
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def race(contestants: dict[str, Contestant], threads: int) -> None:
    """Run all in turns, and print a line each."""
    runs = {name: Run(contestant, threads) for name, contestant in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(run.seconds())
    first = times[next(iter(times))]
    for name, found in times.items():
        ratio = statistics.median(one / other for one, other in zip(found, first, strict=True))
        print(f"  {name:36}{statistics.median(found) * 1e6:10.1f} us  {ratio:5.2f}")


if __name__ == "__main__":
    main()
