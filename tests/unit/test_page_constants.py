"""Limits, defaults and versions on the pages are those of the code, the packages' requirements and the scripts."""

from __future__ import annotations

import json
import re
import sys

from claims import assert_says, numbers
from own_commands import program
from pages import ROOT, prose_of, table, text_of

sys.path.insert(0, str(ROOT))  # the benchmarks and examples are no part of the installed package
sys.path.insert(0, str(ROOT / "scripts"))

MIB = 1 << 20


def requirement(name: str, path: str = "pyproject.toml") -> str:
    """The version that a file asks for a package, without its last parts where it names several."""
    (found,) = set(
        re.findall(rf'(?:^|"){re.escape(name)}(?:\[\w+\])?"?(?:: "|[=>]=)([\d.]+)', text_of(path), re.MULTILINE)
    )
    return found


def test_the_exit_codes():
    from minimind_edge.cli import entry, interruption
    from minimind_edge.export.errors import BusyError, ExportError, ParityError
    from minimind_edge.runtime.errors import EdgeError, InputError, MissingError, UsageError

    meanings = {code: cells[0] for code, cells in table("docs/architecture.md", "meaning", first="exit code").items()}
    codes = {int(code): meaning for code, meaning in meanings.items()}
    assert [line.split(maxsplit=1)[0] for line in entry.__doc__.splitlines() if line.startswith("    ")] == list(
        meanings
    )
    for name, expected in {
        "a bug in this program": {entry.BUG, EdgeError.exit_code},
        "usage: an option or an argument is wrong": {UsageError.exit_code},
        "the input is bad: checkpoint, config, artifact, prompt": {InputError.exit_code, ExportError.exit_code},
        "the environment lacks something: a package, a driver, a device, disk space": {
            MissingError.exit_code,
            BusyError.exit_code,
            entry.ENVIRONMENT,
        },
        "parity failed": {ParityError.exit_code},
        "stopped by Ctrl-C; the text so far stays on stdout": {entry.INTERRUPTED},
        "the reader of stdout closed it": {entry.BROKEN_PIPE},
    }.items():
        assert {code for code, meaning in codes.items() if meaning == name} == expected
    assert set(codes) >= interruption.EXIT_CODES
    assert {int(code) for code in re.findall(r"\b(\d+) \S", entry.EXIT_CODES)} <= set(codes)


def test_exit_codes_in_the_text():
    from minimind_edge.cli.entry import ENVIRONMENT, INTERRUPTED
    from minimind_edge.cli.export_verify import PARITY_FAILED

    assert_says("docs/run.md", r"the exit code is (\d)", 3)
    assert_says("docs/bundle.md", r"an error with exit code (\d), which names the package", ENVIRONMENT)
    assert_says("docs/security.md", r"locks is refused \(exit code (\d)\)", ENVIRONMENT)
    assert_says("docs/security.md", r"with exit code 3 \(or (\d) where", ENVIRONMENT)
    assert_says("docs/jetson.md", r"ends with exit code (\d) if it has not", ENVIRONMENT)
    assert_says("docs/quantization.md", r"the export fails with exit code (\d)", PARITY_FAILED)
    assert_says("docs/graphs.md", r"the export fails with exit code (\d)", PARITY_FAILED)
    assert_says("docs/serving.md", r"exit code is 0 after SIGTERM and (\d+) after Ctrl-C", INTERRUPTED)


def default_of(option: str) -> str:
    """The default of an option of `minimind-serve`, as its help has it."""
    parameters = program("minimind-serve").params
    (found,) = [each for each in parameters if option in (*each.opts, *each.secondary_opts)]
    told = re.search(r"\(default: (.*?)\)", found.help or "")
    return told[1] if told else f"{found.default:g}"


def test_the_defaults_of_the_server():
    from minimind_edge.runtime.batch.engine import LEAST_QUEUE, PREFIX_CACHE_MIB, QUEUE_PER_SLOT
    from minimind_edge.runtime.batch.scheduler import USUAL_SHARES
    from minimind_edge.server.settings import EngineSettings, ServeSettings

    shown = table("docs/serving.md", "default", "what it does")
    served = ServeSettings({})
    for row, values in {
        "`--slots N`": [EngineSettings.slots],
        "`--queue N`": [QUEUE_PER_SLOT, LEAST_QUEUE],
        "`--step-ms MS`": [*USUAL_SHARES],
        "`--prefix-cache MIB`": [PREFIX_CACHE_MIB],
        "`--workers N`": [served.workers],
        "`--timeout S`": [served.timeout_s],
        "`--max-body MIB`": [served.max_body_bytes / MIB],
    }.items():
        assert [float(number) for number in numbers(shown[row][0])] == values, row
        told = [float(number) for number in numbers(default_of(row.strip("`").split()[0]))]
        assert told == values[: len(told)], row
    port, host = default_of("--port"), {each.name: each.default for each in program("minimind-serve").params}["host"]
    assert f"http://{host}:{port}/v1" in text_of("docs/serving.md")
    assert f"http://{host}:{port}/v1" in text_of("README.md")


def test_the_limits_of_the_server():
    from minimind_edge.server import access_log, completions, connections, requests, run, settings, workers

    page = "docs/serving.md"
    assert_says(page, r"leaves (\d+) KiB of an answer unread", run.SEND_BUFFER / 1024)
    assert_says(page, r"between two requests is closed after (\d+) seconds", run.KEEP_ALIVE_S)
    assert_says(page, r"The headers of a request may have (\d+) KiB", connections.MAX_HEAD_BYTES / 1024)
    assert_says(page, r"at most (\d+) letters", int(re.search(rb",(\d+)\}", access_log.USABLE_ID.pattern)[1]))
    assert_says(page, r"Status (\d+) is a client that went away", access_log.CLIENT_CLOSED)
    assert workers.STEADY_S == 10 and "served for ten seconds" in prose_of(page)
    page = "docs/openai.md"
    assert_says(page, r"and OpenAI's (\d+) for /v1/completions", completions.DEFAULT_MAX_TOKENS)
    assert_says(page, r"A request may have (\d+) answers", settings.ServerSettings.max_sequences)
    assert_says(page, r"one string or up to (\d+)", requests.StopStrings.__metadata__[0].max_length)
    assert_says(page, r"up to (\d+) top_logprobs", requests.TopLogprobs.__metadata__[0].le)


def test_the_runtime():
    from minimind_edge.cli.run_prompts import SLOTS
    from minimind_edge.runtime import model_text, speculation
    from minimind_edge.runtime.ort import model, tensorrt_provider

    page = "docs/runtime.md"
    assert_says(page, r"Prefill runs in chunks of (\d+) tokens", model.CHUNK["ort"])
    assert_says(page, r"cut so that these stay under (\d+) MB", model.PREFILL_LOGITS_BYTES / MIB)
    assert_says(page, r"doubles up to (\d+) as long", speculation.LONGEST_DRAFT)
    assert_says(page, r"a step earns ([\d.]+) % of its time", 100 * speculation.ALLOWANCE)
    assert_says("docs/jetson.md", r"in chunks of up to (\d+) tokens", model.CHUNK["tensorrt"])
    assert_says(
        "docs/rtx.md",
        r"for up to (\d+) rows and (\d+) tokens in a run",
        tensorrt_provider.MOST_ROWS,
        tensorrt_provider.MOST_TOKENS,
    )
    assert_says("docs/openai.md", r"else (\d+)\) for chats", model_text.DEFAULT_MAX_NEW_TOKENS)
    assert SLOTS == 8 and "Up to eight prompts run at once" in prose_of("docs/run.md")


def test_the_limits_of_what_is_not_trusted():
    from fuzzing import promise

    from minimind_edge.export.artifact import manifest, staging
    from minimind_edge.runtime import errors
    from minimind_edge.runtime.artifact import json_file
    from minimind_edge.runtime.text import chat_template, tokenizer

    page = "docs/security.md"
    assert_says(
        page,
        r"(\d) s of computing for a rendering, (\d+) MiB",
        chat_template.RENDER_SECONDS,
        chat_template.RENDER_MEMORY_MB,
    )
    assert_says(page, r"(\d) s of computing for a text, (\d) GiB", tokenizer.ENCODE_SECONDS, tokenizer.MEMORY_MB / 1024)
    assert_says(page, r"JSON files of an artifact \| in the process \| (\d+) MiB", json_file.MAX_BYTES / MIB)
    assert_says(page, r"templates \| in the process, as text \| (\d+) MiB", chat_template.MAX_BYTES / MIB)
    assert_says(page, r"is cut at (\d+) characters", errors.MAX_LENGTH)
    assert_says(page, r"Each input has (\d) seconds", promise.SECONDS)
    assert_says(page, r"a reader's process may take (\d) GiB more", promise.MEMORY / (1 << 30))
    assert staging.WAIT_SECONDS == 1 and manifest.SAVE_WAIT_SECONDS == 10
    assert "the second waits for a second (eval --save and the last step of engine: for ten)" in prose_of(page)


def test_quantization():
    from minimind_edge.export.parity.tolerance import FP32
    from minimind_edge.export.quantization import QuantizationSettings, calibration, gptq, mixed_precision, smoothquant
    from minimind_edge.export.quantization.formats import INT4, INT8, TENSORRT
    from minimind_edge.export.quantization.kv_cache_scales import MARGIN
    from minimind_edge.export.quantization.quality import KL_BOUNDS
    from minimind_edge.export.traced.storage import LEAST_OUTPUTS

    settings, page = QuantizationSettings(), "docs/quantization.md"
    assert_says(page, r"the model samples texts of (\d+) tokens", settings.length)
    assert_says(
        page,
        r"\(temperature ([\d.]+), top-p ([\d.]+), one seed\): "
        r"(\d+) for int4, (\d+) for int8, and (\d+) that are held out",
        calibration.SAMPLING.temperature,
        calibration.SAMPLING.top_p,
        settings.rows,
        settings.measured_rows,
        settings.held_out_rows,
    )
    assert_says(page, r"forwards and backwards over (\d+) texts", settings.measured_rows)
    assert_says(page, r"each up_proj: ([\d.]+), ([\d.]+) or none", *[each for each in smoothquant.ALPHAS if each])
    assert_says(page, r"estimated to cost at most ([\d.]+) nats", mixed_precision.INT8_BUDGET)
    assert_says(page, r"(\d+) % of the statistics of all tokens", 100 * gptq.ALL_TOKENS)
    assert_says(page, r"at most ([\d.]+) nats for int8 and ([\d.]+) for int4", KL_BOUNDS["int8"], KL_BOUNDS["int4"])
    assert_says(page, r"int8-share ([\d.]+), the default", settings.int8_share)
    assert settings.int8_share == 1 / 20 and "a twentieth of the weights keeps eight bits" in prose_of(page)
    shown = table(page, "int8", "int4")["inputs that share a scale (float16)"]
    assert [numbers(cell)[0] for cell in shown] == [str(INT8.block), str(INT4.block)]
    assert_says("docs/tensorrt-graph.md", r"int4 one for each block of (\d+) inputs", TENSORRT.int4.block)
    assert_says("docs/graphs.md", r"times ([\d.]+), is 127 steps", MARGIN)
    assert_says("docs/graphs.md", r"the precision's bound \(([\d.]+) in fp32", KL_BOUNDS["fp32"])
    assert_says("docs/changed-model.md", r"routers \(fewer than (\d+) outputs\)", LEAST_OUTPUTS)
    assert_says("CONTRIBUTING.md", r"the bound is (1e-\d) of the largest logit", FP32.logits_rel)
    assert FP32.greedy == 1.0


def test_the_graphs():
    from minimind_edge.export.graph import onnx_file
    from minimind_edge.export.parity.compare import THOROUGH_GREEDY_STEPS
    from minimind_edge.export.plan.request import DEFAULT_CHUNK
    from minimind_edge.export.plan.source import DEFAULT_PRECISION
    from minimind_edge.runtime.ort.environment import FUSED_ATTENTION
    from minimind_edge.runtime.ort.model import CHUNK
    from minimind_edge.runtime.tensorrt.plan import FULL_TENSORRT_ONLY, RTX_CAPABILITIES, RTX_DEFAULT

    newest = ".".join(map(str, FUSED_ATTENTION))
    assert_says("README.md", r"The target ort needs ONNX Runtime ([\d.]+) or newer", newest)
    assert_says("README.zh.md", r"ort 需要 ONNX Runtime ([\d.]+) 或更新", newest)
    assert_says("docs/graphs.md", r"It needs ONNX Runtime (\d+\.\d+)", newest)
    assert_says("docs/graphs.md", r"Past ([\d.]+) GB they go into", onnx_file.INLINE_LIMIT / 1e9)
    assert_says("docs/rtx.md", r"every cached key and value and (\d+) greedy tokens", THOROUGH_GREEDY_STEPS)
    assert CHUNK["tensorrt"] == DEFAULT_CHUNK
    assert_says("docs/rtx.md", r"for each product. Default (\w+)", DEFAULT_PRECISION)
    assert_says("docs/rtx.md", r"A plan is for ([\d., and]+) unless you name others", joined(RTX_DEFAULT))
    named = re.findall(
        r"\| [^|]*?((?:\d+\.\d)(?:[ /,]+\d+\.\d)*) ", table_text("docs/rtx.md", "| GPU | compute capability")
    )
    assert sorted(float(each) for cell in named for each in numbers(cell)) == sorted(
        float(str(each)) for each in (*RTX_CAPABILITIES, *FULL_TENSORRT_ONLY)
    )


def joined(values: object) -> str:
    *most, last = map(str, values)  # type: ignore[call-overload]
    return f"{', '.join(most)} and {last}"


def table_text(page: str, header: str) -> str:
    """The second cells of a table's rows, a line each."""
    lines = text_of(page).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(header))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(f"| {line.split('|')[2].strip()} ")
    return "\n".join(rows)


def test_the_size_of_the_wheel():
    from check_wheel_only import LIMIT_BYTES

    assert f"{LIMIT_BYTES / 1e6:.0f} MB with its dependencies" in prose_of("README.md")
    assert f"共 {LIMIT_BYTES / 1e6:.0f} MB" in prose_of("README.zh.md")


def test_the_versions():
    from minimind_edge.export.bundle.platforms import PYTHONS

    oldest, newest = PYTHONS[0], PYTHONS[-1]
    assert f'requires-python = ">={oldest},<3.{int(newest.split(".")[1]) + 1}"' in text_of("pyproject.toml")
    for page, pattern in {
        "README.md": r"Python ([\d.]+) to ([\d.]+) is supported",
        "README.zh.md": r"支持 Python ([\d.]+) 至 ([\d.]+)",
        "CONTRIBUTING.md": r"It takes Python ([\d.]+) to ([\d.]+) and",
        "docs/bundle.md": r"the device's version, ([\d.]+) to (\d\.\d+)",
    }.items():
        assert_says(page, pattern, oldest, newest)
    tools = {
        "onnxruntime-genai": requirement("onnxruntime-genai", "interop/genai/requirements.in"),
        "optimum-onnx": requirement("optimum-onnx", "interop/optimum/requirements.in"),
        "transformers.js": requirement("@huggingface/transformers", "interop/transformers-js/package.json"),
    }
    header = ("MiniMind2", "MiniMind2 MoE", "MiniMind-3", "MiniMind-3 MoE")
    for page in ("README.md", "README.zh.md", "docs/interop.md"):
        rows = [re.match(r"([\w.-]+?) ([\d.]+)( |$)", name) for name in table(page, *header)]
        shown = {row[1]: row[2] for row in rows if row}
        assert shown == {name: ".".join(version.split(".")[:2]) for name, version in tools.items()}, page
    netron, polygraphy = (requirement(name, "interop/graphs/requirements.in") for name in ("netron", "polygraphy"))
    short = [".".join(version.split(".")[:2]) for version in (netron, polygraphy)]
    assert_says("docs/interop.md", r"Netron ([\d.]+), polygraphy ([\d.]+)", *short)
    peer = json.loads(text_of("benchmarks/results/web.json"))["transformers_js"]["@huggingface/transformers"]
    assert_says("docs/web.md", r"Against transformers.js ([\d.]+) on", peer)


def test_versions_of_onnx_runtime():
    pinned = re.search(r"^onnxruntime==(\d+\.\d+)", text_of("constraints.txt"), re.MULTILINE)[1]
    for page, pattern in {
        "README.md": r"tested with ONNX Runtime 1\.20 to ([\d.]+),",
        "README.zh.md": r"ONNX Runtime 1\.20 至 ([\d.]+)、",
    }.items():
        assert_says(page, pattern, pinned)
    oldest = {
        each
        for each in re.findall(r'"onnxruntime(?:-gpu)?>=([\d.]+)', text_of("pyproject.toml"))
        if tuple(map(int, each.split("."))) < (1, 32)
    }
    assert_says("README.md", r"portable runs on ([\d.]+) or newer", *oldest)
    assert_says("README.zh.md", r"portable 从 ([\d.]+) 起", *oldest)


def test_the_models_of_the_benchmarks():
    from benchmarks.peers.models import MODELS

    shown = table("docs/benchmarks.md", "what it is", first="model")
    assert shown == {name: [model.title] for name, model in MODELS.items()}


def test_the_benchmark_of_servers():
    from benchmarks.serving.load import Load
    from benchmarks.serving.measure import Plan

    plan, page = Plan(), "docs/benchmarks.md"
    assert_says(page, r"a closed loop: (\d+), (\d+) or (\d+) clients", *plan.clients)
    prompt, new = (field_default(Load, name) for name in ("prompt_tokens", "new_tokens"))
    assert_says(page, r"prompts of (\d+) to (\d+) random token ids, answers of (\d+) to (\d+) tokens", *prompt, *new)
    assert_says(page, r"A window of (\d+) s begins ([\d.]+) s after", plan.measure_s, plan.warm_s)
    assert_says(page, r"at once with (\d) threads each", plan.threads)


def field_default(kind: type, name: str) -> tuple[int, int]:
    return kind.__dataclass_fields__[name].default  # type: ignore[attr-defined]


def test_the_demos_questions():
    held_out = json.loads((ROOT / "export" / "demo" / "held_out.json").read_text(encoding="utf-8"))
    page = "examples/train_demo/README.md"
    assert_says(page, r"(\d+) facts in two languages", len(held_out["facts"]))
    told = [
        int(count)
        for count in re.findall(
            r" of (\d+) ", re.search(r"```console\n\$ minimind-export eval.*?```", text_of("README.md"), re.DOTALL)[0]
        )
    ]
    assert_says(
        page,
        r"all (\d+) held-out fact questions, (\d+) sums, and (\d+) stories",
        told[0] + told[1],
        told[2] + told[3],
        told[4],
    )
    assert told[2] + told[3] == len(held_out["sums"])
    assert told[4] + told[5] == len(held_out["stories"])
    tokenizer = json.loads((ROOT / "export" / "demo" / "dense" / "tokenizer.json").read_text(encoding="utf-8"))
    assert_says(page, r"byte-level BPE, (\d+) entries", len(tokenizer["model"]["vocab"]))


def test_the_page_in_the_browser():
    patience = re.search(r"PATIENCE = (\d+);", text_of("page/interface/app/model-client.js"))[1]
    assert_says("docs/web.md", r"within (\d) seconds in any case", int(patience) / 1000)
    patience = re.search(r"PATIENCE = (\d+);", text_of("page/interface/app/loading-view.js"))[1]
    assert_says("docs/web.md", r"no progress for (\d+) seconds", int(patience))
    node = re.search(r'versions.node.split\("."\)\[0\] < (\d+)', text_of("interop/interop.mk").replace('\\"', '"'))[1]
    assert_says("docs/interop.md", r"It needs Node.js (\d+)", node)
