"""Run a bundle on emulated 64-bit Arm, and compare what it computes with this machine.

    scripts/arm64_userland.sh .arm64
    python scripts/test_arm64.py [--folder .arm64]

`minimind-export bundle` packs the demo for Arm, and the bundle's own script installs it there, without network. In that
environment the bundle answers by `run.sh` and `serve.sh`, a part of the unit tests runs, and each target and precision
computes on each of QEMU's processors what it computes here. An emulator's times say nothing about a device, so none are
shown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from arm64_answers import PROMPTS
from bundle_sizes import wrong_size
from numpy.typing import NDArray

from minimind_edge.export.bundle.platforms import platform_of
from minimind_edge.export.bundle.wheels import download_wheel
from minimind_edge.export.parity.tolerance import rounded_weights_tolerance, tolerance_of

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = Path(sysconfig.get_path("scripts"))
PLATFORM = "linux-aarch64"
PYTHON = "3.11"
CPUS = {"cortex-a72": "Raspberry Pi 4", "cortex-a76": "Raspberry Pi 5", "max": "all that QEMU knows"}
EXPORTS = {
    "fp32": ("--precision", "fp32"),
    "int8": ("--precision", "int8"),
    "int4": ("--precision", "int4"),
    "MoE": ("--moe",),
    "portable": ("--target", "portable"),
}
BUNDLED = "fp32"
UNIT_TESTS = (
    "tests/unit/batch/test_answers.py",
    "tests/unit/batch/test_batch_engine.py",
    "tests/unit/batch/test_prefixes.py",
    "tests/unit/batch/test_scheduler.py",
    "tests/unit/session/test_compact_layout.py",
    "tests/unit/session/test_graph_facts.py",
    "tests/unit/session/test_session.py",
    "tests/unit/session/test_session_slots.py",
    "tests/unit/session/test_slot_mask.py",
    "tests/unit/text/test_prompt_lookup.py",
    "tests/unit/text/test_stop.py",
    "tests/unit/text/test_think.py",
    "tests/unit/test_options.py",
)
"""Unit tests of the runtime that need neither torch nor transformers."""

TOO_LONG = "tests/unit/batch/test_batch_engine.py::test_two_hundred_requests_from_threads_that_cancel_at_random"
"""A test of Python's threads alone, which takes as long under emulation as all the others."""

TEST_PACKAGES = ("pytest", "pluggy", "iniconfig", "pygments", "onnx", "ml_dtypes")

AT_ONCE = 2
"""Emulators that run at the same time; each uses one core."""


def main() -> int:
    """Run all of it, print a line for each part, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / ".arm64", help="where the user land is")
    folder = parser.parse_args().folder.resolve()
    if not no_network():
        print("unshare is not allowed here: the network is not cut off", file=sys.stderr)
    artifacts = folder / "artifacts"
    shutil.rmtree(artifacts, ignore_errors=True)
    export(artifacts / BUNDLED)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        bundle = pool.submit(install_bundle, folder, artifacts / BUNDLED)
        list(pool.map(export, (artifacts / name for name in EXPORTS if name != BUNDLED)))
        here = answers([sys.executable], folder / "here.npz", artifacts)
        text = run([COMMANDS / "minimind-run", "--engine", artifacts / BUNDLED, "--greedy", PROMPTS[0]])
        device, size = bundle.result()
        python = device / "venv" / "bin" / "python"
        parts = {
            "unit tests": pool.submit(passes_unit_tests, folder, python),  # the longest first
            "size in docs/bundle.md": pool.submit(wrong_size, PLATFORM, size, serve=True),
            "run.sh": pool.submit(answers_without_network, device, text),
            "serve.sh": pool.submit(serves, device, text.strip()),
        }
        there = {cpu: pool.submit(answers, [python], folder / f"{cpu}.npz", artifacts, cpu) for cpu in CPUS}
        faults = []
        for cpu, found in there.items():
            for name in EXPORTS:
                faults.append(told(f"{name} on {cpu} ({CPUS[cpu]})", differs(name, here, found.result())))
        faults += [told(name, part.result()) for name, part in parts.items()]
    right = faults.count("")
    print(f"{right} of {len(faults)}")
    return 0 if right == len(faults) else 1


def told(part: str, fault: str) -> str:
    """Print how a part went, and return its fault."""
    print(f"{part}: {fault or 'as on this machine'}", flush=True)
    return fault


def export(artifact: Path) -> None:
    """Export a bundled model for the target and the precision of an artifact's name."""
    options = EXPORTS[artifact.name]
    command = [COMMANDS / "minimind-export", "onnx", *options, "-o", artifact, "--no-verify"]
    run(command, stderr=subprocess.DEVNULL, OMP_NUM_THREADS="1")  # several run at once


def install_bundle(folder: Path, artifact: Path) -> tuple[Path, int]:
    """Make a bundle with the server, and install it by its own script on emulated Arm, without network.

    Returns:
        The bundle's folder, and the bytes that it took before.
    """
    device = folder / "device"
    shutil.rmtree(device, ignore_errors=True)
    options = ("--platform", PLATFORM, "--python", PYTHON, "--serve", "--json")
    told = json.loads(run([COMMANDS / "minimind-export", "bundle", artifact, "-o", device, *options]))
    run([*no_network(), folder / "root" / "usr" / "bin" / "python3", device / "install.py"])
    return device, told["size"]


def answers_without_network(device: Path, text: str) -> str:
    """How the text of the bundle's `run.sh` differs; empty where it does not."""
    there = run([*no_network(), device / "run.sh", "--greedy", PROMPTS[0]])
    return "" if there == text and text.strip() else f"{there!r} instead of {text!r}"


def serves(device: Path, text: str) -> str:
    """How the bundle's server answers or ends otherwise; empty where it does not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with server([device / "serve.sh", "--port", str(port), "--slots", "2"]) as process:
        wait_for(process, f"http://127.0.0.1:{port}/health")
        body = {"model": "any", "messages": [{"role": "user", "content": PROMPTS[0]}], "temperature": 0}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as response:
            there = json.load(response)["choices"][0]["message"]["content"]
        process.send_signal(signal.SIGTERM)
        status = process.wait(300)
    if there.strip() != text:
        return f"{there!r} instead of {text!r}"
    return f"exit status {status} after SIGTERM" if status else ""


def passes_unit_tests(folder: Path, python: Path) -> str:
    """Whether a part of the unit tests fails there; empty where it passes."""
    packages = folder / "test-packages"
    shutil.rmtree(packages, ignore_errors=True)
    packages.mkdir()
    for name in TEST_PACKAGES:
        with zipfile.ZipFile(download_wheel(name, platform_of(PLATFORM), PYTHON, packages)) as wheel:
            wheel.extractall(packages)
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--deselect", TOO_LONG, *UNIT_TESTS]
    environment = {"PYTHONPATH": str(packages), "MINIMIND_EDGE_TEST_INSTALLED": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment_of(environment), stdout=subprocess.PIPE, text=True, check=False
    )
    print(done.stdout, end="", file=sys.stderr)
    return "" if done.returncode == 0 else f"pytest ends with {done.returncode}"


def answers(python: list[str | Path], output: Path, artifacts: Path, cpu: str = "") -> dict[str, NDArray[Any]]:
    """What `arm64_answers.py` finds for all artifacts."""
    paths = [artifacts / name for name in EXPORTS]
    run([*python, ROOT / "scripts" / "arm64_answers.py", output, *paths], CPU=cpu)
    with np.load(output) as found:
        return dict(found)


def differs(name: str, here: Mapping[str, NDArray[Any]], there: Mapping[str, NDArray[Any]]) -> str:
    """How an artifact computes something else there; empty where it does not.

    Tokens must be the same. Logits may differ as rounding explains it: of int8 and int4, each processor rounds
    activations in its own way, or not at all.

    Args:
        name: The artifact's.
        here: What `arm64_answers.py` found on this machine.
        there: What it found on emulated Arm.
    """
    if there["machine"] != "aarch64":
        return f"ran on {there['machine']}"
    tokens, wanted = there[f"{name} tokens"], here[f"{name} tokens"]
    if len(wanted) == 0 or tokens.tolist() != wanted.tolist():
        return f"tokens {tokens.tolist()} instead of {wanted.tolist()}"
    logits, wanted = there[f"{name} logits"], here[f"{name} logits"]
    error = float(abs(logits - wanted).max() / abs(wanted).max())
    allowed = logits_tolerance(name)
    return "" if error <= allowed else f"logits differ by {error:.1e} of the largest, more than {allowed:.1e}"


def logits_tolerance(name: str) -> float:
    """The largest difference of two logits that rounding explains, over the largest logit."""
    layers = 4
    return (rounded_weights_tolerance(layers) if name in ("int8", "int4") else tolerance_of("fp32", layers)).logits_rel


def no_network() -> list[str]:
    """The command before one that is to see no network; empty where the system does not allow it."""
    command = ["unshare", "--map-root-user", "--net"]
    allowed = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    return command if allowed else []


@contextmanager
def server(command: list[str | Path]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended at the latest when the context is."""
    with subprocess.Popen(command, env=environment_of(), stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(process: subprocess.Popen[bytes], url: str, seconds: float = 300) -> None:
    """Wait until a server answers.

    Raises:
        RuntimeError: It ended, or the time is over.
    """
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except OSError:
            time.sleep(1)
    raise RuntimeError(f"no server at {url}")


def run(command: list[str | Path], stderr: int | None = None, **environment: str) -> str:
    """What a command prints; its failure ends this script."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True, env=environment_of(environment)
    )
    return done.stdout


def environment_of(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: this process's, without what gives Python other packages, and `more`."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | dict(more or {})


if __name__ == "__main__":
    sys.exit(main())
