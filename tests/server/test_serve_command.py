"""`minimind-serve` as users run it: its answers, its signals, its workers, and what it says when it cannot serve."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest
from random_requests import random_request
from served_command import ServedCommand, chat, wait_until

from minimind_edge.runtime import Engine
from minimind_edge.server import workers
from minimind_edge.server.serving import progress
from minimind_edge.server.settings import ServeSettings

SCRIPTS = Path(sysconfig.get_path("scripts"))
STORY = "Tell me a story about a fox."
QUESTION = "What is the capital of France?"
LONG = {"temperature": 1.0, "seed": 1, "max_tokens": 4000, "ignore_eos": True, "stream": True}
"""An answer that goes on until the context is full."""


@pytest.fixture(scope="module")
def demo(export_demo) -> Path:
    """The bundled model in float32."""
    return export_demo(target="ort")


@pytest.fixture(scope="module")
def expected(demo) -> str:
    """The greedy answer of the engine alone."""
    return Engine.load(demo, threads=1, speculate=False).generate(QUESTION, max_new_tokens=24, greedy=True).text


@pytest.fixture(scope="module")
def served(demo):
    """The command with the bundled model, for tests that change nothing about it."""
    with ServedCommand(demo, "--threads", 1, "--slots", 2, "--queue", 1) as command:
        yield command


class TestAnswers:
    def test_are_those_of_the_engine(self, served, expected):
        answer = served.ask(QUESTION).json()
        assert answer["choices"][0]["message"]["content"] == expected
        assert answer["model"] == "demo"

    def test_are_logged_in_one_line_without_their_text(self, served):
        answer = served.ask(QUESTION)
        wait_until(lambda: any(line["request_id"] == answer.headers["x-request-id"] for line in served.lines()))
        line = next(line for line in served.lines() if line["request_id"] == answer.headers["x-request-id"])
        usage = answer.json()["usage"]
        assert (line["model"], line["status"], line["reason"]) == ("demo", 200, "stop")
        assert (line["prompt_tokens"], line["completion_tokens"]) == (
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )
        assert "capital" not in "".join(served.logged)

    def test_are_counted(self, served):
        question = f"{QUESTION} {STORY}"  # long enough that it is looked for
        served.ask(question)
        before, usage = served.figures(), served.ask(question).json()["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] > 0
        after = served.figures()
        label = '{model_name="demo"}'
        for name, field in (("prompt_tokens", "prompt_tokens"), ("generation_tokens", "completion_tokens")):
            assert after[f"vllm:{name}_total{label}"] - before[f"vllm:{name}_total{label}"] == usage[field]
        assert after["llamacpp:tokens_predicted_total"] == after[f"vllm:generation_tokens_total{label}"]
        # llama-server counts the tokens of cached prefixes by themselves.
        cached, name = usage["prompt_tokens_details"]["cached_tokens"], "llamacpp:prompt_tokens"
        assert after[f"{name}_cached_total"] - before[f"{name}_cached_total"] == cached
        assert after[f"{name}_total"] - before[f"{name}_total"] == usage["prompt_tokens"] - cached
        for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time"):
            assert after[f"vllm:{name}_seconds_count{label}"] == before[f"vllm:{name}_seconds_count{label}"] + 1

    def test_a_client_that_goes_away_frees_its_slot(self, served):
        with begin(served):
            wait_until(lambda: served.running() == 1)
        wait_until(lambda: served.running() == 0)

    def test_a_full_queue_is_429(self, served):
        with begin(served), begin(served):
            wait_until(lambda: served.running() == 2)
            with begin(served):
                wait_until(lambda: served.figures()["llamacpp:requests_deferred"] == 1)
                refused = served.ask(QUESTION)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        wait_until(lambda: served.running() == 0)

    def test_the_page_is_there_and_loads_from_here_alone(self, served):
        with served.client() as client:
            page = client.get("/")
            assert page.headers["content-type"].startswith("text/html")
            assert "default-src 'none'" in page.headers["content-security-policy"]
            for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
                assert client.get(f"/{path}").status_code == 200
            (model,) = client.get("/page.json").json()["models"]
        assert (model["model"], model["chats"], model["manifest"]["checkpoint"]["generation"]) == (
            "demo",
            True,
            "minimind2",
        )


def test_no_body_is_the_servers_fault(served):
    """Every random request is answered or refused; OpenAI's form is kept in every refusal."""
    with served.client() as client:
        for seed in range(150):
            path, body = random_request(random.Random(seed))
            answer = client.post(path, content=body)
            assert answer.status_code in (200, 400, 404, 429), (seed, path, body, answer.text)
            if answer.status_code != 200:
                assert answer.json()["error"]["message"], (seed, path, body)


class TestTheEnd:
    def test_sigterm_lets_running_answers_finish(self, demo):
        with ServedCommand(demo, "--threads", 1, "--slots", 2) as command, command.client() as client:
            with client.stream(
                "POST", "/v1/chat/completions", json=chat(STORY, **LONG | {"max_tokens": 1000})
            ) as answer:
                lines = answer.iter_lines()
                next(lines)
                command.process.send_signal(signal.SIGTERM)
                wait_until(lambda: command.ask(QUESTION).status_code == 503)
                assert [line for line in lines if line][-1] == "data: [DONE]"
            assert command.process.wait(60) == 0
        assert not [line for line in command.told if "Traceback" in line or "rror" in line]

    def test_ctrl_c_does_too_and_is_told_by_the_code(self, demo):
        with ServedCommand(demo, "--threads", 1) as command:
            assert command.end(signal.SIGINT) == 130

    def test_a_second_one_ends_it_at_once(self, demo):
        with ServedCommand(demo, "--threads", 1) as command, begin(command):
            wait_until(lambda: command.running() == 1)
            command.process.send_signal(signal.SIGINT)
            wait_until(lambda: command.ask(QUESTION).status_code == 503)
            assert command.end(signal.SIGINT) == 130
        assert [line for line in command.told if "Traceback" in line or "rror" in line] == []

    def test_the_time_for_running_answers_is_limited(self, demo):
        with ServedCommand(demo, "--threads", 1, "--timeout", 0.5) as command, begin(command) as connection:
            wait_until(lambda: command.running() == 1)
            assert command.end() == 0
            text = read_all(connection)
        assert b'"code":"shutting_down"' in text
        assert [line for line in command.told if "Traceback" in line or "rror" in line] == []


class TestWorkers:
    def test_they_share_the_load_and_one_that_is_killed_is_replaced(self, demo, expected):
        with ServedCommand(demo, "--workers", 2, "--slots", 1, "--queue", 0) as command:
            wait_until(lambda: len(command.workers()) == 2)
            first, second = command.workers()
            wait_until(lambda: try_both(command))
            wait_until(lambda: command.running() == 0)
            assert command.ask(QUESTION).json()["choices"][0]["message"]["content"] == expected
            counted = command.figures()["llamacpp:tokens_predicted_total"]
            os.kill(first, signal.SIGKILL)
            for _ in range(5):
                assert command.ask(QUESTION).status_code == 200
            wait_until(lambda: len(command.workers()) == 2 and first not in command.workers())
            assert second in command.workers()
            assert command.figures()["llamacpp:tokens_predicted_total"] > counted
            workers = command.workers()
            assert command.end() == 0
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]

    def test_one_that_hangs_is_killed_and_its_connections_are_answered(self, demo, expected):
        impatient = (
            "import minimind_edge.server.workers as workers; workers.SILENT_S = 4.0; "
            "from minimind_edge.cli.serve_app import main; main()"
        )
        words = (demo, "--workers", 2, "--slots", 1, "--queue", 0)
        with ServedCommand(*words, program=(sys.executable, "-c", impatient)) as command:
            wait_until(lambda: try_both(command))
            wait_until(lambda: command.running() == 0)
            hanging, other = command.workers()
            os.kill(hanging, signal.SIGSTOP)
            for _ in range(2):  # one of them reaches the hanging worker
                assert command.ask(QUESTION).json()["choices"][0]["message"]["content"] == expected
            wait_until(lambda: len(command.workers()) == 2 and hanging not in command.workers())
            assert other in command.workers()
            assert [line for line in command.told if "hung" in line] == ["worker 0 has hung for 4 s: it is killed"]
            wait_until(lambda: try_both(command))
            assert command.end() == 0

    def test_a_model_that_hangs_gives_no_sign_of_life(self):
        counts = SimpleNamespace(running=0, steps=0)
        are_moving = progress({"demo": SimpleNamespace(counts=lambda: counts)})
        assert [are_moving(), are_moving()] == [True, True]  # there is nothing to do
        counts.running = 1
        moved = []
        for counts.steps in (1, 1, 1, 2, 3):
            moved.append(are_moving())
        assert moved == [True, False, False, True, True]

    def test_connections_are_no_sign_of_life(self):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            worker = object.__new__(workers.Worker)
            worker.channel, worker.silent_s, worker.is_ready, worker.connections = ours, 9.0, True, 1
            theirs.send(workers.LOST)
            assert worker.hear() and worker.silent_s == 9.0 and worker.connections == 0
            theirs.send(workers.ALIVE)
            assert worker.hear() and worker.silent_s == 0.0

    def test_a_pause_of_the_whole_machine_is_no_hanging(self, monkeypatch):
        now, told, killed = [0.0], [], []
        monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
        settings = ServeSettings({"demo": Path("demo")}, workers=2)
        supervisor = workers.Supervisor(settings, None, None, told.append)
        process = SimpleNamespace(is_alive=lambda: True, kill=lambda: killed.append(now[0]))
        worker = SimpleNamespace(index=0, is_ready=True, silent_s=0.0, process=process)
        supervisor._workers[0] = worker
        for pause in (0.1, 3600.0, 0.1):
            now[0] += pause
            supervisor._kill_hanging()
        assert (killed, told) == ([], [])
        worker.is_ready = False  # one that loads may be silent
        for _ in range(2 * int(workers.SILENT_S)):
            now[0] += 1.0
            supervisor._kill_hanging()
        assert killed == []
        worker.is_ready = True
        while not killed:
            now[0] += 1.0
            supervisor._kill_hanging()
        assert len(told) == 1

    def test_they_end_with_their_supervisor(self, demo):
        with ServedCommand(demo, "--workers", 2) as command:
            wait_until(lambda: len(command.workers()) == 2)
            workers = command.workers()
            command.process.kill()
            wait_until(lambda: not [pid for pid in workers if is_running(pid)])

    def test_an_artifact_that_cannot_be_loaded_is_told_once(self, tmp_path):
        result = failed(tmp_path, "--workers", 2)
        assert result.returncode == 3
        assert result.stderr.count("error: ") == 1


class TestNamesAndKeys:
    def test_several_models(self, demo, tmp_path):
        other = tmp_path / "other"
        other.symlink_to(demo)
        with ServedCommand(demo, other, "--name", f"second={other}", "--threads", 1) as command:
            with command.client() as client:
                names = [model["id"] for model in client.get("/v1/models").json()["data"]]
            assert names == ["demo", "second"]
            assert command.ask(QUESTION, model="second").json()["model"] == "second"
            assert command.ask(QUESTION, model="third").status_code == 404

    def test_a_key_of_the_environment(self, demo):
        with ServedCommand(demo, "--threads", 1, MINIMIND_EDGE_API_KEY="one,two") as command:
            assert command.ask(QUESTION).status_code == 401
            with command.client(headers={"Authorization": "Bearer two"}) as client:
                assert client.post("/v1/chat/completions", json=chat(QUESTION)).status_code == 200
                assert client.get("/page.json").status_code == 200
            with command.client() as client:
                statuses = [client.get(path).status_code for path in ("/health", "/", "/page.json", "/metrics")]
            assert statuses == [200, 200, 401, 401]

    def test_an_open_server_is_warned_of(self, demo):
        with ServedCommand(demo, "--threads", 1, "--host", "0.0.0.0") as command:
            assert [line for line in command.told if line.startswith("warning: everyone who reaches 0.0.0.0")]


class TestWhatCannotBeServed:
    def test_a_folder_that_is_no_artifact(self, tmp_path):
        result = failed(tmp_path)
        assert (result.returncode, result.stdout) == (3, "")
        assert result.stderr.splitlines()[-1].startswith("error: ")

    def test_a_port_that_is_taken(self, demo):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            result = failed(demo, "--port", taken.getsockname()[1])
        assert result.returncode == 4
        assert result.stderr.startswith("error: cannot listen on 127.0.0.1 port")

    @pytest.mark.parametrize(
        "words",
        [
            (),
            ("demo", "--port", 70000),
            ("demo", "--slots", 0),
            ("demo", "--timeout", 0),
            ("demo", "a/demo"),
            ("demo", "--name", "x=other"),
            ("demo", "other", "--name", "x"),
            ("demo", "--api-key", " "),
        ],
        ids=str,
    )
    def test_wrong_usage(self, words):
        result = failed(*words)
        assert (result.returncode, result.stdout) == (2, "")
        assert len(result.stderr.splitlines()) == 1

    def test_a_missing_extra(self, demo):
        hiding = "import sys; sys.modules['starlette'] = None; from minimind_edge.cli.serve_app import main; main()"
        words = [sys.executable, "-c", hiding, str(demo), "--port", "0"]
        result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        assert (result.returncode, result.stdout) == (4, "")
        assert result.stderr == (
            "error: the Python package 'starlette' is not installed: run pip install 'minimind-edge[serve]'\n"
        )


def begin(command, **fields):
    """Send a request for a long answer; the socket, whose closing is the client's going away."""
    body = json.dumps(chat(STORY, **LONG | fields)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    host, port = command.url.removeprefix("http://").split(":")
    connection = socket.create_connection(("127.0.0.1" if host == "0.0.0.0" else host, int(port)))
    connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
    return connection


def read_all(connection):
    """What comes until the server closes the connection."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


def try_both(command):
    """Whether two answers run at once where each worker has one slot and no queue."""
    with begin(command) as one, begin(command) as other:
        return all(connection.recv(12) == b"HTTP/1.1 200" for connection in (one, other))


def failed(*words):
    """The command, which is expected to end by itself."""
    command = [SCRIPTS / "minimind-serve", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
