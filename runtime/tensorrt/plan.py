"""Plans: a TensorRT plan with the facts in the `.plan.json` next to it, which can be read without a GPU."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.json_file import read_object
from ..artifact.paths import arriving, member
from ..errors import ArtifactError, UsageError
from ..session.contract import GraphFacts
from .plan_description import PlanDescription, PlanDigest


@dataclass(frozen=True, order=True)
class ComputeCapability:
    """NVIDIA's version number of a GPU's instruction set, such as 8.6."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> ComputeCapability:
        """Parse the form "8.6".

        Raises:
            UsageError: The text has another form.
        """
        if not re.fullmatch(r"\d{1,2}\.\d", text):
            raise UsageError(f"{text!r} is no compute capability: expected MAJOR.MINOR, as in 8.6")
        major, minor = text.split(".")
        return cls(int(major), int(minor))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


RTX_CAPABILITIES = tuple(ComputeCapability(*each) for each in ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)))
"""The compute capabilities that TensorRT-RTX can build plans for."""

RTX_DEFAULT = RTX_CAPABILITIES[1:]
"""The compute capabilities that a plan is built for by default: without Turing (7.5), which lacks bfloat16."""

FULL_TENSORRT_ONLY = {
    ComputeCapability(8, 7): "Jetson Orin",
    ComputeCapability(9, 0): "H100, H200",
    ComputeCapability(10, 0): "B200, GB200",
    ComputeCapability(10, 3): "B300, GB300",
    ComputeCapability(11, 0): "Jetson Thor",
}
"""The names of GPUs that TensorRT-RTX does not support, by compute capability."""


def rtx_refusal(capability: ComputeCapability) -> str | None:
    """The reason why TensorRT-RTX cannot build a plan for a GPU; None where it can."""
    if capability in RTX_CAPABILITIES or capability.major == RTX_CAPABILITIES[-1].major:
        return None
    gpus = FULL_TENSORRT_ONLY.get(capability)
    names = f" ({gpus})" if gpus else ""
    supported = ", ".join(map(str, RTX_CAPABILITIES))
    return f"TensorRT-RTX does not run on compute capability {capability}{names}, only on {supported} and later 12.x"


def runs_on(built_for: Iterable[ComputeCapability], device: ComputeCapability, backend: str) -> bool:
    """Whether a plan runs on a GPU.

    Args:
        built_for: Compute capabilities that the plan was built for.
        device: Compute capability of the GPU.
        backend: `tensorrt`, whose plans run only on the capability that they were built for, or `rtx`, whose plans for
            a 12.x run on later ones too.
    """
    if backend == "rtx" and device.major == RTX_CAPABILITIES[-1].major:
        return any(each.major == device.major and each <= device for each in built_for)
    return device in tuple(built_for)


CACHE_FORM = "static"
"""The form of a plan's KV cache: of fixed size, written in place, each row at its own index."""

MAGIC = {"tensorrt": b"ftrt", "rtx": b"vtrt"}
"""The first bytes of a plan, by backend."""

KV_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""The bytes of one number of the KV cache, by its type."""

EXPERTS_SUFFIX = ".moe.topk_indices"
"""The name ending of outputs that show the chosen experts."""

EXPERT_TYPES = ("int32", "int64")
"""The possible element types of outputs that show the chosen experts."""

PREFILL, DECODE = 0, 1
"""The indices of a plan's optimization profiles."""


@dataclass(frozen=True)
class CacheLayout:
    """The KV cache of a plan: a key and a value `[B, H_kv, capacity, D]` for each layer.

    Attributes:
        num_layers: Number of layers.
        num_key_value_heads: Number of key and value heads H_kv.
        head_dim: Width D of a head.
        capacity: Number of slots of a row.
        dtype: Element type, `float32`, `float16` or `bfloat16`.
    """

    num_layers: int
    num_key_value_heads: int
    head_dim: int
    capacity: int
    dtype: str

    def tensor_shape(self, batch_size: int) -> tuple[int, int, int, int]:
        """The shape of one key or value."""
        return batch_size, self.num_key_value_heads, self.capacity, self.head_dim

    def tensor_bytes(self, batch_size: int) -> int:
        """The bytes of one key or value."""
        return int(np.prod(self.tensor_shape(batch_size))) * KV_BYTES[self.dtype]


@dataclass(frozen=True)
class ExpertOutput:
    """An output that shows the experts that a layer chose, `[B, S, per_token]`.

    Attributes:
        name: Name of the output.
        per_token: Number of experts k of a token.
        dtype: Element type, `int32` or `int64`.
    """

    name: str
    per_token: int
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Plan:
    """A TensorRT plan with its description.

    Attributes:
        path: Path of the `.plan`.
        backend: Backend that built the plan, `tensorrt` or `rtx`.
        version: Version of that backend.
        compute_capabilities: Compute capabilities that the plan was built for.
        precision: Precision of the weights.
        cache: Sizes and type of the KV cache.
        experts: Output of each layer that shows the chosen experts; empty for a dense model.
        vocab_size: Size V of the vocabulary.
        max_batch: Most rows.
        max_chunk: Most tokens of a row in one run.
        eos_token_ids: Token ids that end a text.
        source: Name of the checkpoint or graph that the plan was built from.
        description: Checked content of the `.plan.json`.
        content: Whole content of the `.plan.json`.
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
        """Read the description next to a plan, without reading the plan itself.

        Raises:
            ArtifactError: Either file is missing, or the description is broken or of a newer format.
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
            path: Path of the plan.
            values: Content of the `.plan.json`.
            where: Path of the `.plan.json`, for messages.

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
        """The facts of the graph that the plan was built from."""
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
        """The name and version of the backend that built the plan and must run it, for messages."""
        return f"{BACKEND_NAMES[self.backend]} {self.version}"

    def load_bytes(self) -> bytes:
        """The bytes of the plan, checked against the description.

        Raises:
            ArtifactError: The file is not a plan of this backend, or not the plan that the description is for.
        """
        data = self._read_bytes()
        if not data.startswith(MAGIC[self.backend]):
            raise ArtifactError(
                f"{self.path} is no plan of {BACKEND_NAMES[self.backend]}: expected {MAGIC[self.backend]!r} at its "
                f"beginning, found {data[:4]!r}; build it again with `{self.rebuild_command()}`"
            )
        built = self.description.plan
        if built is None:
            raise ArtifactError(f"{sidecar_path(self.path)}: plan is missing, the size and digest of {self.path.name}")
        if not _is_described(data, built):
            raise ArtifactError(
                f"{self.path} is not the plan that {sidecar_path(self.path).name} describes (expected {built.bytes} "
                f"bytes, found {len(data)}): it is damaged or was replaced; build it again with "
                f"`{self.rebuild_command()}`"
            )
        return data

    def _read_bytes(self) -> bytes:
        """The described plan: a new one that waits to take its place, where its writer was killed before that."""
        data, built = self.path.read_bytes(), self.description.plan
        if built is None or _is_described(data, built):
            return data
        waiting = member(self.path.parent, str(arriving(self.path).relative_to(self.path.parent)))
        newer = b"" if waiting is None else waiting.read_bytes()
        return newer if _is_described(newer, built) else data

    def rebuild_command(self, *, backend: str | None = None, capability: ComputeCapability | None = None) -> str:
        """The command that builds such a plan again.

        Args:
            backend: Another backend than the plan's own.
            capability: Another compute capability than the plan's own.
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
"""The names of the backends in messages."""


def _is_described(data: bytes, built: PlanDigest) -> bool:
    return (len(data), hashlib.sha256(data).hexdigest()) == (built.bytes, built.sha256)


def sidecar_path(plan: Path) -> Path:
    """The path of a plan's description."""
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
