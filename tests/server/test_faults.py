"""What goes wrong: bodies that are no requests, refusals, failing models, and clients that go away."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import openai
import pytest
from starlette.testclient import TestClient

from minimind_edge.runtime.errors import EngineClosedError, QueueFullError, UsageError
from minimind_edge.server.app import create_app

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


def wait_until(condition: Any) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"messages": NaN}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"messages": [{"role": "user", "content": "x"}], "seed": 1' + b"0" * 400 + b"}",
    ],
)
def test_a_body_that_is_no_request_is_a_400(address, engine, body) -> None:
    response = httpx.post(f"{address}/v1/chat/completions", content=body)
    assert response.status_code == 400 and response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    ("refusal", "status", "kind"),
    [
        (QueueFullError("full"), 429, openai.RateLimitError),
        (EngineClosedError("closing"), 503, openai.InternalServerError),
        (UsageError("bad"), 400, openai.BadRequestError),
    ],
)
def test_each_refusal_has_its_status(client, address, follow, path, refusal, status, kind) -> None:
    follow(refusal=refusal)
    body = HELLO if "chat" in path else {"prompt": "x"}
    response = httpx.post(address + path, json={**body, "stream": True})
    assert response.status_code == status and response.json()["error"]["message"] == str(refusal)
    assert (response.headers.get("retry-after") == "1") is (status in (429, 503))
    with pytest.raises(kind):
        client.chat.completions.create(model="minimind", **HELLO)


def test_a_refused_answer_ends_those_that_were_taken(address, engine, follow) -> None:
    follow()
    take = engine.submit

    def submit(request: Any) -> Any:
        if len(engine.requests) == 2:
            raise QueueFullError("full")
        return take(request)

    engine.submit = submit
    try:
        assert httpx.post(f"{address}/v1/chat/completions", json={**HELLO, "n": 3}).status_code == 429
    finally:
        engine.submit = take
    assert engine.cancelled == engine.tickets and len(engine.tickets) == 2


def test_a_failing_model_is_a_500_while_nothing_was_sent(client, address, follow) -> None:
    follow("Hel", fails=True)
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="minimind", **HELLO)
    assert failed.value.code == "model_failed" and "the model broke" in failed.value.message
    follow(pieces=[[]], fails=True)
    response = httpx.post(f"{address}/v1/chat/completions", json={**HELLO, "stream": True})
    assert response.status_code == 500 and response.json()["error"]["message"] == "the model broke"
    follow("Hello")
    assert client.chat.completions.create(model="minimind", **HELLO).choices[0].message.content == "Hello"


def test_a_failing_model_ends_a_stream_with_an_error(client, address, follow) -> None:
    engine = follow("Hel", fails=True, holds=True)
    engine.go.release(1)
    text = ""
    with pytest.raises(openai.APIError, match="the model broke"):
        for each in client.chat.completions.create(model="minimind", stream=True, **HELLO):
            text += each.choices[0].delta.content or ""
            engine.go.release(1)
    assert text == "Hel"
    engine = follow("Hel", fails=True, holds=True)
    engine.go.release(1)
    with httpx.stream("POST", f"{address}/v1/chat/completions", json={**HELLO, "stream": True}) as response:
        events = ""
        for piece in response.iter_text():
            events += piece
            engine.go.release(1)
    last = json.loads(events.rstrip().rpartition("data: ")[2])
    assert last["error"]["type"] == "server_error" and "[DONE]" not in events


def test_an_answer_that_the_end_of_the_server_cuts_off_is_a_503(address, follow) -> None:
    follow("Hel", reason="cancelled")
    response = httpx.post(f"{address}/v1/chat/completions", json=HELLO)
    assert response.status_code == 503 and response.json()["error"]["code"] == "shutting_down"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_its_request(address, follow, stream) -> None:
    engine = follow(*["word "] * 50, holds=True)
    body = json.dumps({**HELLO, "stream": stream, "n": 2}).encode()
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        wait_until(lambda: len(engine.requests) == 2)
        engine.go.release(1)
        if stream:
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    wait_until(lambda: len(engine.cancelled) == 2)  # without a further step of the model
    assert engine.cancelled == engine.tickets


def test_a_request_that_is_cut_off_in_its_body_is_forgotten(address, engine) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    assert httpx.get(f"{address}/health").status_code == 200 and engine.requests == []


def test_unknown_paths_and_methods_have_openai_s_form(address) -> None:
    for response, status in [(httpx.get(f"{address}/v1/nothing"), 404), (httpx.get(f"{address}/v1/completions"), 405)]:
        assert response.status_code == status and response.json()["error"]["type"] == "invalid_request_error"


def test_a_bug_shows_no_traceback(minimind3) -> None:
    from scripted_engine import ScriptedEngine

    engine = ScriptedEngine(*minimind3)
    engine.max_new_tokens = None  # type: ignore[assignment]
    engine.submit = None  # type: ignore[assignment,method-assign]
    with TestClient(create_app({"m": engine}), raise_server_exceptions=False) as client:
        response = client.post("/v1/chat/completions", json=HELLO)
    assert response.status_code == 500 and response.json()["error"]["type"] == "server_error"
    assert "Traceback" not in response.text and "NoneType" not in response.text
