"""The code blocks of the pages: each is run here as it stands, or listed with what runs it or with a reason."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

import pytest
from pages import Block, blocks, text_of
from served_command import ServedCommand
from stand_in_libraries import stand_in_libraries

from minimind_edge.export import quantization

PARIS = "The capital of France is Paris."
FIGURE = re.compile(r"  (?P<name>\S.*?) +(?P<value>[\d.]+)(?: of (?P<whole>\d+) +(?P<share>[\d.]+)%)?(?: MB)?\s*$")
"""A line of `minimind-export eval`: a count of a whole with its share, or a number."""

RUN = (
    "README.md: minimind-export onnx out/full_sft_512.pth -o",
    "README.zh.md: minimind-export onnx out/full_sft_512.pth -o",
    "docs/graphs.md: minimind-export onnx out/full_sft_512.pth",
    "docs/graphs.md: python benchmarks/graph_build.py --keep",
    "docs/jetson.md: minimind-export onnx out/full_sft_512.pth -o",
    "docs/jetson.md: # on a workstation, in a clone of this",
    "docs/quantization.md: minimind-export onnx out/full_sft_512.pth",
    "docs/rtx.md: minimind-export onnx out/full_sft_512.pth -o",
)
"""The blocks whose commands are run one after the other, and succeed."""

WITH_A_TEST = (
    "README.md: minimind-export onnx",
    "README.zh.md: minimind-export onnx",
    "README.md: minimind-export eval minimind-demo",
    "README.zh.md: minimind-export eval minimind-demo",
    "README.md: minimind-export web -o site",
    "README.zh.md: minimind-export web -o site",
    'README.md: pip install "$(ls',
    'README.zh.md: pip install "$(ls',
    "docs/changed-model.md: for i, expert in enumerate(self.experts):",
    "docs/changed-model.md: shares = torch.zeros_like(scores).scatter(-1,",
    "docs/changed-model.md: from pathlib import Path",
    "docs/interop.md: import numpy as np",
    'docs/run.md: > """Continue this list:',
    'docs/run.md: [{"type": "function", "function": {"name":',
    'docs/run.md: {"id": 1, "prompt": "What is the capital of',
    'docs/serving.md: pip install "$(ls',
    "docs/serving.md: from openai import OpenAI",
    "docs/serving.md: curl",
    "docs/serving.md: const response = await",
    "docs/web.md: minimind-export web out/full_sft_512.pth -o",
)
"""The blocks that a test below asks for by their names."""

ELSEWHERE = {
    ".ci/run": ("README.md: make setup", "README.zh.md: make setup"),
    "tests/cli/test_readme.py": (
        "README.md: from minimind_edge.runtime import Engine",
        "README.zh.md: from minimind_edge.runtime import Engine",
    ),
    "tests/cli/test_changed_model.py": (
        "docs/changed-model.md: minimind-export onnx my.pth --model",
        "docs/changed-model.md: # my_model.py",
    ),
    "tests/interop/test_model_card_examples.py": (
        "docs/interop.md: import onnxruntime_genai as og",
        "docs/interop.md: from optimum.onnxruntime import",
        "docs/interop.md: import { pipeline, TextStreamer } from",
    ),
    "tests/interop/test_genai.py": ('docs/interop.md: config = og.Config("my-model")',),
    "tests/interop/test_optimum.py": ("docs/interop.md: optimum-cli export onnx --task",),
    "tests/interop/test_transformers_js.py": ("docs/interop.md: const session_options = { extra: { session: {",),
    "tests/interop/test_graphs.py": ("docs/interop.md: netron my-model/onnx/model.onnx",),
    "tests/server/test_serve_ray.py": ('examples/ray_serve/README.md: make wheel && pip install "$(ls',),
    "tests/cli/test_bundle.py": ("export/bundle/device/README.md: @INSTALL@",),
}
"""The blocks that something else runs, by its path: a test, or what CI runs."""

NOT_RUN = {
    "CONTRIBUTING.md: make setup": "makes the environment that the tests run in",
    "CONTRIBUTING.md: .venv/bin/pytest tests/unit/test_mask.py": "is the tests themselves",
    "docs/architecture.md: minimind/checkpoint export/graph": "is a picture",
    "docs/benchmarks.md: make bench": "takes half an hour",
    "docs/benchmarks.md: make bench-serve": "takes 25 minutes",
    "docs/bundle.md: minimind-export bundle my-model -o device": "needs an index; test_bundle.py packs for this one",
    "docs/bundle.md: python3 install.py": "needs an Arm machine; test_bundle.py installs on this one",
    "docs/quantization.md: python benchmarks/quantization.py CHECKPOINT": "takes ten minutes",
    "docs/rtx.md: make wheel": "runs pip; test_engine.py builds plans",
    "docs/rtx.md: # on the machine that built the plan": "needs a second machine, with a GPU",
    "docs/rtx.md: minimind-export verify rtx/model.plan": "needs a GPU; tests/gpu does it there",
    'docs/serving.md: {"time":"2026-11-26T09:20:57.578Z","request_i': "is a line of the log",
    "docs/serving.md: make wheel": "needs docker; CI builds the images where it is",
    "examples/train_demo/README.md: python -m examples.train_demo train out/tiny": "trains for an hour",
}
"""The blocks that nothing runs, with the reason; tests/unit/test_page_blocks.py checks their syntax and options."""

LEFT_OUT = {
    r"make wheel|pip install |python3 -m venv ": "the tests have an environment with the wheel",
    r"scp ": "needs a second machine",
    r"python benchmarks/graph_build": "traces models for minutes",
    r"minimind-run .*--device (rtx|tensorrt)": "needs a GPU",
    r"minimind-export engine .*--backend tensorrt": "needs full TensorRT",
    r"minimind-run --engine minimind-trt/model.plan": "needs a GPU",
}
"""The commands of blocks in `RUN` that are left out, as regular expressions, with the reason."""


def named(name: str) -> Block:
    (found,) = [block for block in blocks() if block.name == name]
    return found


def test_every_block_is_run_or_listed():
    names = sorted(block.name for block in blocks())
    listed = sorted([*RUN, *WITH_A_TEST, *(name for names in ELSEWHERE.values() for name in names), *NOT_RUN])
    assert names == listed, "\n".join(
        [*(set(names) - set(listed)), "listed, but on no page:", *(set(listed) - set(names))]
    )


@pytest.mark.parametrize("place", ELSEWHERE)
def test_what_is_run_elsewhere_is_run_there(place):
    text = text_of(place)
    if place == ".ci/run":
        commands = [command.line for name in ELSEWHERE[place] for command in named(name).commands]
        assert set(commands) <= set(text.splitlines())


def test_every_command_that_is_left_out_is_on_a_page():
    commands = [command.line for name in RUN for command in named(name).commands]
    assert all(any(re.match(pattern, line) for line in commands) for pattern in LEFT_OUT)


@pytest.fixture(scope="session")
def told_of_the_demo(tmp_path_factory, export_in_process):
    """What the README's first command prints, and the folder that it is run in."""
    folder, printed = tmp_path_factory.mktemp("pages"), io.StringIO()
    words = named("README.md: minimind-export onnx").commands[0].words
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        patch.setenv("COLUMNS", "100")
        assert export_in_process(*words[1:]) == 0
    return printed.getvalue().strip().splitlines(), folder


@pytest.fixture(scope="session")
def demo(told_of_the_demo) -> Path:
    """The artifact of the bundled checkpoint."""
    return told_of_the_demo[1] / "minimind-demo"


@pytest.fixture
def place(tmp_path, monkeypatch, demo, demo_folder) -> Path:
    """The current folder: a checkpoint `out/full_sft_512.pth` with its tokenizer, and artifacts by the pages' names."""
    shutil.copytree(demo_folder, tmp_path / "out")
    (tmp_path / "out" / "full_sft_256.pth").rename(tmp_path / "out" / "full_sft_512.pth")
    for name in ("my-model", "minimind-demo"):
        shutil.copytree(demo, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(place, command, export_here, monkeypatch):
    """Run a command line of a page in the current folder; what it prints.

    Exports run in this process, which has torch imported, and round with little text: how good they are is not asked.
    """
    little = partial(quantization.QuantizationSettings, rows=32, length=64, measured_rows=8, held_out_rows=4)
    monkeypatch.setattr(quantization, "QuantizationSettings", little)

    def start(words, stdin=""):
        words = ["my-model" if word == "ARTIFACT" else word for word in words]
        for made in ("my-model", "minimind-demo"):
            if words[-2:] == ["-o", made]:
                shutil.rmtree(made)
        result = export_here(*words[1:]) if words[0] == "minimind-export" else command(*words, stdin=stdin, cwd=place)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return start


@pytest.mark.parametrize("name", RUN)
def test_the_commands_of_a_block_succeed(run, name):
    lines = [command for command in named(name).commands if not any(re.match(each, command.line) for each in LEFT_OUT)]
    if "zh" in name:  # the exports are the English page's
        lines = [command for command in lines if command.line not in text_of("README.md")]
    assert lines
    for command in lines:
        printed = run(command.words)
        assert printed or "--chat" in command.words


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_demo_says_what_the_readme_shows(told_of_the_demo, run, page):
    export, *questions = named(f"{page}: minimind-export onnx").commands
    assert without_measured(export.output) == without_measured(told_of_the_demo[0])
    assert len(questions) == 2
    for question in questions:
        assert run(question.words).splitlines() == list(question.output)


def without_measured(lines) -> list[str]:
    """The lines of an export without the numbers that another processor rounds differently; the bounds stay."""
    words = (" ".join(line.split()) for line in lines)
    return [re.sub(r"(?<!= )\d\.\d+e-\d\d", "#", re.sub("─+", "─", line)) for line in words]


def test_the_demo_is_as_good_as_the_readme_says(run):
    """Another processor's rounding may decide between two tokens, so that counts differ by 2."""
    english, chinese = (named(f"{page}: minimind-export eval minimind-demo") for page in ("README.md", "README.zh.md"))
    assert english.text == chinese.text
    (command,) = english.commands
    found = {figure.group("name"): figure for figure in map(FIGURE.match, run(command.words).splitlines()) if figure}
    assert len(command.output) == 9
    for shown in map(FIGURE.match, command.output):
        here = found[shown["name"]]
        assert here["whole"] == shown["whole"]
        if shown["whole"]:
            assert float(here["value"]) == pytest.approx(float(shown["value"]), abs=2)
            assert float(shown["share"]) == round(100 * int(shown["value"]) / int(shown["whole"]), 1)
        else:
            assert float(here["value"]) == pytest.approx(float(shown["value"]), rel=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "README.md: minimind-export web -o site",
        "docs/web.md: minimind-export web out/full_sft_512.pth -o",
    ],
)
def test_a_site_is_written_and_served(run, place, name):
    stand_in_libraries(place / "node_modules")
    export, serve = (command.words for command in named(name).commands)
    run(export)
    python = [sys.executable, "-u", *serve[1:], "0"]  # any port instead of 8000
    with subprocess.Popen(python, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=place) as server:
        try:
            port = re.search(r"port (\d+)", server.stdout.readline())[1]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as page:
                assert b"<title>" in page.read()
        finally:
            server.kill()


@pytest.fixture(scope="module")
def served(demo):
    with ServedCommand(demo, "--threads", 1) as command:
        yield command


def on_the_port_of(served: ServedCommand, text: str) -> str:
    assert "http://127.0.0.1:8000" in text
    return text.replace("http://127.0.0.1:8000", served.url)


@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "docs/serving.md"])
def test_the_server_starts_as_the_pages_say(served, page):
    (block,) = [
        each for each in blocks("sh", "console") if each.page == page and "minimind-serve minimind-demo" in each.text
    ]
    command = block.commands[1]
    assert command.words == ["minimind-serve", "minimind-demo"]
    assert all(on_the_port_of(served, line) in served.told for line in command.output)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "docs/serving.md"])
def test_curl_gets_an_answer(served, page):
    (command,) = [
        c for block in blocks("console") if block.page == page for c in block.commands if c.line[:5] == "curl "
    ]
    words = [on_the_port_of(served, word) if word.startswith("http") else word for word in command.words]
    result = subprocess.run([*words, "--silent", "--fail"], capture_output=True, check=True)
    assert json.loads(result.stdout)["choices"][0]["message"]["content"]


def test_openais_client_gets_an_answer(served, capsys):
    text = on_the_port_of(served, named("docs/serving.md: from openai import OpenAI").text)
    space: dict[str, object] = {}
    exec(compile(text, "docs/serving.md", "exec"), space)
    assert capsys.readouterr().out
    space["client"].close()


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_javascript_gets_an_answer(served, tmp_path):
    (block,) = [each for each in blocks("js") if each.page == "docs/serving.md"]
    (tmp_path / "ask.mjs").write_text(on_the_port_of(served, block.text))
    result = subprocess.run(["node", "ask.mjs"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.strip()


def test_the_log_has_the_fields_that_the_page_shows(served):
    (block,) = [each for each in blocks("json") if each.page == "docs/serving.md"]
    assert served.ask("Who are you?", stream=True).status_code == 200
    shown, found = json.loads(block.text), served.lines()[-1]
    assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in shown.items()}


def test_a_conversation_of_several_lines(run):
    (block,) = [each for each in blocks("text") if each.page == "docs/run.md"]
    typed = re.sub(r"^(> |\.\.\. )", "", block.text, flags=re.MULTILINE)
    answers = run(["minimind-run", "--engine", "my-model", "--chat", "--greedy"], stdin=f"{typed}\n")
    assert answers.splitlines()[-1] == PARIS


def test_tools_and_prompts_from_the_page(run, place):
    tools, prompts = (each.text for each in blocks("json") if each.page == "docs/run.md")
    (place / "tools.json").write_text(tools)
    told = run(["minimind-run", "--engine", "my-model", "--tools", "tools.json", "--greedy", "--json", "Who are you?"])
    assert json.loads(told)["tool_calls"] == []
    (place / "prompts.jsonl").write_text(prompts)
    told = run(["minimind-run", "--engine", "my-model", "--prompts", "prompts.jsonl", "--greedy"])
    answers = {answer["id"]: answer["text"] for answer in map(json.loads, told.splitlines())}
    assert answers == {1: PARIS, 2: "法国的首都是巴黎。"}


def test_experts_without_branches_give_the_same_sum():
    import torch

    torch.manual_seed(0)
    x, scores = torch.randn(2, 3, 8), torch.randn(2, 3, 4).softmax(-1)
    topk_weight, topk_idx = scores.topk(2)
    experts = [torch.nn.Linear(8, 8) for _ in range(4)]
    space = {"torch": torch, "x": x, "scores": scores, "topk_idx": topk_idx, "topk_weight": topk_weight}
    both = []
    for name in (
        "for i, expert in enumerate(self.experts):",
        "shares = torch.zeros_like(scores).scatter(-1,",
    ):
        space |= {"self": type("MoE", (), {"experts": experts}), "y": torch.zeros_like(x)}
        exec(named(f"docs/changed-model.md: {name}").text, space)
        both.append(space["y"])
    assert (both[0] - both[1]).abs().max() < 1e-6


def test_bare_onnxruntime_gives_the_last_tokens_logits(place):
    space: dict[str, object] = {}
    exec(named("docs/interop.md: import numpy as np").text, space)
    assert space["logits"].shape == (1, 1, 2048)  # the demo's vocabulary; MiniMind's has 6400


def test_an_export_from_python(place, capsys):
    import torch

    shutil.rmtree(place / "my-model")
    space: dict[str, object] = {"__name__": "my_model"}
    exec(named("docs/changed-model.md: # my_model.py").text, space)
    torch.manual_seed(0)
    space["model"] = space["MyMiniMind"](space["MyConfig"]()).eval()
    exec(named("docs/changed-model.md: from pathlib import Path").text, space)
    assert "passed" in capsys.readouterr().out
    assert (place / "my-model" / "onnx" / "model.onnx").is_file()
