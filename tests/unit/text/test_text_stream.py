from __future__ import annotations

import json

import numpy as np
import pytest
import tokenizers

from minimind_edge.runtime.artifact.tokenizer_config import JsonObject
from minimind_edge.runtime.text.text_stream import ByteTextStream, WindowTextStream, open_text_stream
from minimind_edge.runtime.text.tokenizer import Tokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def stream_pieces(stream, ids):
    return [*(stream.push(token) for token in ids), stream.finish()]


def backends(folders):
    for folder in folders:
        backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        yield Tokenizer.load(folder / "tokenizer.json"), backend


def test_equals_decoding_at_once_on_random_ids(tokenizer_folders):
    rng = np.random.default_rng(0)
    for tokenizer, backend in backends(tokenizer_folders):
        for length in (1, 2, 5, 50, 400):
            for _ in range(40):
                ids = rng.integers(0, backend.get_vocab_size() + 3, length).tolist()
                expected = backend.decode(ids, skip_special_tokens=True)
                assert "".join(stream_pieces(open_text_stream(tokenizer), ids)) == expected


def test_equals_decoding_at_once_on_random_bytes(tokenizer_folders):
    # the single-byte tokens alone: long runs of broken UTF-8
    rng = np.random.default_rng(1)
    for tokenizer, backend in backends(tokenizer_folders):
        letters = [backend.token_to_id(letter) for letter in tokenizers.pre_tokenizers.ByteLevel.alphabet()]
        for _ in range(200):
            ids = rng.choice([letter for letter in letters if letter is not None], 60).tolist()
            expected = backend.decode(ids, skip_special_tokens=True)
            assert "".join(stream_pieces(open_text_stream(tokenizer), ids)) == expected


def test_never_half_a_character(tokenizer_folders, corpus):
    for tokenizer, _ in backends(tokenizer_folders):
        for text in corpus:
            pieces = stream_pieces(open_text_stream(tokenizer), tokenizer.encode(text))
            assert "".join(pieces) == text
            assert not any(REPLACEMENT in piece for piece in pieces)


def test_a_character_in_four_tokens(tokenizer):
    letters = {tokenizer.token_bytes(token): token for token in range(tokenizer.vocab_size)}
    ids = [letters[bytes([byte])] for byte in "a😀".encode()]
    assert stream_pieces(ByteTextStream(tokenizer), ids) == ["a", "", "", "", "😀", ""]
    assert stream_pieces(ByteTextStream(tokenizer), ids[:3]) == ["a", "", "", REPLACEMENT]


def test_added_tokens_outside_the_alphabet(tokenizer_folder, tmp_path):
    backend = tokenizers.Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    backend.add_tokens(["答案 ", "<é>", "plain words"])
    backend.save(str(tmp_path / "tokenizer.json"))
    [(tokenizer, backend)] = backends([tmp_path])
    ids = backend.encode("x答案 <é>plain words<|im_end|>y").ids
    assert "".join(stream_pieces(open_text_stream(tokenizer), ids)) == backend.decode(ids)


@pytest.fixture(scope="module")
def metaspace_tokenizer(tmp_path_factory, corpus):
    """A tokenizer of Llama's kind: spaces as U+2581, unknown characters by bytes, the first space stripped."""
    pieces = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": byte + 3 for byte in range(256)}
    for character in sorted(set("".join(corpus[:2]).replace(" ", "\u2581"))):
        pieces[character] = len(pieces)
    merges = [("\u2581", "t"), ("h", "e"), ("\u2581t", "he")]
    for left, right in merges:
        pieces[left + right] = len(pieces)
    model = tokenizers.models.BPE(vocab=pieces, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("\u2581"), tokenizers.normalizers.Replace(" ", "\u2581")]
    )
    backend.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("\u2581", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens(["<s>", "</s>"])
    path = tmp_path_factory.mktemp("metaspace") / "tokenizer.json"
    backend.save(str(path))
    return Tokenizer.load(path, JsonObject(json.loads('{"bos_token": "<s>"}'), "the config"))


def test_other_decoders_stream_valid_text(metaspace_tokenizer, corpus):
    assert not metaspace_tokenizer.is_byte_level
    for text in corpus:
        ids = metaspace_tokenizer.encode(text)
        ids = [1, *ids[:7], 2, *ids[7:], 2]
        pieces = stream_pieces(open_text_stream(metaspace_tokenizer), ids)
        assert "".join(pieces) == metaspace_tokenizer.decode(ids)
        assert not any(REPLACEMENT in piece for piece in pieces)


def test_other_decoders_hold_back_four_tokens_at_most(metaspace_tokenizer):
    broken = [0xFF + 3] * 20
    pieces = stream_pieces(WindowTextStream(metaspace_tokenizer), broken)
    assert "".join(pieces) == REPLACEMENT * 20
    assert all(len(piece) <= 4 for piece in pieces)


def test_other_decoders_give_an_unfinished_character_in_the_end(metaspace_tokenizer):
    assert stream_pieces(WindowTextStream(metaspace_tokenizer), [0xE4 + 3, 0xBD + 3]) == ["", "", REPLACEMENT * 2]
