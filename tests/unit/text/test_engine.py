from __future__ import annotations

import json
import subprocess
import sys
import types

import pytest

from minimind_edge.runtime import Engine
from minimind_edge.runtime.artifact.generation_config import GenerationConfig
from minimind_edge.runtime.errors import ArtifactError, ContextLengthError, PromptError, UsageError
from minimind_edge.runtime.sampling import SamplingParams
from minimind_edge.runtime.text.chat_template import ChatTemplate

GREEDY = SamplingParams(greedy=True)


@pytest.fixture
def session(make_session, tokenizer):
    return make_session(vocab_size=tokenizer.vocab_size, max_length=300)


@pytest.fixture
def engine(session, tokenizer):
    template = ChatTemplate({"default": "{{ messages[-1].content }}"})
    return Engine(session, tokenizer, template, GenerationConfig(eos_token_ids=(7,), max_new_tokens=20))


def test_stream_yields_the_text_of_the_models_tokens(engine, session, tokenizer):
    prompt = tokenizer.encode("The quick fox")
    expected = session.expected(prompt, 20)
    assert 7 not in expected
    completion = engine.stream("The quick fox", params=GREEDY)
    assert "".join(completion) == tokenizer.decode(expected)
    assert completion.result.token_ids == expected
    assert completion.result.finish_reason == "length"
    assert completion.result.prompt_tokens == len(prompt)
    assert engine.generate("The quick fox", params=GREEDY).token_ids == expected
    assert engine.generate(prompt, params=GREEDY).token_ids == expected


def test_stop_tokens_and_ignore_eos(session, tokenizer):
    expected = session.expected([3, 4], 20)
    stop_at = next(index for index in range(2, 20) if expected[index] not in expected[:index])
    engine = Engine(session, tokenizer, None, GenerationConfig(eos_token_ids=(expected[stop_at],)))
    result = engine.generate([3, 4], params=GREEDY, max_new_tokens=20)
    assert result.token_ids == expected[: stop_at + 1]
    assert result.finish_reason == "stop"
    assert engine.generate([3, 4], params=GREEDY, max_new_tokens=20, ignore_eos=True).token_ids == expected


def test_without_a_config_the_tokenizer_tells_the_stop_token(session, tokenizer):
    assert Engine(session, tokenizer).stop_token_ids == (2,)
    assert Engine(session).stop_token_ids == ()


def test_raw_text_begins_with_bos_only_where_the_tokenizer_says_so(engine, session, tokenizer):
    """As transformers, whatever the model's config names; a tokenizer without bos_token has none to begin with."""
    for begun in (engine, Engine(session, tokenizer, None, GenerationConfig(bos_token_id=5))):
        begun.generate("Hi", raw=True, max_new_tokens=1)
        assert session.rows[0] == tokenizer.encode("Hi")


def test_the_tokenizers_stop_token_goes_before_the_graphs(session, tokenizer, artifact):
    folder, _ = artifact
    assert Engine.load(folder).stop_token_ids == (tokenizer.eos_token_id,)
    (folder / "tokenizer_config.json").write_text("{}")
    assert Engine.load(folder).stop_token_ids == (9,)
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 5}))
    assert Engine.load(folder).stop_token_ids == (5,)


def test_nothing_runs_before_the_first_piece(engine, session):
    session.calls.clear()
    engine.stream("Hello")
    assert session.calls == []


@pytest.mark.parametrize(
    ("prompt", "options", "error"),
    [
        ([], {}, PromptError),
        ([10**6], {}, PromptError),
        ([1] * 301, {}, ContextLengthError),
        ("Hi", {"max_new_tokens": 0}, UsageError),
        ("Hi", {"stop": [""]}, UsageError),
        ("caf\udce9", {}, PromptError),
    ],
    ids=str,
)
def test_errors_come_at_the_call(engine, prompt, options, error):
    with pytest.raises(error):
        engine.stream(prompt, **options)


def test_stop_strings_need_a_tokenizer(session):
    with pytest.raises(UsageError, match="stop strings need a tokenizer"):
        Engine(session).stream([1], stop=["x"])


def test_a_new_stream_ends_the_one_before(engine, session):
    first = engine.stream([3, 4], params=GREEDY)
    next(first)
    second = engine.stream([5, 6], params=GREEDY)
    assert list(first) == []
    assert first.result.finish_reason == "cancelled"
    assert second.run().token_ids == session.expected([5, 6], 20)


def prefills(session):
    return [call for call in session.calls if call[0] in ("reset", "truncate", "prefill")]


def test_reuse_cache_runs_the_new_part_only(engine, session):
    first = engine.generate([3, 4, 5], params=GREEDY, max_new_tokens=4)
    session.calls.clear()
    prompt = [3, 4, 5, *first.token_ids[:2], 99, 98]
    result = engine.generate(prompt, params=GREEDY, max_new_tokens=4)
    assert prefills(session) == [("reset", 1), ("prefill", [prompt])]
    session.calls.clear()
    longer = [*prompt, *result.token_ids, 50]
    result = engine.stream(longer, params=GREEDY, max_new_tokens=4, reuse_cache=True).run()
    # the last token that was sampled was never run
    assert prefills(session) == [("truncate", len(longer) - 2), ("prefill", [longer[-2:]])]
    assert result.token_ids == session.expected(longer, 4)


def test_reuse_cache_runs_at_least_one_token(engine, session):
    engine.generate([3, 4, 5], params=GREEDY, max_new_tokens=4)
    session.calls.clear()
    result = engine.stream([3, 4, 5], params=GREEDY, max_new_tokens=4, reuse_cache=True).run()
    assert prefills(session) == [("truncate", 2), ("prefill", [[5]])]
    assert result.token_ids == session.expected([3, 4, 5], 4)


def test_reuse_cache_after_an_interrupt(engine, session):
    session.fail_in = 3
    with pytest.raises(KeyboardInterrupt):
        engine.generate([3, 4, 5], params=GREEDY)
    said = session.expected([3, 4, 5], 2)
    result = engine.stream([3, 4, 5, *said, 8], params=GREEDY, max_new_tokens=4, reuse_cache=True).run()
    assert result.token_ids == session.expected([3, 4, 5, *said, 8], 4)


def test_reuse_cache_after_a_stream_that_never_began(engine, session):
    engine.generate([3, 4, 5], params=GREEDY, max_new_tokens=2)
    engine.stream([9, 9, 9, 9])
    session.calls.clear()
    engine.stream([3, 4, 6], params=GREEDY, max_new_tokens=2, reuse_cache=True).run()
    assert prefills(session) == [("truncate", 2), ("prefill", [[6]])]


def test_defaults_come_from_the_artifact(session):
    engine = Engine(session, config=GenerationConfig(do_sample=True, temperature=0.7, top_k=20, max_new_tokens=9))
    assert engine.default_params == SamplingParams(temperature=0.7, top_k=20)
    assert engine.max_new_tokens == 9
    assert engine.sampling_params(top_p=0.5, seed=3) == SamplingParams(temperature=0.7, top_k=20, top_p=0.5, seed=3)
    assert engine.sampling_params(greedy=True) == SamplingParams(temperature=0.7, top_k=20, greedy=True)
    assert Engine(session).default_params == SamplingParams()


@pytest.mark.parametrize(
    ("given", "greedy"),
    [
        ({}, True),
        ({"seed": 1}, True),
        ({"repetition_penalty": 1.2}, True),
        ({"temperature": 0.5}, False),
        ({"top_k": 0}, False),
        ({"temperature": 0.5, "greedy": True}, True),
        ({"greedy": False}, False),
    ],
    ids=str,
)
def test_a_greedy_model_samples_when_it_is_told_how(session, given, greedy):
    engine = Engine(session, config=GenerationConfig(do_sample=False))
    assert engine.sampling_params(**given) == SamplingParams(**{**given, "greedy": greedy})


def test_defaults_out_of_range_are_the_artifacts_fault(session):
    with pytest.raises(ArtifactError, match=r"generation_config.json: top_p is 3.0: it must be a number from 0 to 1"):
        Engine(session, config=GenerationConfig(top_p=3.0))


@pytest.fixture
def artifact(tmp_path, tokenizer_folder, make_session, monkeypatch):
    """A folder in the artifact's layout, whose graph is never read, and what the session was asked for."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tokenizer_folder / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 123}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 0.85, "do_sample": True}))
    for name in ("model.onnx", "model_fp16.onnx"):
        (tmp_path / "onnx").mkdir(exist_ok=True)
        (tmp_path / "onnx" / name).write_bytes(b"")
    asked = {}

    def load(path, **options):
        asked.update(options, path=path)
        session = make_session(vocab_size=500, max_length=options["max_length"])
        session.facts = types.SimpleNamespace(eos_token_ids=(9,), target="ort", precision="fp32", has_int8_cache=False)
        return session

    monkeypatch.setattr("minimind_edge.runtime.load.load_session", load)
    return tmp_path, asked


def test_load_reads_the_folder(artifact):
    folder, asked = artifact
    engine = Engine.load(folder)
    assert asked == {
        "path": folder / "onnx" / "model.onnx",
        "device": "auto",
        "threads": None,
        "max_length": 123,
    }
    assert engine.default_params == SamplingParams(temperature=0.85)
    assert engine.stop_token_ids == (2,)
    assert engine.load_s > 0
    result = engine.generate("Hi", max_new_tokens=2)
    assert result.timings.load_s == engine.load_s
    assert engine.tokenizer.decode(engine.session.rows[0], False).startswith("<|im_start|>user\nHi<|im_end|>\n")


def test_load_passes_its_options_on(artifact):
    folder, asked = artifact
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 4]}))
    (folder / "chat_template.jinja").write_text("the file's {{ messages[0].content }}")
    engine = Engine.load(folder, device="cpu", threads=3, max_length=50, precision="fp16")
    assert asked == {"path": folder / "onnx" / "model_fp16.onnx", "device": "cpu", "threads": 3, "max_length": 50}
    assert engine.stop_token_ids == (3, 4)
    engine.generate("Hi", max_new_tokens=1)
    assert engine.tokenizer.decode(engine.session.rows[0], False).startswith("the file's Hi")


@pytest.mark.parametrize(
    ("target", "precision", "int8_cache", "device", "gives_all_logits", "expected"),
    [
        ("ort", "fp32", False, "cpu", True, True),
        ("portable", "int8", False, "cpu", True, True),
        ("ort", "fp32", True, "cpu", True, False),
        ("ort", "int8", False, "cpu", True, False),
        ("ort", "fp16", False, "cpu", True, False),
        ("ort", None, False, "cpu", True, False),
        ("ort", "fp32", False, "cuda", True, False),
        ("tensorrt", "fp32", False, "cpu", False, False),
    ],
)
def test_speculation_is_on_where_it_changes_no_token(
    artifact, monkeypatch, make_session, target, precision, int8_cache, device, gives_all_logits, expected
):
    folder, _ = artifact
    session = make_session(vocab_size=500)
    session.facts = types.SimpleNamespace(
        eos_token_ids=(9,), target=target, precision=precision, has_int8_cache=int8_cache
    )
    session.device, session.gives_all_logits = device, gives_all_logits
    monkeypatch.setattr("minimind_edge.runtime.load.load_session", lambda path, **options: session)
    assert Engine.load(folder).speculates is expected
    assert Engine.load(folder, speculate=False).speculates is False
    if gives_all_logits:
        assert Engine.load(folder, speculate=True).speculates is True
    else:
        with pytest.raises(UsageError, match="cannot run speculative decoding"):
            Engine.load(folder, speculate=True)


def test_load_without_a_tokenizer(artifact):
    folder, _ = artifact
    (folder / "tokenizer.json").unlink()
    engine = Engine.load(folder / "onnx" / "model.onnx")
    assert engine.tokenizer is None
    assert engine.generate([1, 2], max_new_tokens=3, params=GREEDY).token_ids == engine.session.expected([1, 2], 3)
    with pytest.raises(PromptError, match="without a tokenizer"):
        engine.stream("Hi")


def test_importing_the_package_costs_nothing():
    code = (
        "import sys; import minimind_edge.runtime as runtime;"
        "heavy = {'numpy', 'onnxruntime', 'tokenizers', 'jinja2'}; assert not heavy & sys.modules.keys();"
        "runtime.Engine, runtime.SamplingParams, runtime.EdgeError;"
        "assert not {'onnxruntime', 'jinja2', 'torch', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_exported_name_is_there():
    import minimind_edge.runtime as runtime

    assert sorted(runtime.__all__) == dir(runtime)
    assert all(getattr(runtime, name).__name__ == name for name in runtime.__all__)
    with pytest.raises(AttributeError, match="nonesuch"):
        _ = runtime.nonesuch
