"""The `README.md` of an artifact: a description of the model, and how each tool runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minimind_edge.minimind.config import MiniMindConfig

from .loading_tools import GENAI, OPTIMUM, TRANSFORMERS_JS, has_own_head_dim, has_stock_type, loads_in
from .manifest import kv_cache_of
from .model_card_snippets import GENAI_SNIPPET, OPTIMUM_SNIPPETS, RUN_SNIPPET, TRANSFORMERS_JS_SNIPPETS

MODEL_CARD = "README.md"

NAMES = {"minimind2": "MiniMind2", "minimind3": "MiniMind-3"}
DTYPES = {"fp32": "fp32", "fp16": "fp16", "int8": "q8", "int4": "q4"}
"""The precisions by the names that transformers.js gives them (its `dtype`)."""

FRONT_MATTER = """\
---
pipeline_tag: text-generation
tags:
- minimind
- onnx
---
"""
NO_STOCK_TYPE = (
    "transformers has no model type with MiniMind2's shared experts. Told to take the folder for a Llama, whose inputs "
    "and outputs are the same, it runs it."
)
OWN_HEAD_DIM = (
    "optimum-onnx takes heads to be `hidden_size / num_attention_heads` wide, which this model's are not: hence the "
    "line with `embed_size_per_head`."
)
NOT_TRANSFORMERS_JS = (
    "Not by transformers.js: its ONNX Runtime is older than this graph's operators. Export with `--target portable`."
)


def write_model_card(
    folder: Path, name: str, config: MiniMindConfig, manifest: dict[str, Any], *, is_chat: bool
) -> None:
    """Write the card into an artifact folder, replacing one (never writing through a hard link).

    Args:
        folder: The folder that the card is written into, which is renamed later.
        name: The folder's final name.
        config: The architecture.
        manifest: The content of `manifest.json`.
        is_chat: Whether the artifact has a chat template, which the examples for other tools need.
    """
    path = folder / MODEL_CARD
    path.unlink(missing_ok=True)
    sections = [_introduction(config, manifest), _graphs(config, manifest)]
    if is_chat:
        sections += _usage(name, config, manifest)
    path.write_text(FRONT_MATTER + "\n" + "\n\n".join(sections) + "\n", encoding="utf-8")


def _introduction(config: MiniMindConfig, manifest: dict[str, Any]) -> str:
    checkpoint, parameters = manifest["checkpoint"], manifest["architecture"]["parameters"]
    size = f"{parameters['total'] / 1e6:.1f}M parameters"
    if config.use_moe:
        size += f", {parameters['active'] / 1e6:.1f}M of them active"
    return (
        f"# {NAMES[config.generation]}{' MoE' if config.use_moe else ''}, {size}\n\n"
        f"Exported from `{checkpoint['file']}` (sha256 `{checkpoint['sha256'][:12]}…`) by minimind-edge "
        f"{manifest['tool']['version']}. Context: {manifest['graphs'][0]['max_length']:,} tokens. "
        "`manifest.json` has the architecture and the parity report of each graph."
    )


def _graphs(config: MiniMindConfig, manifest: dict[str, Any]) -> str:
    rows = ["| graph | target | precision | size | same as PyTorch | loads in |", "|---|---|---|---|---|---|"]
    for graph in manifest["graphs"]:
        cache = kv_cache_of(graph)
        tools = ", ".join(loads_in(config, graph["target"], graph["precision"], cache))
        precision = graph["precision"] if cache == "float" else f"{graph['precision']}, {cache} cache"
        rows.append(
            f"| `{graph['file']}` | {graph['target']} | {precision} | {graph['bytes'] / 1e6:.1f} MB "
            f"| {_parity(graph['parity'])} | {tools} |"
        )
    return "\n".join(rows)


def _parity(report: dict[str, Any] | None) -> str:
    if report is None:
        return "not compared"
    greedy = report["greedy"]
    return f"greedy {greedy['equal']}/{greedy['total']}, mean KL {report['logits']['mean_kl']:.1e} nats"


def _usage(name: str, config: MiniMindConfig, manifest: dict[str, Any]) -> list[str]:
    default = manifest["graphs"][0]
    is_own = has_own_head_dim(config)
    fields = {
        "name": name,
        "graph": Path(default["file"]).name,
        "dtype": DTYPES.get(default["precision"], ""),
        "head_dim": "model.embed_size_per_head = model.config.head_dim\n" if is_own else "",
    }
    sections = [_section("minimind-run", RUN_SNIPPET, fields)]
    if default["target"] == "tensorrt":
        return sections
    kind = "stock" if has_stock_type(config) else "as llama"
    hint = "" if has_stock_type(config) else NO_STOCK_TYPE
    sections.append(_section(GENAI, GENAI_SNIPPET, fields))
    if kv_cache_of(default) == "int8":
        return [*sections, NOT_TRANSFORMERS_JS]
    sections += [
        _section(OPTIMUM, OPTIMUM_SNIPPETS[kind], fields, " ".join(filter(None, [hint, OWN_HEAD_DIM * is_own]))),
    ]
    if default["target"] == "portable":
        return [*sections, _section(TRANSFORMERS_JS, TRANSFORMERS_JS_SNIPPETS[kind], fields, hint)]
    return [*sections, NOT_TRANSFORMERS_JS]


def _section(tool: str, snippet: str, fields: dict[str, str], hint: str = "") -> str:
    for field, value in fields.items():
        snippet = snippet.replace(f"<{field}>", value)
    return f"## {tool}\n\n" + (f"{hint}\n\n" if hint else "") + snippet.strip()
