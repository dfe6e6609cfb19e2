"""The page in headless Chromium: a site of the bundled model, served by Python's own server from a subfolder."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from minimind_edge.export.quantization import QuantizationSettings
from minimind_edge.export.request import ExportRequest
from minimind_edge.export.web import SiteRequest, write_site
from minimind_edge.runtime import Engine
from minimind_edge.runtime.errors import MissingError

ROOT = Path(__file__).resolve().parents[2]
NODE_MODULES = ROOT / ".venv-web" / "node_modules"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY = "#composer:not([hidden])"
ENDED = ".answer:last-child :is(.facts, .error)"
SECONDS = 90
CALIBRATION = QuantizationSettings(rows=4, length=32, measured_rows=2, held_out_rows=1)
"""Next to none: what the page makes of integers does not depend on how well they were chosen."""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Python's server as `python -m http.server` runs it, without its log."""

    def log_message(self, *arguments):
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    """Says nothing when a browser goes away in the middle of a file."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


def pytest_collection_modifyitems(items):
    reason = missing()
    if reason is not None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@functools.cache
def missing() -> str | None:
    """What is not here of what the page's tests take, None where all is."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "no Playwright: run make web-test"
    if browser_path() is None:
        return "no Chromium: install it, or name it by CHROMIUM"
    return None if NODE_MODULES.is_dir() else "no JavaScript libraries: run make web-test"


def browser_path() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def make_site(folder: Path, **options) -> Path:
    export = ExportRequest(output=folder, target="portable", verify=False, **options)
    return write_site(SiteRequest(export, NODE_MODULES)).folder


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """A site of the bundled model; two folders below what is served."""
    try:
        return make_site(tmp_path_factory.mktemp("www") / "some folder" / "site")
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def short_site(tmp_path_factory) -> Path:
    """The same with a context of 160 tokens."""
    return make_site(tmp_path_factory.mktemp("www") / "short" / "site", max_length=160)


@pytest.fixture(scope="session", params=["int8", "int4"])
def integer_site(request, tmp_path_factory) -> Path:
    """The same in integers."""
    folder = tmp_path_factory.mktemp("www") / request.param / "site"
    return make_site(folder, precision=request.param, quantization=CALIBRATION)


@pytest.fixture
def own_site(site, tmp_path) -> Path:
    """A copy of the site that a test may break."""
    return Path(shutil.copytree(site, tmp_path / "own" / "site"))


@pytest.fixture(scope="session")
def engine(site) -> Engine:
    return Engine.load(site / "model", threads=1)


@pytest.fixture(scope="session")
def serve():
    """Serve the folder two above a site; the site's address."""
    servers = []

    def start(site: Path) -> str:
        root = site.parent.parent
        server = QuietServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(root)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/{site.relative_to(root).as_posix().replace(' ', '%20')}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    if hasattr(os, "sched_setaffinity"):  # the page takes as many threads as there are cores
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """One visitor of a site, who may send no request out of the site's folder.

    Attributes:
        page: Playwright's.
        requests: Paths below the site, in order.
        strays: Addresses outside of it.
        errors: What scripts threw and nobody caught.
    """

    def __init__(self, browser, address: str, **options) -> None:
        self.address = address
        self.requests: list[str] = []
        self.strays: list[str] = []
        self.errors: list[str] = []
        self._context = browser.new_context(**{"locale": "en-US", **options})
        self._context.on("request", self._note)
        self.page = self._context.new_page()
        self.page.set_default_timeout(SECONDS * 1000)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, request) -> None:
        inside = request.url.startswith(self.address)
        path = urlsplit(request.url).path.removeprefix(urlsplit(self.address).path)
        (self.requests if inside else self.strays).append(path if inside else request.url)

    def open(self, query: str = "", wait_for: str = READY) -> None:
        self.page.goto(self.address + query)
        self.page.wait_for_selector(wait_for)

    def ask(self, text: str) -> list[int]:
        """Ask, wait for the end; the answer's tokens."""
        self.begin(text)
        return self.end()

    def begin(self, text: str) -> None:
        self.page.fill("#question", text)
        self.page.press("#question", "Enter")

    def end(self) -> list[int]:
        self.page.wait_for_selector(ENDED)
        ids = self.page.get_attribute(".answer:last-child", "data-token-ids")
        return [int(token) for token in (ids or "").split(",") if token]

    def greedy(self, max_new_tokens: int = 48) -> None:
        self.page.check("[name=greedy]")
        self.page.fill("[name=maxNewTokens]", str(max_new_tokens))

    def close(self) -> None:
        self._context.close()


@pytest.fixture
def visit(browser, serve):
    """Open sites, or addresses, as a new visitor; in the end, none may have asked for anything outside of them."""
    visits = []

    def start(site: Path | str, **options) -> Visit:
        visits.append(Visit(browser, site if isinstance(site, str) else serve(site), **options))
        return visits[-1]

    yield start
    for visit in visits:
        visit.close()
    assert [stray for visit in visits for stray in visit.strays] == []
    assert [error for visit in visits for error in visit.errors] == []


@pytest.fixture(scope="session")
def module_page(browser, serve, site):
    """A page of the site whose modules a test may call: `run(script, argument)`, with `load(name)` in the script."""
    context = browser.new_context()
    page = context.new_page()
    address = serve(site)
    page.goto(address + "model/config.json")

    def run(script: str, argument=None):
        loading = f"const load = (name) => import('{address}engine/' + name + '.js');"
        return page.evaluate(f"async (argument) => {{ {loading} {script} }}", argument)

    yield run
    context.close()
