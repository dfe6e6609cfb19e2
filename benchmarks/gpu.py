#!/usr/bin/env python3
"""Speed of a checkpoint on this machine's GPU: eager, torch.compile, ONNX Runtime's CUDA provider, and TensorRT.

    python benchmarks/gpu.py [CHECKPOINT] [-o results.json]

Everything is measured by the runtime's own loop (`minimind_edge.runtime.bench`): random prompts, greedy, batch 1. A
backend that is not installed or cannot run on this GPU is listed with its reason. Two more comparisons: attention by
`scaled_dot_product_attention` against attention written out, in prefill of 512, 1024 and 2048 tokens; and a greedy
token chosen on the host, which takes a copy of the logits, against one chosen on the device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.export.pipeline import export_onnx
from minimind_edge.export.request import ExportRequest
from minimind_edge.runtime.bench import BenchPlan, describe_machine, measure
from minimind_edge.runtime.errors import ContextLengthError, EdgeError, MissingError
from minimind_edge.runtime.tensorrt.cuda import CudaLibrary, find_device

if TYPE_CHECKING:
    import torch

    from minimind_edge.minimind import MiniMindForCausalLM
    from minimind_edge.runtime.session.model import Logits, TokenIds
    from minimind_edge.runtime.session.session import Session

ATTENTION_LENGTHS = (512, 1024, 2048)
MAX_LENGTH = 2560
PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13-bindings")


class TorchSession:
    """The methods of a `Session` over the PyTorch model, without padding; it reports no time inside the model."""

    def __init__(self, model: MiniMindForCausalLM, forward: Callable[..., Any], device: str) -> None:
        self._forward = forward
        self._device = device
        self.vocab_size = model.config.vocab_size
        self.max_length = MAX_LENGTH
        self.reset()

    run_s = 0.0
    gives_all_logits = False

    def reset(self, batch_size: int = 1) -> None:
        """See `Session.reset`."""
        self.batch_size, self.length = batch_size, 0
        self._past: Any = None

    def truncate(self, length: int) -> None:
        """See `Session.truncate`."""
        self.length = length
        self._past = [(key[:, :, :length], value[:, :, :length]) for key, value in self._past] if length else None

    def prefill(self, input_ids: TokenIds, attention_mask: TokenIds | None = None) -> Logits:
        """See `Session.prefill`; no padding."""
        if self.length + input_ids.shape[1] > self.max_length:
            raise ContextLengthError(f"{input_ids.shape[1]} more tokens after {self.length} exceed {self.max_length}")
        if not self.length:
            self.batch_size = len(input_ids)
        return self._run(input_ids)

    def decode(self, tokens: TokenIds) -> Logits:
        """See `Session.decode`."""
        return self._run(tokens[:, None])

    def _run(self, input_ids: TokenIds) -> Logits:
        import torch

        ids = torch.from_numpy(np.ascontiguousarray(input_ids)).to(self._device)
        with torch.inference_mode():
            output = self._forward(ids, past_key_values=self._past, use_cache=True, logits_to_keep=1)
        self._past = output.past_key_values
        self.length += input_ids.shape[1]
        logits: Logits = output.logits[:, -1].float().cpu().numpy()  # waits for the device
        return logits


def torch_sessions(checkpoint: Path, device: str) -> Iterator[tuple[str, Callable[[], Session]]]:
    """Sessions of the eager and the compiled model, in float32 and float16."""
    import torch

    for precision, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        model = load(checkpoint, dtype, device)
        yield f"eager {precision}", lambda model=model: TorchSession(model, model, device)
        compiled = torch.compile(model, dynamic=True)
        yield f"torch.compile {precision}", lambda model=model, run=compiled: TorchSession(model, run, device)


def exported_sessions(checkpoint: Path, folder: Path) -> Iterator[tuple[str, Callable[[], Session]]]:
    """Sessions of the CUDA provider and TensorRT, in float32 and float16; one that is not installed fails to load.

    The CUDA provider has fused attention in 16 bits only, so that there is no `ort` in float32.
    """
    for target, precision in (("portable", "fp32"), ("portable", "fp16"), ("ort", "fp16")):
        yield f"CUDA provider {target} {precision}", partial(cuda_session, checkpoint, folder, target, precision)
    for precision in ("fp32", "fp16"):
        for backend in ("rtx", "tensorrt"):
            yield f"{backend} {precision}", partial(plan_session, checkpoint, folder, backend, precision)


def cuda_session(checkpoint: Path, folder: Path, target: str, precision: str) -> Session:
    """A session of a graph on the CUDA provider."""
    from minimind_edge.runtime.load import load_session

    output = folder / f"{target}-{precision}"
    request = ExportRequest(checkpoint, output, target=target, precision=precision, max_length=MAX_LENGTH, verify=False)
    return load_session(export_onnx(request).graph, device="cuda")


def plan_session(checkpoint: Path, folder: Path, backend: str, precision: str) -> Session:
    """A session of a plan that is built on this machine."""
    from minimind_edge.export.plan import PlanRequest, build_plan
    from minimind_edge.runtime.load import load_session

    plan = folder / f"{backend}-{precision}" / "model.plan"
    request = PlanRequest(checkpoint, plan, backend=backend, precision=precision, max_length=MAX_LENGTH)
    return load_session(build_plan(request).plan)


def load(checkpoint: Path, dtype: torch.dtype, device: str, *, flash: bool = True) -> MiniMindForCausalLM:
    """The PyTorch model on a device."""
    from minimind_edge.minimind.checkpoint import load_checkpoint

    model = load_checkpoint(checkpoint, {"flash_attn": flash})
    return model.to(device=device, dtype=dtype)


def measured(name: str, make: Callable[[], Session], plan: BenchPlan) -> dict[str, Any]:
    """A row of results for each prompt length, or the reason why there is none."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    try:
        started = perf_counter()
        session = make()
        load_s = perf_counter() - started
        rows = [row.to_json() for row in measure(session, plan)]
    except (EdgeError, RuntimeError) as error:  # torch.compile raises RuntimeError where there is no compiler
        return {"name": name, "skipped": " ".join(str(error).split())[:300]}
    for row in rows:  # the PyTorch sessions do not report the time inside the model, so no overhead is compared
        for key in [key for key in row if key.startswith("step_overhead")]:
            del row[key]
    return {"name": name, "load_s": load_s, "rows": rows}


def attention_times(checkpoint: Path, device: str, runs: int) -> list[dict[str, Any]]:
    """The milliseconds of prefill in float16 with each form of attention."""
    import torch

    results = []
    for name, flash in (("flash", True), ("manual", False)):
        model = load(checkpoint, torch.float16, device, flash=flash)
        for length in ATTENTION_LENGTHS:
            ids = torch.randint(0, model.config.vocab_size, (1, length), device=device)
            times = [prefill_ms(model, ids) for _ in range(runs + 2)][2:]
            spread = {"prefill_ms": statistics.median(times), "prefill_ms_range": [min(times), max(times)]}
            results.append({"attention": name, "tokens": length, "runs": runs, **spread})
    return results


def prefill_ms(model: MiniMindForCausalLM, ids: torch.Tensor) -> float:
    """Milliseconds of one pass over a prompt; the device is idle before and after it."""
    import torch

    wait = torch.cuda.synchronize if ids.is_cuda else lambda: None
    wait()
    with torch.inference_mode():
        started = perf_counter()
        model(ids, use_cache=True, logits_to_keep=1)
        wait()
        return 1000 * (perf_counter() - started)


def vocab_size_of(checkpoint: Path) -> int:
    """The checkpoint's vocabulary size, V."""
    from minimind_edge.minimind.checkpoint import read_checkpoint

    return read_checkpoint(checkpoint).model.config.vocab_size


def greedy_times(vocab_size: int, device: str, runs: int) -> list[dict[str, Any]]:
    """Microseconds to choose a greedy token on the host, as sessions do, and on the device."""
    import torch

    results = []
    for rows in (1, 8):
        logits = torch.randn(rows, vocab_size, device=device)
        pinned = torch.empty(rows, vocab_size, pin_memory=device == "cuda")

        def on_host(logits: torch.Tensor = logits, pinned: torch.Tensor = pinned) -> Any:
            pinned.copy_(logits)
            return pinned.numpy().argmax(-1)

        def on_device(logits: torch.Tensor = logits) -> Any:
            return logits.argmax(-1).cpu()

        for name, choose in (("host", on_host), ("device", on_device)):
            times = [1e6 * timed(choose) for _ in range(100 * runs + 10)][10:]
            spread = {"median_us": statistics.median(times), "range_us": [min(times), max(times)]}
            results.append({"greedy": name, "rows": rows, "runs": len(times), **spread})
    return results


def timed(call: Callable[[], Any]) -> float:
    """Seconds of a call that waits for its result."""
    started = perf_counter()
    call()
    return perf_counter() - started


def versions() -> dict[str, str]:
    """Versions of the measured packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?", help="left out: the bundled demo")
    parser.add_argument("-o", "--output", type=Path, help="JSON file; left out: stdout")
    parser.add_argument("--prompt-tokens", default="128,512")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def main() -> int:
    """Measure everything that is installed; exit code 4 without a GPU."""
    options = arguments()
    try:
        device = find_device(CudaLibrary())
    except MissingError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    checkpoint = options.checkpoint or bundled_checkpoint(moe=False)
    plan = BenchPlan(tuple(map(int, options.prompt_tokens.split(","))), options.new_tokens, 1, options.runs)
    with tempfile.TemporaryDirectory() as folder:
        sessions = [*torch_sessions(checkpoint, "cuda"), *exported_sessions(checkpoint, Path(folder))]
        results = [measured(name, make, plan) for name, make in sessions]
    report = {
        "device": asdict(device) | {"capability": str(device.capability)},
        "machine": describe_machine(),
        "versions": versions(),
        "checkpoint": checkpoint.name,
        "results": results,
        "attention": attention_times(checkpoint, "cuda", options.runs),
        "greedy": greedy_times(vocab_size_of(checkpoint), "cuda", options.runs),
    }
    text = json.dumps(report, indent=2)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
