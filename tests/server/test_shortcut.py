"""The short way of a stream's pieces to the connection: the bytes that `send` gives, in order, for slow readers too."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from running_server import running
from scripted_engine import Script, ScriptedEngine

from minimind_edge.runtime.batch.request import Piece
from minimind_edge.server.app import create_app
from minimind_edge.server.connections import timed_protocol
from minimind_edge.server.delivery import Inbox

pytest.importorskip("httptools", reason="without httptools the protocol has no short way")

TEXTS = [f"piece {number} é\n" for number in range(30)]


class Counted:
    """An application that counts the messages of its answers."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.sent: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counting(message: Any) -> None:
            self.sent[message["type"]] += 1
            await send(message)

        await self.app(scope, receive, counting)


@pytest.fixture(scope="module")
def served(minimind3: Any) -> Iterator[tuple[ScriptedEngine, Counted, str]]:
    """A scripted engine, the application over it, and its address by this project's protocol."""
    engine = ScriptedEngine(*minimind3)
    app = Counted(create_app({"minimind": engine}))
    with running(app, timed_protocol(60)) as address:
        yield engine, app, address


def completion(address: str, **fields: Any) -> list[dict[str, Any]]:
    """The events of a streamed completion, without the fields that differ from answer to answer."""
    body = {"prompt": "x", "max_tokens": 99, "stream": True, "stream_options": {"include_usage": True}, **fields}
    response = httpx.post(f"{address}/v1/completions", json=body, timeout=60)
    *events, last = [event.removeprefix("data: ") for event in response.text.strip().split("\n\n")]
    assert last == "[DONE]"
    return [{key: value for key, value in json.loads(x).items() if key not in ("id", "created")} for x in events]


@pytest.mark.parametrize("fields", [{}, {"n": 3}, {"logprobs": 2}])
def test_the_events_are_those_that_send_gives(served, scripted, fields) -> None:
    engine, app, address = served
    for each in (engine, scripted[0]):
        each.reset(Script(pieces=[TEXTS]))
    app.sent.clear()
    events = completion(address, **fields)
    sent = app.sent["http.response.body"]
    assert sorted(map(json.dumps, events)) == sorted(map(json.dumps, completion(scripted[1], **fields)))
    text = "".join(choice["text"] for event in events for choice in event["choices"] if choice["index"] == 0)
    assert text == "".join(TEXTS)
    # The first piece, the last ones and the end; those that came while the coroutine was busy, too.
    assert sent < len(TEXTS) * fields.get("n", 1)


def test_held_pieces_go_the_short_way(served) -> None:
    engine, app, address = served
    engine.reset(Script(pieces=[TEXTS], holds=True))
    app.sent.clear()
    body = {"prompt": "x", "max_tokens": 99, "stream": True}
    engine.go.release()  # the answer begins with its first piece
    with httpx.stream("POST", f"{address}/v1/completions", json=body, timeout=60) as response:
        lines = (line for line in response.iter_lines() if line)
        for text in TEXTS:
            event = json.loads(next(lines).removeprefix("data: "))
            assert event["choices"][0]["text"] == text  # each arrives before the model goes on
            engine.go.release()
        assert list(lines)[-1] == "data: [DONE]"
    assert app.sent["http.response.body"] == 4  # the first piece, the finish reason, [DONE], and the end


def test_a_stop_of_the_writer_ends_the_answer(served) -> None:
    """A required tool call is complete before the model stops: nothing more is asked of the model."""
    engine, _, address = served
    call = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
    engine.reset(Script(pieces=[["Wait. ", *call, "never read", "never read"]], holds=True))
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    body = {
        "messages": [{"role": "user", "content": "x"}],
        "tools": [tool],
        "stream": True,
        "parallel_tool_calls": False,
    }
    engine.go.release(1000)
    response = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
    assert response.text.strip().endswith("[DONE]")
    assert "never read" not in response.text


def test_a_slow_reader_gets_everything_in_order(served, monkeypatch) -> None:
    engine, app, address = served
    monkeypatch.setattr(engine, "_piece", lambda request, text: Piece(text, (5,)))  # to tokenize these takes long
    app.sent.clear()
    texts = [f"{number:06d}" * 20_000 for number in range(60)]  # 7 MB, more than the buffers of both sides
    engine.reset(Script(pieces=[texts], holds=True))
    body = json.dumps({"prompt": "x", "max_tokens": 99, "stream": True}).encode()
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        for number in range(1, len(texts) + 1):
            engine.go.release()
            while not engine.tickets or len(engine.tickets[0].token_ids) < number:
                time.sleep(0.001)  # the loop may write the piece
        engine.go.release()
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert all(received.count(text.encode()) == 1 for text in texts)
    places = [received.find(text.encode()) for text in texts]
    assert places == sorted(places)
    assert app.sent["http.response.body"] > 4  # by `send`, which waits, when the buffers were full


def test_a_failure_on_the_short_way_is_the_request_s_own() -> None:
    async def failing() -> None:
        inbox = Inbox()
        inbox.running = 1
        inbox.shorten(lambda index, piece: {}[index])
        taking = asyncio.ensure_future(inbox.take())
        await asyncio.sleep(0)
        inbox.put(7, Piece("text"))
        with pytest.raises(KeyError):
            await taking

    asyncio.run(failing())


def test_pieces_wait_while_nobody_takes_them() -> None:
    async def busy() -> list[tuple[int, Piece]]:
        inbox, written = Inbox(), []
        inbox.running = 1
        inbox.shorten(lambda index, piece: not written.append(piece.text))
        inbox.put(0, Piece("a"))  # the coroutine is busy
        taking = asyncio.ensure_future(inbox.take())
        first = await taking
        taking = asyncio.ensure_future(inbox.take())
        await asyncio.sleep(0)
        inbox.put(0, Piece("b"))  # it waits
        inbox.put(0, Piece("c", finish_reason="stop"))
        assert written == ["b"]
        return first + await taking

    assert [piece.text for _, piece in asyncio.run(busy())] == ["a", "c"]
