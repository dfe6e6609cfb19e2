"""Run llama.cpp's own server tests against `minimind-serve`, as far as they can apply.

    PYTHONPATH=tests/support python scripts/llama_server_tests.py [FOLDER]

FOLDER is `tools/server/tests` of llama.cpp's source; without it, the source archive of llama-cpp-python, which holds
them, is downloaded by pip. The tests are copied to a temporary folder, where `tests/support/llama_server` stands for
their `utils.py`; its `table.py` tells which of them cannot apply, and why.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

from llama_server.process import ARTIFACT
from llama_server.table import NOT_APPLICABLE, RELAXED, entry_of

PACKAGE = "llama-cpp-python==0.3.36"
INSIDE = "vendor/llama.cpp/tools/server/tests/unit/"
RESULTS = "MINIMIND_EDGE_LLAMA_TESTS_RESULTS"


def main() -> int:
    """Run the tests; the exit code is 1 where one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="tools/server/tests (default: downloaded)")
    parser.add_argument("--artifact", type=Path, help="(default: an export of the bundled checkpoint)")
    parser.add_argument("-k", dest="chosen", help="run the tests that fit this expression of pytest")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write what came of every test as Markdown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        unit = options.folder / "unit" if options.folder else downloaded(work)
        shutil.copytree(unit, work / "tests" / "unit")
        outcomes = run(work, options.artifact or exported(work / "demo"), options.chosen)
    if options.table:
        options.table.write_text(markdown(outcomes), encoding="utf-8")
    counts = Counter(outcome_of(test, outcome) for test, outcome in outcomes.items())
    print(", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items())))
    return int(not counts["passed"] or bool(counts["FAILED"]))


def downloaded(work: Path) -> Path:
    """The tests of the source archive of llama-cpp-python."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", PACKAGE]
    subprocess.run([*command, "--dest", str(work)], check=True)
    with tarfile.open(next(work.glob("llama_cpp_python-*.tar.gz"))) as archive:
        for member in archive:
            if member.isfile() and INSIDE in member.name and member.name.endswith(".py"):
                content = archive.extractfile(member)
                assert content is not None
                target = work / "source" / Path(member.name).name
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(content.read())
    return work / "source"


def exported(folder: Path) -> Path:
    """The bundled checkpoint as an artifact."""
    from minimind_edge.export.pipeline import export_onnx
    from minimind_edge.export.request import ExportRequest

    return export_onnx(ExportRequest(output=folder, verify=False)).folder


def run(work: Path, artifact: Path, chosen: str | None) -> dict[str, str]:
    """Run pytest in a process of its own; the outcome of each test."""
    tests, results = work / "tests", work / "results.json"
    (tests / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "llama_server.plugin", "-p", "no:cacheprovider", "unit"]
    environment = {ARTIFACT: str(artifact.resolve()), RESULTS: str(results), "PYTEST_ADDOPTS": ""}
    path = os.pathsep.join(filter(None, [str(tests), *sys.path]))
    subprocess.run(
        [*command, *(["-k", chosen] if chosen else [])],
        cwd=tests,
        env={**os.environ, **environment, "PYTHONPATH": path},
        check=False,
    )
    outcomes: dict[str, str] = json.loads(results.read_text(encoding="utf-8"))
    return outcomes


def outcome_of(test: str, outcome: str) -> str:
    """What became of a test, in the words of the counts."""
    if outcome == "skipped":
        return "cannot apply"
    return outcome if outcome == "passed" else "FAILED"


INTRODUCTION = """\
# llama.cpp's server tests

`make test-llama-server` runs the tests of llama.cpp's `tools/server/tests` against `minimind-serve` with the bundled
demo. They are not part of this project: they come with the source archive of {package}.
`tests/support/llama_server` stands for their `utils.py`. It starts `minimind-serve`, and translates llama-server's own
`/completion` to `/v1/completions`, its paths without `/v1` to those with it, and its defaults from the command line to
fields of each request. It supplies what only llama.cpp has: the build number (`system_fingerprint`), a null in place of
the empty text in a stream's first event, and a header of the metrics.

Of {total} cases, {told}. `scripts/llama_server_tests.py --table` writes this page.

"""


def markdown(outcomes: dict[str, str]) -> str:
    """A page with a table of all tests; those with several parameters and one outcome are a row."""
    counts = Counter(outcome_of(test, outcome) for test, outcome in outcomes.items())
    summary = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items(), reverse=True))
    rows: Counter[tuple[str, str]] = Counter()
    for test, outcome in outcomes.items():
        entry, relaxation = entry_of(test, NOT_APPLICABLE), entry_of(test, RELAXED)
        told = outcome_of(test, outcome)
        if entry is not None:
            told = f"{told}: {NOT_APPLICABLE[entry]}"
        elif relaxation is not None:
            told = f"{told}; {RELAXED[relaxation]}"
        name = entry if entry is not None and "::" not in entry else test.partition("[")[0]
        rows[name, told] += 1
    lines = [f"| `{name}` | {number} | {told} |" for (name, told), number in rows.items()]
    introduction = INTRODUCTION.format(package=PACKAGE, total=len(outcomes), told=summary)
    return introduction + "\n".join(["| test | cases | |", "|---|---|---|", *lines, ""])


if __name__ == "__main__":
    sys.exit(main())
