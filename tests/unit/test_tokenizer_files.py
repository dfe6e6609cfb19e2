from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models

from minimind_edge.export.artifact.special_ids import choose_special_ids
from minimind_edge.export.artifact.tokenizer_files import find_tokenizer, is_pretrained_only, read_tokenizer
from minimind_edge.minimind.checkpoint.report import CheckpointReport
from minimind_edge.runtime.artifact.folder import Artifact
from minimind_edge.runtime.errors import ArtifactError, MissingError
from minimind_edge.runtime.text.chat_template import ChatTemplate


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


def test_a_templates_name_fits_into_a_file_name(tmp_path: Path) -> None:
    """`additional_chat_templates/NAME.jinja`, of which file systems take 255 bytes."""

    def named(name: str) -> Path:
        return _write_tokenizer(tmp_path, chat_template=[{"name": name, "template": "x"}]) / "tokenizer.json"

    longest = "é" * 124 + "x"
    (tmp_path / "artifact").mkdir()
    read_tokenizer(named(longest)).copy_to(tmp_path / "artifact")
    assert (tmp_path / "artifact/additional_chat_templates" / f"{longest}.jinja").read_text() == "x"
    for name in (longest + "x", "../x", ""):
        with pytest.raises(ArtifactError, match="must be text, with a name"):
            read_tokenizer(named(name))


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


def test_upstreams_older_tokenizer_folder_is_found(tmp_path: Path) -> None:
    older = _write_tokenizer(tmp_path / "model" / "minimind_tokenizer")
    found = find_tokenizer(tmp_path / "out" / "full_sft_512.pth", None)
    assert found is not None
    assert found.path == older / "tokenizer.json"


def _copied(source: Path, target: Path) -> Path:
    found = find_tokenizer(source, None)
    assert found is not None
    target.mkdir()
    found.copy_to(target)
    return target


def test_named_chat_templates_are_chosen_as_transformers_chooses(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    source = _write_tokenizer(tmp_path / "files", chat_template="ignored")
    (source / "chat_template.jinja").write_bytes(b"plain {{ messages[0].content }}")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools | length }} tools")
    entries = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools[0].type }}"}]
    listed = _write_tokenizer(tmp_path / "listed", chat_template=entries)
    tools = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}]
    messages = [{"role": "user", "content": "hi"}]
    for folder in (source, listed):
        expected = PreTrainedTokenizerFast.from_pretrained(str(folder))
        target = _copied(folder, tmp_path / f"{folder.name} artifact")
        (target / "model.onnx").write_bytes(b"")
        again = PreTrainedTokenizerFast.from_pretrained(str(target))
        (folder / "model.onnx").write_bytes(b"")
        for artifact in (Artifact.open(folder), Artifact.open(target)):
            ours = ChatTemplate.find(artifact.chat_template, artifact.tokenizer_config, {}, artifact.named_templates)
            assert ours is not None
            for given in (None, tools):
                text = expected.apply_chat_template(messages, tools=given, tokenize=False)
                assert ours.render(messages, tools=given) == text
                assert again.apply_chat_template(messages, tools=given, tokenize=False) == text


def test_special_tokens_of_older_files_reach_the_artifact(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    source = _write_tokenizer(tmp_path / "source")
    (source / "special_tokens_map.json").write_text(
        json.dumps(
            {"bos_token": "a", "eos_token": {"content": "<|im_end|>"}, "additional_special_tokens": ["<|user|>"]}
        )
    )
    (source / "added_tokens.json").write_text(json.dumps({"<|user|>": 3, "<|plain|>": 4}))
    expected = PreTrainedTokenizerFast.from_pretrained(str(source))
    target = _copied(source, tmp_path / "artifact")
    again = PreTrainedTokenizerFast.from_pretrained(str(target))
    assert again.special_tokens_map == expected.special_tokens_map
    for text in ("ab<|im_end|>", "a<|user|>b<|plain|>a"):
        assert again.encode(text) == expected.encode(text)


def test_byte_order_marks_end_at_the_export(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    plain = _write_tokenizer(tmp_path / "plain", eos_token="<|im_end|>")
    (plain / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    marked = tmp_path / "marked"
    marked.mkdir()
    for file in plain.iterdir():
        (marked / file.name).write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    expected = PreTrainedTokenizerFast.from_pretrained(str(plain))
    found = PreTrainedTokenizerFast.from_pretrained(str(_copied(marked, tmp_path / "artifact")))
    messages = [{"role": "user", "content": "hi"}]
    assert found.apply_chat_template(messages, tokenize=False) == expected.apply_chat_template(messages, tokenize=False)
    assert found.encode("ab<|im_end|>") == expected.encode("ab<|im_end|>")
    assert found.eos_token_id == expected.eos_token_id == 2


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "vocab.json"])
def test_a_pointer_of_git_lfs_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 11421896\n")
    with pytest.raises(ArtifactError, match=r"is a pointer of Git LFS.*git lfs pull"):
        find_tokenizer(tmp_path / "x.pth", None)


@pytest.mark.parametrize("reader", ["GPT2Tokenizer", "Qwen2Tokenizer"])
def test_vocabulary_and_merges_become_the_tokenizer_that_transformers_makes_of_them(
    tmp_path: Path, demo_tokenizer: Path, reader: str
) -> None:
    import transformers

    model = json.loads(demo_tokenizer.read_text(encoding="utf-8"))["model"]
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]), encoding="utf-8")
    if reader != "GPT2Tokenizer":
        config = {"tokenizer_class": reader, "eos_token": "<|im_end|>", "bos_token": None}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    expected = getattr(transformers, reader).from_pretrained(str(folder))
    found = find_tokenizer(folder, None)
    assert found is not None
    for text in ("Hello world, 你好 <|im_end|>", "  12345 it's"):
        assert found.load().encode(text) == expected.encode(text)
    assert found.load().special_tokens == expected.special_tokens_map
    copied = transformers.PreTrainedTokenizerFast.from_pretrained(str(_copied(folder, tmp_path / "artifact")))
    assert copied.encode("Hello world, 你好") == expected.encode("Hello world, 你好")


def test_a_sentencepiece_model_alone(tmp_path: Path) -> None:
    from transformers import LlamaTokenizer

    try:  # both packages have the messages, and a process takes them from one of the two only
        from sentencepiece import sentencepiece_model_pb2 as messages
    except ImportError:
        from transformers.utils import sentencepiece_model_pb2_new as messages

    model = messages.ModelProto()
    pieces = [
        ("<unk>", 0.0, 2),
        ("<s>", 0.0, 3),
        ("</s>", 0.0, 3),
        *((f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)),
    ]
    words = ("he", "hel", "\u2581", "h", "e", "l", "a", "\u2581a")
    for piece, score, kind in [*pieces, *((word, -float(rank), 1) for rank, word in enumerate(words, 1))]:
        model.pieces.add(piece=piece, score=score, type=kind)
    model.trainer_spec.model_type = 2
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.unk_id = 0
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    if find_spec("sentencepiece") is None:
        with pytest.raises(MissingError, match="pip install sentencepiece"):
            find_tokenizer(tmp_path, None)
        return
    expected = LlamaTokenizer.from_pretrained(str(tmp_path))
    found = find_tokenizer(tmp_path, None)
    assert found is not None
    assert found.load().encode("hel a é") == expected.encode("hel a é")


@pytest.fixture
def demo_tokenizer() -> Path:
    from minimind_edge.export.bundled import bundled_checkpoint

    return bundled_checkpoint(moe=False).parent / "tokenizer.json"


def _report(given: dict[str, object]) -> CheckpointReport:
    assumed = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "rope_theta": 1e6}
    assumed = {name: value for name, value in assumed.items() if name not in given}
    return CheckpointReport("minimind2", (Path("x.pth"),), "0" * 64, {}, given, assumed, (), None)


@pytest.mark.parametrize(
    ("given", "config", "ids", "sources"),
    [
        ({}, {"eos_token": "b", "bos_token": "a"}, (0, 1, 0), ("tokenizer", "tokenizer", "assumed for minimind2")),
        ({"eos_token_id": None}, {"eos_token": "a"}, (1, 0, 0), ("assumed for minimind2", "tokenizer", None)),
        ({"eos_token_id": [1, 2], "bos_token_id": 1}, {"eos_token": "a"}, (1, [1, 2], 0), ("config", "config", None)),
        ({}, {"bos_token": None, "pad_token": "b"}, (None, 2, 1), ("tokenizer", None, "tokenizer")),
        ({}, {"pad_token": "<another>"}, (1, 2, 0), (None, None, "assumed for minimind2")),
        ({}, None, (1, 2, 0), ("assumed for minimind2",) * 3),
    ],
    ids=["bare weights", "null", "a config", "no bos", "a token that the model lacks", "no tokenizer"],
)
def test_special_ids_are_the_configs_then_the_tokenizers(tmp_path, given, config, ids, sources) -> None:
    """The tokenizer's ids are those that transformers finds in the same files: a 0, b 1, <|im_end|> 2."""
    tokenizer = None
    if config is not None:
        from transformers import PreTrainedTokenizerFast

        folder = _write_tokenizer(tmp_path, **config)
        tokenizer = read_tokenizer(folder / "tokenizer.json")
        reference = PreTrainedTokenizerFast.from_pretrained(str(folder))
    chosen = choose_special_ids(_report(given), tokenizer)
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    assert tuple(chosen.ids[name] for name in names) == ids
    for name, source in zip(names, sources, strict=True):
        assert source is None or chosen.sources[name] == source
        if chosen.sources[name] == "tokenizer":
            assert chosen.ids[name] == getattr(reference, name)
        assert f"{name.removesuffix('_token_id')} {chosen.ids[name]} ({chosen.sources[name]})" in chosen.line()


@pytest.mark.parametrize(
    ("config", "begins"),
    [
        (None, True),
        ({"model_type": "minimind"}, True),
        ({"model_type": "qwen3"}, False),
        ({"model_type": "llama"}, False),
    ],
    ids=str,
)
def test_raw_prompts_begin_with_bos_for_what_minimind_trained(tmp_path: Path, config, begins) -> None:
    """Upstream's own script asks pretrained weights by bos and text; transformers adds none of its own accord."""
    _write_tokenizer(tmp_path, bos_token="<|im_end|>")
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    found = find_tokenizer(tmp_path / "pretrain_512.pth", None)
    assert found is not None
    assert found.begins_with_bos is begins
    assert found.load().encode_raw("ab") == ([2, 0, 1] if begins else [0, 1])
    written = json.loads((_copied(tmp_path, tmp_path / "artifact") / "tokenizer_config.json").read_text())
    assert written.get("begins_with_bos", False) is begins


def test_pretrained_weights_are_known_by_upstreams_name_for_them() -> None:
    assert is_pretrained_only(Path("out/pretrain_512.pth"))
    assert is_pretrained_only(Path("out/pretrain_640_moe.pth"))
    assert not is_pretrained_only(Path("out/full_sft_512.pth"))
