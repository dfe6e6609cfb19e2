"""The schema of the `.plan.json` next to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from ..artifact.json_file import Count, Name, Size, TokenId, check_json
from ..artifact.manifest import CheckpointEntry, ParityEntry
from ..errors import ArtifactError

FORMAT = 1
"""Newest format of the file that is understood."""


class PlanDigest(msgspec.Struct, frozen=True):
    """The plan that a description belongs to.

    Attributes:
        bytes: Its size in bytes.
        sha256: Hex digest of it.
    """

    bytes: Size
    sha256: Name


class LimitsEntry(msgspec.Struct, frozen=True):
    """What a plan was built for.

    Attributes:
        batch_size: Most rows.
        chunk: Most tokens of a row in one run.
    """

    batch_size: Count
    chunk: Count


class CacheEntry(msgspec.Struct, frozen=True):
    """The key/value cache of a plan, as its description has it; see `CacheLayout`."""

    form: Literal["static", "growing"]
    num_layers: Count
    num_key_value_heads: Count
    head_dim: Count
    capacity: Count
    dtype: Literal["float32", "float16", "bfloat16"]


class TensorEntry(msgspec.Struct, frozen=True):
    """An input or an output of a plan.

    Attributes:
        name: Its name.
        mode: `input` or `output`, None where it is not told.
        dtype: Its element type, None where it is not told.
        shape: Its axes, -1 for one that varies.
    """

    name: Name
    mode: Name | None = None
    dtype: Name | None = None
    shape: tuple[Annotated[int, msgspec.Meta(ge=-1, le=1 << 31)], ...] = ()


class ProfileEntry(msgspec.Struct, frozen=True):
    """An optimisation profile of a plan.

    Attributes:
        name: Such as `decode`.
        shapes: The least, usual and greatest shape of each input.
    """

    name: Name | None = None
    shapes: dict[str, tuple[tuple[Size, ...], ...]] = {}


class SourceGraphEntry(msgspec.Struct, frozen=True):
    """The graph that a plan was built from.

    Attributes:
        file: Its file's name.
        sha256: Hex digest of it.
        opset: Version of the standard operators.
        parity: Outcome of its parity report, None where it was not compared.
    """

    file: Name | None = None
    sha256: Name | None = None
    opset: Count | None = None
    parity: ParityEntry | None = None


class PlanDescription(msgspec.Struct, frozen=True):
    """What a `.plan.json` says; see `Plan` for what is not told here.

    Attributes:
        plan: Size and digest of the plan, None where they are not told.
        limits: What it was built for.
        kv_cache: Form and sizes of its cache.
        profiles: Its optimisation profiles, in its order.
        tensors: Its inputs and outputs.
        checkpoint: Where the weights came from, None where nobody knows.
        config: The model's fields, from which its checkpoint is read again; None where nobody knows.
        graph: What it was built from.
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
    """What is read of a description of any format."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
