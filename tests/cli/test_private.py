"""What the commands ask of the operating system: no connection to anywhere, and no file outside their own places."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import time
import urllib.request
from pathlib import Path

import pytest

SCRIPTS = Path(sysconfig.get_path("scripts"))
STRACE = shutil.which("strace")
WRITES = "creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,truncate,mknod,mknodat"
CALLS = f"trace=socket,connect,sendto,open,openat,openat2,{WRITES}"
CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*) = (-?\d+|\?)")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
FOR_WRITING = re.compile(r"\bO_(?:WRONLY|RDWR|CREAT|TRUNC)\b")
DEVICES = (Path("/dev"), Path("/proc/self"))
LOOKED_UP_AFTER_S = 12.0
"""A session with telemetry resolves its server's name about nine seconds after it has started."""

pytestmark = pytest.mark.skipif(STRACE is None, reason="strace is not installed")


def can_trace() -> bool:
    return subprocess.run([str(STRACE), "-qq", "true"], capture_output=True, check=False).returncode == 0


class Traced:
    """A command under strace, with a home and a temporary folder of its own; both begin empty."""

    def __init__(self, folder: Path, *words: object) -> None:
        folder.mkdir()
        self.log, self.home, self.temporary = folder / "strace.log", folder / "home", folder / "tmp"
        self.home.mkdir()
        self.temporary.mkdir()
        environment = os.environ | {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TERM": "dumb",
        }
        for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME"):
            environment.pop(name, None)
        command = [str(STRACE), "-f", "-qq", "--seccomp-bpf", "-s", "4096", "-e", CALLS, "-o", str(self.log)]
        self._process = subprocess.Popen(
            [*command, str(SCRIPTS / str(words[0])), *map(str, words[1:])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=folder,
        )
        self._folder = folder

    def finish(self, stdin: str = "") -> Traced:
        out, err = self._process.communicate(stdin.encode(), timeout=300)
        assert self._process.returncode == 0, err.decode()
        assert out
        return self

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()

    def read_until(self, mark: str) -> str:
        """The line of stderr that has a mark."""
        assert self._process.stderr is not None
        return next(line for line in map(bytes.decode, self._process.stderr) if mark in line)

    def terminate(self) -> None:
        """Send SIGTERM to the command, whose strace then ends by itself."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)

    def calls(self) -> list[tuple[str, str]]:
        """Name and arguments of the calls that succeeded; what strace has seen nothing of is a failure of the test."""
        found = [
            match.groups() for match in map(CALL.match, self.log.read_text("utf-8", "replace").splitlines()) if match
        ]
        assert any(name == "openat" for name, _, _ in found)
        return [(name, arguments) for name, arguments, result in found if not result.startswith("-")]

    def internet_sockets(self) -> list[str]:
        """Sockets of any family except those between the processes of this machine."""
        return [
            words for name, words in self.calls() if name == "socket" and not words.startswith(("AF_UNIX", "AF_LOCAL"))
        ]

    def written(self) -> set[Path]:
        """Files and folders that were made or opened for writing, the machine's devices left out."""
        paths = set()
        for name, arguments in self.calls():
            quoted = QUOTED.findall(arguments)
            opened = name.startswith("open")
            if quoted and (FOR_WRITING.search(arguments) if opened else name in WRITES.split(",")):
                paths.add(self._folder / quoted[-1])
        return {path for path in paths if not any(path.is_relative_to(device) for device in DEVICES)}

    def outside(self, *places: Path) -> list[str]:
        """What was written outside the places given."""
        return sorted(str(path) for path in self.written() if not any(path.is_relative_to(place) for place in places))


@pytest.fixture(scope="module", autouse=True)
def _strace_may_trace():
    if not can_trace():
        pytest.skip("strace may not trace processes here")


@pytest.fixture(scope="module")
def chat(tmp_path_factory, artifact):
    """A chat that stays open while the other commands run, long enough for what happens late to happen."""
    traced, began = (
        Traced(tmp_path_factory.mktemp("chat") / "it", "minimind-run", "--engine", artifact, "--chat"),
        time.monotonic(),
    )
    traced.say("hello\n")
    yield lambda: _end_of(traced, began)


def _end_of(traced: Traced, began: float) -> Traced:
    time.sleep(max(0.0, LOOKED_UP_AFTER_S - (time.monotonic() - began)))
    return traced.finish()


@pytest.mark.usefixtures("chat")
class TestCommandsThatOnlyRead:
    """`run`, `bench` and `eval` print their answer, and write no file."""

    @pytest.mark.parametrize(
        "words",
        [
            ("minimind-run", "--engine", "ARTIFACT", "hello", "-n", "4"),
            ("minimind-bench", "ARTIFACT", "--prompt-tokens", "8", "--new-tokens", "4", "--runs", "1"),
            ("minimind-export", "eval", "ARTIFACT", "--text", "TEXT"),
        ],
        ids=lambda words: " ".join(words[:2]),
    )
    def test_they_connect_to_nothing_and_write_nothing(self, tmp_path, artifact, words):
        text = tmp_path / "text.txt"
        text.write_text("A fox met a bear. They became friends.")
        named = {"ARTIFACT": artifact, "TEXT": text}
        traced = Traced(tmp_path / "it", *(named.get(word, word) for word in words)).finish()
        assert traced.internet_sockets() == []
        assert traced.outside(traced.temporary) == []
        assert list(traced.home.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_opens_the_socket_that_it_listens_on_and_no_other(tmp_path, artifact, workers):
    traced = Traced(tmp_path / "it", "minimind-serve", artifact, "--port", "0", "--workers", workers)
    address = re.search(r"http://\S+", traced.read_until("serving "))
    assert address is not None
    body = b'{"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}'
    with urllib.request.urlopen(f"{address[0]}v1/chat/completions", body, timeout=60) as response:
        assert response.status == 200
    traced.terminate()
    traced.finish()
    (listening,) = traced.internet_sockets()
    assert listening.startswith("AF_INET, SOCK_STREAM")
    assert "connect" not in [name for name, arguments in traced.calls() if "AF_UNIX" not in arguments]
    cache = traced.home / ".cache"
    assert traced.outside(traced.temporary, cache) == []
    # The best number of threads, where there is a choice.
    kept = cache / "minimind-edge" / "threads.json"
    assert [path for path in traced.home.rglob("*") if path.is_file()] in ([], [kept])


def test_an_export_writes_into_its_destination_alone(tmp_path, checkpoint):
    place = tmp_path / "place"
    traced = Traced(tmp_path / "it", "minimind-export", "onnx", checkpoint, "-o", place / "model").finish()
    assert (place / "model" / "manifest.json").is_file()
    assert traced.internet_sockets() == []
    assert traced.outside(place, traced.temporary) == []
    assert list(traced.home.iterdir()) == []


def test_a_chat_that_stays_open_connects_to_nothing_and_writes_nothing(chat):
    traced = chat()
    assert traced.internet_sockets() == []
    assert traced.outside(traced.temporary) == []
    assert list(traced.home.iterdir()) == []
