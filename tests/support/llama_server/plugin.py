"""The plugin of pytest that runs llama.cpp's server tests by the table: skips, relaxations, and the outcomes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import ANY

import pytest

from . import process
from .table import MODEL_NUMBERS, NOT_APPLICABLE, RELAXED, entry_of

RESULTS = "MINIMIND_EDGE_LLAMA_TESTS_RESULTS"
"""The environment variable that names the file for the outcomes."""

utils = ModuleType("utils")
"""What the tests get by `from utils import *`: the names of `process`, and those that their `utils.py` has imported."""

for source in (typing, process):
    vars(utils).update({name: getattr(source, name) for name in dir(source) if not name.startswith("_")})
vars(utils).update(json=json, os=os, re=re, subprocess=subprocess, sys=sys, time=time)
sys.modules["utils"] = utils
sys.modules.setdefault("requests", process.requests)  # type: ignore[arg-type]

outcomes: dict[str, str] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers of the tests known."""
    for name in ("slow: of llama.cpp's tests, with large models", "serial: of llama.cpp's tests, one at a time"):
        config.addinivalue_line("markers", name)


def name_of(item: pytest.Item) -> str:
    """`FILE::TEST[PARAMETERS]` of a test."""
    return item.nodeid.partition("/")[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot apply, and put any number in the place of those that are the other model's."""
    names = [name_of(item) for item in items]
    stale = [entry for entry in (*NOT_APPLICABLE, *RELAXED) if not any(_uses(name, entry) for name in names)]
    if stale and len({name.partition("::")[0] for name in names}) > 1:
        raise pytest.UsageError(f"entries of the table fit no test: {', '.join(stale)}")
    for item, name in zip(items, names, strict=True):
        entry = entry_of(name, NOT_APPLICABLE)
        if entry is not None:
            item.add_marker(pytest.mark.skip(reason=NOT_APPLICABLE[entry]))
        elif entry_of(name, RELAXED) is not None:
            numbers: Any = getattr(item, "callspec", None)
            for parameter in set(MODEL_NUMBERS).intersection(numbers.params if numbers else ()):
                numbers.params[parameter] = ANY


def _uses(name: str, entry: str) -> bool:
    return entry in (entry_of(name, NOT_APPLICABLE), entry_of(name, RELAXED))


@pytest.fixture(autouse=True)
def _servers(request: pytest.FixtureRequest) -> Iterator[None]:
    """End a test's servers, and let `match_regex` know whether its texts count."""
    process.relaxed = entry_of(name_of(request.node), RELAXED) is not None
    yield
    for server in list(process.running):
        server.stop()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the outcome of a test, the first one that is no success."""
    name = report.nodeid.partition("/")[2]
    if outcomes.get(name, "passed") == "passed":
        outcomes[name] = report.outcome


def pytest_sessionfinish() -> None:
    """Write the outcomes."""
    Path(os.environ[RESULTS]).write_text(json.dumps(outcomes), encoding="utf-8")
