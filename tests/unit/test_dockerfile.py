"""The Dockerfiles, where none can be built: their statements keep the rules of docker's own guide for images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["device", "serve", "export"])
def statements(request) -> list[tuple[str, str]]:
    """The statements as name and rest, with continued lines joined and comments left out."""
    return statements_of(request.param)


def statements_of(name: str) -> list[tuple[str, str]]:
    text = (ROOT / "docker" / f"{name}.Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined]


def named(statements, name) -> list[str]:
    return [rest for found, rest in statements if found == name]


def test_every_statement_is_one_of_docker(statements):
    known = {"FROM", "ARG", "ENV", "RUN", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {"FROM", "RUN", "USER", "ENTRYPOINT", "CMD"} <= {name for name, _ in statements} <= known
    assert statements[0][0] == "FROM"


def test_the_base_is_pinned_to_one_release(statements):
    (base,) = named(statements, "FROM")
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base)


def test_nothing_is_fetched_but_by_pip_at_pinned_versions(statements):
    (run,) = named(statements, "RUN")
    assert "-c /constraints.txt" in run
    assert "--no-cache-dir" in run
    assert not re.search(r"https?://|curl|wget|apt", run)


def test_it_does_not_run_as_root(statements):
    (user,) = named(statements, "USER")
    assert all(int(number) > 0 for number in user.split(":"))
    names = [name for name, _ in statements]
    assert names.index("USER") < names.index("ENTRYPOINT")


def test_signals_reach_the_program(statements):
    """In the form of a list, no shell stands between docker and the process."""
    assert json.loads(named(statements, "ENTRYPOINT")[0])[0].startswith("minimind-")
    assert isinstance(json.loads(named(statements, "CMD")[0]), list)


def test_the_server_tells_its_health():
    statements = statements_of("serve")
    assert json.loads(named(statements, "ENTRYPOINT")[0])[0] == "minimind-serve"
    assert json.loads(named(statements, "CMD")[0]) == ["/model"]
    health = named(statements, "HEALTHCHECK")[0].partition(" CMD ")[2]
    assert "/health" in json.loads(health)[-1]


def test_only_what_it_needs_is_sent_to_the_builder():
    first, *others = (ROOT / ".dockerignore").read_text().split()
    assert first == "*"
    assert others == ["!constraints.txt", "!dist/minimind_edge-*.whl", "!dist/minimind_edge_export-*.whl"]


def test_the_options_of_the_server_are_its_own():
    from minimind_edge.cli.serve_app import app

    (command,) = app.registered_commands
    words = json.loads(named(statements_of("serve"), "ENTRYPOINT")[0])[1:]
    assert words[0] == "--host"
    assert "host" in command.callback.__annotations__
