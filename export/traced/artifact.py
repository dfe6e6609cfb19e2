"""The files of an artifact whose graph was traced: manifest, configs and card of a changed model."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from minimind_edge.runtime.artifact.manifest import FORMAT, MANIFEST, Manifest

from ..artifact.hf_config import generation_config
from ..artifact.json_file import write_json
from ..artifact.loading_tools import RUN
from ..artifact.manifest import TOOL, TOOLS
from ..artifact.model_card import FRONT_MATTER
from .code import OwnCode
from .owner import OwnersModel

GENERATION = "traced"
"""The generation of a changed model in the manifest, where a stock model has `minimind2` or `minimind3`."""

LOADS_IN = {"portable": (RUN,), "tensorrt": (RUN,)}
"""The tools that were tried with traced graphs; tools that look at `model_type` know no changed model."""

CARD = """
# {name}, {size:.1f}M parameters

Traced by minimind-edge {tool} from `{code}`, a model's own code, with the weights of `{checkpoint}` (sha256
`{sha256}…`). Context: {length:,} tokens. It is not stock MiniMind: tools that go by `model_type` do not know it.
`manifest.json` has the parity report of each graph, against that very code.

{rows}

## minimind-run

```sh
minimind-run --engine {folder} --ids 1,2,3
```
"""


def describe(own: OwnersModel, code: OwnCode) -> dict[str, Any]:
    """The manifest's `config` of a changed model, by which two changed models are told apart."""
    facts = own.facts
    return {
        "model": str(code),
        "code_sha256": code.sha256,
        "vocab_size": facts.vocab_size,
        "hidden_size": facts.hidden_size,
        "num_hidden_layers": facts.num_hidden_layers,
        "num_attention_heads": facts.num_attention_heads,
        "num_key_value_heads": facts.num_key_value_heads,
        "head_dim": facts.head_dim,
        "max_position_embeddings": facts.max_position_embeddings,
    }


def traced_manifest(
    own: OwnersModel, code: OwnCode, checkpoint: str, sha256: str, graphs: list[dict[str, Any]]
) -> dict[str, Any]:
    """The content of `manifest.json`.

    Args:
        own: The changed model.
        code: The model's code.
        checkpoint: The name of the checkpoint's file, or of the model's class.
        sha256: The hex digest of the weights.
        graphs: The `graph_entry` of each graph.
    """
    config = describe(own, code)
    sizes = {name: value for name, value in config.items() if name not in ("model", "code_sha256")}
    content = {
        "format": FORMAT,
        "tool": {"name": TOOL, "version": version(TOOL)},
        "checkpoint": {"file": checkpoint, "sha256": sha256, "generation": GENERATION, "lora": []},
        "traced": code.to_json(),
        "architecture": {"generation": GENERATION, "class": code.name, **sizes}
        | {"parameters": {"total": own.facts.parameters, "active": own.facts.parameters}},
        "config": config,
        "graphs": [graph | {"loads_in": list(LOADS_IN[graph["target"]])} for graph in graphs],
        "default_graph": graphs[0]["file"],
        "versions": {name: found for name in (*TOOLS, "onnxscript") if (found := _installed(name))},
    }
    Manifest.parse(content, MANIFEST)
    return content


def write_files(
    stage: Path, name: str, own: OwnersModel, code: OwnCode, *, checkpoint: Path | None, content: dict[str, Any]
) -> None:
    """Write every JSON file of the folder, and its card.

    Args:
        stage: The folder to write into, which is renamed later.
        name: The folder's final name.
        own: The changed model.
        code: The model's code.
        checkpoint: The checkpoint's folder, which may hold a generation config; None where there is no file.
        content: The content of the manifest.
    """
    facts, default = cast("Any", own.facts), content["graphs"][0]
    generation = generation_config(facts, checkpoint, default["max_length"])
    sizes = {name: value for name, value in content["config"].items() if name not in ("model", "code_sha256")}
    ids = {key: generation[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    # A model type of its own: no tool shall take the model for one that it knows.
    write_json(stage / "config.json", {"architectures": [code.name], "model_type": "minimind_traced", **sizes, **ids})
    write_json(stage / "generation_config.json", generation)
    write_json(stage / MANIFEST, content)
    card = stage / "README.md"
    card.unlink(missing_ok=True)
    rows = ["| graph | target | precision | size |", "|---|---|---|---|"]
    rows += [
        f"| `{graph['file']}` | {graph['target']} | {graph['precision']} | {graph['bytes'] / 1e6:.1f} MB |"
        for graph in content["graphs"]
    ]
    text = FRONT_MATTER + CARD.format(
        name=code.name,
        size=own.facts.parameters / 1e6,
        tool=content["tool"]["version"],
        code=code,
        checkpoint=content["checkpoint"]["file"],
        sha256=content["checkpoint"]["sha256"][:12],
        length=default["max_length"],
        rows="\n".join(rows),
        folder=name,
    )
    card.write_text(text, encoding="utf-8")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
