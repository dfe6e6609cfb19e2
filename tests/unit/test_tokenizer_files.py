from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models

from minimind_edge.export.artifact.tokenizer_files import find_tokenizer, read_tokenizer
from minimind_edge.runtime.errors import ArtifactError


def _write_tokenizer(folder: Path, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    tokenizer.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_found_beside_the_checkpoint_or_in_upstreams_model_folder(tmp_path: Path) -> None:
    _write_tokenizer(tmp_path / "model")
    (tmp_path / "out").mkdir()
    checkpoint = tmp_path / "out" / "full_sft_512.pth"
    upstream = find_tokenizer(checkpoint, None)
    assert upstream is not None
    assert upstream.path == tmp_path / "model" / "tokenizer.json"
    assert upstream.size == 3
    _write_tokenizer(tmp_path / "out")
    beside = find_tokenizer(checkpoint, None)
    assert beside is not None
    assert beside.path == tmp_path / "out" / "tokenizer.json"


def test_a_named_one_must_be_there(tmp_path: Path) -> None:
    _write_tokenizer(tmp_path / "other")
    named = find_tokenizer(tmp_path / "x.pth", tmp_path / "other" / "tokenizer.json")
    assert named is not None
    assert find_tokenizer(tmp_path / "x.pth", None) is None
    with pytest.raises(ArtifactError, match=r"no tokenizer\.json at"):
        find_tokenizer(tmp_path / "x.pth", tmp_path / "missing")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0"}'])
def test_a_broken_one_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json") as error:
        read_tokenizer(tmp_path / "tokenizer.json")
    assert "\n" not in str(error.value)


def test_the_chat_template_comes_from_its_own_file_or_the_config(tmp_path: Path) -> None:
    plain = read_tokenizer(_write_tokenizer(tmp_path / "plain") / "tokenizer.json")
    assert plain.chat_template is None
    single = read_tokenizer(_write_tokenizer(tmp_path / "single", chat_template="one") / "tokenizer.json")
    assert single.chat_template == "one"
    entries = [{"name": "rag", "template": "no"}, {"name": "default", "template": "yes"}]
    named = read_tokenizer(_write_tokenizer(tmp_path / "named", chat_template=entries) / "tokenizer.json")
    assert named.chat_template == "yes"
    (tmp_path / "named" / "chat_template.jinja").write_text("own file")
    assert read_tokenizer(tmp_path / "named" / "tokenizer.json").chat_template == "own file"
    with pytest.raises(ArtifactError, match="must be text"):
        read_tokenizer(_write_tokenizer(tmp_path / "odd", chat_template=3) / "tokenizer.json")


def test_copied_files_load_in_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = _write_tokenizer(tmp_path / "source", eos_token="<|im_end|>", chat_template="{{ messages[0].content }}")
    target = tmp_path / "artifact"
    target.mkdir()
    (target / "chat_template.jinja").write_text("stale")
    (target / "config.json").write_text(json.dumps({"model_type": "llama"}))
    read_tokenizer(source / "tokenizer.json").copy_to(target)
    loaded = AutoTokenizer.from_pretrained(target)
    assert loaded.eos_token_id == 2
    assert loaded.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"


def test_what_transformers_5_writes_is_said_in_words_that_others_read(tmp_path: Path) -> None:
    source = _write_tokenizer(
        tmp_path / "source", tokenizer_class="TokenizersBackend", extra_special_tokens=["<|im_end|>"], pad_token="a"
    )
    (source / "chat_template.jinja").write_text("{{ messages }}")
    target = tmp_path / "artifact"
    target.mkdir()
    read_tokenizer(source / "tokenizer.json").copy_to(target)
    assert json.loads((target / "tokenizer_config.json").read_text()) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "additional_special_tokens": ["<|im_end|>"],
        "pad_token": "a",
        "chat_template": "{{ messages }}",
    }


def test_a_tokenizer_without_a_config_gets_one(tmp_path: Path) -> None:
    target = tmp_path / "artifact"
    target.mkdir()
    read_tokenizer(_write_tokenizer(tmp_path / "source") / "tokenizer.json").copy_to(target)
    assert json.loads((target / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
