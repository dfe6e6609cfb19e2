"""minimind-export eval: its figures against PyTorch and transformers, its table, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer

LIMIT = 4
TEXT = "The fox met an owl near the river. 从前有一只猫。\n" * 30


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Export without verification; returns the artifact folder."""
    from minimind_edge.export import ExportRequest, export_onnx

    def make(checkpoint, **options):
        folder = tmp_path_factory.mktemp("artifact") / "tiny"
        return export_onnx(ExportRequest(checkpoint, folder, verify=False, **options)).folder

    return make


@pytest.fixture(scope="module")
def moe_checkpoint(tmp_path_factory, make_checkpoint):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "moe", use_moe=True)


@pytest.fixture(scope="module")
def half(export, moe_checkpoint):
    """A mixture of experts in float16, far from its checkpoint's folder."""
    return export(moe_checkpoint, target="portable", precision="fp16")


@pytest.fixture(scope="module")
def static(export, checkpoint):
    """A graph that gives the logits of one token of a chunk alone."""
    return export(checkpoint, target="tensorrt")


@pytest.fixture
def answer(export_here):
    """The JSON of an evaluation that succeeds."""

    def run(*words):
        result = export_here("eval", *words, "--json")
        assert (result.returncode, result.stderr) == (0, "")
        return json.loads(result.stdout)

    return run


def text_perplexity(checkpoint, text):
    """Of a text that fits in one window, by PyTorch: the token that begins a text is given."""
    from minimind_edge.minimind import load_checkpoint

    tokenizer = AutoTokenizer.from_pretrained(checkpoint.parent)
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]])
    assert ids.shape[1] < 512
    with torch.inference_mode():
        logits = load_checkpoint(checkpoint)(ids).logits
    return math.exp(cross_entropy(logits[0, :-1], ids[0, 1:]))


def held_out_perplexity(checkpoint):
    """Of the answers of the first documents, by PyTorch and transformers' tokenizer and chat template."""
    from minimind_edge.export.evaluation import bundled_held_out
    from minimind_edge.minimind import load_checkpoint

    tokenizer, model = AutoTokenizer.from_pretrained(checkpoint.parent), load_checkpoint(checkpoint)
    loss, count = 0.0, 0
    for document in bundled_held_out().limited(LIMIT).documents:
        messages = [{"role": "user", "content": document.prompt}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        given = tokenizer(prompt, add_special_tokens=False).input_ids
        due = [*tokenizer(document.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        with torch.inference_mode():
            logits = model(torch.tensor([[*given, *due]])).logits
        loss += float(cross_entropy(logits[0, len(given) - 1 : -1], torch.tensor(due), reduction="sum"))
        count += len(due)
    return math.exp(loss / count), count


@pytest.mark.parametrize("kind", ["artifact", "static"])
def test_perplexity_is_pytorchs(answer, checkpoint, request, kind):
    found = answer(request.getfixturevalue(kind), "--limit", LIMIT, "--no-questions")
    expected, count = held_out_perplexity(checkpoint)
    assert found["tokens"] == count
    assert found["perplexity"] == pytest.approx(expected, rel=1e-4)
    assert found["bits_per_weight"] == pytest.approx(32, abs=0.1)
    assert (found["reference"], found["mean_kl"], found["facts"], found["experts"]) == (None, None, None, None)


def test_a_text_of_ones_own(answer, artifact, checkpoint, tmp_path):
    (tmp_path / "mine.txt").write_text(TEXT[:400], encoding="utf-8")
    found = answer(artifact, "--text", tmp_path / "mine.txt")
    assert found["perplexity"] == pytest.approx(text_perplexity(checkpoint, TEXT[:400]), rel=1e-4)
    assert found["text"] == str(tmp_path / "mine.txt")
    assert found["facts"] is None


def test_the_manifest_keeps_what_was_found(answer, half, tmp_path, command):
    folder = shutil.copytree(half, tmp_path / "kept")
    before = json.loads((folder / "manifest.json").read_text())
    found = answer(folder, "--limit", LIMIT, "--questions", "--save")
    after = json.loads((folder / "manifest.json").read_text())
    kept = after["graphs"][0].pop("evaluation")
    assert after == before
    for name in ("perplexity", "tokens", "bits_per_weight", "facts", "sums", "topics", "experts"):
        assert kept.get(name) == found.get(name)
    assert kept["perplexity"] > 1
    assert kept["facts"]
    assert str(tmp_path) not in json.dumps(kept)  # nothing of this machine
    assert command("minimind-run", "--engine", folder, "--raw", "Hi", "-n", 2).returncode == 0


def test_without_a_manifest_there_is_nothing_to_keep_figures_in(refused_here, half, tmp_path):
    folder = shutil.copytree(half, tmp_path / "bare")
    (folder / "manifest.json").unlink()
    assert "manifest.json" in refused_here(3, "eval", folder, "--save")


def test_against_another_artifact(answer, half, export, moe_checkpoint, tmp_path):
    whole = export(moe_checkpoint)
    (tmp_path / "mine.txt").write_text(TEXT, encoding="utf-8")
    words = ("--text", tmp_path / "mine.txt", "--limit", 1)
    expected = answer(whole, *words)
    by_graph = answer(half, *words, "--against", whole)
    assert by_graph["reference_perplexity"] == pytest.approx(expected["perplexity"], rel=1e-6)
    assert by_graph["bits_per_weight"] == pytest.approx(16, abs=0.5)
    assert 0 < by_graph["mean_kl"] < 1e-2
    assert by_graph["top1_agreement"] > 0.9
    by_checkpoint = answer(half, *words, "--against", moe_checkpoint)
    assert by_checkpoint["mean_kl"] == pytest.approx(by_graph["mean_kl"], rel=0.05)
    assert by_checkpoint["reference"] == f"{moe_checkpoint} (PyTorch)"


def test_the_checkpoint_beside_an_artifact_is_the_reference(answer, half, moe_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(moe_checkpoint.parent)
    found = answer(half, "--limit", 2, "--no-questions")
    assert found["reference"] == f"{moe_checkpoint.name} (PyTorch)"
    assert 0 < found["mean_kl"] < 1e-2
    monkeypatch.chdir(tmp_path)
    alone = answer(half, "--limit", 2, "--no-questions")
    assert alone["mean_kl"] is None
    assert "--against" in "".join(alone["notes"])


def test_experts_are_counted_as_the_models_own_routers_choose(answer, half, moe_checkpoint, tmp_path):
    from minimind_edge.minimind import MoEGate, load_checkpoint

    (tmp_path / "mine.txt").write_text(TEXT[:400], encoding="utf-8")
    found = answer(half, "--text", tmp_path / "mine.txt", "--against", moe_checkpoint)["experts"]
    tokenizer, model = AutoTokenizer.from_pretrained(moe_checkpoint.parent), load_checkpoint(moe_checkpoint)
    chosen = []
    for gate in (module for module in model.modules() if isinstance(module, MoEGate)):
        gate.register_forward_hook(lambda gate, inputs, outputs: chosen.append(outputs[0]))
    ids = [tokenizer.bos_token_id, *tokenizer(TEXT[:400], add_special_tokens=False).input_ids]
    with torch.inference_mode():
        model(torch.tensor([ids]))
    expected = [(torch.bincount(layer.flatten(), minlength=4) / layer.numel()).tolist() for layer in chosen]
    assert len(found["layers"]) == 2
    for shares, layer in zip(found["layers"], expected, strict=True):
        assert shares == pytest.approx(layer, abs=0.02)  # float16 sends a token or two elsewhere
    assert found["least_share"] == min(map(min, found["layers"]))


@pytest.fixture(scope="module")
def demo(export):
    from minimind_edge.export.bundled import bundled_checkpoint

    return export(bundled_checkpoint(moe=False))


def test_the_bundled_demo_knows_its_facts(command, demo):
    result = command("minimind-export", "eval", demo, "--limit", 12, "--wrong", 1)
    assert result.returncode == 0
    assert "note:" not in result.stderr
    for name in ("facts, exact, English", "facts, exact, Chinese", "sums, exact, English", "topic copy, both named"):
        assert f"{name}" in result.stdout
    facts = [line for line in result.stdout.splitlines() if "facts, exact" in line]
    assert [int(line.split()[-4]) >= 9 for line in facts] == [True, True]
    assert [line.split()[-2] for line in facts] == ["12", "12"]


def test_a_model_with_another_tokenizer_is_not_asked_unless_one_insists(export_here, artifact, tmp_path):
    other = shutil.copytree(artifact, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    last, before = sorted(vocabulary, key=vocabulary.__getitem__)[-1:-3:-1]
    vocabulary[last], vocabulary[before] = vocabulary[before], vocabulary[last]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    silent = export_here("eval", other, "--limit", 1)
    assert (silent.returncode, "topic copy" in silent.stdout) == (0, False)
    assert "--questions" in silent.stderr
    insisted = export_here("eval", other, "--limit", 1, "--questions")
    assert (insisted.returncode, "topic copy" in insisted.stdout) == (0, True)
    assert "note: " in insisted.stderr


def without_tokenizer(artifact, tmp_path):
    folder = shutil.copytree(artifact, tmp_path / "bare")
    (folder / "tokenizer.json").unlink()
    return folder, (), "tokenizer"


def not_utf8(artifact, tmp_path):
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    return artifact, ("--text", tmp_path / "latin.txt"), "UTF-8"


def empty(artifact, tmp_path):
    (tmp_path / "empty.txt").touch()
    return artifact, ("--text", tmp_path / "empty.txt"), "no token"


def missing_text(artifact, tmp_path):
    return artifact, ("--text", tmp_path / "nothing.txt"), "nothing.txt"


def nothing(artifact, tmp_path):
    return tmp_path / "nothing", (), "nothing"


def against_nothing(artifact, tmp_path):
    return artifact, ("--against", tmp_path / "nothing.onnx"), "nothing.onnx"


@pytest.mark.parametrize("case", [without_tokenizer, not_utf8, empty, missing_text, nothing, against_nothing])
def test_bad_input_is_one_line_and_exit_code_3(refused_here, artifact, tmp_path, case):
    path, words, names = case(artifact, tmp_path)
    assert names in refused_here(3, "eval", path, *words)


def test_a_model_of_another_vocabulary_is_no_reference(refused_here, artifact, make_checkpoint, tmp_path):
    other = make_checkpoint(tmp_path / "other", vocab_size=2176)
    assert "2176" in refused_here(3, "eval", artifact, "--against", other)
