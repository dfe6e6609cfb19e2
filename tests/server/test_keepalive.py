"""The comments that keep a silent stream open: when they come, and that clients skip them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import openai
import pytest
from running_server import running
from scripted_engine import Script, ScriptedEngine

from minimind_edge.server.app import create_app
from minimind_edge.server.connections import timed_protocol
from minimind_edge.server.settings import ServerSettings
from minimind_edge.server.streaming import KEEPALIVE

HELLO = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
COMMENT = ": keepalive"


@pytest.fixture(scope="module", params=["own", "uvicorn"])
def served(minimind3: Any, request: Any) -> Iterator[tuple[ScriptedEngine, str]]:
    """A scripted engine and its address, by the protocol of the command and by uvicorn's; silence lasts 0.02 s."""
    engine = ScriptedEngine(*minimind3)
    protocol = timed_protocol(60) if request.param == "own" else "auto"
    with running(create_app({"minimind": engine}, ServerSettings(keepalive_s=0.02)), protocol) as address:
        yield engine, address


def lines_of(address: str, engine: ScriptedEngine, comments: int, pieces: int) -> list[str]:
    """The lines of a stream whose model goes on after every so many comments, until it has given its pieces."""
    lines = []
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=HELLO, timeout=60) as response:
        assert response.status_code == 200 and response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            lines.append(line)
            if line == COMMENT and lines.count(COMMENT) % comments == 0 and pieces:
                engine.go.release()
                pieces -= 1
    return lines


def test_a_comment_is_what_the_standard_ignores() -> None:
    """A line that begins with a colon, and the empty line that ends an event, of which there is none."""
    assert KEEPALIVE.startswith(b":") and KEEPALIVE.endswith(b"\n\n") and KEEPALIVE.count(b"\n") == 2


def test_comments_come_before_the_first_event_and_between_events(served) -> None:
    engine, address = served
    engine.reset(Script(pieces=[["Hel", "lo"]], holds=True))
    lines = lines_of(address, engine, comments=2, pieces=3)
    assert lines[:4] == [COMMENT, "", COMMENT, ""]
    events = [line for line in lines if line]
    assert events[-1] == "data: [DONE]"
    deltas = [json.loads(line.removeprefix("data: ")) for line in events if line.startswith("data: {")]
    assert deltas[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(delta["choices"][0]["delta"].get("content", "") for delta in deltas) == "Hello"
    first, second = (next(at for at, line in enumerate(events) if text in line) for text in ('"Hel"', '"lo"'))
    assert COMMENT in events[first:second]
    # Each comment is an event of its own: empty lines lie between what was sent.
    assert all(not after for line, after in pairwise(lines) if line)


def test_openai_s_client_skips_them(served) -> None:
    engine, address = served
    engine.reset(Script(pieces=[["Hel", "lo"]], holds=True))
    comments = 0

    def count(response: httpx.Response) -> None:
        raw = response.iter_bytes

        def counting(*arguments: Any) -> Iterator[bytes]:
            nonlocal comments
            for part in raw(*arguments):
                comments += part.count(KEEPALIVE)
                if KEEPALIVE in part:
                    engine.go.release()
                yield part

        response.iter_bytes = counting  # type: ignore[method-assign]

    http = httpx.Client(event_hooks={"response": [count]})
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, http_client=http) as client:
        answer = client.chat.completions.create(model="minimind", **HELLO)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    assert text == "Hello" and comments >= 3


def test_an_error_after_a_comment_is_an_event(served) -> None:
    engine, address = served
    engine.reset(Script(pieces=[[]], fails=True, holds=True))
    lines = lines_of(address, engine, comments=1, pieces=1)
    assert lines[0] == COMMENT
    assert json.loads(lines[-2].removeprefix("data: "))["error"]["code"] == "model_failed"


def test_an_error_before_the_first_comment_has_its_status(minimind3) -> None:
    engine = ScriptedEngine(*minimind3)
    engine.reset(Script(pieces=[[]], fails=True))
    with running(create_app({"minimind": engine}, ServerSettings(keepalive_s=60))) as address:
        assert httpx.post(f"{address}/v1/chat/completions", json=HELLO).status_code == 500


@pytest.mark.parametrize(("stream", "keepalive_s"), [(False, 0.01), (True, 0)])
def test_neither_whole_answers_nor_a_server_without_them_have_comments(minimind3, stream, keepalive_s) -> None:
    engine = ScriptedEngine(*minimind3)
    engine.reset(Script(holds=True))
    with running(create_app({"minimind": engine}, ServerSettings(keepalive_s=keepalive_s))) as address:
        timeout = httpx.Timeout(60, read=0.2)
        with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=timeout) as client:
            client.post(f"{address}/v1/chat/completions", json={**HELLO, "stream": stream})
        engine.go.release(100)
