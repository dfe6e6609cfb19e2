"""Readers of what native code reads: weights, adapters and graphs."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from . import good_files as good
from .mutation import mutated_bytes, mutated_json
from .promise import fault_of
from .readers import Reader, refill

Files = dict[str, bytes]

TENSORS = {
    "model.embed_tokens.weight": (20, 16),
    "model.norm.weight": (16,),
    "lm_head.weight": (20, 16),
    "model.layers.0.self_attn.q_proj.weight": (16, 16),
    "model.layers.0.self_attn.k_proj.weight": (4, 16),
    "model.layers.0.self_attn.v_proj.weight": (4, 16),
    "model.layers.0.self_attn.o_proj.weight": (16, 16),
    "model.layers.0.input_layernorm.weight": (16,),
    "model.layers.0.post_attention_layernorm.weight": (16,),
    "model.layers.0.mlp.gate_proj.weight": (24, 16),
    "model.layers.0.mlp.up_proj.weight": (24, 16),
    "model.layers.0.mlp.down_proj.weight": (16, 24),
}
"""A MiniMind2 of one layer, 8 query heads and 2 key heads of width 2."""

PAIRS = {f"model.layers.0.self_attn.q_proj.lora.{part}.weight": (2, 16)[:: 1 if part == "A" else -1] for part in "AB"}
PEFT = {
    f"base_model.model.model.layers.0.self_attn.q_proj.lora_{part}.weight": PAIRS[name]
    for part, name in zip("AB", PAIRS, strict=True)
}


def odd_tensor(random: Random, shape: tuple[int, ...]) -> Any:
    """A tensor of another dtype, layout, device, stride, shape or with other values than expected."""
    import torch

    rows, columns = (*shape, 1)[:2]
    kinds = (
        lambda: torch.ones(shape, dtype=random.choice(dtypes())),
        lambda: torch.empty(shape, device="meta"),
        lambda: torch.ones(1).expand(random.choice((shape, (10**6, 10**6), (2**40,)))),
        lambda: torch.zeros(rows, columns).to_sparse(),
        lambda: torch.sparse_csr_tensor(
            torch.tensor([0, *[1] * (rows - 1), random.choice((1, 10**9, -5))]),
            torch.tensor([random.choice((0, 10**8, -1))]),
            torch.ones(1),
            size=(rows, columns),
            check_invariants=False,
        ),
        lambda: torch.sparse_coo_tensor(
            torch.tensor([[random.choice((0, 10**9))], [0]]),
            torch.ones(1),
            size=(rows, columns),
            check_invariants=False,
        ),
        lambda: torch.ones(random.choice(((), (0,), (1,), (16, 0), shape[::-1], (*shape, 1), (1,) * 40))),
        lambda: torch.full(shape, random.choice((float("nan"), float("inf"), 3e38, 1e-45))),
        lambda: torch.ones(shape).t() if len(shape) == 2 else torch.ones(shape),
        lambda: torch.ones(400).as_strided(shape, (random.choice((0, 1, 7)),) * len(shape)),
        lambda: torch.nn.Parameter(torch.ones(shape)),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        lambda: torch.quantize_per_tensor(torch.ones(shape), 0.1, 0, torch.qint8),
        lambda: random.choice((None, 1, "text", b"bytes", [1.0], {"a": torch.ones(1)}, 2**100)),
    )
    return random.choice(kinds)()


def dtypes() -> tuple[Any, ...]:
    """Every dtype that tensors of ones have."""
    import torch

    return (
        *(torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int64, torch.bool),
        *(torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.int32),
    )


def state(random: Random, shapes: dict[str, tuple[int, ...]], most: int) -> dict[Any, Any]:
    """A state dict with up to `most` entries that are odd, missing, surplus or renamed."""
    import torch

    made: dict[Any, Any] = {name: torch.full(shape, 0.1) for name, shape in shapes.items()}
    for _ in range(random.randint(0, most)):
        name = random.choice(list(shapes))
        kind = random.randrange(5)
        if kind < 3:
            made[name] = odd_tensor(random, shapes[name])
        elif kind == 3:
            made.pop(name, None)
        else:
            names = (
                7,
                None,
                "",
                "\0",
                "n" * 5000,
                "\x1b[31m\n",
                "model.layers.999999.x",
                "layers.0.attention.wq.weight",
            )
            made[random.choice((*names, name + ".weight", "model.layers.-1.mlp.gate.weight"))] = torch.ones(2, 2)
    return made


def saved(random: Random, content: Any) -> bytes:
    """What `torch.save` writes, in either of its formats; wrapped as trainers wrap it, now and then."""
    import torch

    for _ in range(random.choice((0,) * 12 + (1, 1, 3))):
        content = {random.choice(("model", "state_dict", "state_dict", "x")): content, "epoch": 3}
    stream = io.BytesIO()
    try:
        torch.save(content, stream, _use_new_zipfile_serialization=random.random() < 0.8)
    except (RuntimeError, NotImplementedError, TypeError, AttributeError, pickle.PicklingError):
        torch.save({"model.norm.weight": torch.ones(16)}, stream)
    return stream.getvalue()


def damaged(random: Random, data: bytes) -> bytes:
    """Damage to a zip's members under right checksums, to its pickle above all, or to the bytes as they come."""
    if data[:2] != b"PK" or random.random() < 0.3:
        return mutated_bytes(random, data)
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(changed, "w") as target:
        names = source.namelist()
        chosen = random.choice([name for name in names if name.endswith("data.pkl")] * 6 + names)
        for name in names:
            content = source.read(name)
            if name == chosen:
                content = mutated_bytes(random, content, 4)
            if name != chosen or random.random() < 0.95:
                target.writestr(name, content)
    return changed.getvalue()


def safetensors(random: Random, content: dict[Any, Any]) -> bytes:
    """A safetensors file whose header is another now and then."""
    import torch
    from safetensors.torch import save

    plain = {
        str(name).encode("utf-8", "replace").decode(): tensor.detach().clone().contiguous()
        for name, tensor in content.items()
        if type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout == torch.strided
        and not tensor.is_meta
        and not tensor.is_quantized
        and not tensor.is_nested
        and 0 not in tensor.stride()
        and tensor.numel() < 10**4
        and tensor.dtype != torch.complex128
    }
    data = bytes(save(plain))
    kind = random.random()
    if kind < 0.3:
        return data
    if kind < 0.5:
        return mutated_bytes(random, data)
    length = int.from_bytes(data[:8], "little")
    header = mutated_json(random, json.loads(data[8 : 8 + length]), ("dtype", "shape", "data_offsets", "__metadata__"))
    told = len(header) if random.random() < 0.9 else random.choice((0, 2**63, 10**6, len(header) + 1))
    return told.to_bytes(8, "little") + header + data[8 + length :]


class Checkpoints(Reader[Files]):
    """A whole checkpoint: weights in every format, odd tensors, damaged bytes, a config next to it."""

    name = "checkpoint"
    is_native = True
    weight = 150

    def make(self, random: Random) -> Files:
        content = state(random, TENSORS, 2)
        if random.random() < 0.5:
            name, data = "model.pth", saved(random, content)
            data = damaged(random, data) if random.random() < 0.6 else data
        else:
            name, data = "model.safetensors", safetensors(random, content)
        files = {name: data}
        if random.random() < 0.2:
            config = {"model_type": "minimind", "hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 20}
            files["config.json"] = mutated_json(random, config, tuple(good.CONFIGS["minimind2"]), 1)
        return files

    def read(self, given: Files) -> object:
        from minimind_edge.export.inspection import inspect_path
        from minimind_edge.minimind.checkpoint.loading import read_checkpoint

        refill(self.folder, given)
        name = next(name for name in given if name.startswith("model."))
        loaded = read_checkpoint(self.folder / name)
        return list(inspect_path(self.folder / name).lines()), loaded.report.lines()


class Adapters(Reader[Files]):
    """LoRA adapters of upstream's form and of PEFT's, merged into a good base."""

    name = "adapter"
    is_native = True
    weight = 150

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import torch

        torch.save(state(Random(0), TENSORS, 0), folder / "base.pth")

    def make(self, random: Random) -> Files:
        if random.random() < 0.5:
            data = saved(random, state(random, PAIRS, 1))
            return {"lora.pth": damaged(random, data) if random.random() < 0.5 else data}
        config = (
            mutated_json(random, good.ADAPTER, ("bias", "use_dora", "alpha_pattern"))
            if random.random() < 0.7
            else json.dumps(good.ADAPTER).encode()
        )
        return {
            "adapter_config.json": config,
            "adapter_model.safetensors": safetensors(random, state(random, PEFT, random.choice((0, 1)))),
        }

    def read(self, given: Files) -> object:
        from minimind_edge.minimind.checkpoint.loading import read_checkpoint

        refill(self.folder / "lora", given)
        lora = self.folder / "lora"
        return read_checkpoint(self.folder / "base.pth", lora=lora / "lora.pth" if "lora.pth" in given else lora)


GRAPH = """
<ir_version: 10, opset_import: ["": 18]>
decoder (int64[batch, seq] input_ids, int64[batch, total] attention_mask, int64[batch, seq] position_ids,
         float[batch, 2, past, 8] past_key_values.0.key, float[batch, 2, past, 8] past_key_values.0.value)
=> (float[batch, seq, 32] logits, float[batch, 2, all, 8] present.0.key, float[batch, 2, all, 8] present.0.value)
<float[32, 32] table>
{
    rows = Gather (table, input_ids)
    used = Cast <to = 1> (attention_mask)
    places = Cast <to = 1> (position_ids)
    axes = Constant <value_ints = [-1]> ()
    wide = Unsqueeze (places, axes)
    none = Constant <value_float = 0.0> ()
    nothing = Mul (wide, none)
    logits = Add (rows, nothing)
    present.0.key = Identity (past_key_values.0.key)
    present.0.value = Identity (past_key_values.0.value)
}
"""

METADATA = {
    "minimind_edge.target": "portable",
    "minimind_edge.precision": "fp32",
    "minimind_edge.max_length": "64",
    "minimind_edge.eos_token_id": "1,2",
    "minimind_edge.generation": "minimind2",
}

TEXTS = (
    *("", "\0", "n" * 5000, "\x1b[2J\n", "-1", "1,", "[1, 2]", "9" * 5000, "1e9", "0x10", "１２", "tensorrt", "ort"),
    *("portable", "static", "growing", "日本", "../x", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", " ", "2147483648"),
)

NUMBERS = (0, 1, -1, 2, 7, 31, 255, 2**31 - 1, -(2**31), 12345)
SIZES = (0, 1, -1, 2**31, 2**62, -(2**63), 2**63 - 1, 5)


def good_graph() -> Any:
    """The graph that the mutations start from."""
    import numpy as np
    import onnx
    from onnx import numpy_helper, parser

    model = parser.parse_model(GRAPH.replace("past_key_values.0.", "past_").replace("present.0.", "now_"))
    names = {"past_key": "past_key_values.0.key", "past_value": "past_key_values.0.value"}
    names |= {"now_key": "present.0.key", "now_value": "present.0.value"}
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del model.graph.initializer[:]
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((32, 32), np.float32), "table"))
    onnx.helper.set_model_props(model, METADATA)
    return model


class Graphs(Reader[bytes]):
    """ONNX graphs: as `inspect`, `engine` and a session read them."""

    name = "graph"
    is_native = True
    weight = 150

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._good = good_graph()

    def make(self, random: Random) -> bytes:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._good)
        if random.random() < 0.3:
            for each in model.metadata_props:
                if each.key.endswith("target"):
                    each.value = random.choice(("tensorrt", "ort"))
        if random.random() < 0.3:
            _declare_optional_inputs(random, model)
        for _ in range(random.randint(0, 3)):
            random.choice(_GRAPH_CHANGES)(random, model)
        data = _aligned(model)
        return mutated_bytes(random, data, 4) if random.random() < 0.3 else data

    def read(self, given: bytes) -> object:
        from minimind_edge.export.inspection import inspect_path
        from minimind_edge.export.plan.graph import PlanGraph
        from minimind_edge.minimind.errors import MiniMindError
        from minimind_edge.runtime.errors import EdgeError
        from minimind_edge.runtime.load import load_session

        file = self.folder / "model.onnx"
        file.write_bytes(given)
        for read in (_inspect(inspect_path), _describe(PlanGraph.read)):
            try:
                read(file)
            except (EdgeError, MiniMindError) as error:
                if fault_of(error) is not None:
                    raise
        return load_session(file, threads=1).facts


def _inspect(read: Any) -> Any:
    def run(file: Path) -> None:
        inspection = read(file)
        list(inspection.lines())
        json.dumps(inspection.to_json())

    return run


def _describe(read: Any) -> Any:
    def run(file: Path) -> None:
        graph = read(file)
        graph.for_parser(16)
        graph.stored_types(), graph.eos_token_ids, graph.opset, graph.precision, graph.cache_of(8)

    return run


def _declare_optional_inputs(random: Random, model: Any) -> None:
    """Name constants as optional inputs, most of them there and of the right type."""
    import numpy as np
    from onnx import numpy_helper

    names = random.sample(("logits_start", "row_lengths", "row_tokens"), random.randint(1, 3))
    for name in names:
        if random.random() < 0.9:
            dtype = np.int64 if name == "logits_start" else np.int32
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, dtype), name))
    value = random.choice(TEXTS) if random.random() < 0.1 else ",".join(names)
    model.metadata_props.add(key="minimind_edge.optional_inputs", value=value)


def _aligned(model: Any) -> bytes:
    """A graph's file whose first weight, where it has one, can be mapped into memory."""
    data = bytes(model.SerializeToString())
    weight = model.graph.initializer[0].raw_data if model.graph.initializer else b""
    while weight and data.index(weight) % 64:
        model.producer_version += " "
        data = bytes(model.SerializeToString())
        if len(model.producer_version) > 1000:
            break
    return data


def _change_metadata(random: Random, model: Any) -> None:
    if not model.metadata_props or random.random() < 0.2:
        entry = model.metadata_props.add()
        entry.key = random.choice((*TEXTS, *METADATA))
        entry.value = random.choice(TEXTS)
    else:
        random.choice(model.metadata_props).value = random.choice(TEXTS)


def _change_dims(random: Random, model: Any) -> None:
    value = random.choice((*model.graph.input, *model.graph.output))
    dims = value.type.tensor_type.shape.dim
    kind = random.randrange(5)
    if kind == 0 or not dims:
        value.type.tensor_type.ClearField("shape")
    elif kind == 1:
        del dims[random.randrange(len(dims)) :]
    elif kind == 2:
        random.choice(dims).dim_value = random.choice(SIZES)
    elif kind == 3:
        random.choice(dims).dim_param = random.choice(TEXTS)
    else:
        dims.add().dim_value = random.choice(SIZES)


def _change_type(random: Random, model: Any) -> None:
    value = random.choice((*model.graph.input, *model.graph.output))
    if random.random() < 0.2:
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    else:
        value.type.tensor_type.elem_type = random.choice((*range(26), *NUMBERS))


def _change_name(random: Random, model: Any) -> None:
    value = random.choice((*model.graph.input, *model.graph.output, *model.graph.initializer))
    value.name = random.choice((*TEXTS, "past_key_values.7.key", "input_ids", "write_indices", "kv_capacity"))


def _drop_value(random: Random, model: Any) -> None:
    values = random.choice((model.graph.input, model.graph.output, model.graph.node, model.opset_import))
    if values:
        del values[random.randrange(len(values))]


def _change_weight(random: Random, model: Any) -> None:
    if not model.graph.initializer:
        return
    tensor = random.choice(model.graph.initializer)
    kind = random.randrange(5)
    if kind == 0:
        tensor.dims[:] = random.choice(([], [0], [-1, 5], [2**62, 4], [2**31, 2**31], [32] * 40, [32, 33]))
    elif kind == 1:
        tensor.data_type = random.choice((*range(26), *NUMBERS))
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: random.choice((0, 1, 5, 4000))]
    else:
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        for key in random.choice((("location",), ("location", "offset", "length"), ("offset",))):
            entry = tensor.external_data.add()
            entry.key = key
            choices = (*TEXTS, "model.onnx", "weights.bin") if key == "location" else TEXTS
            entry.value = random.choice(choices)


def _change_node(random: Random, model: Any) -> None:
    import onnx

    if not model.graph.node:
        return
    node = random.choice(model.graph.node)
    kind = random.randrange(5)
    if kind == 0:
        node.op_type = random.choice((*TEXTS, "Attention", "If", "GroupQueryAttention", "MatMul", "Gather"))
    elif kind == 1:
        node.domain = random.choice((*TEXTS, "com.microsoft"))
    elif kind == 2:
        names = list(node.output) + [value.name for value in model.graph.input]
        node.input[:] = [random.choice(names) for _ in range(random.randrange(4))]
    elif kind == 3:
        node.attribute.append(onnx.helper.make_attribute("to", random.choice((0, 1, -1, 2**40))))
    else:
        graph = node.attribute.add()
        graph.name, graph.type = "then_branch", 5
        for _ in range(random.choice((1, 30, 90))):
            inner = graph.g.node.add()
            inner.op_type = "If"
            graph = inner.attribute.add()
            graph.name, graph.type = "then_branch", 5


def _change_versions(random: Random, model: Any) -> None:
    if random.random() < 0.5:
        model.ir_version = random.choice((*NUMBERS, 2**40))
    else:
        entry = random.choice(model.opset_import) if model.opset_import else model.opset_import.add()
        entry.version = random.choice((*NUMBERS, 2**40))
        entry.domain = random.choice(("", "", "com.microsoft", *TEXTS))


_GRAPH_CHANGES = (
    *(_change_metadata, _change_metadata, _change_dims, _change_type, _change_name, _drop_value, _change_weight),
    *(_change_node, _change_versions),
)


def good_ort_graph() -> Any:
    """An exported graph of target `ort`, in which native operators take the place of stock ones."""
    import tempfile

    import onnx

    from minimind_edge.export.graph import build_graph, save_graph
    from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32, "vocab_size": 40}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64, "qk_norm": True}
    model = MiniMindForCausalLM(MiniMindConfig(**sizes, **heads)).eval()
    with tempfile.TemporaryDirectory() as folder:
        save_graph(build_graph(model, "ort", "fp32", 32), Path(folder) / "model.onnx")
        return onnx.load(Path(folder) / "model.onnx")


class NativeGraphs(Reader[bytes]):
    """Graphs of target `ort`, as the runtime reads them to put native operators in."""

    name = "graph for native operators"
    is_native = True
    weight = 30

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._good = good_ort_graph()

    def make(self, random: Random) -> bytes:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._good)
        for _ in range(random.randint(0, 3)):
            random.choice((*_GRAPH_CHANGES, _change_node, _exchange_inputs))(random, model)
        data = bytes(model.SerializeToString())
        return mutated_bytes(random, data, 4) if random.random() < 0.5 else data

    def read(self, given: bytes) -> object:
        from minimind_edge.runtime.ort.in_memory import graph_in_memory

        file = self.folder / "model.onnx"
        file.write_bytes(given)
        return graph_in_memory(file, native=True)


def _exchange_inputs(random: Random, model: Any) -> None:
    """Let a node read what another one reads."""
    if len(model.graph.node) < 2:
        return
    first, second = random.sample(list(model.graph.node), 2)
    if first.input and second.input:
        first.input[random.randrange(len(first.input))] = random.choice(second.input)


class Folders(Reader[Files]):
    """A whole artifact folder, as a command opens and inspects it."""

    name = "artifact folder"
    is_native = True
    weight = 60

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._files: Files = {
            "onnx/model.onnx": bytes(good_graph().SerializeToString()),
            "manifest.json": json.dumps(good.MANIFEST | {"graphs": good.MANIFEST["graphs"][:1]}).encode(),
            "config.json": json.dumps(good.CONFIGS["qwen3"]).encode(),
            "generation_config.json": json.dumps(good.GENERATION).encode(),
            "tokenizer.json": json.dumps(good.TOKENIZER).encode(),
            "tokenizer_config.json": json.dumps(good.TOKENIZER_CONFIG).encode(),
            "special_tokens_map.json": json.dumps(good.SPECIAL_TOKENS_MAP).encode(),
            "chat_template.jinja": good.TEMPLATES[0].encode(),
        }

    def make(self, random: Random) -> Files:
        files = dict(self._files)
        name = random.choice([name for name in files if not name.startswith("tokenizer.")])
        if not name.endswith(".json"):
            files[name] = mutated_bytes(random, files[name])
        else:
            files[name] = mutated_json(random, json.loads(files[name]), ("file", "chat_template", "eos_token_id"))
        if random.random() < 0.2:
            del files[random.choice(list(files))]
        return files

    def read(self, given: Files) -> object:
        from minimind_edge.export.inspection import inspect_path
        from minimind_edge.runtime.engine import Engine

        for file in self.folder.glob("onnx/*"):
            file.unlink()
        refill(self.folder, given)
        engine = Engine.load(self.folder, threads=1)
        inspection = inspect_path(self.folder)
        list(inspection.lines())
        return json.dumps(inspection.to_json()), engine.prompts
