"""Ctrl-C, SIGTERM and SIGHUP: every command ends at once, whatever it is computing, and removes what it was writing."""

from __future__ import annotations

import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from endless_graph import make_endless

pytestmark = pytest.mark.alone

SCRIPTS = Path(sysconfig.get_path("scripts"))

AT_ONCE = 1.0
"""Seconds from the signal to the end of the process."""

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}

PIPES = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.fixture(scope="module")
def endless(artifact, tmp_path_factory):
    """The artifact's graph, with a loop of 2**63 - 1 rounds at its end."""
    return make_endless(artifact / "onnx" / "model.onnx", tmp_path_factory.mktemp("endless") / "model.onnx")


def computing_s(process):
    """Processor time of a process, in seconds."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def send(process, name):
    """Send the signal; the exit code, what the process printed, and the seconds until its end."""
    sent = time.monotonic()
    process.send_signal(getattr(signal, name))
    code = process.wait(timeout=30)
    seconds = time.monotonic() - sent
    out, err = process.communicate()
    return code, out, err, seconds


@pytest.mark.skipif(sys.platform != "linux", reason="processor time is read from /proc")
@pytest.mark.parametrize("name", CODES)
def test_an_endless_graph_ends_with_the_signals_code(endless, name):
    with subprocess.Popen([SCRIPTS / "minimind-run", "--engine", endless, "--ids", "1,2,3"], **PIPES) as process:
        while computing_s(process) < 4 and process.poll() is None:  # imports and loading take about one
            time.sleep(0.05)
        code, out, err, seconds = send(process, name)
    assert (code, out.strip(), err) == (CODES[name], b"", b"")
    assert seconds < AT_ONCE


COMPUTING = """
import hashlib
import typer
from minimind_edge.cli.entry import run
from minimind_edge.export.artifact.staging import staged_folder

app = typer.Typer()

@app.command()
def compute(folder: str) -> None:
    with staged_folder(folder_of(folder)) as stage:
        (stage / "half").write_text("half")
        print("computing", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # half an hour without a step of Python

def folder_of(name):
    from pathlib import Path
    return Path(name)

run(app, "compute")
"""


@pytest.mark.parametrize("name", CODES)
def test_a_main_thread_that_never_comes_back_is_ended_and_what_it_wrote_removed(tmp_path, name):
    with subprocess.Popen([sys.executable, "-c", COMPUTING, tmp_path / "artifact"], **PIPES) as process:
        assert process.stdout.readline() == b"computing\n"
        time.sleep(0.5)
        assert len(list(tmp_path.iterdir())) == 2
        code, _, err, seconds = send(process, name)
    assert (code, err) == (CODES[name], b"")
    assert seconds < AT_ONCE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["SIGTERM"])
def test_an_export_that_is_told_to_end_leaves_nothing(checkpoint, tmp_path, name):
    words = [SCRIPTS / "minimind-export", "onnx", checkpoint, "-o", tmp_path / "artifact"]
    with subprocess.Popen(words, **PIPES) as process:
        while process.poll() is None and not list(tmp_path.iterdir()):
            time.sleep(0.01)
        code, out, _, seconds = send(process, name)
    assert (code, out) == (CODES[name], b"")
    assert seconds < AT_ONCE
    assert list(tmp_path.iterdir()) == []


IGNORING = """
import os, signal, time
import typer
from minimind_edge.cli.entry import run

app = typer.Typer()

@app.command()
def wait() -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.1)
    print("still here")

run(app, "wait")
"""


def test_what_nohup_ignores_stays_ignored():
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    result = subprocess.run([sys.executable, "-c", IGNORING], capture_output=True, check=False, preexec_fn=ignore)
    assert (result.returncode, result.stdout) == (0, b"still here\n")
