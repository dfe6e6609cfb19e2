"""Copying an artifact: the files that its manifest names, and no others that lie in its folder."""

from __future__ import annotations

from pathlib import Path

from minimind_edge.runtime.artifact.folder import CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG
from minimind_edge.runtime.artifact.generation_config import GENERATION_CONFIG
from minimind_edge.runtime.artifact.manifest import MANIFEST
from minimind_edge.runtime.artifact.model_config import CONFIG
from minimind_edge.runtime.artifact.paths import copy_member
from minimind_edge.runtime.errors import ArtifactError

from .manifest import read_manifest
from .model_card import MODEL_CARD

COMPANIONS = (
    *(CONFIG, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE),
    *("genai_config.json", MODEL_CARD),
)
"""The files that an artifact may have in addition to its manifest and its graphs."""


def copy_artifact(folder: Path, target: Path) -> None:
    """Copy the files of an artifact: manifest, graphs with their weights, and `COMPANIONS`.

    Args:
        folder: The artifact.
        target: The new folder.

    Raises:
        ArtifactError: The manifest is broken, a graph that it lists is missing, or a file is a link that leads out of
            the folder.
        OSError: The copy cannot be written.
    """
    graphs = [entry.file for entry in read_manifest(folder).graphs]
    for name in (MANIFEST, *graphs):
        if not copy_member(folder, name, target / name):
            raise ArtifactError(f"{folder} lacks {name}, which its manifest names; export the checkpoint again")
    for name in (*COMPANIONS, *(f"{graph}_data" for graph in graphs)):
        copy_member(folder, name, target / name)
