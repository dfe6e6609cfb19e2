"""The application over a scripted engine, by a real server, and OpenAI's own client for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from running_server import running
from scripted_engine import Script, ScriptedEngine

from minimind_edge.runtime.artifact.tokenizer_config import JsonObject
from minimind_edge.runtime.text.chat_template import ChatTemplate
from minimind_edge.runtime.text.tokenizer import Tokenizer
from minimind_edge.server.app import create_app
from minimind_edge.server.settings import ServerSettings

UPSTREAM = Path(__file__).resolve().parent.parent / "data" / "upstream" / "minimind3-2026-08"


@pytest.fixture(scope="session")
def minimind3() -> tuple[Tokenizer, ChatTemplate]:
    """MiniMind-3's tokenizer and chat template."""
    config = json.loads((UPSTREAM / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.load(UPSTREAM / "tokenizer.json", JsonObject(config, "tokenizer_config.json"))
    template = (UPSTREAM / "minimind" / "chat_template.jinja").read_text(encoding="utf-8")
    return tokenizer, ChatTemplate({"default": template}, tokenizer.special_tokens)


@pytest.fixture(scope="session")
def scripted(minimind3: tuple[Tokenizer, ChatTemplate]) -> Iterator[tuple[ScriptedEngine, str]]:
    """A scripted engine and the address of the server over it, for all tests."""
    engine = ScriptedEngine(*minimind3)
    with running(create_app({"minimind": engine}, ServerSettings(aliases={"small": "minimind"}))) as address:
        yield engine, address


@pytest.fixture
def engine(scripted: tuple[ScriptedEngine, str]) -> ScriptedEngine:
    scripted[0].reset(Script())
    return scripted[0]


@pytest.fixture
def address(scripted: tuple[ScriptedEngine, str]) -> str:
    return scripted[1]


@pytest.fixture
def follow(engine: ScriptedEngine) -> Callable[..., ScriptedEngine]:
    """Lets the engine answer by a script, given by the fields of `Script` or as the pieces of one answer."""

    def begin(*pieces: str, **fields: object) -> ScriptedEngine:
        if pieces:
            fields["pieces"] = [list(pieces)]
        engine.reset(Script(**fields))  # type: ignore[arg-type]
        return engine

    return begin


@pytest.fixture
def client(engine: ScriptedEngine, address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client
