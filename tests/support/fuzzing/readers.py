"""The readers, each with the inputs that it is given; `READERS` has them by name."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from . import good_files as good
from .mutation import dumped, mutated, mutated_bytes, mutated_json, mutated_text
from .promise import Hang, time_limit

T = TypeVar("T")

READERS: dict[str, type[Reader[Any]]] = {}


class Reader(ABC, Generic[T]):
    """A reader of one kind of file.

    Attributes:
        name: What it is called.
        is_native: Whether code of another language reads the file: it may end the process, so that it gets its own.
        weight: Share of the long form's inputs, larger for faster ones.

    Args:
        folder: An empty folder that it may write into.
    """

    name: str
    is_native = False
    weight = 1000

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):
            READERS[cls.name] = cls

    @abstractmethod
    def make(self, random: Random) -> T:
        """A hostile input."""

    @abstractmethod
    def read(self, given: T) -> object:
        """Read it as a command would."""


class Manifests(Reader[bytes]):
    name = "manifest"
    keys = ("file", "graphs", "path", "lora", "parity", "sha256", "format", "default_graph", "precision", "evaluation")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        refill(folder, {"onnx/model.onnx": b""})

    def make(self, random: Random) -> bytes:
        return mutated_json(random, good.MANIFEST, self.keys)

    def read(self, given: bytes) -> object:
        from minimind_edge.export.artifact.manifest import origin
        from minimind_edge.export.inspection.artifact import ArtifactInspection, InspectedGraph
        from minimind_edge.runtime.artifact.json_file import parse_object
        from minimind_edge.runtime.artifact.manifest import Manifest
        from minimind_edge.runtime.artifact.paths import require_member

        where = str(self.folder / "manifest.json")
        content = parse_object(given, where)
        manifest = Manifest.parse(content, where)
        for entry in manifest.graphs:
            InspectedGraph(entry.file, None, entry.parity, None).verdict()  # type: ignore[arg-type]
        inspection = ArtifactInspection(self.folder, {"model.onnx": 5}, manifest, content, ())
        list(inspection.lines())
        json.dumps(inspection.to_json())
        origin(manifest, self.folder)
        return require_member(self.folder, manifest.graph("fp32").file, "its manifest")


class Plans(Reader[bytes]):
    name = "plan description"
    keys = ("form", "shape", "shapes", "name", "dtype", "capacity", "bytes", "eos_token_ids", "config", "checkpoint")

    def make(self, random: Random) -> bytes:
        return mutated_json(random, good.PLAN, self.keys)

    def read(self, given: bytes) -> object:
        from minimind_edge.export.inspection.plan import PlanInspection
        from minimind_edge.runtime.artifact.json_file import parse_object
        from minimind_edge.runtime.tensorrt.plan import Plan

        plan = Plan.parse(self.folder / "model.plan", parse_object(given, "model.plan.json"), "model.plan.json")
        inspection = PlanInspection(plan, 40)
        list(inspection.lines())
        json.dumps(inspection.to_json())
        return plan.facts.kv_bytes_per_slot, plan.cache.tensor_bytes(2), plan.rebuild_command(), plan.title


class Generations(Reader[tuple[bytes, bytes]]):
    name = "generation config"

    def make(self, random: Random) -> tuple[bytes, bytes]:
        keys = (*good.GENERATION, "typical_p", "early_stopping", "begin_suppress_tokens", "guidance_scale")
        config = random.choice(list(good.CONFIGS.values()))
        return mutated_json(random, good.GENERATION, keys), (
            mutated_json(random, config, tuple(config)) if random.random() < 0.3 else json.dumps(config).encode()
        )

    def read(self, given: tuple[bytes, bytes]) -> object:
        from minimind_edge.export.artifact.hf_config import generation_notes
        from minimind_edge.runtime.artifact.generation_config import GenerationConfig
        from minimind_edge.runtime.artifact.json_file import parse_object
        from minimind_edge.runtime.artifact.model_config import ModelConfig
        from minimind_edge.runtime.sampling import SamplingParams

        config = ModelConfig.parse(parse_object(given[1], "config.json"), "config.json")
        values = parse_object(given[0], "generation_config.json")
        found = GenerationConfig.parse(values, config, "generation_config.json")
        (self.folder / "generation_config.json").write_bytes(given[0])
        generation_notes(self.folder)
        return SamplingParams.of_artifact(found, found.eos_token_ids).processors(64)


class TokenizerConfigs(Reader[tuple[bytes, bytes, bytes]]):
    name = "tokenizer config"
    keys = ("content", "special", "chat_template", "template", "name", "bos_token", "unk_token", "__type", "lstrip")

    def make(self, random: Random) -> tuple[bytes, bytes, bytes]:
        config = dict(good.TOKENIZER_CONFIG)
        if random.random() < 0.5:
            del config["added_tokens_decoder"]
        return (
            mutated_json(random, config, self.keys),
            mutated_json(random, good.SPECIAL_TOKENS_MAP, self.keys) if random.random() < 0.3 else b"{}",
            mutated_json(random, good.ADDED_TOKENS, self.keys) if random.random() < 0.3 else b"{}",
        )

    def read(self, given: tuple[bytes, bytes, bytes]) -> object:
        from minimind_edge.runtime.artifact.json_file import parse_object
        from minimind_edge.runtime.artifact.tokenizer_config import JsonObject, complete_config
        from minimind_edge.runtime.text.chat_template import ChatTemplate
        from minimind_edge.runtime.text.tokenizer import Tokenizer

        names = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
        objects = [JsonObject(parse_object(data, name), name) for data, name in zip(given, names, strict=True)]
        config = complete_config(*objects)
        tokenizer = Tokenizer.parse(json.dumps(good.TOKENIZER), "tokenizer.json", config)
        tokenizer.decode(tokenizer.encode_raw("ab <tool> b"), skip_special_tokens=True)
        for token_id in range(tokenizer.vocab_size):
            tokenizer.token_bytes(token_id)
        return ChatTemplate.find(None, config, tokenizer.special_tokens)


class CheckpointTokenizers(Reader[dict[str, bytes]]):
    """What an export reads of the tokenizer next to a checkpoint, and writes into the artifact."""

    name = "checkpoint's tokenizer"
    is_native = True  # the tokenizers library
    weight = 100

    def make(self, random: Random) -> dict[str, bytes]:
        files = {
            "tokenizer.json": json.dumps(good.TOKENIZER).encode(),
            "tokenizer_config.json": json.dumps(good.TOKENIZER_CONFIG).encode(),
        }
        if random.random() < 0.4:
            files |= {
                "special_tokens_map.json": mutated_json(random, good.SPECIAL_TOKENS_MAP, TokenizerConfigs.keys),
                "added_tokens.json": mutated_json(random, good.ADDED_TOKENS, TokenizerConfigs.keys),
            }
        if random.random() < 0.3:
            files["config.json"] = mutated_json(random, good.CONFIGS["minimind2"], ("model_type",))
        if random.random() < 0.3:
            files["chat_template.jinja"] = mutated_bytes(random, good.TEMPLATES[0].encode())
        if random.random() < 0.6:
            files["tokenizer_config.json"] = mutated_json(random, good.TOKENIZER_CONFIG, TokenizerConfigs.keys)
        if random.random() < 0.6:
            usual = mutated(random, good.TOKENIZER, Tokenizers.keys)
            files["tokenizer.json"] = dumped(usual).encode("utf-8", "surrogatepass")
        return files

    def read(self, given: dict[str, bytes]) -> object:
        from minimind_edge.export.artifact.tokenizer_files import find_tokenizer

        refill(self.folder / "checkpoint", given)
        found = find_tokenizer(self.folder / "checkpoint", None)
        assert found is not None
        (self.folder / "artifact").mkdir(exist_ok=True)
        found.copy_to(self.folder / "artifact")
        return found.load().encode("ab")


class Tokenizers(Reader[str]):
    """Tokenizers of usual parts, which run in the process itself, and others, which get one of their own."""

    name = "tokenizer"
    is_native = True
    weight = 20
    keys = ("type", "vocab", "merges", "unk_token", "normalizers", "decoders", "pattern", "content", "single", "prefix")

    def make(self, random: Random) -> str:
        seeds = [good.TOKENIZER] * 6 + [good.WORDPIECE, good.UNIGRAM]
        text = dumped(mutated(random, random.choice(seeds), self.keys))
        return (
            mutated_text(random, text, ("{", "[", '"', "\\u0000", "null", "1e9", "(a+)+$"), 2)
            if (random.random() < 0.1)
            else text
        )

    def read(self, given: str) -> object:
        from minimind_edge.runtime.artifact.tokenizer_config import JsonObject
        from minimind_edge.runtime.text.tokenizer import Tokenizer

        tokenizer = Tokenizer.parse(given, "tokenizer.json", JsonObject({}, "tokenizer_config.json"))
        ids = tokenizer.encode("abc  <|im_start|> aaab\u2581 日本\n")
        tokenizer.is_byte_level  # noqa: B018  it reads the description
        for token_id in ids[:50]:
            tokenizer.token_bytes(token_id)
        return tokenizer.decode(ids)


class Templates(Reader[str]):
    """Templates rendered in the process itself, as the child process does it, so that each costs little."""

    name = "template"
    weight = 600
    pieces = (
        *("{{", "}}", "{%", "%}", "{% if x %}", "{% endif %}", "{% for a in b %}", "{% endfor %}", "{% set x = 1 %}"),
        *("messages", "[0]", "['content']", ".role", "|", "tojson", "|upper", "|int", "|float", "|round(400)", "|sum"),
        *("+", "-", "*", "//0", "%", "**2", "~", "(", ")", "[", "]", "'", '"', "\\", "\0", "\ud800", "日本", "1e999"),
        *("raise_exception(", "strftime_now(", "namespace(", "dict(", "lipsum()", "range(3)", "cycler()", "joiner()"),
        *("{% macro m() %}", "{% endmacro %}", "{% call m() %}", "{% include 'x' %}", "{% import 'x' as y %}", "{#"),
        *(
            ".__class__",
            "|attr('__class__')",
            "._x",
            "{% generation %}",
            "{% break %}",
            "{% continue %}",
            "not ",
            "in ",
        ),
    )

    def make(self, random: Random) -> str:
        return mutated_text(random, random.choice(good.TEMPLATES), self.pieces)

    def read(self, given: str) -> object:
        from minimind_edge.runtime.errors import ArtifactError
        from minimind_edge.runtime.text.chat_template import RENDER_SECONDS
        from minimind_edge.runtime.text.template_environment import TemplateRenderer

        messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "<think>\n</think>hi"}]
        context = {"messages": messages, "tools": None, "bos_token": "<s>", "add_generation_prompt": True}
        try:
            with time_limit(RENDER_SECONDS):
                return TemplateRenderer({"default": given}).render("default", context)
        except Hang as error:  # where the child process would be ended
            raise ArtifactError("the chat template takes too long") from error


class LimitedTemplates(Reader[str]):
    """Templates as a chat renders them, bombs among them, in the process with limits."""

    name = "template with limits"
    weight = 3
    bombs = (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 3000000000 }}",
        "{{ '%3000000000d' % 1 }}",
        "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=0) %}{% for i in range(10**9) %}{% set ns.x = ns.x + 1 %}{% endfor %}",
        "{{ range(99999)|list|batch(1)|list|string|replace('', 'aaaaaaaaaaaaaaaa') }}",
        "{{ 10 ** 10 ** 8 }}",
        "{{ ('x' * 9999)|indent(999999) }}",
    )

    def make(self, random: Random) -> str:
        text = random.choice(self.bombs) + random.choice(good.TEMPLATES) if random.random() < 0.5 else ""
        return mutated_text(random, text or random.choice(good.TEMPLATES), Templates.pieces, 2)

    def read(self, given: str) -> object:
        from minimind_edge.runtime.text.chat_template import ChatTemplate

        return ChatTemplate({"default": given}).render([{"role": "user", "content": "hello"}])


class Configs(Reader[tuple[str, bytes]]):
    """`config.json` next to weights and `--config`, in each generation's names, up to the finished configuration."""

    name = "model config"
    is_native = True  # not the reader itself, but what it imports
    weight = 600

    def make(self, random: Random) -> tuple[str, bytes]:
        kind = random.choice(list(good.CONFIGS))
        keys = tuple({key for config in good.CONFIGS.values() for key in config})
        return kind, mutated_json(random, good.CONFIGS[kind], keys)

    def read(self, given: tuple[str, bytes]) -> object:
        from minimind_edge.minimind.checkpoint.config_source import gather_config
        from minimind_edge.minimind.checkpoint.inference import Inference
        from minimind_edge.minimind.checkpoint.resolution import resolve_config
        from minimind_edge.minimind.checkpoint.source import WeightSource

        kind, data = given
        file = self.folder / "config.json"
        file.write_bytes(data)
        weights = self.folder / "weights.pth"
        told, _ = gather_config(file, WeightSource(weights, (weights,), None, None))
        rows = {"v1": (64, 32), "minimind2": (64, 16)}.get(kind, (96, 48))
        fields: dict[str, Any] = {"vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 2, "use_moe": False}
        fields |= {"tie_word_embeddings": True, "intermediate_size": 96, "qk_norm": kind in ("minimind3", "qwen3")}
        if fields["qk_norm"]:
            fields["head_dim"] = 24
        resolution = resolve_config(Inference(fields, *rows), told, kind == "v1")
        return resolution.config.arguments(), resolution.notes


class HeldOuts(Reader[bytes]):
    name = "held-out split"
    is_native = True  # not the reader itself, but what it imports

    def make(self, random: Random) -> bytes:
        return mutated_json(random, good.HELD_OUT, ("answer", "names", "lookalikes", "questions", "prompt", "language"))

    def read(self, given: bytes) -> object:
        from minimind_edge.export.evaluation.held_out import HeldOut

        file = self.folder / "held_out.json"
        file.write_bytes(given)
        split = HeldOut.read(file).limited(2)
        for question in split.questions:
            question.is_right("a fox")
        return split.text()


class Texts(Reader[bytes]):
    """Text files and piped text: prompts, `--text`, templates."""

    name = "text"

    def make(self, random: Random) -> bytes:
        from .mutation import MARKS

        text = mutated_text(
            random, "one line\n两行 and \U0001f98a\r\n", ("\0", "\ud800", "\ufeff", "n" * 5000, "\x1b[2J")
        )
        mark, encoding = random.choice(MARKS)
        data = random.choice((b"", mark)) + text.encode(encoding, "surrogatepass")
        return mutated_bytes(random, data, 3) if random.random() < 0.5 else data

    def read(self, given: bytes) -> object:
        from minimind_edge.runtime.artifact.text_file import read_text
        from minimind_edge.runtime.text.chat_template import read_template

        file = self.folder / "text.txt"
        file.write_bytes(given)
        return read_text(file, 1 << 20), read_template(file)


class Indices(Reader[bytes]):
    name = "shard index"
    is_native = True  # not the reader itself, but what it imports

    def make(self, random: Random) -> bytes:
        keys = ("weight_map", "model.embed_tokens.weight", "model-00001-of-00002.safetensors")
        return mutated_json(random, good.INDEX, keys)

    def read(self, given: bytes) -> object:
        from minimind_edge.minimind.checkpoint.source import find_source

        for shard in set(good.INDEX["weight_map"].values()):
            (self.folder / shard).touch()
        file = self.folder / "model.safetensors.index.json"
        file.write_bytes(given)
        return find_source(self.folder if len(given) % 2 else file)


class GraphFactsReader(Reader[dict[str, Any]]):
    """What ONNX Runtime says of a graph: names, types, shapes and metadata of any kind."""

    name = "graph facts"
    seed: dict[str, Any] = {  # noqa: RUF012
        "inputs": [
            *(["input_ids", "tensor(int64)", ["batch", "seq"]], ["attention_mask", "tensor(int64)", ["batch", "t"]]),
            ["position_ids", "tensor(int64)", ["batch", "seq"]],
            *([f"past_key_values.0.{part}", "tensor(float)", ["batch", 2, "past", 8]] for part in ("key", "value")),
        ],
        "outputs": [
            ["logits", "tensor(float)", ["batch", "seq", 32]],
            *([f"present.0.{part}", "tensor(float)", ["batch", 2, "past", 8]] for part in ("key", "value")),
        ],
        "metadata": {
            "minimind_edge.target": "portable",
            "minimind_edge.cache": "growing",
            "minimind_edge.max_length": "1024",
            "minimind_edge.eos_token_id": "[1, 2]",
            "minimind_edge.precision": "fp32",
        },
    }

    def make(self, random: Random) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for part in self.seed:
            changed = (
                mutated(random, self.seed[part], ("minimind_edge.target", "tensorrt", "ort"))
                if (random.random() < 0.5)
                else self.seed[part]
            )
            facts[part] = changed
        return facts

    def read(self, given: dict[str, Any]) -> object:
        from minimind_edge.runtime.session.contract import GraphFacts

        inputs, outputs = (_nodes(given[part]) for part in ("inputs", "outputs"))
        metadata = given["metadata"] if isinstance(given["metadata"], dict) else {}
        told = {str(key): value if isinstance(value, str) else str(value) for key, value in metadata.items()}
        return GraphFacts.read(inputs, outputs, told).kv_bytes_per_slot


def _nodes(described: Any) -> list[Any]:
    """Nodes as the bindings give them: a name, a type, and a list of integers, strings and nulls."""
    nodes = []
    for item in described if isinstance(described, list) else []:
        name, kind, shape = (*item, "", "", [])[:3] if isinstance(item, list) else (str(item), "", [])
        sizes = [size if isinstance(size, (int, str)) else None for size in shape] if isinstance(shape, list) else []
        nodes.append(SimpleNamespace(name=str(name), type=str(kind), shape=sizes))
    return nodes


def refill(folder: Path, files: dict[str, bytes]) -> None:
    """Make a folder hold these files and no others."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and path.name not in files:
            path.unlink()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
