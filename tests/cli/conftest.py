"""The installed console scripts, run as a user runs them, and the small model that they run on."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

SCRIPTS = Path(sysconfig.get_path("scripts"))
ENVIRONMENT = {"COLUMNS": "100", "TERM": "dumb"}

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
VOCABULARY = 2048


def run_command(name, *arguments, stdin="", cwd=None, env=None, preexec_fn=None):
    result = subprocess.run(
        [SCRIPTS / name, *map(str, arguments)],
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        capture_output=True,
        cwd=cwd,
        env={**os.environ, **ENVIRONMENT, **(env or {})},
        preexec_fn=preexec_fn,
        timeout=300,
        check=False,
    )
    stdout, stderr = result.stdout.decode(), result.stderr.decode()
    return subprocess.CompletedProcess(result.args, result.returncode, stdout, stderr)


def complaint(stderr: str) -> str:
    """The one line that a failed command leaves on stderr, behind the stages it had come to."""
    lines = [line for line in stderr.splitlines() if not line.startswith("[")]
    assert len(lines) == 1, f"expected one line on stderr: {stderr}"
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(scope="session")
def command():
    """Run `name argument ...` in a process of its own; exit code, stdout and stderr as text.

    Keyword arguments: `stdin` (str or bytes), `cwd`, `env` (added to this process's), `preexec_fn`.
    """
    return run_command


@pytest.fixture(scope="session")
def cpu_seconds():
    """The least processor time of a command in five runs; unlike wall time, it hardly notices other programs."""

    def measure(*words):
        seconds = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([*map(str, words)], capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(seconds)

    return measure


@pytest.fixture(scope="session")
def refused():
    """Run a command that must fail: the exit code given, nothing on stdout, one line on stderr; returns that line."""

    def run(code, *arguments, **keywords):
        result = run_command(*arguments, **keywords)
        assert result.returncode == code, f"exit {result.returncode}, expected {code}: {result.stderr}"
        assert result.stdout == ""
        return complaint(result.stderr)

    return run


@pytest.fixture(scope="session")
def export_in_process():
    """Run `minimind-export` inside this process, which has torch imported already; its exit code."""
    import typer

    from minimind_edge.cli.entry import guarded
    from minimind_edge.cli.export_app import app

    def run(*arguments):
        program = typer.main.get_command(app)
        words = list(map(str, arguments))
        return guarded(lambda: program.main(args=words, prog_name="minimind-export", standalone_mode=False))

    return run


@pytest.fixture
def export_here(export_in_process, capsys):
    """As `command`, for `minimind-export` inside this process."""

    def run(*arguments):
        code = export_in_process(*arguments)
        told = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, told.out, told.err)

    return run


@pytest.fixture
def refused_here(export_here):
    """As `refused`, for `minimind-export` inside this process."""

    def run(code, *arguments):
        result = export_here(*arguments)
        assert result.returncode == code, f"exit {result.returncode}, expected {code}: {result.stderr}"
        assert result.stdout == ""
        return complaint(result.stderr)

    return run


@pytest.fixture(scope="session")
def demo_folder():
    """The folder of the bundled dense checkpoint."""
    from minimind_edge.export.bundled import bundled_checkpoint

    return bundled_checkpoint(moe=False).parent


def tiny_model(**config):
    """A random model with a vocabulary as large as the bundled tokenizer's, lively enough not to repeat one token."""
    import torch

    from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 128, "num_hidden_layers": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 8192}
    model = MiniMindForCausalLM(MiniMindConfig(**shape | config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("norm.weight"):
                parameter.normal_(std=0.3)
    return model


def write_checkpoint(folder: Path, demo_folder: Path, **config) -> Path:
    """A folder as users have it: `full_sft_128.pth`, its config as JSON, and the tokenizer."""
    import torch

    folder.mkdir()
    torch.save(tiny_model(**config).state_dict(), folder / "full_sft_128.pth")
    for name in TOKENIZER_FILES:
        shutil.copy(demo_folder / name, folder)
    return folder / "full_sft_128.pth"


@pytest.fixture(scope="session")
def make_checkpoint(demo_folder):
    """Write a small checkpoint into a new folder; keyword arguments go to its config."""
    return lambda folder, **config: write_checkpoint(folder, demo_folder, **config)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, make_checkpoint):
    """A small dense checkpoint with its tokenizer."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "dense")


@pytest.fixture(scope="session")
def exported(tmp_path_factory, checkpoint):
    """The answer of `minimind-export onnx` for that checkpoint, and its artifact folder."""
    folder = tmp_path_factory.mktemp("artifact") / "tiny"
    return run_command("minimind-export", "onnx", checkpoint, "-o", folder), folder


@pytest.fixture(scope="session")
def artifact(exported):
    """The artifact folder of the small dense checkpoint."""
    result, folder = exported
    assert result.returncode == 0, result.stderr
    return folder
