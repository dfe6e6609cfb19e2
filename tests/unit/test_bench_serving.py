"""The servers' benchmark without its peers: statistics, reading of streams, tables, and a load on a fake server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the benchmarks are no part of the installed package

from benchmarks.peers.contenders import EDGE, Contender
from benchmarks.peers.failure import Unmeasurable
from benchmarks.peers.models import MODELS
from benchmarks.peers.preparation import Prepared
from benchmarks.serving import processor_time
from benchmarks.serving.answers import AnswerError, AnswerReader, Event
from benchmarks.serving.contenders import LLAMA_SERVER, Server, servers
from benchmarks.serving.load import CLIENT_CORES, MAIN_THREAD, PROCESSOR, Load
from benchmarks.serving.measure import Plan, Row, measure
from benchmarks.serving.process import ServerProcess, is_well
from benchmarks.serving.report import Report, advantage, table
from benchmarks.serving.summary import (
    ANSWERS,
    FIRST_P50,
    FIRST_P95,
    GAP_P50,
    GAP_P95,
    OUTPUT,
    TOKENS_PER_EVENT,
    Answer,
    quantile,
    summarize,
)
from benchmarks.serving.vocabulary import write_tokenizer
from minimind_edge.runtime.bench import Spread

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(text: str, **more) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "text": text}], **more}).encode() + b"\n\n"


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


WHOLE = (
    HEAD
    + chunk(event("one"))
    + chunk(event(" two") + event("é{}\n"))
    + chunk(
        b": a comment\n\nevent: message\ndata: " + b'{"choices": [],\ndata:  "usage": {"completion_tokens": 3}}\n\n'
    )
    + chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)
EVENTS = [Event("one", None), Event(" two", None), Event("é{}\n", None), Event("", 3)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, len(WHOLE)])
def test_a_stream_is_read_in_pieces_of_any_size(size):
    reader, events = AnswerReader(), []
    for start in range(0, len(WHOLE), size):
        assert not reader.is_done
        events += reader.feed(WHOLE[start : start + size])
    assert events == EVENTS
    assert reader.is_done
    assert reader.keeps_open


def test_an_event_is_given_with_its_last_byte():
    reader = AnswerReader()
    whole = HEAD + chunk(event("one"))
    assert reader.feed(whole[:-3]) == []  # the event's last byte is missing
    assert reader.feed(whole[-3:-2]) == [Event("one", None)]


def test_lines_may_end_with_carriage_returns():
    reader = AnswerReader()
    content = (event("one") + b"data: [DONE]\n\n").replace(b"\n", b"\r\n")
    assert reader.feed(HEAD + chunk(content) + b"0\r\n\r\n") == [Event("one", None)]
    assert reader.is_done


def test_a_stream_without_chunks_ends_with_the_connection():
    reader = AnswerReader()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    assert reader.feed(head + event("one") + b"data: [DONE]\n\n") == [Event("one", None)]
    assert not reader.is_done
    assert reader.feed(b"") == []
    assert reader.is_done
    assert not reader.keeps_open


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        ([HEAD + chunk(event("one")), b""], "closed the connection in the middle"),
        ([HEAD + chunk(event("one")) + b"0\r\n\r\n"], r"without \[DONE\]"),
        (
            [b"HTTP/1.1 429 Busy\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b'{"error": 1}'), b"0\r\n\r\n"],
            "status 429",
        ),
        ([b'HTTP/1.1 400 Bad\r\nContent-Length: 12\r\n\r\n{"error": 1}'], 'status 400: {"error": 1}'),
        ([HEAD + chunk(b'data: {"error": {"message": "the model failed"}}\n\n')], "the model failed"),
        ([HEAD + chunk(b'data: {"choices": [{}]}\n\n')], "no event of a completion"),
        ([HEAD + b"zz\r\n"], "no size of a chunk: zz"),
        ([b"SSH-2.0-OpenSSH\r\n\r\n"], "no HTTP response: SSH"),
    ],
)
def test_what_is_no_answer_is_an_error(received, reason):
    reader = AnswerReader()
    with pytest.raises(AnswerError, match=reason):
        for part in received:
            reader.feed(part)


def test_quantiles_lie_between_the_nearest_values():
    assert quantile([3.0, 1.0, 2.0], 50) == 2.0
    assert quantile([0.0, 10.0], 95) == pytest.approx(9.5)
    # numpy's default: position 0.95 * 4 = 3.8 of the sorted values, so 4 + 0.8 * (104 - 4)
    assert quantile([1.0, 2.0, 3.0, 4.0, 104.0], 95) == pytest.approx(84.0)


def test_statistics_of_a_window():
    answers = [
        Answer(sent=8.0, times=[8.5, 9.5, 10.5], completion_tokens=6),  # the last event is in the window of 10 to 20
        Answer(sent=10.0, times=[11.0, 12.0, 14.0, 17.0], completion_tokens=8),
        Answer(sent=17.0, times=[19.0, 19.5, 20.5]),  # goes on after the window
        Answer(sent=18.0),
    ]
    found = summarize(answers, 10.0, 20.0)
    # Events in the window: 1 + 4 + 2. The finished answers have 14 tokens in 7 events.
    assert found[TOKENS_PER_EVENT] == 2.0
    assert found[OUTPUT] == pytest.approx(7 * 2 / 10)
    # Gaps that end in it: 1 s (from before it on), 1, 2, 3 and 0.5 s; first tokens after 1 and 2 s.
    assert found[GAP_P50] == pytest.approx(1000)
    assert found[GAP_P95] == pytest.approx(2800)
    assert found[FIRST_P50] == pytest.approx(1500)
    assert found[FIRST_P95] == pytest.approx(1950)
    assert found[ANSWERS] == pytest.approx(0.2)


def test_a_window_without_answers_has_no_statistics():
    with pytest.raises(ValueError, match="too few answers"):
        summarize([Answer(sent=0.0, times=[1.0, 2.0])], 0.0, 10.0)


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


def test_requests_are_the_same_for_every_server():
    one, other = (Load(port, 1, 8, seed=3, token_ids=(5, 9)) for port in (80, 81))
    found, again = (list(islice(load.requests(), 50)) for load in (one, other))
    bodies = [json.loads(body_of(request)) for request, _ in found]
    assert bodies == [json.loads(body_of(request)) for request, _ in again]
    assert all(b"Content-Length: %d\r\n" % len(body_of(request)) in request for request, _ in found)
    lengths = [len(body["prompt"]) for body in bodies]
    assert min(lengths) >= 32
    assert max(lengths) <= 256
    assert len(set(lengths)) > 20
    assert {token for body in bodies for token in body["prompt"]} == {5, 6, 7, 8}
    assert all(
        64 <= count <= 256 and body["max_tokens"] == count for body, (_, count) in zip(bodies, found, strict=True)
    )
    assert bodies[0] != json.loads(body_of(next(Load(80, 1, 8, seed=4).requests())[0]))


# A server that sends 2,000 tokens a second to each client, and at the end the number of tokens that was asked for. A
# file next to its model breaks it.
FAKE = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder, port = Path(sys.argv[1]), int(sys.argv[2])
if (folder / "does_not_load").exists():
    sys.exit("no model here")

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        count = content["max_tokens"]
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        if (folder / "closes").exists():
            self.send_header("Connection", "close")
        self.end_headers()
        if not content["prompt"] or not content["ignore_eos"] or "extra" not in content:
            return
        for number in range(count):
            time.sleep(0.0005)
            self.send({"choices": [{"text": "a"}]})
        told = count - (folder / "stops_early").exists()
        self.send({"choices": [], "usage": {"completion_tokens": told}}, "data: [DONE]\\n\\n")
        self.wfile.write(b"0\\r\\n\\r\\n")
        self.close_connection = (folder / "hangs_up").exists() or (folder / "closes").exists()

    def send(self, event, more=""):
        data = f"data: {json.dumps(event)}\\n\\n{more}".encode()
        self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(data), data))

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def fake(tmp_path):
    """Makes a fake server with a folder of its own."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE)

    def make(fault: str = "none") -> tuple[Server, Prepared]:
        folder = tmp_path / fault
        folder.mkdir()
        (folder / fault).touch()
        server = Server(
            Contender(EDGE, "int4"),
            lambda prepared, site: [str(prepared.python), str(script), str(prepared.folder), str(site.port)],
            fields={"extra": True},
        )
        return server, Prepared(server.contender, Path(sys.executable), folder, tmp_path / "logs" / f"{fault}.log")

    return make


PLAN = Plan(rounds=2, clients=(2,), warm_s=0.2, measure_s=0.6, pause_s=0)


@pytest.mark.parametrize("fault", ["none", "closes"])
def test_load_on_a_server(fake, fault):
    (row,) = measure([fake(fault)], PLAN, lambda stage: None)
    assert row.missing == ""
    assert all(len(values) == 2 for values in row.values.values())
    assert {OUTPUT, GAP_P50, GAP_P95, FIRST_P50, FIRST_P95, CLIENT_CORES} <= set(row.values)
    assert row.values[TOKENS_PER_EVENT] == [1.0, 1.0]
    assert row.values[OUTPUT][0] > 0
    if sys.platform == "linux":
        assert row.values[PROCESSOR][0] > 0


def test_a_server_that_closes_after_each_answer_without_saying_so(fake):
    server, prepared = fake("hangs_up")
    (row,) = measure([(server, prepared)], PLAN, lambda stage: None)
    assert row.missing != ""
    (row,) = measure([(replace(server, closes_connections=True), prepared)], PLAN, lambda stage: None)
    assert row.missing == ""
    assert row.values[TOKENS_PER_EVENT] == [1.0, 1.0]


def test_a_failing_server_is_a_reason_and_the_others_go_on(fake):
    gone = fake("gone")[0], Unmeasurable("could not be built: no compiler")
    rows = measure([gone, fake("does_not_load"), fake("stops_early"), fake()], PLAN, lambda stage: None)
    assert [row.missing for row in rows[:2]] == ["could not be built: no compiler", "no model here"]
    assert "tokens, where" in rows[2].missing
    assert not any(row.values for row in rows[:3])
    assert rows[3].missing == ""


def test_a_server_is_ended_with_its_children(fake):
    server, prepared = fake()
    program = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    parent = Server(server.contender, lambda *site: [sys.executable, "-c", program, *server.command(*site)])
    with ServerProcess(parent, prepared, clients=1, threads=1) as process:
        process.wait_ready()
        pids = processor_time.family(process.pid)
        assert len(pids) == (2 if sys.platform == "linux" else 1)
    deadline = time.monotonic() + 10
    while is_well(process.port) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_well(process.port)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_processor_time_of_a_process():
    program = "import time, sys\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        process.stdout.readline()
        spent = processor_time.process_seconds(process.pid), processor_time.main_thread_seconds(process.pid)
        process.stdin.close()
    # Busy for 0.3 s by its own clock, whose end it passes by its last steps; a clock tick is 0.01 s.
    assert spent[0] == pytest.approx(0.3, abs=0.05)
    assert spent[1] == pytest.approx(0.3, abs=0.05)


def test_processor_time_without_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(processor_time, "PROC", tmp_path)
    assert processor_time.family(7) == [7]
    assert processor_time.process_seconds(7) is None
    assert processor_time.main_thread_seconds(7) is None


@pytest.fixture
def rows():
    """This project's server, its variant and a peer at two loads, in two rounds."""
    ours, workers, theirs, _ = servers("int4")
    found = []
    for clients, speeds in ((1, (1000.0, 500.0)), (8, (3000.0, 3300.0))):
        for server, factor in ((ours, 1.0), (workers, 1.5), (theirs, 0.5)):
            row = Row(server, clients)
            for speed in speeds:
                row.add({OUTPUT: speed * factor, GAP_P50: 1.25, GAP_P95: 2.5, PROCESSOR: 80.0, MAIN_THREAD: 20.0})
            found.append(row)
    return found


def test_rows_are_compared_with_our_single_process_at_their_load(rows):
    assert advantage(rows[0], rows) is None
    assert advantage(rows[1], rows).median == pytest.approx(1 / 1.5)
    assert advantage(rows[5], rows) == Spread(2.0, 2.0, 2.0)
    assert advantage(Row(rows[2].server, 32), rows) is None


def test_table(rows):
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(rows).splitlines()]
    assert {len(line) for line in lines} == {10}
    gaps = ["1.2 (1.2–1.2)", "2.5 (2.5–2.5)", "–", "–", "80 (80–80)"]
    assert lines[2::2] == [
        ["1", "minimind-edge int4", "750 (500–1000)", "", *gaps, "20 (20–20)"],
        ["1", "llama-server Q4_0", "375 (250–500)", "2.00x (2.00–2.00)", *gaps, "–"],
        ["8", "minimind-edge int4, 2 workers", "4725 (4500–4950)", "0.67x (0.67–0.67)", *gaps, "20 (20–20)"],
    ]


def test_report(rows):
    rows[2].missing = "status 500"
    report = Report(PLAN, {("A", "int4"): rows}, ["Another program was running."])
    text = report.to_markdown()
    assert f"## A: {MODELS['A'].title}, int4" in text
    assert "Another program was running." in text
    assert "- llama-server Q4_0, 1 clients: status 500" in text
    (result,) = json.loads(json.dumps(report.to_json()))["results"]
    ours, _, theirs = result["rows"][:3]
    assert ours[OUTPUT] == {"median": 750.0, "low": 500.0, "high": 1000.0, "rounds": [1000.0, 500.0]}
    assert (theirs["ours_to_this"]["median"], theirs["not_measured"]) == (2.0, "status 500")


def test_every_token_of_the_tokenizer_has_a_text_and_byte_level_files_hold_it_all(tmp_path):
    folder = write_tokenizer(tmp_path / "tokenizer")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 6400
    # Only the three special tokens and the 128 bytes that are no ASCII have no text of their own.
    texts = [tokenizer.decode([token]) for token in range(6400)]
    assert sum(not text or "\ufffd" in text for text in texts) == 3 + 128
    low, high = Load(80, 1, 1).token_ids
    assert all(texts[low:high])


def test_every_server_is_compared_at_its_precision():
    for precision in ("int8", "int4"):
        chosen = servers(precision)
        assert [server.contender.precision for server in chosen] == [precision] * 4
        assert len({server.name for server in chosen}) == 4
    assert Path(LLAMA_SERVER.worker).is_file()
    assert all("==" in package for package in LLAMA_SERVER.packages)
