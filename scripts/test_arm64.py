"""Run the wheel on emulated 64-bit Arm, and compare its tokens with those of this machine.

    python scripts/test_arm64.py --wheel dist/minimind_edge-*.whl [--folder .arm64]

A user land for Arm is made by `arm64_userland.sh`; the wheel and all that it requires there are downloaded as
`minimind-export bundle` does. Then the bundled models, exported here for every target and precision, run on each of
QEMU's processors below; `minimind-run`, `minimind-serve` and a part of the unit tests run on the first one. An
emulator's times say nothing about a device, so none are shown.
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
import time
import urllib.request
import zipfile
from pathlib import Path

from minimind_edge.export.bundle.platforms import platform_of
from minimind_edge.export.bundle.wheels import collect_wheels, download_wheel
from minimind_edge.export.progress import silent

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.11"
CPUS = {"cortex-a72": "Raspberry Pi 4", "cortex-a76": "Raspberry Pi 5", "max": "all that QEMU knows"}
EXPORTS = {
    "fp32": ("--precision", "fp32"),
    "int8": ("--precision", "int8"),
    "int4": ("--precision", "int4"),
    "MoE": ("--moe",),
    "portable": ("--target", "portable"),
}
PROMPTS = ("What is the capital of France?", "讲一个关于狐狸的故事。")
NEW_TOKENS = 24
UNIT_TESTS = (
    "tests/unit/batch/test_answers.py",
    "tests/unit/batch/test_batch_engine.py",
    "tests/unit/batch/test_prefixes.py",
    "tests/unit/batch/test_scheduler.py",
    "tests/unit/text/test_prompt_lookup.py",
    "tests/unit/text/test_stop.py",
    "tests/unit/text/test_think.py",
    "tests/unit/session/test_compact_layout.py",
    "tests/unit/session/test_graph_facts.py",
    "tests/unit/session/test_slot_mask.py",
    "tests/unit/test_options.py",
)
"""The unit tests that need neither torch nor transformers."""

TEST_PACKAGES = ("pytest", "pluggy", "iniconfig", "hypothesis", "sortedcontainers", "pygments")

TOKENS_PROGRAM = f"""
import json, platform, sys
from minimind_edge.runtime import Engine

found = {{"machine": platform.machine()}}
for path in sys.argv[1:]:
    engine = Engine.load(path)
    found[path] = [engine.generate(p, greedy=True, max_new_tokens={NEW_TOKENS}).token_ids for p in {PROMPTS!r}]
print(json.dumps(found))
"""


def main() -> int:
    """Run all of it, print a line for each part, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=ROOT / ".arm64", help="where the user land is made and kept")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    subprocess.run([ROOT / "scripts" / "arm64_userland.sh", folder], check=True)
    install(arguments.wheel, folder)
    artifacts = export(folder / "artifacts")
    results = {f"tokens of {name}": outcome for name, outcome in tokens(folder, artifacts).items()}
    results["minimind-run"] = runs_command(folder, artifacts["fp32"])
    results["minimind-serve"] = serves(folder, artifacts["fp32"])
    results["unit tests"] = passes_unit_tests(folder)
    for name, is_right in results.items():
        print(f"{'as on this machine' if is_right else 'DIFFERENT':>20}  {name}")
    print(f"{sum(results.values())} of {len(results)}")
    return 0 if all(results.values()) else 1


def install(wheel: Path, folder: Path) -> None:
    """Unpack the wheel, and every wheel that it requires on Arm, where the emulated Python looks for packages."""
    wheels, site = folder / "wheels", folder / "site"
    for path in (wheels, site):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    platform = platform_of("linux-aarch64")
    own = Path(shutil.copy(wheel, wheels))
    found = [own, *collect_wheels(own, {"serve"}, platform, PYTHON, silent)]
    found += [download_wheel(name, platform, PYTHON, wheels) for name in TEST_PACKAGES]
    for path in found:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(site)


def export(folder: Path) -> dict[str, Path]:
    """Export the bundled models for every target and precision; an artifact that is there already is kept."""
    artifacts = {name: folder / name for name in EXPORTS}
    for name, options in EXPORTS.items():
        if not artifacts[name].exists():
            command = [sys.executable, *program("export_app"), "onnx", *options, "-o", artifacts[name]]
            subprocess.run([*command, "--no-verify"], check=True, stdout=subprocess.DEVNULL)
    return artifacts


def tokens(folder: Path, artifacts: dict[str, Path]) -> dict[str, bool]:
    """Whether each artifact gives this machine's greedy tokens on each processor."""
    program = ["-c", TOKENS_PROGRAM, *map(str, artifacts.values())]
    here = json.loads(output([sys.executable, *program]))
    same = {}
    for cpu, device in CPUS.items():
        there = json.loads(output([folder / "python", *program], CPU=cpu))
        assert there["machine"] == "aarch64", there["machine"]
        for name, path in artifacts.items():
            assert all(len(ids) > 1 for ids in here[str(path)]), "an answer without tokens compares nothing"
            same[f"{name} on {cpu} ({device})"] = there[str(path)] == here[str(path)]
    return same


def runs_command(folder: Path, artifact: Path) -> bool:
    """Whether `minimind-run` prints the same text."""
    here = answer_here(artifact)
    return bool(here.strip()) and output([folder / "python", *ask(artifact)]) == here


def serves(folder: Path, artifact: Path) -> bool:
    """Whether `minimind-serve` answers with the same text, and ends when it is told to."""
    here = output(
        [sys.executable, "-m", "minimind_edge.cli.run_app", "--engine", str(artifact), "--greedy", PROMPTS[0]]
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [folder / "python", *program("serve_app"), artifact, "--port", str(port), "--slots", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/health")
            body = {"model": "any", "messages": [{"role": "user", "content": PROMPTS[0]}], "temperature": 0}
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/chat/completions",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=120) as response:
                answer = json.load(response)["choices"][0]["message"]["content"]
            server.send_signal(signal.SIGTERM)
            return answer.strip() == here.strip() and server.wait(60) == 0
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)


def program(app: str) -> list[str]:
    """The arguments by which Python runs a command; the wheel's scripts are not unpacked."""
    return ["-c", f"from minimind_edge.cli.{app} import main; main()"]


def ask(artifact: Path) -> list[str]:
    """The arguments by which Python runs `minimind-run` on the first prompt."""
    return [*program("run_app"), "--engine", str(artifact), "--greedy", PROMPTS[0]]


def answer_here(artifact: Path) -> str:
    """What `minimind-run` prints on this machine."""
    return output([sys.executable, *ask(artifact)])


def wait_for(url: str, seconds: float = 180) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(1)


def passes_unit_tests(folder: Path) -> bool:
    """Whether the part of the unit tests passes."""
    command = [folder / "python", "-m", "pytest", "-p", "no:cacheprovider", "-q", *UNIT_TESTS]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def output(command: list[str | Path], **environment: str) -> str:
    """What a command prints; its failure ends this script."""
    result = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT / "scripts", env={**os.environ, **environment}
    )
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())
