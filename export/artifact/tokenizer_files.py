"""The tokenizer of a checkpoint: finding it, building it from an older form, and writing it into the artifact."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind_edge.runtime.artifact.folder import NAMED_TEMPLATES, TOKENIZER_CONFIG, named_templates
from minimind_edge.runtime.artifact.paths import MAX_COMPONENT_BYTES, member
from minimind_edge.runtime.artifact.tokenizer_config import BEGINS_WITH_BOS, JsonObject, complete_config
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.text.chat_template import read_template
from minimind_edge.runtime.text.tokenizer import Tokenizer, read_description

from .json_file import read_json, write_json
from .tokenizer_build import build_tokenizer, older_form

TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"
OLDER_CONFIGS = ("special_tokens_map.json", "added_tokens.json")
UPSTREAM_FOLDERS = ("model", "model/minimind_tokenizer", "minimind_tokenizer")
"""The folders of upstream's tokenizer, next to the checkpoint's folder `out`; the one of older versions is last."""

MINIMIND_VOCABULARY, MINIMIND_BOS = 6400, 1
"""The number of tokens, and the id of bos, of the tokenizers that MiniMind publishes."""


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer.json and the files next to it.

    Attributes:
        path: The file that was read: `tokenizer.json`, or the older form that it was built from.
        description: The content of `tokenizer.json`.
        config: The content of `tokenizer_config.json`, completed from older files; empty where there is none.
        chat_templates: The Jinja sources by name; empty for a model that was never taught to chat.
        size: Number of token ids, the highest plus one.
        begins_with_bos: Whether the model was pretrained on texts that begin with bos, though tokenizer.json adds none.
    """

    path: Path
    description: str
    config: dict[str, Any]
    chat_templates: dict[str, str]
    size: int
    begins_with_bos: bool = False

    @property
    def chat_template(self) -> str | None:
        """The Jinja source of the default template, None where there is none."""
        return self.chat_templates.get("default")

    def load(self) -> Tokenizer:
        """The runtime's tokenizer.

        Raises:
            ArtifactError: The description is not one of a tokenizer.
        """
        config = {**self.config, BEGINS_WITH_BOS: self.begins_with_bos}
        return Tokenizer.parse(self.description, str(self.path), JsonObject(config, TOKENIZER_CONFIG))

    def copy_to(self, folder: Path) -> None:
        """Write the tokenizer's files into an artifact folder."""
        for path in (*(folder / NAMED_TEMPLATES).glob("*.jinja"), *(folder / name for name in _FILES)):
            path.unlink(missing_ok=True)
        (folder / TOKENIZER).write_bytes(self.description.encode())
        write_json(folder / TOKENIZER_CONFIG, self._common_config())
        for name, source in self.chat_templates.items():
            path = folder / (CHAT_TEMPLATE if name == "default" else f"{NAMED_TEMPLATES}/{name}.jinja")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(source.encode())

    def _common_config(self) -> dict[str, Any]:
        """The `tokenizer_config.json` that transformers 4 and 5, optimum and transformers.js all read alike."""
        config = {"model_input_names": ["input_ids", "attention_mask"]} | self.config
        # This class uses tokenizer.json as it is; transformers 4 does not know the name that transformers 5 gives it.
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(config.get("extra_special_tokens"), list):  # transformers 4 wants a name for each of them
            config["additional_special_tokens"] = config.pop("extra_special_tokens")
        if self.begins_with_bos:
            config[BEGINS_WITH_BOS] = True
        # transformers.js finds templates only here, and the runtime finds named ones only here.
        config.pop("chat_template", None)
        if list(self.chat_templates) == ["default"]:
            config["chat_template"] = self.chat_template
        elif self.chat_templates:
            config["chat_template"] = [{"name": name, "template": text} for name, text in self.chat_templates.items()]
        return config


_FILES = (TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE, *OLDER_CONFIGS)


def find_tokenizer(checkpoint: Path, named: Path | None) -> TokenizerFiles | None:
    """The tokenizer that the user named, or the one next to the checkpoint, or the one in upstream's `model` folder.

    Args:
        checkpoint: The checkpoint's file or folder.
        named: A `tokenizer.json` or a folder that holds one; an older form is taken as well.

    Raises:
        ArtifactError: The tokenizer is broken, or the named one is missing.
        MissingError: A package that an older form needs is not installed.
    """
    if named is not None:
        path = _tokenizer_in(named) if named.is_dir() else named
        if path is None or not path.is_file():
            raise ArtifactError(f"no {TOKENIZER} at {named}; name the file or the folder that holds it")
        return read_tokenizer(path, _home(checkpoint))
    found = tokenizer_beside(checkpoint)
    return None if found is None else read_tokenizer(found, _home(checkpoint))


def tokenizer_beside(checkpoint: Path) -> Path | None:
    """The tokenizer's file next to a checkpoint, or in upstream's `model` folder near it; None where there is none."""
    home = _home(checkpoint)
    for folder in (home, *(place / name for place in (home, home.resolve().parent) for name in UPSTREAM_FOLDERS)):
        if path := _tokenizer_in(folder):
            return path
    return None


def _home(checkpoint: Path) -> Path:
    return checkpoint if checkpoint.is_dir() else checkpoint.parent


def _tokenizer_in(folder: Path) -> Path | None:
    return member(folder, TOKENIZER) or older_form(folder)


def read_tokenizer(path: Path, home: Path | None = None) -> TokenizerFiles:
    """Read a `tokenizer.json` or an older form with the files next to it, and check that it loads.

    Args:
        path: The file.
        home: The checkpoint's folder; None for a tokenizer by itself.

    Raises:
        ArtifactError: It is no tokenizer, or a file next to it is broken or a link that leads out of their folder.
        MissingError: A package that an older form needs is not installed.
    """
    config = _config(path.parent)
    if path.suffix == ".json" and path.name != "vocab.json":
        description = read_description(path)
    else:
        description, special_tokens = build_tokenizer(path, config)
        config = special_tokens | config
    tokenizer = Tokenizer.parse(description, str(path), JsonObject(config, TOKENIZER_CONFIG))
    size = _size(json.loads(description))
    begins = _is_minimind(home, size, tokenizer.bos_token_id)
    return TokenizerFiles(path, description, config, _chat_templates(path.parent, config), size, begins)


def _config(folder: Path) -> dict[str, Any]:
    """The content of `tokenizer_config.json`, completed from the older files."""
    files = {name: member(folder, name) for name in (TOKENIZER_CONFIG, *OLDER_CONFIGS)}
    read = [JsonObject(read_json(file) if file else {}, str(folder / name)) for name, file in files.items()]
    return dict(complete_config(read[0], read[1], read[2]))


def _size(description: Mapping[str, Any]) -> int:
    vocabulary = description["model"]["vocab"]
    ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    return max((*ids, *(token["id"] for token in description.get("added_tokens", ()))), default=-1) + 1


def _is_minimind(home: Path | None, size: int, bos_token_id: int | None) -> bool:
    """Whether the checkpoint was trained by MiniMind, whose pretraining begins each text with bos.

    Bare weights are MiniMind's; of a Hugging Face folder with another `model_type`, those with MiniMind's vocabulary.
    """
    if home is None:
        return False
    config = member(home, "config.json")
    model_type = None if config is None else read_json(config).get("model_type")
    return model_type in (None, "minimind") or (size, bos_token_id) == (MINIMIND_VOCABULARY, MINIMIND_BOS)


def is_pretrained_only(checkpoint: Path) -> bool:
    """Whether a checkpoint's name says that it was never taught to chat, as upstream's trainer names them."""
    return checkpoint.stem.lower().startswith("pretrain")


def _chat_templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The config's templates (a string, or a list of named ones); templates in files of their own replace these.

    Raises:
        ArtifactError: A template is not text, or its name cannot be a file name.
    """
    given = config.get("chat_template")
    listed = [{"name": "default", "template": given}] if given is not None and not isinstance(given, list) else given
    templates: dict[str, Any] = {str(entry.get("name")): entry.get("template") for entry in _objects(listed or [])}
    templates |= {path.stem: read_template(path) for path in named_templates(folder)}
    if own := member(folder, CHAT_TEMPLATE):
        templates["default"] = read_template(own)
    for name, template in templates.items():
        if not isinstance(template, str) or not _is_template_name(name):
            raise ArtifactError(f"chat_template {name!r:.60} in {folder / TOKENIZER_CONFIG} must be text, with a name")
    return templates


def _is_template_name(name: str) -> bool:
    """Whether a template may be a file of this name."""
    return bool(re.fullmatch(r"\w[\w.-]*", name)) and len(f"{name}.jinja".encode()) <= MAX_COMPONENT_BYTES


def _objects(values: list[Any]) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)]
