"""The tokenizer that goes with a checkpoint, found and copied."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind_edge.runtime.artifact.folder import TOKENIZER_CONFIG
from minimind_edge.runtime.artifact.paths import member
from minimind_edge.runtime.artifact.text_file import read_text
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.text.chat_template import MAX_BYTES

from .json_file import read_json, write_json

TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class TokenizerFiles:
    """A `tokenizer.json` and what lies beside it.

    Attributes:
        path: The `tokenizer.json`.
        config: The content of `tokenizer_config.json`, empty where there is none.
        chat_template: The Jinja source, or None for a model that was never taught to chat.
        size: Number of token ids, the highest plus one.
    """

    path: Path
    config: dict[str, Any]
    chat_template: str | None
    size: int

    def copy_to(self, folder: Path) -> None:
        """Write the tokenizer's files into an artifact folder."""
        for name in (TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE):
            (folder / name).unlink(missing_ok=True)
        shutil.copyfile(self.path, folder / TOKENIZER)
        write_json(folder / TOKENIZER_CONFIG, self._common_config())
        if self.chat_template is not None:
            (folder / CHAT_TEMPLATE).write_text(self.chat_template, encoding="utf-8")

    def _common_config(self) -> dict[str, Any]:
        """The `tokenizer_config.json` that says the same to transformers 4 and 5, optimum and transformers.js."""
        config = {"model_input_names": ["input_ids", "attention_mask"]} | self.config
        # The class that takes tokenizer.json as it is; what transformers 5 calls it, transformers 4 does not know.
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(config.get("extra_special_tokens"), list):  # transformers 4 wants a name for each of them
            config["additional_special_tokens"] = config.pop("extra_special_tokens")
        if self.chat_template is not None:  # transformers.js looks for it nowhere else
            config["chat_template"] = self.chat_template
        return config


def find_tokenizer(checkpoint: Path, named: Path | None) -> TokenizerFiles | None:
    """The tokenizer that the user named, or the one beside the checkpoint, or in upstream's `model` folder next to it.

    Args:
        checkpoint: The checkpoint's file or folder.
        named: A `tokenizer.json` or a folder that holds one.

    Raises:
        ArtifactError: The named tokenizer is missing or broken.
    """
    if named is not None:
        path = named / TOKENIZER if named.is_dir() else named
        if not path.is_file():
            raise ArtifactError(f"no {TOKENIZER} at {named}; name the file or the folder that holds it")
        return read_tokenizer(path)
    found = tokenizer_beside(checkpoint)
    return None if found is None else read_tokenizer(found)


def tokenizer_beside(checkpoint: Path) -> Path | None:
    """The `tokenizer.json` next to a checkpoint, or in upstream's `model` folder near it; None where there is none."""
    home = checkpoint if checkpoint.is_dir() else checkpoint.parent
    for folder in (home, home / "model", home.resolve().parent / "model"):
        if (found := member(folder, TOKENIZER)) is not None:
            return found
    return None


def read_tokenizer(path: Path) -> TokenizerFiles:
    """Read a `tokenizer.json` with its neighbours, and see that it works.

    Raises:
        ArtifactError: It is no tokenizer, or a file next to it is broken or a link that leads out of their folder.
    """
    from tokenizers import Tokenizer

    read_json(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every malformed file
        raise ArtifactError(f"{path} is not a tokenizer that the tokenizers library reads: {error}") from error
    beside = member(path.parent, TOKENIZER_CONFIG)
    config = {} if beside is None else read_json(beside)
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    return TokenizerFiles(path, config, _chat_template(path.parent, config), max(ids, default=-1) + 1)


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """From `chat_template.jinja`, else from the config: a string, or a list of named ones with a default."""
    own = member(folder, CHAT_TEMPLATE)
    if own is not None:
        return read_text(own, MAX_BYTES)
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise ArtifactError(f"chat_template in {folder / TOKENIZER_CONFIG} must be text")
    return template
