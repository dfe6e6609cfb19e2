"""The cost of making a graph, ours against PyTorch's exporter: seconds, and memory in addition to the model's.

    python benchmarks/graph_build.py [--models dense,moe] [--ways ort,portable,torch] [--keep FOLDER]

Each measurement is a process of its own; the exporter's imports count, the model's do not. `torch` is
`torch.onnx.export(dynamo=True)` of the model as it is, with the cache as flat inputs and outputs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS = {
    "dense": "26M: 512 wide, 8 layers",
    "moe": "145M: 640 wide, 8 layers of 4 experts and a shared one",
}


def main() -> None:
    """Measure, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="dense,moe")
    parser.add_argument("--ways", default="ort,portable,torch")
    parser.add_argument("--keep", type=Path, help="folder to leave the graphs in")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "WAY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(*arguments.one, arguments.keep or Path(folder))))
        return
    print(f"{'model':8}{'way':10}{'graph s':>10}{'file s':>10}{'MiB over the model':>20}{'nodes':>8}")
    for model in arguments.models.split(","):
        for way in arguments.ways.split(","):
            command = [sys.executable, __file__, "--one", model, way]
            command += ["--keep", str(arguments.keep)] if arguments.keep else []
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            row = json.loads(result.stdout.splitlines()[-1])
            print(
                f"{model:8}{way:10}{row['graph']:10.2f}{row['file']:10.2f}{row['memory']:20.0f}{row['nodes']:8}",
                flush=True,
            )
    for model, text in MODELS.items():
        print(f"{model}: {text}")


def measure(kind: str, way: str, folder: Path) -> dict[str, float]:
    """Make one graph in this process and write it into a folder."""
    model = make_model(kind)
    base, start = peak_mib(), time.perf_counter()
    graph = by_torch(model) if way == "torch" else by_us(model, way)
    made = time.perf_counter()
    path = folder / f"{kind}_{way}.onnx"
    if way == "torch":
        graph.save(path)
    else:
        from minimind_edge.export.graph import save_graph

        save_graph(graph, path)
    saved = time.perf_counter()
    nodes = len(graph.model.graph if way == "torch" else graph.graph)
    return {
        "graph": made - start,
        "file": saved - made,
        "memory": peak_mib() - base,
        "nodes": nodes,
    }


def make_model(kind: str):
    """A model with fresh weights."""
    from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

    fields = {"hidden_size": 640, "use_moe": True} if kind == "moe" else {}
    return MiniMindForCausalLM(MiniMindConfig(**fields)).eval()


def by_us(model, target: str):
    """The graph that this project writes."""
    from minimind_edge.export.graph import build_graph

    return build_graph(model, target, "fp32", 8192)


def by_torch(model):
    """The graph of the same interface that PyTorch's exporter traces."""
    import torch

    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, position_ids, past):
            pairs = list(zip(past[::2], past[1::2], strict=True))
            output = self.model(input_ids, attention_mask, position_ids, pairs, use_cache=True)
            return output.logits, *(tensor for pair in output.past_key_values for tensor in pair)

    config, free = model.config, torch.export.Dim.DYNAMIC
    shape, ids = {0: free, 1: free}, torch.ones(2, 3, dtype=torch.int64)
    cache = torch.zeros(2, config.num_key_value_heads, 4, config.head_dim)
    past = [cache] * (2 * config.num_hidden_layers)
    return torch.onnx.export(
        Flat(),
        (ids, torch.ones(2, 7, dtype=torch.int64), ids, past),
        dynamo=True,
        verbose=False,
        input_names=["input_ids", "attention_mask", "position_ids", *cache_names("past_key_values", config)],
        output_names=["logits", *cache_names("present", config)],
        dynamic_shapes=(shape, shape, shape, [{0: free, 2: free}] * len(past)),
    )


def cache_names(prefix: str, config) -> list[str]:
    """Names of the cached tensors."""
    return [f"{prefix}.{layer}.{part}" for layer in range(config.num_hidden_layers) for part in ("key", "value")]


def peak_mib() -> float:
    """The peak memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
