"""Decode in headless Chromium: the page's engine against transformers.js, on one graph, interleaved in one browser.

Usage: web.py --node-modules NODE_MODULES [--threads 2] [--rounds 5] [--tokens 64] [--json FILE] SITE...

SITE is a folder of `minimind-export web`. NODE_MODULES holds @huggingface/transformers and its dependencies
(`npm install --ignore-scripts @huggingface/transformers@4.3.1`); Playwright and Chromium are what `make web-test` uses.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import platform
import shutil
import statistics
import tempfile
import threading
from pathlib import Path

QUESTION = "Tell me a story about a fox."

OURS = """
async ({ tokens, threads }) => {
  const worker = new Worker("site/engine/worker.js", { type: "module" });
  const hear = (wanted) => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      if (data.type === wanted) resolve(data);
      else if (data.type === "error") reject(new Error(JSON.stringify(data)));
    };
  });
  const began = performance.now();
  worker.postMessage({ type: "load", options: { device: "wasm", threads } });
  await hear("ready");
  const loadSeconds = (performance.now() - began) / 1000;
  window.ours = async (question) => {
    const params = { greedy: true };
    worker.postMessage({ type: "clear" });
    const started = performance.now();
    const ask = { text: question, system: "", thinking: null, params, maxNewTokens: tokens };
    worker.postMessage({ type: "ask", question: ask });
    const { result } = await hear("end");
    const seconds = (performance.now() - started) / 1000 - result.firstTokenSeconds;
    return { tokenIds: result.tokenIds, speed: (result.tokenIds.length - 1) / seconds };
  };
  return loadSeconds;
}
"""

PEER_WORKER = """
import { AutoModelForCausalLM, AutoTokenizer, env } from "./transformers.js";

env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = "/site/";
env.useBrowserCache = false;
env.backends.onnx.wasm.wasmPaths = new URL("./ort/", location.href).href;
let tokenizer, model;

onmessage = async ({ data }) => {
  try {
    if (data.threads !== undefined) {
      env.backends.onnx.wasm.numThreads = data.threads;
      tokenizer = await AutoTokenizer.from_pretrained("model");
      model = await AutoModelForCausalLM.from_pretrained("model", { dtype: data.dtype, device: "wasm" });
      postMessage({});
      return;
    }
    const messages = [{ role: "user", content: data.question }];
    const inputs = tokenizer.apply_chat_template(messages, { add_generation_prompt: true, return_dict: true });
    const times = [];
    const streamer = { put: () => times.push(performance.now()), end: () => {} };
    const options = { max_new_tokens: data.tokens, do_sample: false, repetition_penalty: 1, streamer };
    const output = await model.generate({ ...inputs, ...options });
    const prompt = inputs.input_ids.dims[1];
    const tokenIds = Array.from(output.data, Number).slice(prompt);
    const [first, last] = [times[times.length - tokenIds.length], times[times.length - 1]];
    postMessage({ tokenIds, speed: (tokenIds.length - 1) / ((last - first) / 1000) });
  } catch (error) {
    postMessage({ error: String(error.stack ?? error) });
  }
};
"""

PEER = """
async ({ tokens, threads, dtype }) => {
  const worker = new Worker("peer.js", { type: "module" });
  const call = (data) => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data));
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage(data);
  });
  const began = performance.now();
  await call({ threads, dtype });
  const loadSeconds = (performance.now() - began) / 1000;
  window.peer = (question) => call({ question, tokens });
  return loadSeconds;
}
"""

PAUSE_MS = 300
"""The milliseconds of rest before each run, as the other side's idle threads keep cores busy for a while."""

DTYPE = {"fp32": "fp32", "fp16": "fp16", "int8": "q8", "int4": "q4"}


class IsolatedHandler(http.server.SimpleHTTPRequestHandler):
    """A file server that sends the headers that threads need."""

    def end_headers(self) -> None:
        """See the base class."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


def lay_out(folder: Path, site: Path, node_modules: Path) -> None:
    """Put the files of both sides below one folder; bare imports become paths, as a worker has no import maps."""
    (folder / "index.html").write_text("<!doctype html><title>benchmark</title>")
    (folder / "site").symlink_to(site.resolve())
    (folder / "ort").symlink_to((node_modules / "onnxruntime-web" / "dist").resolve())
    (folder / "common").symlink_to((node_modules / "onnxruntime-common" / "dist" / "esm").resolve())
    build = (node_modules / "@huggingface" / "transformers" / "dist" / "transformers.web.min.js").read_text()
    build = build.replace('"onnxruntime-common"', '"./common/index.js"')
    (folder / "transformers.js").write_text(
        build.replace('"onnxruntime-web/webgpu"', '"./ort/ort.webgpu.bundle.min.mjs"')
    )
    (folder / "peer.js").write_text(PEER_WORKER)


def measure(browser, site: Path, node_modules: Path, *, threads: int, rounds: int, tokens: int) -> dict:
    """Measure both sides on one site, interleaved."""
    manifest = json.loads((site / "model" / "manifest.json").read_text())
    graph = next(entry for entry in manifest["graphs"] if entry["file"] == manifest["default_graph"])
    with tempfile.TemporaryDirectory() as name:
        lay_out(Path(name), site, node_modules)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(IsolatedHandler, directory=name))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        settings = {"tokens": tokens, "threads": threads, "dtype": DTYPE[graph["precision"]]}
        load_s = {side: round(page.evaluate(load, settings), 3) for side, load in (("ours", OURS), ("peer", PEER))}
        runs: dict[str, list] = {"ours": [], "peer": []}
        for _ in range(rounds + 1):  # the first round warms up
            for side, found in runs.items():
                page.wait_for_timeout(PAUSE_MS)
                found.append(page.evaluate(f"(question) => {side}(question)", QUESTION))
        page.close()
        server.shutdown()
        server.server_close()
    speeds = {side: [run["speed"] for run in one[1:]] for side, one in runs.items()}
    ratios = [ours / peer for ours, peer in zip(*speeds.values(), strict=True)]
    sizes = {path: path.stat().st_size for path in site.rglob("*") if path.is_file()}
    return {
        "checkpoint": manifest["checkpoint"]["file"],
        "parameters": manifest["architecture"]["parameters"]["total"],
        "precision": graph["precision"],
        "graph_bytes": graph["bytes"],
        "site_bytes": sum(sizes.values()),
        "download_bytes": sum(size for path, size in sizes.items() if ".jspi." not in path.name),
        "threads": threads,
        "tokens": len(runs["ours"][-1]["tokenIds"]),
        "load_s": load_s,
        "same_tokens": runs["ours"][-1]["tokenIds"] == runs["peer"][-1]["tokenIds"],
        "decode_tokens_per_s": {side: summary(one) for side, one in speeds.items()},
        "ours_over_transformers_js": summary(ratios),
    }


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {name: round(of(values), 3) for name, of in (("median", statistics.median), ("min", min), ("max", max))}


def main() -> None:
    """Measure every site and print, or write, one JSON object."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sites", nargs="+", type=Path)
    parser.add_argument("--node-modules", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        rows = [
            measure(
                browser,
                site,
                options.node_modules,
                threads=options.threads,
                rounds=options.rounds,
                tokens=options.tokens,
            )
            for site in options.sites
        ]
        versions = {
            name: json.loads((options.node_modules / name / "package.json").read_text())["version"]
            for name in ("@huggingface/transformers", "onnxruntime-web")
        }
        report = {
            "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "chromium": browser.version},
            "transformers_js": versions,
            "rows": rows,
        }
        browser.close()
    text = json.dumps(report, indent=2) + "\n"
    if options.json is None:
        print(text, end="")
    else:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
