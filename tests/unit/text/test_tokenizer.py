from __future__ import annotations

import json
import random

import pytest
import transformers

from minimind_edge.runtime.artifact.json_object import JsonObject
from minimind_edge.runtime.errors import ArtifactError, PromptError
from minimind_edge.runtime.text.tokenizer import Tokenizer

TEXTS = [
    " leading and trailing ",
    "你好，世界 😀 e\u0301 \x00 \u200d",
    "<|im_start|>user\nhi<|im_end|>\n<think>\n\n</think>",
    "<|im_start|><|im_start|>x<|endoftext|>",
]


def load(folder):
    config = folder / "tokenizer_config.json"
    return Tokenizer.load(folder / "tokenizer.json", JsonObject.read(config) if config.exists() else None)


def reference(folder):
    return transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))


def check_against_reference(folder, texts):
    ours, theirs = load(folder), reference(folder)
    for text in texts:
        for add_special_tokens in (True, False):
            expected = theirs.encode(text, add_special_tokens=add_special_tokens)
            assert ours.encode(text, add_special_tokens) == expected
            for skip in (True, False):
                assert ours.decode(expected, skip) == theirs.decode(expected, skip_special_tokens=skip)
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)
    assert ours.special_tokens == {name: str(text) for name, text in theirs.special_tokens_map.items()}
    assert ours.vocab_size == len(theirs)


def test_equals_transformers(tokenizer_folders, corpus):
    for folder in tokenizer_folders:
        check_against_reference(folder, [*TEXTS, *corpus])


@pytest.mark.parametrize(
    "changes",
    [
        {"add_bos_token": True},
        {"add_bos_token": True, "add_eos_token": True},
        {"add_eos_token": True, "add_bos_token": None},
        {"bos_token": None, "add_bos_token": True},
        {"pad_token": "<pad>"},
        {"eos_token": "dog"},
        {
            "added_tokens_decoder": {
                "422": {"content": "<new>", "special": True},
                "423": {"content": "<plain>", "special": False},
            }
        },
    ],
    ids=str,
)
def test_the_configs_tokens_as_transformers(tokenizer_folder, tmp_path, changes, corpus):
    config = json.loads((tokenizer_folder / "tokenizer_config.json").read_text()) | changes
    (tmp_path / "tokenizer.json").write_bytes((tokenizer_folder / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    check_against_reference(tmp_path, [*TEXTS, *corpus, "a <pad> b<new>c<plain>d"])


def test_truncation_and_padding_of_the_file_are_ignored(tokenizer_folder, tmp_path, tokenizer):
    values = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    values["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    values["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    text = "The quick brown fox jumps"
    assert load(tmp_path).encode(text) == tokenizer.encode(text)


def test_post_processor_holds_where_the_config_is_silent(tokenizer_folder, tmp_path):
    values = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    values["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    tokenizer = load(tmp_path)
    assert tokenizer.encode("dog") == [1, *tokenizer.encode("dog", add_special_tokens=False)]
    assert tokenizer.bos_token_id is tokenizer.eos_token_id is None


def test_token_bytes_are_the_bytes_of_the_text(tokenizer_folders, corpus):
    for folder in tokenizer_folders:
        tokenizer = load(folder)
        assert tokenizer.is_byte_level
        for text in corpus:
            assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()
        assert tokenizer.token_bytes(2) == b""
        assert tokenizer.token_bytes(10**6) == b""


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"version": "1.0", "model": {"type": "Nonesuch"}}'],
    ids=["empty", "list", "null", "no model", "binary", "deep", "unknown model"],
)
def test_hostile_files(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is not a tokenizer") as raised:
        load(tmp_path)
    assert raised.value.exit_code == 3
    assert "\n" not in str(raised.value)


def test_truncated_and_changed_files(tokenizer_folder, tmp_path):
    content = (tokenizer_folder / "tokenizer.json").read_bytes()
    generator = random.Random(0)
    for _ in range(40):
        cut = generator.randrange(len(content))
        (tmp_path / "tokenizer.json").write_bytes(content[:cut])
        with pytest.raises(ArtifactError):
            load(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"bos_token": 3},
        {"bos_token": {"text": "x"}},
        {"added_tokens_decoder": [1]},
        {"added_tokens_decoder": {"0": "x"}},
        {"added_tokens_decoder": {"0": {"content": 1}}},
    ],
    ids=str,
)
def test_hostile_configs(tokenizer_folder, config):
    with pytest.raises(ArtifactError, match="the config: "):
        Tokenizer.load(tokenizer_folder / "tokenizer.json", JsonObject(config, "the config"))


def test_text_that_was_no_utf8(tokenizer):
    with pytest.raises(PromptError, match="not valid Unicode"):
        tokenizer.encode("caf\udce9")
