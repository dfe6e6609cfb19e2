"""The names that llama.cpp's server tests take from their `utils.py`, over `minimind-serve`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
from served_command import ServedCommand

from .translation import llama_answer, llama_event, openai_path, openai_request, supplied_bytes

ARTIFACT = "MINIMIND_EDGE_LLAMA_TESTS_ARTIFACT"
"""The environment variable that names the artifact which is served."""

SECONDS = 120.0
DEFAULT_HTTP_TIMEOUT = DEFAULT_REQUEST_TIMEOUT = SECONDS

ServerResponse = SimpleNamespace
"""An answer with its `status_code`, its `headers` and its `body`, which is decoded where it is JSON."""

running: list[ServerProcess] = []
relaxed = False
"""Whether the running test's texts are those of llama.cpp's model, so that no other model's can fit."""


class ServerError(Exception):
    """A stream that was refused.

    Args:
        code: The HTTP status.
        body: The error's body.
    """

    def __init__(self, code: int, body: Any) -> None:
        super().__init__(code, body)
        self.code = code
        self.body = body


class ServerProcess:
    """A server, whose options a test sets as attributes before it starts it.

    Attributes:
        n_ctx: Number of positions of all slots together.
        n_slots: Number of slots.
        n_predict: Most tokens of an answer where a request does not say; -1 for no limit.
        temperature: Temperature of a request that does not say.
        seed: Seed of a request that does not say.
        model_alias: Name of the model; None for the folder's.
        api_key: API key; None for none.
        server_host: Address of the server.
        server_port: Port of the server, once it has started.
    """

    n_ctx = 512
    n_slots = 2
    n_predict = 64
    temperature = 0.8
    seed = 42
    model_alias: str | None = "tinyllama-2"
    api_key: str | None = None
    server_host = "127.0.0.1"
    server_port = 0
    _command: ServedCommand | None = None

    @property
    def context(self) -> int:
        """Number of positions of a slot."""
        return self.n_ctx // self.n_slots

    def start(self, timeout_seconds: float | None = None) -> None:
        """Start the command with the options that were set."""
        words: list[object] = [os.environ[ARTIFACT], "--threads", 1, "--no-access-log", "--slots", self.n_slots]
        words += ["--max-length", self.context]
        if self.model_alias is not None:
            words += ["--name", self.model_alias]
        if self.api_key is not None:
            words += ["--api-key", self.api_key]
        self._command = ServedCommand(*words)
        self.server_port = int(self._command.url.rpartition(":")[2])
        running.append(self)

    def stop(self) -> None:
        """End the command."""
        if self._command is not None:
            self._command.__exit__()
            self._command = None
            running.remove(self)

    def make_request(
        self, method: str, path: str, data: Any = None, headers: Any = None, timeout: float | None = SECONDS
    ) -> ServerResponse:
        """Send a request in llama-server's form; `status_code`, `headers` and `body` of the answer in its form."""
        if (method, path) == ("GET", "/slots"):
            return self._slots()
        body = None if data is None else self._openai(path, data)
        with self._client() as client:
            try:
                answer = client.request(method, openai_path(path), json=body, headers=_given(headers), timeout=timeout)
            except httpx.ReadTimeout as error:
                raise RequestTimeoutError from error
        try:
            content: Any = answer.json()
        except ValueError:
            content = answer.text
        got = dict(answer.headers)
        if path == "/metrics":
            got["Process-Start-Time-Unix"] = "0"
        return ServerResponse(
            status_code=answer.status_code, headers=got, body=llama_answer(path, content, self.context)
        )

    def make_stream_request(self, method: str, path: str, data: Any = None, headers: Any = None) -> Iterator[Any]:
        """Send a request; the events of its stream in llama-server's form."""
        body = self._openai(path, data)
        request = self._client().stream(method, openai_path(path), json=body, headers=_given(headers))
        with request as answer:
            if answer.status_code != 200:
                answer.read()
                raise ServerError(answer.status_code, answer.json())
            for line in answer.iter_lines():
                if line == "data: [DONE]":
                    return
                if line.startswith("data: "):
                    yield llama_event(path, json.loads(line.removeprefix("data: ")), self.context)

    def make_any_request(
        self, method: str, path: str, data: Any = None, headers: Any = None, timeout: float | None = SECONDS
    ) -> Any:
        """Send a chat request; its answer, gathered from the stream where it asks for one."""
        if not data.get("stream"):
            answer = self.make_request(method, path, data, headers, timeout)
            assert answer.status_code == 200, answer.body
            return answer.body
        parts: list[Any] = []
        for event in self.make_stream_request(method, path, data, headers):
            assert len(event["choices"]) <= 1
            parts += event["choices"]
        deltas = [part["delta"] for part in parts]
        assert all(delta.get("content") != "" for delta in deltas)
        content = "".join(delta.get("content") or "" for delta in deltas)
        calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
        message = {"role": "assistant", "content": content or None, "tool_calls": calls or None}
        return {"choices": [{"index": 0, "finish_reason": parts[-1]["finish_reason"], "message": message}]}

    def _openai(self, path: str, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        # llama.cpp's model never ends a text by itself, which the tests count on.
        defaults = {"temperature": self.temperature, "seed": self.seed, "n_predict": self.n_predict}
        return openai_request(path, data, {**defaults, "ignore_eos": True})

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://{self.server_host}:{self.server_port}", timeout=SECONDS)

    def _slots(self) -> ServerResponse:
        """What llama-server's `GET /slots` tells of busy slots, by the metrics."""
        assert self._command is not None
        busy = self._command.running()
        slots = [{"is_processing": number < busy, "n_ctx": self.context} for number in range(self.n_slots)]
        return ServerResponse(status_code=200, headers={}, body=slots)


class ServerPreset:
    """The servers that tests begin with; each of them serves the same artifact here."""

    @staticmethod
    def tinyllama2() -> ServerProcess:
        """A server with two slots of 256 positions."""
        return ServerProcess()

    tinyllama_infill = stories15m_moe = tinygemma3 = router = tinyllama2
    bert_bge_small = bert_bge_small_with_fa = jina_reranker_tiny = tinyllama2


class OpenAI(openai.OpenAI):
    """OpenAI's client, whose requests have the server's defaults and whose answers have what only llama.cpp has."""

    def __init__(self, *, base_url: str, **options: Any) -> None:
        port = httpx.URL(base_url).port
        server = next(each for each in running if each.server_port == port)
        url = base_url if base_url.endswith("/v1") else f"{base_url}/v1"
        transport = httpx.Client(transport=_SupplyingTransport(server), timeout=SECONDS)
        super().__init__(base_url=url, http_client=transport, max_retries=0, **options)


class _SupplyingTransport(httpx.HTTPTransport):
    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self._server = server

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = self._server._openai(request.url.path, json.loads(request.read()))
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
        answer = super().handle_request(httpx.Request(request.method, request.url, headers=headers, json=body))
        content = supplied_bytes(answer.read())
        answer.close()
        return httpx.Response(
            answer.status_code, headers={"content-type": answer.headers["content-type"]}, content=content
        )


class RequestTimeoutError(Exception):
    """A request was not answered in time."""


requests = SimpleNamespace(
    get=lambda url, **options: httpx.get(url, timeout=SECONDS, **options),
    exceptions=SimpleNamespace(ReadTimeout=RequestTimeoutError),
)
"""The part of the package requests that the tests use."""


def match_regex(regex: str, text: str) -> bool:
    """Whether a text matches; where the texts are those of llama.cpp's model, whether there is one."""
    if relaxed:
        return isinstance(text, str) and text != ""
    return re.search(regex, text, re.IGNORECASE | re.MULTILINE | re.DOTALL) is not None


def parallel_function_calls(calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> list[Any]:
    """Call functions at the same time; their results in order, None for one that fails, as llama.cpp's has it."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in calls]
    return [None if future.exception() else future.result() for future in futures]


def is_slow_test_allowed() -> bool:
    """Whether tests with models of gigabytes are run."""
    return False


def download_file(url: str, output_file_path: str | None = None) -> str:
    """Skip the test that asks for it: nothing is downloaded."""
    pytest.skip(f"needs {url}")


def _given(headers: Any) -> dict[str, str]:
    """The headers that have a value."""
    return {name: value for name, value in (headers or {}).items() if value is not None}
