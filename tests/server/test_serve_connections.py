"""Connections: requests that come in halves, answers that nobody reads, and the end of a server; over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from minimind_edge.server.connections import MAX_HEAD_BYTES
from minimind_edge.server.middleware import LOOPBACK_NAMES, Presence, guarded
from minimind_edge.server.run import Hooks, address_of, is_loopback, listening_socket, make_server

PATIENCE_S = 0.4
HEAD = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


class Served:
    """A server in a thread, with what its endpoints have noticed.

    Attributes:
        ended: The names of the streams that have ended, finished or not.
    """

    def __init__(self, patience_s: float) -> None:
        self.ended: list[str] = []
        self.presence = Presence()
        self.go_on = threading.Event()
        routes = [
            Route("/quick", self._quick, methods=["POST"]),
            Route("/endless", self._endless, methods=["POST"]),
            Route("/slow", self._slow, methods=["POST"]),
        ]
        settings = {"keys": (), "hosts": LOOPBACK_NAMES, "origins": (), "max_body_bytes": 1 << 20}
        app = guarded(Starlette(routes=routes), self.presence, **settings)
        self.listener = listening_socket("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        ready = threading.Event()
        self.server = make_server(app, self.presence, patience_s, Hooks(ready=ready.set, late=self._be_late))
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.thread.start()
        assert ready.wait(20)

    def _be_late(self) -> None:
        self.ended.append("late")
        self.go_on.set()

    async def _quick(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    async def _endless(self, request: Request) -> StreamingResponse:
        async def pieces():
            try:
                while True:
                    yield b"x" * 65536
                    await asyncio.sleep(0)
            finally:
                self.ended.append("endless")

        return StreamingResponse(pieces())

    async def _slow(self, request: Request) -> StreamingResponse:
        async def pieces():
            yield b"begun "
            while not self.go_on.is_set():
                await asyncio.sleep(0.01)
            yield b"ended"

        return StreamingResponse(pieces())

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.settimeout(20)
        return connection

    def stop(self) -> None:
        self.go_on.set()
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(20)


@pytest.fixture
def served():
    server = Served(PATIENCE_S)
    yield server
    server.stop()


@pytest.fixture
def patient():
    """A server whose time limits play no part."""
    server = Served(60)
    yield server
    server.stop()


def read_all(connection):
    """What comes until the server closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestHalfSentRequests:
    @pytest.mark.parametrize("sent", [b"", b"POST /quick HT", b"POST /quick HTTP/1.1\r\nHost: localhost\r\nX-A: "])
    def test_a_head_that_does_not_arrive_is_answered_with_408(self, served, sent):
        with served.connect() as connection:
            connection.sendall(sent)
            assert read_all(connection).startswith(b"HTTP/1.1 408 ")

    def test_bytes_now_and_then_do_not_help(self, served):
        with served.connect() as connection, contextlib.suppress(OSError):
            connection.sendall(b"POST /quick HTTP/1.1\r\nHost: localhost\r\n")
            connection.setblocking(False)
            for number in range(1000):
                connection.sendall(b"X-%d: 1\r\n" % number)
                time.sleep(0.05)
                with contextlib.suppress(BlockingIOError):
                    if connection.recv(100).startswith(b"HTTP/1.1 408 "):
                        return
        pytest.fail("the connection was kept")

    def test_a_body_that_does_not_arrive_ends_the_connection(self, served):
        with served.connect() as connection:
            connection.sendall(HEAD % (b"/quick", 100) + b"half")
            assert read_all(connection) == b""
        wait_until(lambda: served.presence.running == 0)

    def test_a_body_that_comes_in_time_is_answered(self, served):
        with served.connect() as connection:
            connection.sendall(HEAD % (b"/quick", 8) + b"half")
            time.sleep(PATIENCE_S / 8)
            connection.sendall(b"half")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")

    def test_endless_headers_are_refused(self, patient):
        with patient.connect() as connection:
            connection.sendall(b"POST /quick HTTP/1.1\r\nHost: localhost\r\n" + b"X: 12345678\r\n" * 2)
            with contextlib.suppress(OSError):
                connection.sendall(b"X: 12345678\r\n" * (MAX_HEAD_BYTES // 12))
            refusal = read_all(connection)
        assert refusal.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))  # h11 has a limit of its own

    def test_the_rest_of_a_refused_body_does_not_hurt_the_next_request(self, patient):
        with patient.connect() as connection:
            connection.sendall(HEAD % (b"/quick", 2 << 20))
            assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
            connection.sendall(b"x" * (2 << 20) + HEAD % (b"/quick", 3) + b"abc")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


class TestSlowReaders:
    def test_a_client_that_does_not_read_is_dropped(self, served):
        with served.connect() as connection:
            connection.sendall(HEAD % (b"/endless", 0))
            wait_until(lambda: served.ended == ["endless"])
        assert served.presence.running == 0

    def test_a_client_that_goes_away_is_noticed_at_once(self, patient):
        with patient.connect() as connection:
            connection.sendall(HEAD % (b"/endless", 0))
            assert connection.recv(10)
        wait_until(lambda: patient.ended == ["endless"])

    def test_the_last_bytes_of_a_closed_connection_are_not_waited_for_without_end(self, served):
        with served.connect() as connection:
            connection.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % (b"/quick", 0))
            wait_until(lambda: not served.server.server_state.connections)


class TestDrain:
    def test_what_runs_is_finished_and_what_is_new_refused(self, patient):
        with patient.connect() as running:
            running.sendall(HEAD % (b"/slow", 0))
            assert b"begun" in running.recv(4096)
            patient.server.handle_exit(15, None)
            with patient.connect() as late:
                late.sendall(HEAD % (b"/quick", 0))
                assert read_all(late).startswith(b"HTTP/1.1 503 ")
            patient.go_on.set()
            assert read_all(running).endswith(b"5\r\nended\r\n0\r\n\r\n")
        patient.thread.join(20)
        assert not patient.thread.is_alive()

    def test_an_idle_server_ends_at_once(self, patient):
        with patient.connect():
            patient.server.handle_exit(15, None)
            patient.thread.join(20)
        assert not patient.thread.is_alive()

    def test_the_time_for_it_is_limited(self, served):
        with served.connect() as running:
            running.sendall(HEAD % (b"/slow", 0))
            assert b"begun" in running.recv(4096)
            served.server.handle_exit(15, None)
            served.thread.join(20)
        assert not served.thread.is_alive()
        assert served.ended == ["late"]

    def test_a_second_sigterm_changes_nothing(self, patient):
        with patient.connect() as running:
            running.sendall(HEAD % (b"/slow", 0))
            assert b"begun" in running.recv(4096)
            for _ in range(2):
                patient.server.handle_exit(15, None)
            patient.go_on.set()
            assert read_all(running).endswith(b"5\r\nended\r\n0\r\n\r\n")
        patient.thread.join(20)

    def test_a_second_ctrl_c_ends_it_at_once(self, patient):
        with patient.connect() as running:
            running.sendall(HEAD % (b"/slow", 0))
            assert b"begun" in running.recv(4096)
            patient.server.handle_exit(2, None)
            patient.server.handle_exit(2, None)
            patient.thread.join(20)
        assert not patient.thread.is_alive()
        assert patient.server.interrupted


@pytest.mark.parametrize(
    ("host", "is_own"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_which_hosts_no_other_machine_reaches(host, is_own):
    assert is_loopback(host) == is_own


def test_a_port_that_is_taken_is_one_line():
    from minimind_edge.runtime.errors import MissingError

    with listening_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(MissingError, match=f"port {port}: .*--port"):
            listening_socket("127.0.0.1", port)
    with pytest.raises(MissingError, match="--host"):
        listening_socket("no such host", 0)
