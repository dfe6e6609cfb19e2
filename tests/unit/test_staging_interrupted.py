"""Every moment at which a signal's exception can come: before each instruction of the code that writes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from minimind_edge.export.artifact import lock, staging
from minimind_edge.export.artifact.staging import staged_files, staged_folder

FILES = {lock.__file__, staging.__file__}
MOST_MOMENTS = 20_000


def interrupted_at(moment: int, write: Callable[[], None]) -> bool:
    """Run a writer into Ctrl-C before its nth instruction, and end as a command does; whether it got as far as that."""
    left = moment

    def count(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return count

    sys.settrace(count)
    try:
        write()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    staging.abandon()
    return left <= 0


def write_folder(final: Path) -> None:
    with staged_folder(final) as stage:
        (stage / "manifest.json").write_text("new")
        (stage / "model.onnx").write_text("new")


def write_files(final: Path) -> None:
    with staged_files(final) as stage:
        (stage / final.name).write_text("new")


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


NEW_FOLDER = {"artifact/manifest.json": "new", "artifact/model.onnx": "new"}


@pytest.mark.parametrize(
    ("write", "name", "old", "new"),
    [
        (write_folder, "artifact", {}, NEW_FOLDER),
        (write_folder, "artifact", {"artifact/manifest.json": "old"}, NEW_FOLDER),
        (write_folder, "new/artifact", {}, {f"new/{name}": text for name, text in NEW_FOLDER.items()}),
        (write_files, "model.plan", {"model.plan": "old"}, {"model.plan": "new"}),
    ],
    ids=["a new folder", "a folder in place of another", "a folder in a new folder", "a file in place of another"],
)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(sys.gettrace() is not None, reason="this test traces the code, and so does something else")
def test_an_interrupted_write_leaves_the_old_or_the_new_and_nothing_else(tmp_path, write, name, old, new):
    found = []
    for moment in range(1, MOST_MOMENTS):
        place = tmp_path / str(moment)
        for path, text in old.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text)
        place.mkdir(exist_ok=True)
        came = interrupted_at(moment, lambda final=place / name: write(final))
        found.append(content(place))
        assert found[-1] in (old, new), moment
        if not came:
            break
    assert (found[0], found[-1]) == (old, new)
