"""A tokenizer.json built by transformers from an older form: `tokenizer.model`, or `vocab.json` with `merges.txt`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from minimind_edge.runtime.artifact.paths import member
from minimind_edge.runtime.errors import ArtifactError, MissingError
from minimind_edge.runtime.text.tokenizer import read_description

SENTENCEPIECE = "tokenizer.model"
VOCABULARY, MERGES = "vocab.json", "merges.txt"
CLASSES = {SENTENCEPIECE: "LlamaTokenizer", VOCABULARY: "GPT2Tokenizer"}
"""The class of transformers that reads a form where `tokenizer_config.json` names none."""


def older_form(folder: Path) -> Path | None:
    """The file of a tokenizer in an older form; None where there is none."""
    vocabulary, merges = (member(folder, name) for name in (VOCABULARY, MERGES))
    return member(folder, SENTENCEPIECE) or (vocabulary if merges is not None else None)


def build_tokenizer(path: Path, config: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Build the content of `tokenizer.json`, and the special tokens by name.

    Args:
        path: `tokenizer.model`, or `vocab.json` next to `merges.txt`.
        config: The content of `tokenizer_config.json`.

    Raises:
        ArtifactError: transformers cannot read the files.
        MissingError: A package that reading the files needs is not installed.
    """
    import transformers

    if path.name not in CLASSES:
        raise ArtifactError(f"{path} is no tokenizer: expected tokenizer.json, {SENTENCEPIECE} or {VOCABULARY}")
    if path.name == SENTENCEPIECE:
        _require_sentencepiece(path)
    else:
        read_description(path)  # its error names a Git LFS pointer as such
    named = str(config.get("tokenizer_class") or "")
    wanted = named if named.endswith(("Tokenizer", "TokenizerFast")) else ""
    reader = getattr(transformers, wanted, None)
    if reader is None or wanted == "PreTrainedTokenizerFast":
        reader = getattr(transformers, CLASSES[path.name])
    try:
        tokenizer = reader.from_pretrained(str(path.parent), local_files_only=True)
        return tokenizer.backend_tokenizer.to_str(), dict(tokenizer.special_tokens_map)
    except Exception as error:  # transformers raises whatever its readers meet in a broken file
        raise ArtifactError(f"{path} is not a tokenizer that transformers can convert: {error}") from error


def _require_sentencepiece(path: Path) -> None:
    """Check that the file is not a Git LFS pointer, and that the package that reads it is installed."""
    if path.read_bytes()[:40].startswith(b"version https://git-lfs"):
        raise ArtifactError(f"{path} is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`")
    if find_spec("sentencepiece") is None:
        raise MissingError(
            f"{path} is a SentencePiece model, and the Python package 'sentencepiece' is not installed: run "
            "pip install sentencepiece, or name a tokenizer.json by --tokenizer"
        )
