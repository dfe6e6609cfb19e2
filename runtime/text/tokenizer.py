"""The tokenizer: text to token ids and back, by an artifact's `tokenizer.json` and `tokenizer_config.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..artifact.json_file import MAX_BYTES
from ..artifact.text_file import read_text
from ..artifact.tokenizer_config import BEGINS_WITH_BOS, JsonObject, extra_tokens, special_tokens
from ..errors import ArtifactError, EdgeError, PromptError

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Backend

    from ..limited_process import LimitedProcess

LFS_POINTER = "version https://git-lfs.github.com/spec/"
"""The beginning of a Git LFS pointer, which replaces a file that was not fetched."""

MAX_REASON = 300
"""The length in characters to which an error of the tokenizers library is cut."""

ENCODE_SECONDS = 3.0
"""The seconds for an unusual tokenizer to encode or decode one text; usual ones process some megabytes in that time."""

MEMORY_MB = 1024
"""The memory limit of the process that runs an unusual tokenizer, in MiB."""


class Tokenizer:
    """Encodes and decodes as transformers' `PreTrainedTokenizerFast` does with the same two files.

    A tokenizer.json may hold patterns and rules that run or grow without end, or crash the library. Byte-pair encodings
    with parts that are known to be harmless, such as all of MiniMind's, run in this process, others in a child process
    with limits of time and memory.

    Attributes:
        special_tokens: The text of each special token by its role, such as `{"bos_token": "<|im_start|>"}`.
        bos_token_id: Token id that begins a text; None where the tokenizer has none.
        eos_token_id: Token id that ends a text; None where the tokenizer has none.
        pad_token_id: Token id that fills the shorter rows of a batch; None where the tokenizer has none.
        begins_with_bos: Whether a raw prompt begins with `bos_token_id` although tokenizer.json adds none, which
            MiniMind's pretrained models need and the export records.
    """

    def __init__(self, backend: Backend, config: JsonObject) -> None:
        self.special_tokens = special_tokens(config)
        self.begins_with_bos = config.optional(BEGINS_WITH_BOS, bool) or False
        self._backend = backend
        backend.no_truncation()
        backend.no_padding()
        _add_missing_tokens(backend, config, self.special_tokens)
        self._special_texts = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
        self.bos_token_id = self._id_of("bos_token")
        self.eos_token_id = self._id_of("eos_token")
        self.pad_token_id = self._id_of("pad_token")
        self._bytes: dict[int, bytes] = {}
        self._process: LimitedProcess | None = None

    @classmethod
    def load(cls, path: Path, config: JsonObject | None = None) -> Tokenizer:
        """Read a tokenizer.

        Args:
            path: Path of `tokenizer.json`.
            config: The content of `tokenizer_config.json`, completed by `complete_config`; None where there is none.

        Raises:
            ArtifactError: A file is broken or of another kind.
            MissingError: The system cannot start the process that an unusual tokenizer runs in.
        """
        return cls.parse(read_description(path), str(path), config or JsonObject({}, "tokenizer_config.json"))

    @classmethod
    def parse(cls, text: str, where: str, config: JsonObject) -> Tokenizer:
        """Read a tokenizer from the content of `tokenizer.json`.

        Args:
            text: The content of `tokenizer.json`.
            where: The name of the file in messages, such as its path.
            config: The content of `tokenizer_config.json`, completed by `complete_config`.

        Raises:
            ArtifactError: The content is broken or of another kind.
            MissingError: The system cannot start the process that an unusual tokenizer runs in.
        """
        try:
            is_usual = _is_usual(text)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{where} is not a tokenizer that can be read: {error}") from error
        if is_usual:
            return cls(_parse(text, where), config)
        _ask(_limited([text, where]), None)  # a file that crashes the library crashes it there
        tokenizer = cls(_parse(text, where), config)
        tokenizer._process = _limited([tokenizer._backend.to_str(), where])
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """The number of tokens, added ones included."""
        return self._backend.get_vocab_size()

    @property
    def is_byte_level(self) -> bool:
        """Whether a text is the concatenation of its tokens' bytes."""
        from tokenizers.decoders import ByteLevel

        return isinstance(self._backend.decoder, ByteLevel)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The token ids of a text; special tokens that are spelled out in it become their own ids.

        Args:
            text: The text.
            add_special_tokens: Whether to add the tokens that tokenizer.json puts around a text, such as bos; as in
                transformers, the config's `add_bos_token` has no effect.

        Raises:
            PromptError: The text has a lone surrogate, because its source was not valid UTF-8.
            ArtifactError: The tokenizer has no token for a part of the text, or takes too much time or memory.
        """
        token_ids: list[int] = self._run(["encode", text, add_special_tokens])
        return token_ids

    def encode_raw(self, text: str) -> list[int]:
        """The token ids of a text to continue, after bos if the model uses one; raises the errors of `encode`."""
        token_ids = self.encode(text)
        if self.begins_with_bos and self.bos_token_id is not None and token_ids[:1] != [self.bos_token_id]:
            return [self.bos_token_id, *token_ids]
        return token_ids

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids; ids without a token are left out.

        Raises:
            ArtifactError: The tokenizer's decoder fails.
        """
        text: str = self._run(["decode", list(token_ids), skip_special_tokens])
        return text

    def _run(self, request: list[Any]) -> Any:
        if self._process is None:
            return _answer(self._backend, request)
        return _ask(self._process, request)

    def is_special(self, token_id: int) -> bool:
        """Whether the token is special and not part of the text; also true for an id without a token."""
        token = self._backend.id_to_token(token_id)
        return token is None or token in self._special_texts

    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes of a token of a byte-level tokenizer; empty for a special token."""
        found = self._bytes.get(token_id)
        if found is None:
            found = b"" if self.is_special(token_id) else _to_bytes(self._backend.id_to_token(token_id) or "")
            self._bytes[token_id] = found
        return found

    def _id_of(self, name: str) -> int | None:
        text = self.special_tokens.get(name)
        return None if text is None else self._backend.token_to_id(text)


def read_description(path: Path) -> str:
    """The content of a tokenizer.json, without a byte order mark.

    Raises:
        ArtifactError: The file cannot be read, is too large, is not text, or is a Git LFS pointer.
    """
    text = read_text(path, MAX_BYTES)
    if text.startswith(LFS_POINTER):
        raise ArtifactError(f"{path} is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`")
    return text


def _parse(text: str, where: str) -> Backend:
    from tokenizers import Tokenizer as Backend

    with _told_in_one_line(f"{where} is not a tokenizer that can be read"):
        return Backend.from_str(text)


def _answer(backend: Backend, request: list[Any]) -> Any:
    """Answer `["encode", text, add_special_tokens]` or `["decode", token_ids, skip_special_tokens]`."""
    kind, value, flag = request
    with _told_in_one_line(f"the tokenizer cannot {kind} this"):
        if kind == "decode":
            return backend.decode(value, skip_special_tokens=flag)
        try:
            return backend.encode(value, add_special_tokens=flag).ids
        except TypeError as error:
            raise PromptError("the text is not valid Unicode: it has a lone surrogate; expected UTF-8") from error


def open_tokenizer(setup: Any) -> Any:
    """Open the handler of a `LimitedProcess` that encodes and decodes.

    Args:
        setup: The text of tokenizer.json, and its name in messages.
    """
    backend = _parse(*setup)
    return lambda request: None if request is None else _answer(backend, request)


def _limited(setup: list[str]) -> LimitedProcess:
    from ..limited_process import LimitedProcess

    return LimitedProcess(f"{__name__}:open_tokenizer", setup, seconds=ENCODE_SECONDS, memory_mb=MEMORY_MB)


def _ask(process: LimitedProcess, request: Any) -> Any:
    from ..limited_process import LimitError

    try:
        return process.ask(request)
    except LimitError as error:
        raise ArtifactError(f"this model's tokenizer {error}: it is not safe to use") from error


@contextmanager
def _told_in_one_line(what: str) -> Iterator[None]:
    """Turn any error of the tokenizers library into an `ArtifactError`; the only place that catches them."""
    try:
        yield
    except EdgeError:
        raise
    except BaseException as error:  # the library raises Exception itself, and PanicException, a BaseException
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = "".join(character if character.isprintable() else " " for character in str(error))
        raise ArtifactError(f"{what}: {reason[:MAX_REASON]}") from error


def _add_missing_tokens(backend: Backend, config: JsonObject, named: Mapping[str, str]) -> None:
    """Add the config's special tokens that tokenizer.json does not list as special."""
    from tokenizers import AddedToken

    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    specials = [AddedToken(text, special=True, normalized=False) for text in named.values()]
    for token in (*_listed_tokens(config), *specials, *map(_added_token, extra_tokens(config))):
        if token.content not in known:
            known.add(token.content)
            add = backend.add_special_tokens if token.special else backend.add_tokens
            add([token])


def _listed_tokens(config: JsonObject) -> Iterator[AddedToken]:
    """The tokens of `added_tokens_decoder`, in the order of their ids."""
    listed = config.child("added_tokens_decoder")
    for key in sorted(listed, key=lambda key: (len(key), key)):
        yield _added_token(listed.child(key))


def _added_token(entry: JsonObject) -> AddedToken:
    from tokenizers import AddedToken

    flags = {name: bool(entry.optional(name, bool)) for name in ("lstrip", "rstrip", "single_word", "special")}
    normalized = entry.optional("normalized", bool)
    return AddedToken(
        entry.required("content", str),
        normalized=not flags["special"] if normalized is None else normalized,
        **flags,
    )


def _byte_alphabet() -> dict[str, int]:
    """The byte for each printable character that a byte-level vocabulary writes for it.

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
    """The bytes of a vocabulary entry; an added token with characters outside of the alphabet stands for itself."""
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError:
        return token.encode()


_USUAL_TYPES = frozenset({"ByteLevel", "ByteFallback", "Digits", "Fuse", "Metaspace", "NFC", "NFD", "NFKC", "NFKD"})
"""The types of a tokenizer's parts whose time and output are proportional to the text, whatever their parameters."""

_USUAL_PATTERNS = frozenset(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    + digits
    + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in (r"\p{N}{1,3}", r"\p{N}")  # Llama 3's and Qwen 2's, which many others have taken over
)
"""The regular expressions that are known to end."""

_USUAL_PARTS: tuple[dict[str, Any], ...] = (
    {"type": "Prepend", "prepend": "\u2581"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
)
"""The parts, with their parameters, of Llama's and Gemma's tokenizers."""

_MOST_PARTS = 8


class _Kind(msgspec.Struct):
    """A part of a tokenizer.json, without its vocabulary: no objects are made for that."""

    type: Any = None


class _Parts(msgspec.Struct):
    """The parts of a tokenizer.json, of which the model is not read yet."""

    model: msgspec.Raw = msgspec.Raw(b"null")
    normalizer: Any = None
    pre_tokenizer: Any = None
    post_processor: Any = None
    decoder: Any = None


def _is_usual(text: str) -> bool:
    """Whether a tokenizer.json has only parts that are known to be harmless.

    Raises:
        RecursionError: It is nested too deeply.
        ValueError: It is not JSON.
    """
    try:
        parts = msgspec.json.decode(text, type=_Parts)
        is_byte_pair = msgspec.json.decode(parts.model, type=_Kind).type == "BPE"
    except msgspec.ValidationError:  # no object
        return False
    harmless = map(_is_usual_part, (parts.normalizer, parts.pre_tokenizer, parts.decoder))
    return is_byte_pair and _is_usual_frame(parts.post_processor) and all(harmless)


def _is_usual_part(part: Any) -> bool:
    """Whether a normalizer, a pre-tokenizer or a decoder is harmless."""
    if part is None or part in _USUAL_PARTS:
        return True
    if not isinstance(part, dict):
        return False
    if part.get("type") == "Sequence":
        inner = [part.get(name) for name in ("normalizers", "pretokenizers", "decoders") if name in part]
        parts = inner[0] if len(inner) == 1 and isinstance(inner[0], list) else [False]
        return len(parts) <= _MOST_PARTS and all(_is_usual_part(each) and each is not None for each in parts)
    if part.get("type") == "Split":
        pattern = part.get("pattern")
        return pattern == {"String": " "} or (
            isinstance(pattern, dict) and isinstance(regex := pattern.get("Regex"), str) and regex in _USUAL_PATTERNS
        )
    return isinstance(kind := part.get("type"), str) and kind in _USUAL_TYPES


def _is_usual_frame(processor: Any) -> bool:
    """Whether a post-processor adds only a few tokens around the text, which it gives exactly once."""
    if processor is None:
        return True
    if not isinstance(processor, dict):
        return False
    if processor.get("type") == "Sequence":
        inner = processor.get("processors")
        return isinstance(inner, list) and len(inner) <= _MOST_PARTS and all(map(_is_usual_frame, inner))
    if processor.get("type") == "TemplateProcessing":
        pieces = processor.get("single")
        if not isinstance(pieces, list) or len(pieces) > _MOST_PARTS:
            return False
        return sum("Sequence" in piece for piece in pieces if isinstance(piece, dict)) == 1
    return processor.get("type") == "ByteLevel"
