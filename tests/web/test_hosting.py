"""Where the site may lie, what it asks for, and what it says when something is missing."""

from __future__ import annotations

import json
import os

import pytest

from minimind_edge.export.artifact.manifest import file_sha256

READY = "#composer:not([hidden])"
ERROR = "#loading-error:not([hidden])"


def test_a_static_server_is_enough_for_threads(visit, site):
    visitor = visit(site)
    visitor.open()
    assert visitor.page.evaluate("crossOriginIsolated")
    visitor.greedy(8)
    assert visitor.ask("Who are you?")
    assert "vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm" in visitor.requests


def test_nothing_but_what_is_needed_is_loaded(visit, site):
    visitor = visit(site)
    visitor.open()
    assert not [path for path in visitor.requests if "jspi" in path]
    assert len([path for path in visitor.requests if path.endswith(".onnx")]) >= 1


def test_the_graph_is_downloaded_once(visit, site):
    visitor = visit(site)
    visitor.open()
    visitor.requests.clear()
    visitor.page.reload()
    visitor.page.wait_for_selector(READY)
    assert visitor.requests
    assert not [path for path in visitor.requests if path.endswith(".onnx")]


def test_another_graph_takes_the_place_of_the_one_that_was_kept(visit, own_site):
    visitor = visit(own_site)
    visitor.open()
    graph = next((own_site / "model" / "onnx").glob("*.onnx"))
    # A field that no runtime knows: protobuf skips it, so that this is another file with the same graph.
    graph.write_bytes(graph.read_bytes() + b"\xfa\xff\x0f\x00")
    change_graph(own_site, sha256=file_sha256(graph), bytes=graph.stat().st_size)
    visitor.page.reload()
    visitor.page.wait_for_selector(READY)
    kept = visitor.page.evaluate(
        "caches.open('minimind-edge-graphs').then((cache) => cache.keys()).then((keys) => keys.map(({url}) => url))"
    )
    assert len(kept) == 1
    assert file_sha256(graph) in kept[0]


def test_without_threads_it_runs_on_one(visit, site):
    visitor = visit(site, service_workers="block")
    visitor.open()
    assert not visitor.page.evaluate("crossOriginIsolated")
    assert "One thread" in visitor.page.inner_text("#notice")
    visitor.greedy(8)
    assert len(visitor.ask("Who are you?")) == 8


def test_webgpu_that_is_not_there_gives_way_to_webassembly(visit, site):
    visitor = visit(site)
    visitor.open("?device=webgpu")
    assert "WebGPU failed" in visitor.page.inner_text("#notice")
    assert "WebAssembly" in visitor.page.inner_text("#device-hint")
    visitor.greedy(8)
    assert visitor.ask("Who are you?")


def test_a_missing_graph_is_told_and_can_be_tried_again(visit, own_site):
    graph = next((own_site / "model" / "onnx").glob("*.onnx"))
    aside = graph.rename(graph.with_suffix(".aside"))
    visitor = visit(own_site)
    visitor.open(wait_for=ERROR)
    assert f"model/onnx/{graph.name} is missing from this site (HTTP 404)" in visitor.page.inner_text(ERROR)
    aside.rename(graph)
    visitor.page.click("#retry")
    visitor.page.wait_for_selector(READY)


def test_a_graph_that_was_cut_off_is_told(visit, own_site):
    graph = next((own_site / "model" / "onnx").glob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1])
    visitor = visit(own_site)
    visitor.open(wait_for=ERROR)
    assert "is not the file that the manifest names" in visitor.page.inner_text(ERROR)


def test_a_graph_with_one_wrong_byte_is_told(visit, own_site):
    graph = next((own_site / "model" / "onnx").glob("*.onnx"))
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    visitor = visit(own_site)
    visitor.open(wait_for=ERROR)
    assert "is not the file that the manifest names" in visitor.page.inner_text(ERROR)


def test_a_graph_that_is_none_is_told(visit, own_site):
    graph = next((own_site / "model" / "onnx").glob("*.onnx"))
    graph.write_bytes(b"no graph")
    change_graph(own_site, sha256=file_sha256(graph), bytes=8)
    visitor = visit(own_site)
    visitor.open(wait_for=ERROR)
    assert "ONNX Runtime cannot run this model" in visitor.page.inner_text(ERROR)


def test_a_broken_manifest_is_told(visit, own_site):
    manifest = own_site / "model" / "manifest.json"
    whole = json.loads(manifest.read_text())
    cases = {
        "{": "manifest.json is broken",
        "[]": "expected a JSON object",
        json.dumps({**whole, "format": 9}): "has format 9",
        json.dumps({**whole, "graphs": []}): "incomplete",
        json.dumps({**whole, "default_graph": "../x.onnx", "graphs": [{**whole["graphs"][0], "file": "../x.onnx"}]}): (
            "incomplete"
        ),
        json.dumps(
            {**whole, "graphs": [{**whole["graphs"][0], "bytes": 2**50}]}
        ): "bytes is 1125899906842624, expected",
        json.dumps({**whole, "architecture": {**whole["architecture"], "num_hidden_layers": 2**32}}): (
            "num_hidden_layers is 4294967296, expected"
        ),
    }
    visitor = visit(own_site)
    for second, (content, message) in enumerate(cases.items()):
        manifest.write_text(content)
        # The server tells versions apart by the second.
        os.utime(manifest, (2_000_000_000 + second,) * 2)
        visitor.open(wait_for=ERROR)
        assert message in visitor.page.inner_text(ERROR)


def test_stop_stops_an_endless_template_and_the_page_goes_on(visit, own_site):
    path = own_site / "model" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    loops = "".join(f"{{% for i{level} in range(10000) %}}" for level in range(4))
    endless = "{% if messages[-1].content == 'loop' %}" + loops + "{% endfor %}" * 4 + "{% endif %}"
    path.write_text(json.dumps({**config, "chat_template": endless + config["chat_template"]}))
    visitor = visit(own_site)
    visitor.open()
    visitor.greedy(4)
    visitor.begin("loop")
    visitor.page.click("#stop")
    visitor.page.wait_for_selector(".answer:last-child:has-text('did not stop')")
    assert visitor.page.is_hidden("#stop")
    assert len(visitor.ask("Who are you?")) == 4
    assert visitor.page.locator(".question").count() == 2


def test_a_missing_tokenizer_and_a_missing_runtime_are_told(visit, own_site):
    tokenizer = own_site / "model" / "tokenizer.json"
    aside = tokenizer.rename(tokenizer.with_suffix(".aside"))
    visitor = visit(own_site)
    visitor.open(wait_for=ERROR)
    assert "model/tokenizer.json is missing" in visitor.page.inner_text(ERROR)
    aside.rename(tokenizer)
    (own_site / "vendor" / "onnxruntime-web" / "ort-wasm-simd-threaded.wasm").unlink()
    visitor.open(wait_for=ERROR)
    assert "WebAssembly cannot be started" in visitor.page.inner_text(ERROR)


@pytest.mark.parametrize("script", ["", "close();", "while (true);"], ids=["is silent", "has ended", "hangs"])
def test_a_worker_without_progress_is_told_and_can_be_started_again(visit, own_site, script):
    worker = own_site / "engine" / "worker.js"
    whole = worker.read_text()
    worker.write_text(script)
    visitor = visit(own_site, service_workers="block")
    visitor.page.clock.install()
    visitor.open(wait_for="#loading-text:has-text('Starting')")
    visitor.page.clock.fast_forward("00:20")
    assert visitor.page.is_hidden("#retry")
    visitor.page.clock.fast_forward("00:15")
    visitor.page.wait_for_selector(ERROR)
    assert visitor.page.inner_text(ERROR) == "No progress for 30 seconds: wait, or try again."
    worker.write_text(whole)
    os.utime(worker, (2_000_000_000,) * 2)
    visitor.page.click("#retry")
    visitor.page.wait_for_selector(READY)
    visitor.page.clock.fast_forward("01:00")
    assert visitor.page.is_hidden("#loading")


def test_late_progress_is_shown(visit, own_site):
    progress = "postMessage({ type: 'progress', loaded: 1e6, total: 4e6 })"
    (own_site / "engine" / "worker.js").write_text(f"new BroadcastChannel('go on').onmessage = () => {progress};")
    visitor = visit(own_site, service_workers="block")
    visitor.page.clock.install()
    visitor.open(wait_for="#loading-text:has-text('Starting')")
    visitor.page.clock.fast_forward("00:35")
    visitor.page.wait_for_selector(ERROR)
    visitor.page.evaluate("new BroadcastChannel('go on').postMessage('')")
    visitor.page.wait_for_selector("#loading-text:has-text('1.0 of 4.0 MB')")
    assert visitor.page.is_hidden("#loading-error")
    assert visitor.page.is_hidden("#retry")


def test_a_worker_that_fails_while_it_loads_is_told(visit, own_site):
    (own_site / "engine" / "worker.js").write_text("onmessage = () => nowhere.to.be.found;")
    visitor = visit(own_site)
    visitor.open(wait_for=ERROR)
    assert "Something went wrong in this page: Uncaught ReferenceError" in visitor.page.inner_text(ERROR)
    assert visitor.errors == ["nowhere is not defined"]
    visitor.errors.clear()


def test_a_report_that_cannot_be_read_is_told(visit, own_site):
    """No script can send one on purpose, so the browser's event is played to the page's worker."""
    (own_site / "engine" / "worker.js").write_text("")
    visitor = visit(own_site)
    visitor.page.add_init_script(
        "window.Worker = class extends Worker { constructor(...given) { super(...given); window.started = this; } };"
    )
    visitor.open(wait_for="#loading-text:has-text('Starting')")
    visitor.page.wait_for_function("window.started !== undefined")
    visitor.page.evaluate("started.dispatchEvent(new MessageEvent('messageerror'))")
    visitor.page.wait_for_selector(ERROR)
    assert "a message of the worker cannot be read" in visitor.page.inner_text(ERROR)


def test_the_manifests_words_are_text_and_no_markup(visit, own_site):
    manifest = own_site / "model" / "manifest.json"
    whole = json.loads(manifest.read_text())
    whole["checkpoint"]["file"] = "<img src=x onerror=alert(1)>.pth"
    manifest.write_text(json.dumps(whole))
    visitor = visit(own_site)
    visitor.open()
    assert "<img src=x onerror=alert(1)>" in visitor.page.inner_text("#card")
    assert visitor.page.locator("#title img, #card img").count() == 0


def change_graph(site, **changes):
    manifest = site / "model" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["graphs"][0].update(changes)
    manifest.write_text(json.dumps(content))
