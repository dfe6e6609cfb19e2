"""Stand-ins for the JavaScript libraries of the page: every file one line."""

from __future__ import annotations

import json
from pathlib import Path


def stand_in_libraries(folder: Path) -> Path:
    """Write a `node_modules` folder with every library in its version; returns it."""
    from minimind_edge.export.web.libraries import LIBRARIES

    for library in LIBRARIES:
        home = folder / library.name
        for file in library.files:
            (home / file).parent.mkdir(parents=True, exist_ok=True)
            (home / file).write_text(f"// {library.name}\n")
        (home / "package.json").write_text(json.dumps({"name": library.name, "version": library.version}))
    return folder
