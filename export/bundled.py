"""The demo checkpoints: data of the distribution minimind-edge-export, in this package's folder."""

from __future__ import annotations

from pathlib import Path

from .errors import ExportError

DEMO_FOLDER = Path(__file__).parent / "demo"


def bundled_checkpoint(*, moe: bool) -> Path:
    """The demo's weight file, dense or with experts.

    Raises:
        ExportError: The distribution minimind-edge-export is not installed.
    """
    folder = DEMO_FOLDER / ("moe" if moe else "dense")
    files = sorted(folder.glob("*.pth"))
    if not files:
        raise ExportError(
            f"the bundled checkpoint is missing from {folder}; run `pip install minimind-edge-export`, or name one"
        )
    return files[0]


def bundled_checkpoints() -> list[Path]:
    """Every bundled weight file that is installed."""
    return sorted(DEMO_FOLDER.glob("*/*.pth"))
