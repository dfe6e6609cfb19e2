"""What of the peers' benchmark can be wrong without a peer: arithmetic, tables, and what happens when one fails."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the benchmarks are no part of the installed package

from benchmarks.peers import environment, plot, preparation
from benchmarks.peers.__main__ import parse_arguments, plan_of
from benchmarks.peers.contenders import EDGE, EDGE_NATIVE, PEERS, WORKERS, Contender, Peer, contenders
from benchmarks.peers.failure import Unmeasurable, last_line
from benchmarks.peers.measure import Plan, measure, turned
from benchmarks.peers.models import MODELS
from benchmarks.peers.preparation import Prepared, convert
from benchmarks.peers.quality import Passage, Quality, QualityRow, logits_of, measure_quality, text_passages
from benchmarks.peers.report import Report, advantage, one_thread_table, speed_table, write_report
from benchmarks.peers.row import DECODE, DECODE_ONE, DISK, FIRST_TOKEN, MEMORY, PREFILL, PREFILL_ONE, Row, ratio
from benchmarks.peers.worker import Worker
from benchmarks.peers.workers.serving import CONTEXT
from minimind_edge.runtime.bench import Spread

# A peer that takes 1 ms a prompt token and 10 ms a new one, divided by the threads, by a clock of its own; a file
# next to its model breaks it.
FAKE = f"""
import sys, time
sys.path.insert(0, {str(WORKERS)!r})
import serving

class Fake:
    def __init__(self, folder, threads):
        self.faults, self.threads = folder, threads
        if (folder / "does_not_load").exists():
            raise RuntimeError("no model here")

    def generate(self, prompt, new_tokens):
        if (self.faults / "hangs").exists():
            time.sleep(60)
        if (self.faults / "crashes").exists() and len(prompt) > 200:
            raise MemoryError("the prompt is too long")
        print("what a peer prints stands in nobody's way")
        return serving.Timing(len(prompt) / 1000 / self.threads, (new_tokens - 1) / 100 / self.threads)

    def logits(self, tokens):
        return [[float(token), 0.0] for token in tokens]

def convert(source, folder, build):
    if build == "bad":
        raise ValueError("cannot convert this")
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"12345")

serving.main(Fake, convert)
"""

PLAN = Plan(rounds=3, starts=1, threads=1, pause_s=0)


@pytest.fixture
def fake(tmp_path):
    """Makes a fake contender with a folder of its own."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE)

    def make(fault: str | None = None, peer: str = "fake") -> Prepared:
        folder = tmp_path / f"{peer}-{fault}"
        folder.mkdir()
        (folder / "model.bin").write_bytes(b"1234567")
        if fault:
            (folder / fault).touch()
        contender = Contender(Peer(peer, str(script), {"good": "fp32", "bad": "int4"}), "good")
        return Prepared(contender, Path(sys.executable), folder, tmp_path / f"{folder.name}.log")

    return make


def row_of(peer: Peer, build: str, **values: list[float]) -> Row:
    return Row(Contender(peer, build), {name: list(some) for name, some in values.items()})


def test_ratio_is_taken_round_by_round():
    # The second round met a busy machine: both took half as fast, and the ratio stays.
    assert ratio([200.0, 100.0, 240.0], [100.0, 50.0, 80.0]) == Spread(2.0, 2.0, 3.0)
    assert ratio([200.0, 100.0], [100.0]) == Spread(2.0, 2.0, 2.0)  # theirs ended in the second round
    assert ratio([], [1.0]) is None


def test_kl_and_agreement_against_torch():
    generator = np.random.default_rng(0)
    reference = generator.standard_normal((40, 11)).astype(np.float32) * 4
    logits = reference + generator.standard_normal((40, 11)).astype(np.float32)
    quality = Quality.between(reference, logits)
    expected, found = (torch.log_softmax(torch.from_numpy(x).double(), -1) for x in (reference, logits))
    kl = torch.nn.functional.kl_div(found, expected, log_target=True, reduction="batchmean")
    assert quality.mean_kl == pytest.approx(kl.item(), rel=1e-12)
    assert quality.top1 == (expected.argmax(-1) == found.argmax(-1)).double().mean().item()
    assert Quality.between(reference, reference + 5) == Quality(pytest.approx(0, abs=1e-12), 1.0)


@pytest.mark.parametrize(
    ("logits", "reason"),
    [(np.zeros((2, 4)), "shape"), (np.full((2, 3), np.nan), "finite")],
)
def test_logits_that_cannot_be_compared(logits, reason):
    with pytest.raises(Unmeasurable, match=reason):
        Quality.between(np.zeros((2, 3)), logits)


def test_every_round_begins_with_another():
    assert [turned("abc", number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    assert sorted(turned("abc", 2)) == ["a", "b", "c"]


def test_speeds_of_a_peer(fake):
    prepared = fake()
    row = Row(prepared.contender)
    measure([(row, prepared)], PLAN, lambda stage: None)
    assert row.values[DECODE] == [pytest.approx(100.0)] * 3
    assert row.values[PREFILL] == [pytest.approx(1000.0)] * 3
    assert 0 < row.values[FIRST_TOKEN][0] < 60
    assert 1e6 < row.values[MEMORY][0] < 1e9
    assert row.values[DISK] == [7]
    assert row.missing == {}


def test_speeds_on_one_thread_next_to_those_on_more(fake):
    prepared = fake()
    row, other = Row(prepared.contender), Row(prepared.contender)
    measure([(row, prepared)], replace(PLAN, threads=2), lambda stage: None)
    assert row.values[DECODE] == [pytest.approx(200.0)] * 3
    assert row.values[DECODE_ONE] == [pytest.approx(100.0)] * 3
    assert row.values[PREFILL_ONE] == [pytest.approx(1000.0)] * 3
    measure([(other, prepared)], replace(PLAN, threads=2, one_thread=False), lambda stage: None)
    assert DECODE_ONE not in other.values


def test_decode_after_a_longer_context(fake):
    prepared = fake("crashes")  # at prompts of more than 200 tokens
    row = Row(prepared.contender)
    measure([(row, prepared)], replace(PLAN, prompt_tokens=1024), lambda stage: None)
    assert row.spread(DECODE) is None
    assert row.missing[DECODE] == row.missing[MEMORY] == "MemoryError: the prompt is too long"


def test_the_command_line_names_the_context(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "--context", "1024"])
    assert plan_of(parse_arguments()) == replace(Plan(), prompt_tokens=1024)
    assert 1024 + Plan.new_tokens <= CONTEXT  # every peer's cache has room for it
    monkeypatch.setattr(sys, "argv", ["bench", "--context", str(CONTEXT)])
    with pytest.raises(SystemExit):
        parse_arguments()
    assert f"from 1 to {CONTEXT - Plan.new_tokens}" in capsys.readouterr().err


def test_a_failing_peer_is_a_reason_and_the_others_go_on(fake):
    entries = [(Row(prepared.contender), prepared) for prepared in (fake("does_not_load"), fake("crashes"), fake())]
    measure(entries, PLAN, lambda stage: None)
    broken, crashing, sound = (row for row, _ in entries)
    assert broken.spread(DECODE) is None
    assert broken.missing[DECODE] == broken.missing[FIRST_TOKEN] == "RuntimeError: no model here"
    # The first round's decode came before the crash, and stays.
    assert (len(crashing.values[DECODE]), crashing.spread(PREFILL)) == (1, None)
    assert crashing.missing[PREFILL] == "MemoryError: the prompt is too long"
    assert FIRST_TOKEN not in crashing.missing
    assert len(sound.values[DECODE]) == 3


def test_the_reason_is_the_error_and_not_what_a_library_says_at_its_end(tmp_path):
    log = tmp_path / "log"
    log.write_text("Traceback (most recent call last):\nRuntimeError: no session\nINFO: [registry.cc:43] destroyed\n\n")
    assert last_line(log) == "RuntimeError: no session"


def test_the_reason_names_no_folder_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"
    log.write_text(f"NotImplementedError: The {tmp_path}/.bench/models/D model is not currently supported.\n")
    assert last_line(log) == "NotImplementedError: The .bench/models/D model is not currently supported."


def test_a_peer_that_hangs_is_ended(fake):
    prepared = fake("hangs")
    with prepared.start(1) as worker:
        worker.wait_loaded()
        with pytest.raises(Unmeasurable, match="no answer in 1 s"):
            worker.ask("generate", patience_s=1, prompt_tokens=4, new_tokens=1)


def test_a_worker_without_an_interpreter(tmp_path):
    with pytest.raises(Unmeasurable, match="did not start"):
        Worker(tmp_path / "none", tmp_path / "fake.py", tmp_path, threads=1, log=tmp_path / "log")


def test_conversion_leaves_a_whole_folder_or_none(fake, tmp_path):
    prepared = fake()
    target = Prepared(prepared.contender, prepared.python, tmp_path / "converted" / "good", prepared.log)
    convert(target, tmp_path, 1)
    assert target.disk_bytes() == 5
    bad = Contender(prepared.contender.peer, "bad")
    target = Prepared(bad, prepared.python, tmp_path / "converted" / "bad", prepared.log)
    with pytest.raises(Unmeasurable, match="could not be converted: ValueError: cannot convert this"):
        convert(target, tmp_path, 1)
    assert not target.folder.exists()


def test_an_environment_that_cannot_be_made_is_a_reason(tmp_path, monkeypatch):
    def fail(command, stdout, **options):
        stdout.write("Collecting nothing\nERROR: No matching distribution found\n")
        stdout.flush()
        raise environment.subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(environment.subprocess, "run", fail)
    with pytest.raises(Unmeasurable, match="could not be installed: ERROR: No matching distribution found"):
        environment.python_of(Peer("none", "none.py", {}, ("nothing==1",)), tmp_path)


def test_what_is_built_from_source(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(environment.subprocess, "run", lambda command, **options: commands.append(command))
    peer = Peer("built here", "x.py", {}, ("numpy==2",), builder="build_mnn.py", source="MNN_SOURCE")
    monkeypatch.delenv("MNN_SOURCE", raising=False)
    with pytest.raises(Unmeasurable, match="set MNN_SOURCE to a folder with a checkout"):
        environment.python_of(peer, tmp_path)
    monkeypatch.setenv("MNN_SOURCE", "/source")
    folder = tmp_path / "environments" / "built-here"
    folder.mkdir(parents=True)
    python = environment.python_of(peer, tmp_path)
    assert commands[-1] == [str(python), str(WORKERS / "build_mnn.py"), "/source", f"{folder}.build"]
    monkeypatch.delenv("MNN_SOURCE")  # what is built needs no source any more
    assert environment.python_of(peer, tmp_path) == python


def test_a_peer_that_runs_the_models_of_another(tmp_path, monkeypatch):
    converted = tmp_path / "converted" / "A" / "owner-good"
    converted.mkdir(parents=True)
    owner = Peer("owner", "fake.py", {"good": "fp32"})
    guest = Contender(Peer("guest", "fake.py", {"good": "fp32"}, models_of="owner"), "good")
    monkeypatch.setattr(preparation, "PEERS", {"owner": owner})
    prepared = preparation.prepare(guest, tmp_path / "models" / "A", tmp_path, 1)
    assert (prepared.folder, prepared.contender) == (converted, guest)


def test_a_model_that_must_not_be_converted_now(tmp_path):
    absent = Contender(Peer("absent", "fake.py", {"good": "fp32"}), "good")
    with pytest.raises(Unmeasurable, match="has not been converted for it yet"):
        preparation.prepare(absent, tmp_path / "models" / "A", tmp_path, 1, convert_peers=False)
    (tmp_path / "converted" / "A" / "absent-good").mkdir(parents=True)
    found = preparation.prepare(absent, tmp_path / "models" / "A", tmp_path, 1, convert_peers=False)
    assert found.folder.name == "absent-good"


def test_logits_count_from_the_first_predicted_token_on(fake):
    logits = logits_of(fake(), [Passage((5, 6, 7, 8), 2), Passage((1, 2))], 1)
    # Token 7 is predicted behind 6, and 8 behind 7; of the second passage, 2 behind 1.
    assert logits[:, 0].tolist() == [6.0, 7.0, 1.0]


def test_quality_of_what_fails_is_a_reason(fake):
    sound, broken = fake(), fake("does_not_load")
    absent = Unmeasurable("could not be installed")
    entries = [(each.contender, each) for each in (sound, broken)] + [(sound.contender, absent)]
    rows = measure_quality(entries, sound, [Passage((1, 2, 3))], 1)
    assert rows[0].quality == Quality(0.0, 1.0)
    assert rows[0].disk_bytes == 7
    assert [row.reason for row in rows[1:]] == ["RuntimeError: no model here", "could not be installed"]


def test_text_is_cut_into_rows(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    passages = text_passages(tmp_path, "a b " * 300)
    assert [len(passage.tokens) for passage in passages] == [256, 256]
    with pytest.raises(Unmeasurable, match="fewer than 256"):
        text_passages(tmp_path, "a b")


@pytest.fixture
def rows():
    """This project's and two peers' rows of one model, in two rounds."""
    llama = PEERS["llama.cpp"]
    ours = row_of(EDGE, "int8", **{DECODE: [900.0, 450.0], PREFILL: [4000.0, 4000.0], DISK: [2.6e7], MEMORY: [1e8]})
    theirs = row_of(llama, "Q8_0", **{DECODE: [600.0, 300.0], PREFILL: [2000.0, 4000.0]})
    gone = Row(Contender(llama, "Q4_0"))
    gone.give_up("could not be installed: no compiler")
    return [ours, theirs, gone]


def test_a_peer_is_compared_at_its_precision(rows):
    ours, theirs, gone = rows
    assert advantage(theirs, rows, DECODE) == Spread(1.5, 1.5, 1.5)
    assert advantage(theirs, rows, PREFILL) == Spread(1.5, 1.0, 2.0)
    assert advantage(ours, rows, DECODE) is None
    assert advantage(gone, rows, DECODE) is None


def test_table(rows):
    kl = {"minimind-edge int8": 0.217, "llama.cpp Q8_0": 1e-9, "llama.cpp Q4_0": 0.000384}
    lines = speed_table(rows, kl).splitlines()[2:]
    assert lines == [
        "| minimind-edge | int8 | 675 (450–900) |  | 4000 (4000–4000) |  | – | 100 | 26.0 | 0.22 |",
        "| llama.cpp | Q8_0 | 450 (300–600) | 1.50x int8 | 3000 (2000–4000) | 1.50x int8 | – | – | – | < 1e-6 |",
        "| llama.cpp | Q4_0 | – |  | – |  | – | – | – | 3.8e-04 |",
    ]


def test_table_of_one_thread(rows):
    ours, theirs, _ = rows
    ours.values |= {DECODE_ONE: [500.0, 600.0], PREFILL_ONE: [900.0, 900.0]}
    theirs.values |= {DECODE_ONE: [1000.0, 1000.0]}
    assert one_thread_table(rows).splitlines()[2:] == [
        "| minimind-edge | int8 | 550 (500–600) |  | 900 (900–900) |  |",
        "| llama.cpp | Q8_0 | 1000 (1000–1000) | 0.55x int8 | – |  |",
        "| llama.cpp | Q4_0 | – |  | – |  |",
    ]


def test_native_operators_have_a_column_where_they_are_measured(rows):
    gone = Row(Contender(EDGE_NATIVE, "int8"), {DISK: [2.6e7]})
    gone.give_up("not installed")
    assert "native" not in speed_table([*rows, gone], {}).splitlines()[0]
    native = row_of(EDGE_NATIVE, "int8", **{DECODE: [1350.0, 900.0], PREFILL: [4000.0, 8000.0]})
    rows = [rows[0], native, *rows[1:]]
    lines = speed_table(rows, {}).splitlines()
    assert lines[0].startswith("| | build | decode tok/s | ours | native | prefill tok/s | ours | native | first")
    assert len({line.count("|") for line in lines}) == 1
    # 1350/900 and 900/450 of the stock operators' speed; 1350/600 and 900/300 of the peer's.
    assert "| minimind-edge | int8 | 675 (450–900) |  | 1.75x int8 | 4000 (4000–4000) |  | 1.50x int8 |" in lines[2]
    assert "| minimind-edge native | int8 | 1125 (900–1350) |  |  | 6000 (4000–8000) |  |  |" in lines[3]
    assert (
        "| llama.cpp | Q8_0 | 450 (300–600) | 1.50x int8 | 2.62x int8 | 3000 (2000–4000) | 1.50x int8 | 2.00x"
        in lines[4]
    )
    report = Report(PLAN, [EDGE, EDGE_NATIVE], {"A": rows})
    assert "Column `native`" in report.to_markdown()
    stock, _, theirs, _ = report.to_json()["models"]["A"]["rows"]
    assert stock["native_to_this"][DECODE] == {"median": 1.75, "low": 1.5, "high": 2.0}
    assert (theirs["ours_to_this"][DECODE]["median"], theirs["native_to_this"][DECODE]["median"]) == (1.5, 2.625)


def test_report(rows, tmp_path):
    ours, theirs, _ = rows
    quality = [
        QualityRow(ours.contender, Quality(0.00312, 0.97), 26_000_000),
        QualityRow(theirs.contender, None, reason="gives no logits"),
    ]
    report = Report(PLAN, [EDGE], {"A": rows}, {"another model": [], "the demo": quality})
    text = report.to_markdown()
    assert MODELS["A"].title in text
    assert "- llama.cpp Q4_0: nothing measured: could not be installed: no compiler" in text
    assert "| llama.cpp | Q8_0 | – | – | – | gives no logits |" in text.partition("## Quality: the demo")[2]
    content = json.loads(json.dumps(report.to_json()))
    of_ours, of_theirs, of_gone = content["models"]["A"]["rows"]
    assert of_ours[DECODE] == {"median": 675.0, "low": 450.0, "high": 900.0, "rounds": [900.0, 450.0]}
    assert of_theirs["ours_to_this"][DECODE]["median"] == 1.5
    assert of_gone["not_measured"][DECODE] == "could not be installed: no compiler"
    # Only what has both a speed and a KL is a point of the picture.
    assert plot.points(content, content["models"]["A"]["rows"]) == [("minimind-edge", "int8", 675.0, 0.00312)]


def test_a_run_of_one_precision():
    chosen = contenders(["minimind-edge", "llama.cpp"], ["int4"])
    assert [contender.name for contender in chosen] == ["minimind-edge int4", "llama.cpp Q4_0", "llama.cpp Q4_K_M"]


def test_every_peer_has_a_worker_and_compares_with_a_build_of_this_project():
    for contender in contenders(list(PEERS)):
        assert contender.worker.is_file()
        assert contender.precision in EDGE.builds
    assert all("==" in package for peer in PEERS.values() for package in peer.packages)


def test_a_report_is_written_twice_under_the_processors_name(tmp_path):
    content = {"machine": {"cpu": "AMD EPYC (7B13)"}, "models": {}}
    report = SimpleNamespace(to_json=lambda: content, to_markdown=lambda: "# Speed")
    path = write_report(report, tmp_path / "results", "peers")
    assert path == tmp_path / "results" / "peers-amd-epyc-7b13.json"
    assert json.loads(path.read_text()) == content
    assert path.with_suffix(".md").read_text() == "# Speed"
