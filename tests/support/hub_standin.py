"""A stand-in for the Hugging Face Hub: the few requests that huggingface_hub makes for a download."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The commit of every repository."""


class HubStandin:
    """Serves repositories, each a folder with one commit, on a port of this machine.

    Args:
        repositories: The folder of each repository by its name `OWNER/NAME`; None for one that asks for access.

    Attributes:
        url: Address, for `HF_ENDPOINT`.
        fetched: The path of each file that was asked for, in order.
    """

    def __init__(self, repositories: dict[str, Path | None]) -> None:
        self.repositories = repositories
        self.fetched: list[str] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self)

            def do_HEAD(self):
                hub.answer(self)

            def log_message(self, *arguments):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        parts = [unquote(part) for part in urlsplit(request.path).path.strip("/").split("/")]
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._describe(request, "/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file(request, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            send(request, 404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def _describe(self, request, repository: str, rest: list[str]) -> None:
        folder = self._folder(request, repository, rest[1] if len(rest) > 1 else "main")
        if folder is None:
            return
        if rest[:1] == ["tree"]:
            files = [
                {
                    "type": "file",
                    "path": name,
                    "size": path.stat().st_size,
                    "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
                }
                for name, path in files_of(folder)
            ]
            send(request, 200, json.dumps(files).encode())
        else:
            siblings = [{"rfilename": name} for name, _ in files_of(folder)]
            content = {"_id": "1", "id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings}
            send(
                request, 200, json.dumps({**content, "private": False, "tags": [], "downloads": 0, "likes": 0}).encode()
            )

    def _file(self, request, repository: str, revision: str, name: str) -> None:
        folder = self._folder(request, repository, revision)
        if folder is None:
            return
        path = folder / name
        if not path.is_file():
            send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        if request.command == "GET":
            self.fetched.append(name)
        content = path.read_bytes()
        send(request, 200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def _folder(self, request, repository: str, revision: str) -> Path | None:
        """The repository's folder; where it cannot be had, the request is answered."""
        if repository not in self.repositories:
            send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif self.repositories[repository] is None:
            send(request, 403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif revision not in {"main", "v1", COMMIT}:
            send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            return self.repositories[repository]
        return None


def files_of(folder: Path) -> list[tuple[str, Path]]:
    """The files below a folder with their names relative to it."""
    return [(path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")) if path.is_file()]


def send(request: http.server.BaseHTTPRequestHandler, code: int, content: bytes, headers: dict | None = None) -> None:
    """Answer a request; one for the headers alone gets no content."""
    request.send_response(code)
    for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(content)
