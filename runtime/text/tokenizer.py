"""Text to token ids and back, by an artifact's `tokenizer.json` and `tokenizer_config.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..artifact.json_object import JsonObject
from ..errors import ArtifactError, PromptError

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Backend


class Tokenizer:
    """Encodes and decodes as transformers' `PreTrainedTokenizerFast` does with the same two files.

    Attributes:
        special_tokens: The text of each special token by its role, such as `{"bos_token": "<|im_start|>"}`.
        bos_token_id: Starts a text; None where the tokenizer has none.
        eos_token_id: Ends a text; None where the tokenizer has none.
    """

    def __init__(self, backend: Backend, config: JsonObject) -> None:
        self.special_tokens = _special_tokens(config)
        self._backend = backend
        backend.no_truncation()
        backend.no_padding()
        _add_missing_tokens(backend, config, self.special_tokens)
        self._special_texts = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
        self.bos_token_id = self._id_of("bos_token")
        self.eos_token_id = self._id_of("eos_token")
        self._bytes: dict[int, bytes] = {}

    @classmethod
    def load(cls, path: Path, config: JsonObject | None = None) -> Tokenizer:
        """Read a tokenizer.

        Args:
            path: `tokenizer.json`.
            config: The content of `tokenizer_config.json`; None where there is none.

        Raises:
            ArtifactError: A file is broken or of another kind.
        """
        from tokenizers import Tokenizer as Backend

        try:
            backend = Backend.from_file(str(path))
        except Exception as error:  # the bindings raise plain Exception for whatever is wrong with a file
            raise ArtifactError(f"{path} is not a tokenizer that can be read: {error}") from error
        return cls(backend, config or JsonObject({}, "tokenizer_config.json"))

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return self._backend.get_vocab_size()

    @property
    def is_byte_level(self) -> bool:
        """Whether a text is the concatenation of its tokens' bytes."""
        from tokenizers.decoders import ByteLevel

        return isinstance(self._backend.decoder, ByteLevel)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text; special tokens that are spelled out in it become themselves.

        Args:
            text: Any text.
            add_special_tokens: Whether to add what tokenizer.json puts around a text (bos, for one); as in
                transformers, `add_bos_token` of the config has no say in it.

        Raises:
            PromptError: The text has a lone surrogate: it was not valid UTF-8 where it came from.
        """
        try:
            return self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        except TypeError as error:
            raise PromptError("the text is not valid Unicode: it has a lone surrogate; expected UTF-8") from error

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of token ids; ids without a token are left out."""
        return self._backend.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def is_special(self, token_id: int) -> bool:
        """Whether the token is a mark, not a part of the text; also true for an id without a token."""
        token = self._backend.id_to_token(token_id)
        return token is None or token in self._special_texts

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes that the token adds to a text, for a byte-level tokenizer; none for a special token."""
        found = self._bytes.get(token_id)
        if found is None:
            found = b"" if self.is_special(token_id) else _to_bytes(self._backend.id_to_token(token_id) or "")
            self._bytes[token_id] = found
        return found

    def _id_of(self, name: str) -> int | None:
        text = self.special_tokens.get(name)
        return None if text is None else self._backend.token_to_id(text)


def _special_tokens(config: JsonObject) -> dict[str, str]:
    """The texts of `bos_token`, `eos_token` and their like; each is a string or an object with `content`."""
    names = [name for name in config if name.endswith("_token") and not name.startswith("add_")]
    texts = {name: _token_text(config, name) for name in names}
    return {name: text for name, text in texts.items() if text}


def _token_text(config: JsonObject, name: str) -> str | None:
    if isinstance(config[name], Mapping):
        return config.child(name).required("content", str)
    return config.optional(name, str)


def _add_missing_tokens(backend: Backend, config: JsonObject, special_tokens: Mapping[str, str]) -> None:
    """Make the config's special tokens known where tokenizer.json doesn't list them as such."""
    from tokenizers import AddedToken

    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    specials = [AddedToken(text, special=True, normalized=False) for text in special_tokens.values()]
    for token in (*_listed_tokens(config), *specials):
        if token.content not in known:
            known.add(token.content)
            add = backend.add_special_tokens if token.special else backend.add_tokens
            add([token])


def _listed_tokens(config: JsonObject) -> Iterator[AddedToken]:
    """The tokens of `added_tokens_decoder`, by id."""
    from tokenizers import AddedToken

    listed = config.child("added_tokens_decoder")
    for key in sorted(listed, key=lambda key: (len(key), key)):
        entry = listed.child(key)
        flags = {name: bool(entry.optional(name, bool)) for name in ("lstrip", "rstrip", "single_word", "special")}
        normalized = entry.optional("normalized", bool)
        yield AddedToken(
            entry.required("content", str),
            normalized=not flags["special"] if normalized is None else normalized,
            **flags,
        )


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in a byte-level vocabulary, turned around.

    Source:
        Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2, and its tokenizer: the
        printable characters of Latin-1 stand for themselves, the other bytes, in order, for U+0100 and up.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return alphabet


_BYTE_OF = _byte_alphabet()


def _to_bytes(token: str) -> bytes:
    """Bytes of a vocabulary entry; an added token with other characters than the alphabet's stands for itself."""
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError:
        return token.encode()
