"""Sites whose weights are integers: the same answers as the runtime's, and as fast as in float32."""

from __future__ import annotations

import shutil

from minimind_edge.runtime import Engine
from minimind_edge.runtime.sampling import SamplingParams

STEP_TIMES = """
const { WasmSession } = await load("wasm-session");
const { cacheShape } = await load("cache-shape");
const { manifest: { architecture } } = argument;
const shape = cacheShape(architecture, "fp32");
const sessions = [];
for (const graph of argument.graphs) {
  const content = new Uint8Array(await (await fetch(graph)).arrayBuffer());
  const session = await WasmSession.load(content, shape, 128, architecture.vocab_size, 1);
  await session.run([1, 2, 3]);
  sessions.push(session);
}
const times = sessions.map(() => []);
for (let step = 0; step < 80; step += 1) {
  for (const [index, session] of sessions.entries()) {
    const started = performance.now();
    await session.run([5]);
    times[index].push(performance.now() - started);
  }
}
return times.map((one) => one.sort((a, b) => a - b)[one.length / 4]);
"""


def test_answers_equal_the_runtimes(visit, integer_site):
    engine = Engine.load(integer_site / "model", threads=1)
    visitor = visit(integer_site)
    visitor.open()
    visitor.greedy()
    for question in ("What is the capital of France?", "讲一个关于狐狸的故事。"):
        expected = engine.generate(question, params=SamplingParams(greedy=True), max_new_tokens=48)
        assert visitor.ask(question) == expected.token_ids, question
        visitor.page.click("#new-chat")


def test_a_step_takes_no_longer_than_in_float32(module_page, site, integer_site):
    """Integers that are widened for every token take several times as long."""
    (graph,) = (integer_site / "model" / "onnx").glob("*.onnx")
    manifest = module_page("return (await fetch('manifest.json')).json();")
    beside = site / "model" / "onnx" / graph.name
    shutil.copy(graph, beside)
    argument = {"manifest": manifest, "graphs": ["onnx/model.onnx", f"onnx/{graph.name}"]}
    float32, integers = module_page(STEP_TIMES, argument)
    beside.unlink()
    assert integers < 2 * float32
