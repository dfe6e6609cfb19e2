"""What the `.plan.json` beside a plan says of it: a plan itself tells nothing without a GPU."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.json_file import read_object
from ..errors import ArtifactError, UsageError
from ..session.graph_facts import GraphFacts
from .compute_capability import ComputeCapability
from .plan_description import PlanDescription

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
        description: All that is read of the file beside it.
        content: The same as JSON, with what only people read.
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
    description: PlanDescription
    content: Mapping[str, Any]

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
        return cls.parse(path, read_object(sidecar), str(sidecar))

    @classmethod
    def parse(cls, path: Path, values: Mapping[str, Any], where: str | None = None) -> Plan:
        """Check the content of a `.plan.json`.

        Args:
            path: The plan.
            values: The content of the file beside it.
            where: That file, for messages.

        Raises:
            ArtifactError: A value is missing or wrong, or the format is newer than this version's.
        """
        where = where or str(sidecar_path(path))
        told = PlanDescription.parse(values, where)
        kv, eos = told.kv_cache, told.eos_token_ids
        if kv.form != CACHE_FORM:
            raise ArtifactError(
                f"{where}: a plan with a {kv.form} cache is of an older version: build it again with "
                "`minimind-export engine`"
            )
        return cls(
            path=path,
            backend=told.backend,
            version=told.backend_version,
            compute_capabilities=_capabilities(told, where),
            precision=told.precision,
            cache=CacheLayout(kv.num_layers, kv.num_key_value_heads, kv.head_dim, kv.capacity, kv.dtype),
            experts=_expert_outputs(told, where),
            vocab_size=told.vocab_size,
            max_batch=told.limits.batch_size,
            max_chunk=told.limits.chunk,
            eos_token_ids=eos if isinstance(eos, tuple) else (eos,),
            source="CHECKPOINT" if told.checkpoint is None else told.checkpoint.file,
            description=told,
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
        built = self.description.plan
        if built is None:
            raise ArtifactError(f"{sidecar_path(self.path)}: plan is missing, the size and digest of {self.path.name}")
        expected = built.bytes, built.sha256
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


def _expert_outputs(description: PlanDescription, where: str) -> tuple[ExpertOutput, ...]:
    found = [
        (f"{where}: tensors[{index}]", tensor)
        for index, tensor in enumerate(description.tensors)
        if tensor.name.endswith(EXPERTS_SUFFIX)
    ]
    for place, tensor in found:
        if tensor.dtype not in EXPERT_TYPES:
            raise ArtifactError(f"{place}.dtype is {tensor.dtype}: expected one of {', '.join(EXPERT_TYPES)}")
        if len(tensor.shape) != 3 or tensor.shape[2] < 1:
            raise ArtifactError(f"{place}.shape is {list(tensor.shape)}: expected [B, S, k]")
    return tuple(ExpertOutput(tensor.name, tensor.shape[2], np.dtype(tensor.dtype)) for _, tensor in found)


def _capabilities(description: PlanDescription, where: str) -> tuple[ComputeCapability, ...]:
    try:
        return tuple(ComputeCapability.parse(each) for each in description.compute_capabilities)
    except UsageError as error:
        raise ArtifactError(f"{where}: compute_capabilities: {error}") from error
