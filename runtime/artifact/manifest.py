"""The `manifest.json` of an artifact: what its graphs are and where they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import ArtifactError
from .json_file import LARGEST, Count, Name, Size, check_json, read_object

MANIFEST = "manifest.json"
"""Name of the file in its folder."""

FORMAT = 1
"""Newest manifest format that is understood."""


class Adapter(msgspec.Struct, frozen=True):
    """A LoRA adapter that was merged into the checkpoint before the export.

    Attributes:
        file: Name of its file, without a folder.
        sha256: Hex digest of that file.
        path: Where it lay at the export, relative to the artifact; None where it is not told.
    """

    file: Name
    sha256: Name
    path: Name | None = None


class CheckpointEntry(msgspec.Struct, frozen=True):
    """The checkpoint that an artifact was exported from.

    Attributes:
        file: Name of its file or folder, without a path.
        sha256: Hex digest of its weights.
        generation: MiniMind's generation, None where it is not told.
        lora: Adapters that were merged, in order.
        path: Where it lay at the export, relative to the artifact; None where it is not told.
    """

    file: Name
    sha256: Name
    path: Name | None = None
    generation: Name | None = None
    lora: tuple[Adapter, ...] = ()


class ParameterCounts(msgspec.Struct, frozen=True):
    """How many parameters a model has.

    Attributes:
        total: All of them; a tied head is counted once.
        active: Those that one token meets; less than `total` in a mixture of experts.
    """

    total: Count | None = None
    active: Count | None = None


class YarnEntry(msgspec.Struct, frozen=True):
    """What of YaRN's parameters is told to people.

    Attributes:
        factor: Of the stretch.
        original_max_position_embeddings: Context length before it, in tokens.
    """

    factor: float | None = None
    original_max_position_embeddings: Count | None = None


class RopeEntry(msgspec.Struct, frozen=True):
    """The rotary position embedding.

    Attributes:
        theta: Its base.
        yarn: None for plain RoPE.
    """

    theta: float | None = None
    yarn: YarnEntry | None = None


class ExpertsEntry(msgspec.Struct, frozen=True):
    """The mixture of experts.

    Attributes:
        n_routed_experts: Experts of a layer that a router chooses from.
        n_shared_experts: Experts of a layer that every token meets.
        num_experts_per_tok: Routed experts that one token meets.
        moe_intermediate_size: Width of an expert.
        normalizes_expert_weights: Whether the chosen experts' weights sum to 1.
    """

    n_routed_experts: Count | None = None
    n_shared_experts: Size | None = None
    num_experts_per_tok: Count | None = None
    moe_intermediate_size: Count | None = None
    normalizes_expert_weights: bool | None = None


class Architecture(msgspec.Struct, frozen=True):
    """Sizes of the model, under the names of its configuration; None where they are not told."""

    generation: Name | None = None
    hidden_size: Count | None = None
    num_hidden_layers: Count | None = None
    num_attention_heads: Count | None = None
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    vocab_size: Count | None = None
    intermediate_size: Count | None = None
    hidden_act: Name | None = None
    rms_norm_eps: float | None = None
    qk_norm: bool | None = None
    tie_word_embeddings: bool | None = None
    max_position_embeddings: Count | None = None
    rope: RopeEntry | None = None
    moe: ExpertsEntry | None = None
    parameters: ParameterCounts | None = None


class ParityLogits(msgspec.Struct, frozen=True):
    """How far a graph's logits are from eager PyTorch's.

    Attributes:
        max_abs: Largest absolute difference of a logit, None where nothing was compared.
        mean_kl: Mean Kullback-Leibler divergence, in nats a token.
    """

    max_abs: float | None = None
    mean_kl: float | None = None


class ParityGreedy(msgspec.Struct, frozen=True):
    """How many of eager's greedy tokens a graph chooses too.

    Attributes:
        equal: Tokens that are the same.
        total: Tokens that were compared.
    """

    equal: Size
    total: Size


class ParityEntry(msgspec.Struct, frozen=True):
    """The outcome of a graph's parity report.

    Attributes:
        passed: Whether every bound held.
        logits: How far the logits are apart.
        greedy: How many greedy tokens are the same, None where none were compared.
    """

    passed: bool = False
    logits: ParityLogits = ParityLogits()
    greedy: ParityGreedy | None = None


class GraphEntry(msgspec.Struct, frozen=True):
    """One graph of an artifact.

    Attributes:
        file: Its name, relative to the folder, as the manifest has it: not yet known to lie inside.
        target: `portable`, `ort` or `tensorrt`.
        precision: `fp32`, `fp16`, `bf16`, `int8` or `int4`.
        cache: Form of the cache of target `tensorrt`, `static` or `growing`.
        kv_cache: What the cache holds, `float` or `int8`.
        opset: Version of the standard operators, None where it is not told.
        max_length: Context length in tokens, None where it is not told.
        sha256: Hex digest of the file, None where it is not told.
        bytes: Size of the graph and its weights in bytes, None where it is not told.
        parity: Outcome of the parity report, None where it was not compared.
        quality: What rounding cost, None where nothing was rounded.
        evaluation: What `eval --save` measured, None where it did not.
        loads_in: Tools that load the graph as it is.
    """

    file: Name
    target: Name
    precision: Name
    cache: Name = "static"
    kv_cache: Name = "float"
    opset: Count | None = None
    max_length: Count | None = None
    sha256: Name | None = None
    bytes: Size | None = None
    parity: ParityEntry | None = None
    quality: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    loads_in: tuple[Name, ...] = ()


class ToolEntry(msgspec.Struct, frozen=True):
    """What wrote an artifact.

    Attributes:
        name: `minimind-edge` for an artifact of this tool.
        version: Its version, None where it is not told.
    """

    name: Name
    version: Name | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What `manifest.json` says.

    Attributes:
        format: Of the file; at most `FORMAT`.
        graphs: At least one.
        default_graph: File of the one to run unless another is asked for, one of `graphs`; None for the first.
        tool: What wrote the artifact, None where it is not told.
        checkpoint: Where the weights came from, None where it is not told.
        architecture: Sizes and parameter counts.
        config: The model's fields, from which its checkpoint is read again; None where it is not told.
        versions: Version of each library that took part in the export.
    """

    format: Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
    graphs: tuple[GraphEntry, ...]
    default_graph: Name | None = None
    tool: ToolEntry | None = None
    checkpoint: CheckpointEntry | None = None
    architecture: Architecture = Architecture()
    config: dict[str, Any] | None = None
    versions: dict[str, str] = {}

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest.

        Args:
            path: The `manifest.json`.

        Raises:
            ArtifactError: The file cannot be read, is no JSON, or see `parse`.
        """
        return cls.parse(read_object(path), str(path))

    @classmethod
    def parse(cls, values: dict[str, Any], where: str) -> Manifest:
        """Check a manifest.

        Args:
            values: The file's content.
            where: The file, for messages.

        Raises:
            ArtifactError: It is of a newer format, a value is missing or of the wrong type, or its default graph is
                none of its graphs.
        """
        version = check_json(values, _Format, where).format
        if version > FORMAT:
            raise ArtifactError(f"{where} has format {version}, this version reads {FORMAT}: upgrade minimind-edge")
        manifest = check_json(values, cls, where)
        if not manifest.graphs:
            raise ArtifactError(f"{where} lists no graph; export the checkpoint again")
        if manifest.default_graph is not None and manifest.entry_of(manifest.default_graph) is None:
            files = ", ".join(graph.file for graph in manifest.graphs)
            raise ArtifactError(f"{where}: default_graph {manifest.default_graph!r} is none of its graphs ({files})")
        return manifest

    @property
    def default(self) -> GraphEntry:
        """The graph to run unless another is asked for."""
        return next((graph for graph in self.graphs if graph.file == self.default_graph), self.graphs[0])

    def entry_of(self, file: str) -> GraphEntry | None:
        """The graph of a file, None where there is none."""
        return next((graph for graph in self.graphs if graph.file == file), None)

    def graph(self, precision: str | None = None) -> GraphEntry:
        """The default graph, or the one of a precision.

        Raises:
            ArtifactError: No graph has that precision.
        """
        for graph in (self.default, *self.graphs):
            if precision in (None, graph.precision):
                return graph
        found = ", ".join(sorted({graph.precision for graph in self.graphs}))
        raise ArtifactError(f"no graph of precision {precision!r} in this artifact, which has {found}; export it first")


class _Format(msgspec.Struct):
    """What is read of a manifest of any format."""

    format: Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
