"""What stands before the endpoints: keys, hosts, origins, the limit of a body, the drain and the access log."""

from __future__ import annotations

import asyncio
import errno
import io
import json

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from minimind_edge.server.access_log import writing_logs
from minimind_edge.server.middleware import LOOPBACK_NAMES, Presence, guarded, host_name

PAGE = ("/", "/app/main.js")
SECRET = "a secret of the prompt"


class FullDisk(io.StringIO):
    """A file on a full disk, which counts the lines that it was to take."""

    tried = 0

    def write(self, text: str) -> int:
        self.tried += 1
        raise OSError(errno.ENOSPC, "No space left on device")


async def echo(request: Request) -> JSONResponse:
    """Tell how long the body is; and the log, what an endpoint tells it."""
    body = await request.body()
    request.state.log.update(model="m", completion_tokens=3)
    return JSONResponse({"length": len(body)})


async def fail(request: Request) -> JSONResponse:
    raise RuntimeError(SECRET)


async def send_to(app, method, path, **options):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        return await client.request(method, path, **options)


@pytest.fixture
def ask():
    """Send a request to an application that echoes, with the settings given: `ask(method, path, keys=..., ...)`."""

    def ask(method="POST", path="/v1/echo", *, presence=None, request=None, **settings):
        routes = [Route(name, echo, methods=["GET", "POST"]) for name in ("/health", "/v1/echo", *PAGE)]
        routes.append(Route("/fail", fail))
        defaults = {"keys": (), "hosts": LOOPBACK_NAMES, "origins": (), "max_body_bytes": 1000, "open_paths": PAGE}
        app = guarded(Starlette(routes=routes), presence or Presence(), **defaults | settings)
        return asyncio.run(send_to(app, method, path, **(request or {})))

    return ask


def bearer(key):
    return {"headers": {"Authorization": key}}


class TestApiKeys:
    @pytest.mark.parametrize("key", ["Bearer one", "Bearer two", "bearer two", "Bearer  two "])
    def test_every_key_opens(self, ask, key):
        assert ask(keys=("one", "two"), request=bearer(key)).status_code == 200

    @pytest.mark.parametrize("key", ["Bearer three", "Bearer ", "one", "Basic one", "Bearer onetwo", "Bearer \xe9"])
    def test_nothing_else_does(self, ask, key):
        headers = {"Authorization": key.encode("latin-1")}
        answer = ask(keys=("one", "two"), request={"headers": headers})
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"

    def test_a_request_without_a_key_is_refused(self, ask):
        assert ask(keys=("one",)).status_code == 401
        assert ask("GET", "/metrics", keys=("one",)).status_code == 401

    @pytest.mark.parametrize("path", ["/health", "/", "/app/main.js"])
    def test_health_and_page_are_open(self, ask, path):
        assert ask("GET", path, keys=("one",)).status_code == 200

    def test_a_server_without_keys_is_open(self, ask):
        assert ask().status_code == 200


class TestHosts:
    @pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "[::1]"])
    def test_a_loopback_server_answers_to_its_names(self, ask, host):
        assert ask(request={"headers": {"Host": host}}).status_code == 200

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1"])
    def test_a_name_that_was_rebound_is_refused(self, ask, host):
        answer = ask(request={"headers": {"Host": host}})
        assert answer.status_code == 403
        assert "--allow-host" in answer.json()["error"]["message"]

    def test_a_name_that_was_allowed_is_answered(self, ask):
        hosts = (*LOOPBACK_NAMES, "box.local")
        assert ask(hosts=hosts, request={"headers": {"Host": "box.local:8000"}}).status_code == 200

    def test_probes_by_address_reach_the_health(self, ask):
        assert ask("GET", "/health", request={"headers": {"Host": "10.1.2.3:8000"}}).status_code == 200

    @pytest.mark.parametrize(
        ("header", "name"), [("a.b:1", "a.b"), ("[::1]:1", "::1"), ("A", "a"), (None, ""), ("x:y", "x"), ("[", "")]
    )
    def test_the_name_in_a_header(self, header, name):
        assert host_name(header) == name


class TestOrigins:
    def test_the_servers_own_page_may_ask(self, ask):
        assert ask(request={"headers": {"Origin": "http://127.0.0.1:8000"}}).status_code == 200

    @pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:9000", "null"])
    def test_another_sites_page_may_not(self, ask, origin):
        answer = ask(request={"headers": {"Origin": origin, "Content-Type": "text/plain"}})
        assert answer.status_code == 403
        assert f"--cors {origin}" in answer.json()["error"]["message"]

    @pytest.mark.parametrize("origins", [("https://app.example",), ("*",)])
    def test_unless_it_is_allowed(self, ask, origins):
        answer = ask(origins=origins, request={"headers": {"Origin": "https://app.example"}})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] in ("https://app.example", "*")

    def test_a_browsers_question_before_the_request_needs_no_key(self, ask):
        headers = {
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        answer = ask("OPTIONS", origins=("https://app.example",), keys=("one",), request={"headers": headers})
        assert answer.status_code == 200
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()

    def test_without_the_option_no_header_of_cors_is_sent(self, ask):
        answer = ask(request={"headers": {"Origin": "http://127.0.0.1:8000"}})
        assert not [name for name in answer.headers if name.startswith("access-control")]


class TestBodies:
    def test_a_body_up_to_the_limit_passes(self, ask):
        assert ask(request={"content": b"x" * 1000}).json() == {"length": 1000}

    def test_a_longer_one_is_refused_by_its_announced_length(self, ask):
        answer = ask(request={"content": b"x" * 1001})
        assert answer.status_code == 413
        assert "--max-body" in answer.json()["error"]["message"]

    @pytest.mark.parametrize(("parts", "status"), [(10, 200), (11, 413), (100, 413)])
    def test_an_unannounced_one_is_counted(self, ask, parts, status):
        async def body():
            for _ in range(parts):
                yield b"x" * 100

        assert ask(request={"content": body()}).status_code == status


class TestDrain:
    def test_new_requests_are_refused(self, ask):
        for path in ("/v1/echo", "/health"):
            answer = ask(path=path, presence=Presence(draining=True))
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0

    def test_running_requests_are_counted(self, ask):
        presence = Presence()
        ask(presence=presence)
        ask("GET", "/fail", presence=presence)
        assert presence.running == 0


class TestAccessLog:
    def lines(self, ask, **options):
        stream = io.StringIO()
        with writing_logs(stream):
            answer = ask(**options)
        return [json.loads(line) for line in stream.getvalue().splitlines()], answer, stream.getvalue()

    def test_a_request_is_one_line_without_its_contents(self, ask):
        headers = {"Authorization": "Bearer key-that-is-secret"}
        request = {"content": SECRET, "headers": headers, "params": {"q": SECRET}}
        (line,), answer, text = self.lines(ask, keys=("key-that-is-secret",), request=request)
        assert line.pop("ms") >= 0
        assert line.pop("time")[10] == "T"
        assert line == {
            "request_id": answer.headers["x-request-id"],
            "method": "POST",
            "path": "/v1/echo",
            "status": 200,
            "model": "m",
            "completion_tokens": 3,
        }
        assert "secret" not in text

    def test_refusals_are_logged_too(self, ask):
        (line,), _, _ = self.lines(ask, keys=("one",))
        assert line["status"] == 401

    def test_a_failure_is_a_500(self, ask):
        (line,), _, text = self.lines(ask, method="GET", path="/fail")
        assert line["status"] == 500
        assert SECRET not in text

    def test_a_path_cannot_forge_a_line(self, ask):
        lines, _, _ = self.lines(ask, method="GET", path='/x%0A{"status":200}')
        assert [line["status"] for line in lines] == [404]

    @pytest.mark.parametrize(("given", "kept"), [("abc-1.2:3", True), ("a b", False), ("x" * 65, False), ("\n", False)])
    def test_the_clients_id_is_kept_where_it_is_harmless(self, ask, given, kept):
        headers = {"X-Request-Id": given.encode()}
        (line,), answer, _ = self.lines(ask, request={"headers": headers})
        assert (line["request_id"] == given) == kept
        assert answer.headers["x-request-id"] == line["request_id"]

    def test_a_full_disk_costs_lines_and_no_answer(self, ask):
        disk = FullDisk()
        with writing_logs(disk):
            assert [ask().status_code, ask().status_code] == [200, 200]
        assert disk.tried == 2
