"""The schema of the `.plan.json` next to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from ..artifact.json_file import Count, Name, Size, TokenId, check_json
from ..artifact.manifest import CheckpointEntry, ParityEntry
from ..errors import ArtifactError

FORMAT = 1
"""The newest format of the file that this version reads."""


class PlanDigest(msgspec.Struct, frozen=True):
    """The size and digest of the plan that a description belongs to.

    Attributes:
        bytes: Size of the plan in bytes.
        sha256: Hex digest of the plan.
    """

    bytes: Size
    sha256: Name


class LimitsEntry(msgspec.Struct, frozen=True):
    """The limits of a plan.

    Attributes:
        batch_size: Most rows.
        chunk: Most tokens of a row in one run.
    """

    batch_size: Count
    chunk: Count


class CacheEntry(msgspec.Struct, frozen=True):
    """The KV cache of a plan, as its description records it."""

    form: Literal["static", "growing"]
    num_layers: Count
    num_key_value_heads: Count
    head_dim: Count
    capacity: Count
    dtype: Literal["float32", "float16", "bfloat16"]


class TensorEntry(msgspec.Struct, frozen=True):
    """An input or an output of a plan.

    Attributes:
        name: Name of the input or output.
        mode: `input` or `output`, None if not recorded.
        dtype: Element type, None if not recorded.
        shape: Size of each axis, -1 for one that varies.
    """

    name: Name
    mode: Name | None = None
    dtype: Name | None = None
    shape: tuple[Annotated[int, msgspec.Meta(ge=-1, le=1 << 31)], ...] = ()


class ProfileEntry(msgspec.Struct, frozen=True):
    """An optimization profile of a plan.

    Attributes:
        name: Name of the profile, such as `decode`.
        shapes: The least, usual and greatest shape of each input.
    """

    name: Name | None = None
    shapes: dict[str, tuple[tuple[Size, ...], ...]] = {}


class SourceGraphEntry(msgspec.Struct, frozen=True):
    """The graph that a plan was built from.

    Attributes:
        file: File name of the graph.
        sha256: Hex digest of the file.
        opset: Version of the standard operators.
        parity: Outcome of the graph's parity report, None for a graph that was not compared.
    """

    file: Name | None = None
    sha256: Name | None = None
    opset: Count | None = None
    parity: ParityEntry | None = None


class PlanDescription(msgspec.Struct, frozen=True):
    """The content of a `.plan.json`; the other fields are those of `Plan`.

    Attributes:
        plan: Size and digest of the plan, None if not recorded.
        limits: Most rows and tokens of a run.
        kv_cache: Form and sizes of the KV cache.
        profiles: Optimization profiles, in the plan's order.
        tensors: Inputs and outputs of the plan.
        checkpoint: Checkpoint that the weights came from, None if not recorded.
        config: Configuration by which the checkpoint can be read again; None if not recorded.
        graph: Graph that the plan was built from.
    """

    format: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
    backend: Literal["tensorrt", "rtx"]
    backend_version: Name
    compute_capabilities: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]
    precision: Name
    limits: LimitsEntry
    vocab_size: Count
    kv_cache: CacheEntry
    plan: PlanDigest | None = None
    eos_token_ids: TokenId | tuple[TokenId, ...] = ()
    profiles: tuple[ProfileEntry, ...] = ()
    tensors: tuple[TensorEntry, ...] = ()
    checkpoint: CheckpointEntry | None = None
    config: dict[str, Any] | None = None
    graph: SourceGraphEntry = SourceGraphEntry()

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str) -> PlanDescription:
        """Check the content of a `.plan.json`.

        Args:
            values: The file's content.
            where: The file, for messages.

        Raises:
            ArtifactError: A value is missing or wrong, or the format is newer than this version's.
        """
        if (version := check_json(values, _Format, where).format) > FORMAT:
            raise ArtifactError(f"{where} has format {version}, this version reads {FORMAT}: upgrade minimind-edge")
        return check_json(values, cls, where)


class _Format(msgspec.Struct):
    """The schema of the one field that descriptions of every format have."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
