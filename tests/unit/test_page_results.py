"""The figures on the pages are those of the files in benchmarks/results, and the same on every page."""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from typing import Any

import pytest
from claims import assert_says, assert_shows, is_rounded, numbers
from pages import ROOT, table, text_of

sys.path.insert(0, str(ROOT))  # the benchmarks are no part of the installed package

PEERS = "peers-amd-epyc.json"
SPEEDS = {
    "minimind-edge int4, native / stock operators": ["minimind-edge native int4", "minimind-edge int4"],
    "ExecuTorch 8da4w / MNN int4, compiled here": ["ExecuTorch 8da4w", "MNN native int4"],
    "LiteRT-LM int4 / OpenVINO GenAI int4": ["LiteRT-LM int4", "OpenVINO GenAI int4"],
    "onnxruntime-genai int4 / its most accurate": ["onnxruntime-genai int4", "onnxruntime-genai int4-mixed"],
    "llama.cpp Q4_0 / Q4_K_M": ["llama.cpp Q4_0", "llama.cpp Q4_K_M"],
    "minimind-edge int8, native / stock operators": ["minimind-edge native int8", "minimind-edge int8"],
    "MNN int8, compiled here / OpenVINO GenAI int8": ["MNN native int8", "OpenVINO GenAI int8"],
    "onnxruntime-genai int8 / llama.cpp Q8_0": ["onnxruntime-genai int8", "llama.cpp Q8_0"],
    "minimind-edge fp32, native / stock operators": ["minimind-edge native fp32", "minimind-edge fp32"],
    "onnxruntime-genai / llama.cpp fp32": ["onnxruntime-genai fp32", "llama.cpp F32"],
    "optimum / transformers fp32": ["optimum fp32", "transformers fp32"],
}
"""The builds of each row of the README's table of speeds."""


@cache
def result(name: str) -> Any:
    return json.loads(text_of(f"benchmarks/results/{name}"))


@cache
def peers(name: str, model: str) -> dict[str, dict[str, Any]]:
    """The rows of the comparison with the peers, by peer and build."""
    return {f"{row['peer']} {row['build']}": row for row in result(name)["models"][model]["rows"]}


def median(build: str, quantity: str, name: str = PEERS, model: str = "A") -> float:
    return peers(name, model)[build][quantity]["median"]


def divergence(build: str) -> float:
    """The mean KL of a build, 0 where it is float32's own error."""
    name = build.replace("minimind-edge native", "minimind-edge")  # the same artifact
    (kl,) = [row["mean_kl"] for row in result(PEERS)["quality"][0]["rows"] if f"{row['peer']} {row['build']}" == name]
    return kl if kl > 1e-6 else 0.0


def shows_each(cell: str, values: list[float]) -> None:
    """See that a cell shows these values, or one number that all of them are rounded to."""
    if len(numbers(cell)) > 1:
        assert_shows(cell, *values)
    else:
        for value in values:
            assert_shows(cell, value)


def test_the_readmes_speeds():
    rows = table("README.md", "decode tok/s", "prefill tok/s", "disk MB", "mean KL, nats")
    assert list(rows) == list(SPEEDS), "name the builds of the row in SPEEDS"
    for name, (decode, prefill, disk, kl) in rows.items():
        builds = SPEEDS[name]
        assert_shows(decode, *(median(build, "decode_tokens_per_s") for build in builds))
        assert_shows(prefill, *(median(build, "prefill_tokens_per_s") for build in builds))
        shows_each(disk, [median(build, "disk_bytes") / 1e6 for build in builds])
        shows_each(kl, [divergence(build) for build in builds])


def test_the_speeds_in_the_text_of_the_readmes():
    fast = "decode_tokens_per_s"
    ratio = peers(PEERS, "A")["onnxruntime-genai int4"]["ours_to_this"][fast]["median"]
    assert_says("README.md", r"onnxruntime-genai's: ([\d.]+) in the median round", ratio)
    assert_says("README.zh.md", r"各轮比值的中位数为 ([\d.]+)", ratio)
    builds = ("minimind-edge native int4", "ExecuTorch 8da4w", "onnxruntime-genai int4", "llama.cpp Q4_0")
    assert_says(
        "README.zh.md",
        r"int4 解码 (\d+) tokens/s （ExecuTorch (\d+)，onnxruntime-genai int4 (\d+)，llama.cpp Q4_0 (\d+)），"
        r"KL ([\d.]+)（([\d.]+)，([\d.]+)，([\d.]+)）",
        *(median(build, fast) for build in builds),
        *map(divergence, builds),
    )
    builds = ("minimind-edge native int8", "onnxruntime-genai int8", "llama.cpp Q8_0")
    pattern = r"int8 (\d+)（onnxruntime-genai (\d+)，Q8_0 (\d+)）"
    assert_says("README.zh.md", pattern, *(median(build, fast) for build in builds))
    builds = ("minimind-edge native fp32", "onnxruntime-genai fp32", "llama.cpp F32")
    assert_says("README.zh.md", r"fp32 (\d+)（(\d+)，(\d+)）", *(median(build, fast) for build in builds))
    builds = ("minimind-edge native int4", "OpenVINO GenAI int4")
    prefill = [median(build, "prefill_tokens_per_s") for build in builds]
    assert_says("README.zh.md", r"int4 预填充 (\d+)（OpenVINO (\d+)）", *prefill)


def test_the_conditions_of_the_comparison():
    from benchmarks.peers.measure import Plan

    plan = Plan()
    assert_says("README.md", r"medians of (\d+) interleaved rounds", plan.rounds)
    assert result(PEERS)["plan"]["rounds"] == plan.rounds
    page = "docs/benchmarks.md"
    assert_says(
        page,
        r"decode \| (\d+) tokens after a prompt of (\d+), greedy, batch 1, (\d+) threads",
        plan.new_tokens,
        plan.prompt_tokens,
        plan.threads,
    )
    assert_says(page, r"a prompt of (\d+) up to its first token", plan.prefill_tokens)
    assert_says(page, r"first token after a prompt of (\d+), imports", plan.short_prompt)
    assert_says(page, r"a generation of (\d+) \+ (\d+)", plan.prompt_tokens, plan.new_tokens)
    assert_says(page, r"a pause of ([\d.]+) s before each", plan.pause_s)


@pytest.mark.parametrize(
    "folder",
    ["", "one-thread/", "larger-models/", "long-context/", "long-context-b/", "model-b/"],
)
def test_the_report_is_made_of_its_json(folder):
    from benchmarks.peers.contenders import PEERS as KNOWN
    from benchmarks.peers.contenders import contenders
    from benchmarks.peers.report import QUANTITIES, speed_table
    from benchmarks.peers.row import Row

    by_name = {f"{each.peer.name} {each.build}": each for each in contenders(list(KNOWN))}
    content, report = result(f"{folder}{PEERS}"), text_of(f"benchmarks/results/{folder}peers-amd-epyc.md")
    for name, model in content["models"].items():
        assert f"## {name}: {model['title']}" in report
        rows = []
        for found in model["rows"]:
            measured = {each: found[each]["rounds"] for each in QUANTITIES if found.get(each)}
            rows.append(Row(by_name[f"{found['peer']} {found['build']}"], values=measured))
        kl = {row.contender.name: row_kl for row in rows if (row_kl := kl_of(content, row.contender)) is not None}
        assert speed_table(rows, kl) in report


def kl_of(content: Any, contender: Any) -> float | None:
    found = (row for row in content["quality"][0]["rows"]) if content["quality"] else ()
    return next(
        (row.get("mean_kl") for row in found if (row["peer"], row["build"]) == (contender.peer.name, contender.build)),
        None,
    )


def test_the_start_and_memory_in_the_benchmark():
    builds = ("minimind-edge int4", "bare onnxruntime int4")
    first = [median(build, "first_token_s") for build in builds]
    memory = [median(build, "peak_rss_bytes") / 1e6 for build in builds]
    assert_says(
        "docs/runtime.md",
        r"([\d.]+) s against ([\d.]+) s of the bare loop, peak memory (\d+) MB against (\d+), for ([\d.]+) MB on disk",
        *first,
        *memory,
        median("minimind-edge int4", "disk_bytes") / 1e6,
    )


LEADS = {
    "A": ("A", dict.fromkeys(("int4", "int8", "fp32"), "")),
    "A, one thread": ("A", {"int4": "one-thread"}),
    "A, after 1,024": ("A", {"int4": "long-context"}),
    "B": ("B", dict.fromkeys(("int4", "int8", "fp32"), "model-b")),
    "B, after 1,024": ("B", {"int4": "long-context-b"}),
    "C": ("C", dict.fromkeys(("int4", "int8", "fp32"), "larger-models")),
    "C, after 1,024": ("C", {"int4": "long-context"}),
    "D": ("D", dict.fromkeys(("int4", "int8", "fp32"), "larger-models")),
}
"""The rows of the table of ratios: the model, and the folder of results of each precision."""


OURS = ("minimind-edge", "bare onnxruntime")
"""The first words of the rows that run this project's graphs: they are no peers."""


def least_ratio(folder: str, model: str, precision: str, ratios: str, quantity: str) -> tuple[float, str]:
    """The lowest ratio to a peer's build, and the name of that build."""
    rows = peers(f"{folder}/{PEERS}".lstrip("/"), model)
    return min(
        (row[ratios][quantity]["median"], name)
        for name, row in rows.items()
        if row.get("compared_with") == precision and quantity in row.get(ratios, {}) and not name.startswith(OURS)
    )


def test_the_ratios_to_the_fastest_peer():
    shown = table(
        "docs/benchmarks.md", "decode, stock", "decode, native", "to", "prefill, stock", "prefill, native", "to"
    )
    expected = [f"{name}, {precision}" for name, (_, folders) in LEADS.items() for precision in folders]
    assert list(shown) == expected
    for name, (model, folders) in LEADS.items():
        for precision, folder in folders.items():
            cells = shown[f"{name}, {precision}"]
            for quantity, part in (("decode", cells[:3]), ("prefill", cells[3:])):
                if not any(part):
                    continue
                measured = f"{quantity}_tokens_per_s"
                stock, _ = least_ratio(folder, model, precision, "ours_to_this", measured)
                native, peer = least_ratio(folder, model, precision, "native_to_this", measured)
                assert_shows(part[0], stock)
                assert_shows(part[1], native)
                assert part[2] == peer, name


def test_the_leads_in_the_readmes():
    fast, prompts = "decode_tokens_per_s", "prefill_tokens_per_s"

    def leads(folder: str, *quantities: str) -> dict[str, list[float | str]]:
        """The ratios with each kind of operators, each with the peer that it is to."""
        return {
            ratios: [part for each in quantities for part in least_ratio(folder, "A", "int4", ratios, each)]
            for ratios in ("native_to_this", "ours_to_this")
        }

    both, one = leads("", fast, prompts), leads("one-thread", fast)
    values = (*both["native_to_this"], *both["ours_to_this"], *one["native_to_this"], *one["ours_to_this"])
    english = (
        r"decodes at ([\d.]+) times the speed of the fastest peer \(([^)]+)\) and takes prompts at ([\d.]+) times the "
        r"speed of the fastest one \(([^)]+)\); with ONNX Runtime's own, at ([\d.]+) \(([^)]+)\) and ([\d.]+) "
        r"\(([^)]+)\)\. With one thread it decodes at ([\d.]+) times the speed of the fastest peer \(([^)]+)\), and at "
        r"([\d.]+) \(([^)]+)\) without native operators"
    )
    chinese = (
        r"解码是最快的同类（([^）]+)）的 ([\d.]+) 倍，"
        r"预填充是最快的同类（([^）]+)）的 ([\d.]+) 倍；"
        r"使用自带算子时分别为 ([\d.]+) 倍（([^）]+)）和 ([\d.]+) 倍（([^）]+)）。 "
        r"单线程解码是最快的同类（([^）]+)）的 ([\d.]+) 倍，使用自带算子时为 ([\d.]+) 倍（([^）]+)）"
    )
    assert_says("README.md", english, *values)
    names_first = (1, 0, 3, 2, 4, 5, 6, 7, 9, 8, 10, 11)
    assert_says("README.zh.md", chinese, *(values[index] for index in names_first))
    gain = peers(PEERS, "A")["minimind-edge int4"]["native_to_this"][fast]["median"]
    assert_says("docs/graphs.md", r"([\d.]+) times the speed of stock operators for model A in int4", gain)
    builds = [
        peers(f"{folders['int4']}/{PEERS}".lstrip("/"), model)["minimind-edge int4"]["native_to_this"]
        for name, (model, folders) in LEADS.items()
        if name == model
    ]
    gains = [build[fast]["median"] for build in builds]
    for page, pattern in (
        ("README.md", r"in int4 with two threads ([\d.]+) to ([\d.]+) times, by model"),
        ("README.zh.md", r"两线程 int4 解码速度为 ([\d.]+) 至 ([\d.]+) 倍"),
        ("CHANGELOG.md", r"in int4 with two threads ([\d.]+) to ([\d.]+) times as fast, by model"),
    ):
        assert_says(page, pattern, min(gains), max(gains))
    gains = [build[prompts]["median"] for build in builds]
    assert_says("CHANGELOG.md", r"by model, and prompts ([\d.]+) to ([\d.]+) times", min(gains), max(gains))


def test_the_mixture_of_experts_against_llama_cpp():
    builds = ("minimind-edge int8", "llama.cpp Q8_0", "minimind-edge int4", "llama.cpp Q4_0", "llama.cpp Q4_K_M")
    name, page = f"larger-models/{PEERS}", "docs/graphs.md"
    values = [median(build, "decode_tokens_per_s", name, "D") for build in builds]
    pattern = r"(\d+) tokens/s in int8 against (\d+) of Q8_0, (\d+) in int4 against (\d+) of Q4_0 and (\d+) of Q4_K_M"
    assert_says(page, pattern, *values)
    builds = ("minimind-edge fp32", "llama.cpp F32")
    values = [median(build, "decode_tokens_per_s", name, "D") for build in builds]
    assert_says(page, r"in float32 it is (\d+) against (\d+)", *values)
    ratios = [
        row["ours_to_this"]["prefill_tokens_per_s"]["median"]
        for build, row in peers(name, "D").items()
        if build in {"llama.cpp Q8_0", "llama.cpp Q4_0", "llama.cpp Q4_K_M"}
    ]
    assert_says(page, r"prompts ([\d.]+) to ([\d.]+) times as fast", min(ratios), max(ratios))


def test_the_gain_of_speculative_decoding():
    rows = {(row["precision"], row["case"]): row for row in result("speculation.json")["rows"]}
    shown = table("docs/runtime.md", "fp32", "tokens", "int8, `--speculate`", "tokens")
    assert {(precision, case) for case in shown for precision in ("fp32", "int8")} == set(rows)
    for case, cells in shown.items():
        for precision, gain, tokens in (("fp32", *cells[:2]), ("int8", *cells[2:])):
            row = rows[precision, case]
            assert_shows(gain.replace("-", " "), row["speed_up"], *row["speed_up_range"])
            assert (tokens == "the same") == row["same_tokens"]
    gains = [row["speed_up"] for (precision, case), row in rows.items() if precision == "fp32" and "random" not in case]
    for page, pattern in (
        ("README.md", r"([\d.]+) to ([\d.]+) times as fast in float32"),
        ("README.zh.md", r"([\d.]+) 到 ([\d.]+) 倍"),
    ):
        assert_says(page, pattern, min(gains), max(gains))


def test_the_page_against_transformers_js():
    names = {
        "demo (2.8M), fp32": ("full_sft_256.pth", "fp32"),
        "26M, fp32": ("full_sft_512.pth", "fp32"),
        "26M, fp16": ("full_sft_512.pth", "fp16"),
        "26M, int8 (`q8`)": ("full_sft_512.pth", "int8"),
        "26M, int4 (`q4`)": ("full_sft_512.pth", "int4"),
    }
    rows = {(row["checkpoint"], row["precision"]): row for row in result("web.json")["rows"]}
    shown = table("docs/web.md", "the page, tokens/s", "transformers.js, tokens/s", "median of the rounds' ratios")
    assert list(shown) == list(names)
    for name, cells in shown.items():
        row = rows[names[name]]
        spreads = (*row["decode_tokens_per_s"].values(), row["ours_over_transformers_js"])
        for cell, spread in zip(cells, spreads, strict=True):
            assert_shows(cell, spread["median"], spread["min"], spread["max"])
        assert row["same_tokens"]
    sizes = table("docs/web.md", "graph", "whole site", "a browser loads (WebAssembly)")
    measured = [rows[key] for key in names.values() if key[1] != "fp16"]
    quantities = ("graph_bytes", "site_bytes", "download_bytes")
    for cell, quantity in zip(sizes["26M, fp32 / int8 / int4"], quantities, strict=True):
        assert_shows(cell, *(row[quantity] / 1e6 for row in measured[1:]))
    for cell, quantity in zip(sizes["demo, fp32 / int8 / int4"], quantities, strict=True):
        assert is_rounded(numbers(cell)[0], measured[0][quantity] / 1e6)
    int4 = rows["full_sft_512.pth", "int4"]["load_s"]
    assert_says("docs/web.md", r"took ([\d.]+) s \(transformers.js: ([\d.]+) s\)", int4["ours"], int4["peer"])


def test_quantized_smollm2():
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in result("quantization.json"):
        rows.setdefault(row["variant"], []).append(row)
    shown = table("docs/quantization.md", "file", "mean KL, nats", "top-1", "perplexity (float32: 19.28 / 13.97)")
    names = {
        "int8": "int8",
        "int4, int8 share 0.05": "int4, `--int8-share 0.05`, the default",
        "int4, int8 share 0.28": "int4, `--int8-share 0.28`",
    }
    assert set(rows) == set(names)
    for variant, both in rows.items():
        file, kl, top1, perplexity = shown[names[variant]]
        assert_shows(file, both[0]["bytes"] / 1e6)
        assert_shows(kl, *(row["mean_kl"] for row in both))
        assert_shows(top1, *(100 * row["top1_agreement"] for row in both))
        assert_shows(perplexity, *(row["perplexity"] for row in both))
        assert [round(row["reference_perplexity"], 2) for row in both] == [19.28, 13.97]
    seconds = [both[0]["seconds"] for both in rows.values()]
    assert_says("docs/quantization.md", r"Rounding took (\d+) s and (\d+) to (\d+) s", *seconds)


def test_the_time_and_size_of_written_and_traced_graphs():
    page = "docs/graphs.md"
    lines = text_of("benchmarks/results/graph_build.txt").splitlines()
    rows = {
        tuple(line.split()[:2]): [float(word) for word in line.split()[2:]]
        for line in lines
        if re.match(r"dense |moe ", line)
    }
    shown = table(page, "graph", "file", "memory over the model's", "nodes")
    ways = {"written: `ort` / `portable`": ("ort", "portable"), "traced": ("torch",)}
    for label, kind in (("dense 26M", "dense"), ("MoE 145M", "moe")):
        for way, keys in ways.items():
            found = [rows[kind, key] for key in keys]
            for cell, values in zip(shown[f"{label}, {way}"], zip(*found, strict=True), strict=True):
                assert_shows(cell, *values)


def test_the_speed_of_graphs_on_one_thread():
    text = text_of("benchmarks/results/graph_speed.txt")
    found = re.findall(r"^(\w+)\S* +decode at 256 +([\d.]+) .*? us +prefill of 512 +([\d.]+)", text, re.MULTILINE)
    rows = {name: (float(step) / 1e3, float(prefill)) for name, step, prefill in found}
    shown = table("docs/graphs.md", "decode step at 256", "prefill of 512")
    for name, keys in {
        "dense 26M: `portable` fp32 / fp16": ("dense_portable", "dense_portable_fp16"),
        "dense 26M: `ort` fp32": ("dense_ort",),
        "dense 26M: traced": ("dense_torch",),
        "MoE 145M: `portable` fp32": ("moe_portable",),
        "MoE 145M: `ort` fp32": ("moe_ort",),
    }.items():
        for cell, values in zip(shown[name], zip(*(rows[key] for key in keys), strict=True), strict=True):
            assert_shows(cell, *values)


def test_the_demos_quality_is_the_same_on_every_page():
    page = "docs/quantization.md"
    shown = table(
        page, "bits per weight", "mean KL, nats", "top-1", "facts en / zh", "topic copy en / zh", "perplexity"
    )
    bits, kl, _, facts, _, _ = shown["dense, int4"]
    english, chinese = numbers(facts)
    for readme, pattern in (
        (
            "README.md",
            r"takes ([\d.]+) bits per weight, knows ([\d.]+) % \(English\) and ([\d.]+) % \(Chinese\) of its facts, "
            r"and its mean KL divergence from float32 is ([\d.]+) nats",
        ),
        (
            "README.zh.md",
            r"占 ([\d.]+) 比特，事实题正确率为 ([\d.]+) %（英文）和 ([\d.]+) % （中文），"
            r"与 float32 的平均 KL 散度为 ([\d.]+) nats",
        ),
    ):
        assert_says(readme, pattern, float(bits), float(english), float(chinese), float(kl))
    results = table(
        "examples/train_demo/README.md", "dense, English", "dense, Chinese", "MoE, English", "MoE, Chinese", "aim"
    )
    for label, column in (("facts, exact", 3), ("topic copy, both named", 4)):
        both = [number for row in ("dense, float32", "MoE, float32") for number in numbers(shown[row][column])]
        assert [numbers(cell)[0] for cell in results[label][:4]] == both
    losses = [float(shown[row][5]) for row in ("dense, float32", "MoE, float32")]
    assert_says("examples/train_demo/README.md", r"stories included: ([\d.]+) dense, ([\d.]+) MoE", *losses)
    assert f"{shown['dense, float32'][5]}\n" in text_of("README.md")


def test_the_sizes_of_plans_are_the_same_on_both_pages():
    shown = table("docs/rtx.md", "weights", "plan, five compute capabilities", "plan, 8.6 alone")
    graphs = table("docs/tensorrt-graph.md", "graph", "plan", "build")
    for name, precision in (
        ("MiniMind2-small, 26 M, fp32", "fp32"),
        ("26 M, fp16 and bf16", "fp16"),
        ("26 M, fp16 and bf16", "bf16"),
        ("26 M, int8", "int8"),
        ("26 M, int4", "int4"),
    ):
        both = (float(numbers(cell)[0]) for cell in (shown[name][2], graphs[precision][1]))
        assert abs(next(both) - next(both)) < 0.15, name  # they are of two builds
    for row in shown.values():
        weights = float(numbers(row[0])[0])
        for size, ratio in (numbers(cell) for cell in row[1:] if cell):
            assert float(size) / weights == pytest.approx(float(ratio), abs=0.007)  # the sizes are rounded
