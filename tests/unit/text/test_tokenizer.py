from __future__ import annotations

import json
import os
import random
import tracemalloc

import pytest
import transformers

from minimind_edge.runtime.artifact.tokenizer_config import JsonObject, complete_config
from minimind_edge.runtime.errors import ArtifactError, PromptError
from minimind_edge.runtime.text.tokenizer import Tokenizer, _is_usual

CONFIGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
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


@pytest.mark.parametrize("kind", [["ByteLevel"], {}, 5, None])
def test_a_part_whose_type_is_no_name(tokenizer_folder, tmp_path, kind):
    description = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
    description["decoder"] = {"type": kind}
    (tmp_path / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is not a tokenizer that can be read"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_part_is_found_under_an_escaped_name(tokenizer_folder, tmp_path):
    assert Tokenizer.load(tokenizer_folder / "tokenizer.json")._process is None
    description = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
    del description["normalizer"]
    unusual = r'"norm\u0061lizer": {"type": "Replace", "pattern": {"Regex": "a"}, "content": "b"}'
    (tmp_path / "tokenizer.json").write_text(f"{{{unusual}, {json.dumps(description)[1:]}", encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert tokenizer._process is not None
    assert tokenizer.encode("a") == Tokenizer.load(tokenizer_folder / "tokenizer.json").encode("b")


def test_looking_for_unusual_parts_takes_no_memory_for_the_vocabulary(tokenizer_folder):
    description = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
    description["model"]["vocab"] |= {f"token {index}": 500 + index for index in range(20_000)}
    text = json.dumps(description)
    tracemalloc.start()
    assert _is_usual(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(text) / 4  # the objects of the vocabulary would take more than the text


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


ADDED = {"<|user|>": 422, "<|plain|>": 423}
LOOSE_TOKENS = {
    "a map of special tokens": {"special_tokens_map.json": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}},
    "a map of objects": {
        "special_tokens_map.json": {"bos_token": {"content": "<|im_start|>", "lstrip": True, "normalized": False}},
    },
    "a map with more": {
        "tokenizer_config.json": {"eos_token": "<|im_end|>"},
        "special_tokens_map.json": {"bos_token": "<|im_start|>", "additional_special_tokens": ["<|user|>"]},
    },
    "a map against the config": {
        "tokenizer_config.json": {"eos_token": "<|im_end|>"},
        "special_tokens_map.json": {"eos_token": "<|endoftext|>"},
    },
    "additional tokens": {"tokenizer_config.json": {"additional_special_tokens": ["<|user|>", "<|im_end|>"]}},
    "extra tokens": {
        "tokenizer_config.json": {
            "extra_special_tokens": ["<|user|>", {"__type": "AddedToken", "content": "<|tool|>", "special": True}]
        }
    },
    "extra tokens with roles": {
        "tokenizer_config.json": {"bos_token": "<|im_start|>", "extra_special_tokens": {"user_token": "<|user|>"}}
    },
    "added tokens": {"added_tokens.json": ADDED},
    "added special tokens": {
        "added_tokens.json": ADDED,
        "special_tokens_map.json": {"extra_special_tokens": ["<|user|>"], "eos_token": "<|im_end|>"},
    },
    "the list by id is all": {
        "tokenizer_config.json": {
            "added_tokens_decoder": {"422": {"content": "<|system|>", "special": True}},
            "eos_token": "<|im_end|>",
        },
        "special_tokens_map.json": {"bos_token": "<|im_start|>"},
        "added_tokens.json": ADDED,
    },
}


@pytest.mark.parametrize("files", LOOSE_TOKENS.values(), ids=LOOSE_TOKENS)
def test_special_tokens_outside_the_config_as_transformers(tokenizer_folder, tmp_path, files, corpus):
    (tmp_path / "tokenizer.json").write_bytes((tokenizer_folder / "tokenizer.json").read_bytes())
    for name, content in files.items():
        # transformers changes what it is given in place, so each reads files of its own
        (tmp_path / name).write_text(json.dumps(content))
    read = [JsonObject.read(path) if (path := tmp_path / name).exists() else JsonObject({}, name) for name in CONFIGS]
    ours, theirs = Tokenizer.load(tmp_path / "tokenizer.json", complete_config(*read)), reference(tmp_path)
    for text in [*TEXTS, *corpus, "a<|user|>b <|plain|>c<|tool|>d<|system|>e"]:
        expected = theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text, add_special_tokens=False) == expected
        assert ours.decode(expected) == theirs.decode(expected, skip_special_tokens=True)
    ids = theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id
    assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id) == ids
    assert ours.special_tokens == theirs.special_tokens_map
    assert ours.vocab_size == len(theirs)


def test_a_byte_order_mark_is_no_part_of_a_tokenizer(tokenizer_folder, tmp_path, corpus):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tokenizer_folder / name).read_bytes())
    ours, theirs = load(tmp_path), reference(tokenizer_folder)
    for text in [*TEXTS, *corpus]:
        assert ours.encode(text) == theirs.encode(text)
    assert ours.special_tokens == theirs.special_tokens_map


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 11421896\n"
    )
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is a pointer of Git LFS.*git lfs pull"):
        load(tmp_path)


def changed(**parts):
    return lambda description: description.update(parts)


WORDS = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}
SEQUENCE = {"type": "Sequence"}
HOSTILE = {
    "Precompiled without a map": changed(normalizer={"type": "Precompiled", "precompiled_charsmap": ""}),
    "Strip of what Fuse left": changed(
        decoder=SEQUENCE | {"decoders": [{"type": "Fuse"}, {"type": "Strip", "content": "x", "start": 0, "stop": 1}]}
    ),
    "WordPiece without its unk token": changed(model=WORDS | {"vocab": {"a": 0}}),
    "WordLevel without its unk token": changed(
        model={"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"a": 0}}, added_tokens=[]
    ),
    "a pattern that backtracks": changed(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    ),
    "a normalizer that backtracks": changed(
        normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "a"}
    ),
    "chained replacements": changed(
        normalizer=SEQUENCE
        | {"normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 6}
    ),
    "a template of many texts": changed(
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 5_000_000,
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {},
        }
    ),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_tokenizers(tokenizer_folder, tmp_path, change, capfd):
    description = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    change(description)
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    times = os.times()
    with pytest.raises(ArtifactError, match="tokenizer") as raised:
        tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
        tokenizer.encode("a" * 64 + "!")
        tokenizer.decode([])
    assert raised.value.exit_code == 3
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    assert capfd.readouterr() == ("", "")
    assert os.times().children_user - times.children_user < 8


@pytest.mark.parametrize(
    "parts",
    [
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[a-z]+"}, "behavior": "Isolated", "invert": False}},
        {"normalizer": {"type": "Lowercase"}},
        {"model": WORDS | {"vocab": {"[UNK]": 0, "the": 1, "do": 2, "##g": 3}}, "added_tokens": []},
    ],
    ids=["a pattern", "lower case", "WordPiece"],
)
def test_unusual_tokenizers_equal_transformers(tokenizer_folder, tmp_path, parts, corpus):
    description = json.loads((tokenizer_folder / "tokenizer.json").read_text()) | parts
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    check_against_reference(tmp_path, [*TEXTS, *corpus, "the dog<|end|>"])
    assert load(tmp_path)._process is not None


def test_models_own_tokenizers_need_no_process(tokenizer_folders, demo_folder):
    for folder in [*tokenizer_folders, demo_folder]:
        assert load(folder)._process is None
