"""What of the benchmark's workers can be wrong without their peers: parameters, folders and times."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "peers" / "workers"))

import build_mnn
import edge
import edge_native
import executorch_module
import litert_lm_engine
import mnn_llm
from endless import write_endless

from minimind_edge.export.artifact.hf_config import model_config
from minimind_edge.minimind import MiniMindConfig


def test_parameters_of_executorch():
    # The names are those of ExecuTorch's ModelArgs; the values are MiniMind-3's, as its configuration states them.
    config = MiniMindConfig.minimind3(num_hidden_layers=2)
    found = executorch_module.parameters(model_config(config))
    assert found | {"use_scaled_rope": False} == found
    assert (found["dim"], found["n_layers"], found["n_heads"], found["n_kv_heads"]) == (768, 2, 8, 4)
    assert (found["head_dim"], found["hidden_dim"], found["vocab_size"]) == (96, 2432, 6400)
    assert (found["norm_eps"], found["rope_theta"]) == (1e-6, 1e6)
    assert found["use_qk_norm"] and found["qk_norm_before_rope"] and found["use_hf_rope"]
    assert not executorch_module.parameters(model_config(MiniMindConfig()))["use_qk_norm"]


def test_a_folder_whose_answers_never_end(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.safetensors").write_bytes(b"weights")
    (source / "tokenizer.json").write_text("{}")
    (source / "config.json").write_text('{"eos_token_id": 2, "vocab_size": 6400}')
    (source / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>", "chat_template": "x", "unk_token": "?"}')
    (source / "generation_config.json").write_text('{"eos_token_id": 2, "top_k": 5}')
    write_endless(source, tmp_path / "endless")
    written = {path.name: path.read_bytes() for path in (tmp_path / "endless").iterdir()}
    assert written["model.safetensors"] == b"weights"
    assert json.loads(written["tokenizer_config.json"]) == {"unk_token": "?"}
    assert json.loads(written["generation_config.json"]) == {"top_k": 5, "eos_token_id": 6400}  # no such token
    assert "<|im_end|>" in (source / "tokenizer_config.json").read_text()  # the source is as it was


def test_native_operators_are_switched_per_worker(tmp_path, monkeypatch):
    loaded = []

    def load_edge(folder, threads):
        loaded.append(os.environ.get(edge.SWITCH))
        return SimpleNamespace(operators="native")

    for worker in (edge, edge_native):
        monkeypatch.setattr(worker, "Edge", load_edge)
    monkeypatch.setitem(sys.modules, "minimind_edge.native", SimpleNamespace(library=lambda: tmp_path))
    monkeypatch.setenv(edge.SWITCH, "1")
    edge.load(tmp_path, 1)
    edge_native.load(tmp_path, 1)
    assert loaded == ["0", None]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, "not installed"),
        (SimpleNamespace(library=lambda: None), "lacks the instructions"),
        (SimpleNamespace(library=lambda: Path("operators.so")), "replace none of this graph's"),
    ],
)
def test_why_there_are_no_native_operators(tmp_path, monkeypatch, module, reason):
    monkeypatch.setitem(sys.modules, "minimind_edge.native", module)
    monkeypatch.setattr(edge_native, "Edge", lambda folder, threads: SimpleNamespace(operators="stock"))
    with pytest.raises(SystemExit, match=reason):
        edge_native.load(tmp_path, 1)


def test_version_of_a_checkout_of_mnn(tmp_path):
    assert build_mnn.version(tmp_path) == ""
    header = tmp_path / "include" / "MNN" / "MNNDefine.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define MNN_VERSION_MAJOR 3\n#define MNN_VERSION_MINOR 6\n#define MNN_VERSION_PATCH 0\n")
    assert build_mnn.version(tmp_path) == "3.6.0"
    with pytest.raises(SystemExit, match=r"no checkout of MNN 3\.6\.1"):
        build_mnn.main(tmp_path, tmp_path / "build")


class FakeMnn:
    """MNN's engine with a prefill of 2 s, and a second for each of the steps that its loop runs."""

    def __init__(self) -> None:
        self.now, self.settings = 0.0, {}
        self.stops_after = None

    def set_config(self, text):
        self.settings = json.loads(text)

    def load(self):
        pass

    def reset(self):
        pass

    def generate_init(self, stream, end):
        pass

    def generate(self, prompt, new_tokens):
        steps = min(new_tokens, self.stops_after or new_tokens)
        self.now += 2.0 + steps
        return list(range(steps))

    def get_context(self):
        return {"prefill_us": 2_000_000}


@pytest.fixture
def fake_mnn(monkeypatch):
    fake = FakeMnn()
    module = ModuleType("_mnncengine")
    module.llm = SimpleNamespace(create=lambda path, embedding: fake)
    monkeypatch.setitem(sys.modules, "_mnncengine", module)
    monkeypatch.setattr(mnn_llm, "perf_counter", lambda: fake.now)
    return fake


def test_times_of_mnn_leave_out_the_step_that_nobody_needs(fake_mnn, tmp_path):
    runner = mnn_llm.Llm(tmp_path, threads=1)
    assert fake_mnn.settings["thread_num"] == 1
    # Of 11 tokens the first comes from the prefill: 10 steps, where its loop runs 11.
    assert runner.generate([5, 6], 11) == (2.0, pytest.approx(10.0))
    assert runner.generate([5, 6], 1) == (2.0, 0.0)
    fake_mnn.stops_after = 4
    with pytest.raises(RuntimeError, match="4 tokens instead of 11"):
        runner.generate([5, 6], 11)


class FakeLiteRt:
    """LiteRT-LM's engine, with tokens of one word each, 100 tokens a second in prefill and 10 in decode."""

    def __init__(self, path, backend, **options):
        self.words_in_a_token = 1

    def tokenize(self, text):
        return text.split()[:: self.words_in_a_token]

    def create_session(self, **options):
        self.options, self.closed = options, False
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.closed = True

    def run_prefill(self, texts):
        self.prompt = self.tokenize(texts[0])

    def run_decode(self):
        pass

    def get_benchmark_info(self):
        return SimpleNamespace(
            last_prefill_token_count=len(self.prompt),
            last_prefill_tokens_per_second=100.0,
            last_decode_tokens_per_second=10.0,
        )


def test_times_of_litert_lm(monkeypatch, tmp_path):
    module = ModuleType("litert_lm")
    module.Engine, module.SamplerConfig = FakeLiteRt, dict
    module.Backend = SimpleNamespace(CPU=dict)
    monkeypatch.setitem(sys.modules, "litert_lm", module)
    (tmp_path / "model.litertlm").touch()
    runner = litert_lm_engine.Engine(tmp_path, threads=2)
    # The first token comes after the prefill and one step.
    assert runner.generate([7] * 50, 11) == (pytest.approx(0.6), pytest.approx(1.0))
    assert runner._engine.options["sampler_config"]["top_k"] == 1
    assert runner._engine.closed
    runner._engine.words_in_a_token = 2
    with pytest.raises(RuntimeError, match="a text of 50 tokens got 25"):
        runner.generate([7] * 50, 11)
