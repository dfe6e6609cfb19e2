"""What the `.plan.json` beside a plan says of it: a plan itself tells nothing without a GPU."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.json_object import JsonObject
from ..errors import ArtifactError, UsageError
from ..session.graph_facts import GraphFacts
from .compute_capability import ComputeCapability

FORMAT = 1
"""Newest format of the file that is understood."""

BACKENDS = ("tensorrt", "rtx")
CACHE_FORM = "static"
"""How a plan keeps its cache: written in place, each row at an index of its own."""

MAGIC = {"tensorrt": b"ftrt", "rtx": b"vtrt"}
"""First bytes of a plan."""

KV_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number of the cache."""

EXPERTS_SUFFIX = ".moe.topk_indices"
"""What the names of outputs end with that tell the experts chosen."""

EXPERT_TYPES = ("int32", "int64")
"""Of these outputs."""

PREFILL, DECODE = 0, 1
"""Indices of a plan's profiles."""


@dataclass(frozen=True)
class CacheLayout:
    """The key/value cache of a plan: for each layer a key and a value `[B, H_kv, capacity, D]`.

    Attributes:
        num_layers: Layers.
        num_key_value_heads: H_kv.
        head_dim: D.
        capacity: Slots of a row.
        dtype: `float32`, `float16` or `bfloat16`.
    """

    num_layers: int
    num_key_value_heads: int
    head_dim: int
    capacity: int
    dtype: str

    def tensor_shape(self, batch_size: int) -> tuple[int, int, int, int]:
        """Shape of one key or value."""
        return batch_size, self.num_key_value_heads, self.capacity, self.head_dim

    def tensor_bytes(self, batch_size: int) -> int:
        """Bytes of one key or value."""
        return int(np.prod(self.tensor_shape(batch_size))) * KV_BYTES[self.dtype]


@dataclass(frozen=True)
class ExpertOutput:
    """An output that tells which experts a layer chose, `[B, S, per_token]`.

    Attributes:
        name: Of the output.
        per_token: Experts of a token, k.
        dtype: int32 or int64.
    """

    name: str
    per_token: int
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Plan:
    """A TensorRT plan and what is known of it.

    Attributes:
        path: The `.plan`.
        backend: `tensorrt` or `rtx`.
        version: Of the backend that built it.
        compute_capabilities: Of the GPUs that it was built for.
        precision: Of the weights.
        cache: The cache's sizes.
        experts: Of a mixture of experts an output a layer that tells the chosen ones; empty for a dense model.
        vocab_size: V.
        max_batch: Most rows.
        max_chunk: Most tokens of a row in one run.
        eos_token_ids: Ids that end a text.
        source: Name of the checkpoint or graph that it was built from.
        content: All that the file says.
    """

    path: Path
    backend: str
    version: str
    compute_capabilities: tuple[ComputeCapability, ...]
    precision: str
    cache: CacheLayout
    experts: tuple[ExpertOutput, ...]
    vocab_size: int
    max_batch: int
    max_chunk: int
    eos_token_ids: tuple[int, ...]
    source: str
    content: JsonObject

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Plan:
        """Read what stands beside a plan; the plan itself is not looked at.

        Raises:
            ArtifactError: Either file is missing, or what stands beside is broken or of a newer format.
        """
        path = Path(path)
        if not path.is_file():
            raise ArtifactError(f"no plan at {path}: build one with `minimind-export engine -o {path}`")
        sidecar = sidecar_path(path)
        if not sidecar.is_file():
            raise ArtifactError(
                f"{sidecar} is missing, which says what {path.name} needs: copy it from where the plan was built, or "
                f"build again with `minimind-export engine -o {path}`"
            )
        return cls.parse(path, JsonObject.read(sidecar))

    @classmethod
    def parse(cls, path: Path, values: JsonObject) -> Plan:
        """Check the content of a `.plan.json`.

        Raises:
            ArtifactError: A value is missing or wrong, or the format is newer than this version's.
        """
        if (version := values.required("format", int)) > FORMAT:
            raise ArtifactError(
                f"{values.where} has format {version}, this version reads {FORMAT}: upgrade minimind-edge"
            )
        limits, kv = values.child("limits"), values.child("kv_cache")
        if (form := kv.required("form", str)) != CACHE_FORM:
            raise ArtifactError(
                f"{values.where}: a plan with a {form} cache is of an older version: build it again with "
                "`minimind-export engine`"
            )
        return cls(
            path=path,
            backend=_one_of(values, "backend", BACKENDS),
            version=values.required("backend_version", str),
            compute_capabilities=_capabilities(values),
            precision=values.required("precision", str),
            cache=CacheLayout(
                num_layers=_count(kv, "num_layers"),
                num_key_value_heads=_count(kv, "num_key_value_heads"),
                head_dim=_count(kv, "head_dim"),
                capacity=_count(kv, "capacity"),
                dtype=_one_of(kv, "dtype", tuple(KV_BYTES)),
            ),
            experts=tuple(_expert_outputs(values)),
            vocab_size=_count(values, "vocab_size"),
            max_batch=_count(limits, "batch_size"),
            max_chunk=_count(limits, "chunk"),
            eos_token_ids=values.integers("eos_token_ids"),
            source=values.child("checkpoint").optional("file", str) or "CHECKPOINT",
            content=values,
        )

    @property
    def facts(self) -> GraphFacts:
        """The sizes and types of the plan's inputs and outputs, as those of the graph that it was built from."""
        stored = {"bfloat16": "uint16"}.get(self.cache.dtype, self.cache.dtype)
        return GraphFacts(
            target="tensorrt",
            num_layers=self.cache.num_layers,
            num_key_value_heads=self.cache.num_key_value_heads,
            head_dim=self.cache.head_dim,
            kv_dtype=np.dtype(stored),
            vocab_size=self.vocab_size,
            max_length=self.cache.capacity,
            precision=self.precision,
            generation=None,
            eos_token_ids=self.eos_token_ids,
            cache=CACHE_FORM,
        )

    @property
    def title(self) -> str:
        """What built it and has to run it, for people."""
        return f"{BACKEND_NAMES[self.backend]} {self.version}"

    def load_bytes(self) -> bytes:
        """The plan itself, as it was built.

        Raises:
            ArtifactError: It is none of this backend, or not the one that was built.
        """
        data = self.path.read_bytes()
        if not data.startswith(MAGIC[self.backend]):
            raise ArtifactError(
                f"{self.path} is no plan of {BACKEND_NAMES[self.backend]}: expected {MAGIC[self.backend]!r} at its "
                f"beginning, found {data[:4]!r}; build it again with `{self.rebuild_command()}`"
            )
        built = self.content.child("plan")
        expected = built.required("bytes", int), built.required("sha256", str)
        if (len(data), hashlib.sha256(data).hexdigest()) != expected:
            raise ArtifactError(
                f"{self.path} is not the plan that {sidecar_path(self.path).name} describes (expected {expected[0]} "
                f"bytes, found {len(data)}): it is damaged or was replaced; build it again with "
                f"`{self.rebuild_command()}`"
            )
        return data

    def rebuild_command(self, *, backend: str | None = None, capability: ComputeCapability | None = None) -> str:
        """The command that builds such a plan again.

        Args:
            backend: For another backend than this one's.
            capability: For a GPU that it was not built for.
        """
        import shlex

        words = ["minimind-export", "engine", self.source, "-o", str(self.path)]
        words += ["--backend", backend or self.backend, "--precision", self.precision]
        words += ["--max-batch", str(self.max_batch), "--max-length", str(self.cache.capacity)]
        if capability is not None:
            for each in sorted({*self.compute_capabilities, capability}):
                words += ["--compute-capability", str(each)]
        return shlex.join(words)


BACKEND_NAMES = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX"}
"""For people."""


def sidecar_path(plan: Path) -> Path:
    """Where the description of a plan stands."""
    return plan.with_name(f"{plan.name}.json")


def _count(values: JsonObject, key: str) -> int:
    found = values.positive(key)
    if found is None:
        values.reject(key, "at least 1")
    return found


def _expert_outputs(values: JsonObject) -> Iterator[ExpertOutput]:
    for tensor in values.children("tensors"):
        if (name := tensor.required("name", str)).endswith(EXPERTS_SUFFIX):
            shape = tensor.integers("shape")
            if len(shape) != 3 or shape[2] < 1:
                tensor.reject("shape", "[B, S, k]")
            yield ExpertOutput(name, shape[2], np.dtype(_one_of(tensor, "dtype", EXPERT_TYPES)))


def _one_of(values: JsonObject, key: str, choices: tuple[str, ...]) -> str:
    found = values.required(key, str)
    if found not in choices:
        values.reject(key, f"one of {', '.join(choices)}")
    return found


def _capabilities(values: JsonObject) -> tuple[ComputeCapability, ...]:
    found: Any = values.get("compute_capabilities")
    if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
        values.reject("compute_capabilities", 'a list such as ["8.6"]')
    try:
        return tuple(ComputeCapability.parse(each) for each in found)
    except UsageError as error:
        raise ArtifactError(f"{values.where}: {error}") from error
