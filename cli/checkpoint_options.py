"""The options for reading a checkpoint, shared by all commands that take one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from minimind_edge.export.checkpoint_options import CheckpointOptions

CHECKPOINT = "Checkpoint"

MoeOption = Annotated[
    bool,
    typer.Option(
        "--moe",
        help="Require a mixture of experts; of the bundled demos, take that one.",
        rich_help_panel=CHECKPOINT,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="JSON file whose fields override the checkpoint's configuration.",
        show_default=False,
        rich_help_panel=CHECKPOINT,
    ),
]
LoraOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="A LoRA adapter to merge; repeatable.",
        show_default=False,
        rich_help_panel=CHECKPOINT,
    ),
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option(
        help="tokenizer.json or its folder.  (default: found next to the checkpoint)",
        show_default=False,
        rich_help_panel=CHECKPOINT,
    ),
]
YarnOption = Annotated[
    bool | None,
    typer.Option(
        "--yarn/--no-yarn",
        help="Turn RoPE's YaRN scaling for long texts on or off.",
        show_default=False,
        rich_help_panel=CHECKPOINT,
    ),
]


def checkpoint_options(
    *, moe: bool, config: Path | None, lora: list[Path] | None, tokenizer: Path | None, yarn: bool | None
) -> CheckpointOptions:
    """The options in the form that the export takes; an adapter of the Hub is fetched."""
    from minimind_edge.export.checkpoint_options import CheckpointOptions
    from minimind_edge.runtime.hub import local_path

    adapters = tuple(map(local_path, lora or ()))
    return CheckpointOptions(moe=moe, config=config, lora=adapters, tokenizer=tokenizer, yarn=yarn)


def local_source(source: Path | None, precision: str | None = None) -> Path | None:
    """The checkpoint or artifact that a command was given; one of the Hub is fetched.

    Args:
        source: A path or `hf://OWNER/NAME[@REVISION]`; None for the bundled checkpoint.
        precision: Precision of the graph to fetch of an artifact; None for its default graph.

    Raises:
        EdgeError: See `minimind_edge.runtime.hub.local_path`.
    """
    from minimind_edge.runtime.hub import local_path

    return None if source is None else local_path(source, precision=precision)
