"""The `manifest.json` of an artifact: its graphs, and the checkpoint that they were exported from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import ArtifactError
from .json_file import LARGEST, Count, Name, Size, check_json, read_object

MANIFEST = "manifest.json"
"""The file's name in the artifact folder."""

FORMAT = 1
"""The newest manifest format that this version reads."""


class Adapter(msgspec.Struct, frozen=True):
    """A LoRA adapter that was merged into the checkpoint before the export.

    Attributes:
        file: File name of the adapter, without its folder.
        sha256: Hex digest of that file.
        path: Path of the adapter at the export, relative to the artifact; None if not recorded.
    """

    file: Name
    sha256: Name
    path: Name | None = None


class CheckpointEntry(msgspec.Struct, frozen=True):
    """The checkpoint that an artifact was exported from.

    Attributes:
        file: Name of the checkpoint's file or folder, without its path.
        sha256: Hex digest of the weights.
        generation: MiniMind's generation, None if not recorded.
        lora: Adapters that were merged, in order.
        path: Path of the checkpoint at the export, relative to the artifact; None if not recorded.
        hub: Repository of the Hugging Face Hub that the checkpoint comes from, None for any other place.
        revision: Commit of that repository.
    """

    file: Name
    sha256: Name
    path: Name | None = None
    generation: Name | None = None
    lora: tuple[Adapter, ...] = ()
    hub: Name | None = None
    revision: Name | None = None


class ParameterCounts(msgspec.Struct, frozen=True):
    """The parameter counts of a model.

    Attributes:
        total: Number of all parameters; a tied head is counted once.
        active: Number of parameters that one token uses; less than `total` in a mixture of experts.
    """

    total: Count | None = None
    active: Count | None = None


class YarnEntry(msgspec.Struct, frozen=True):
    """The parameters of YaRN that `inspect` shows.

    Attributes:
        factor: Factor by which YaRN extends the context.
        original_max_position_embeddings: Context length before the extension, in tokens.
    """

    factor: float | None = None
    original_max_position_embeddings: Count | None = None


class RopeEntry(msgspec.Struct, frozen=True):
    """The rotary position embedding.

    Attributes:
        theta: Base of the rotary frequencies.
        yarn: Parameters of YaRN scaling, None for plain RoPE.
    """

    theta: float | None = None
    yarn: YarnEntry | None = None


class ExpertsEntry(msgspec.Struct, frozen=True):
    """The mixture of experts.

    Attributes:
        n_routed_experts: Number of experts of a layer that the router chooses from.
        n_shared_experts: Number of experts of a layer that every token uses.
        num_experts_per_tok: Number of routed experts that one token uses.
        moe_intermediate_size: Inner width of an expert.
        normalizes_expert_weights: Whether the chosen experts' weights sum to 1.
    """

    n_routed_experts: Count | None = None
    n_shared_experts: Size | None = None
    num_experts_per_tok: Count | None = None
    moe_intermediate_size: Count | None = None
    normalizes_expert_weights: bool | None = None


class Architecture(msgspec.Struct, frozen=True):
    """The sizes of the model, under the names of its configuration; None if not recorded."""

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
    """The differences between a graph's logits and eager PyTorch's.

    Attributes:
        max_abs: Largest absolute difference of a logit, None where nothing was compared.
        mean_kl: Mean Kullback-Leibler divergence, in nats a token.
    """

    max_abs: float | None = None
    mean_kl: float | None = None


class ParityGreedy(msgspec.Struct, frozen=True):
    """The agreement of a graph's greedy tokens with eager PyTorch's.

    Attributes:
        equal: Number of tokens that are the same.
        total: Number of tokens that were compared.
    """

    equal: Size
    total: Size


class ParityEntry(msgspec.Struct, frozen=True):
    """The outcome of a graph's parity report.

    Attributes:
        passed: Whether every bound held.
        logits: Differences of the logits.
        greedy: Agreement of the greedy tokens, None where none were compared.
    """

    passed: bool = False
    logits: ParityLogits = ParityLogits()
    greedy: ParityGreedy | None = None


class GraphEntry(msgspec.Struct, frozen=True):
    """One graph of an artifact.

    Attributes:
        file: Path of the graph relative to the folder, as the manifest has it; it may still lead out of the folder.
        target: `portable`, `ort` or `tensorrt`.
        precision: `fp32`, `fp16`, `bf16`, `int8` or `int4`.
        cache: Form of the KV cache of target `tensorrt`, `static` or `growing`.
        kv_cache: Type of the numbers in the KV cache, `float` or `int8`.
        opset: Version of the standard operators, None if not recorded.
        max_length: Context length in tokens, None if not recorded.
        sha256: Hex digest of the file, None if not recorded.
        bytes: Size of the graph and its weights in bytes, None if not recorded.
        parity: Outcome of the parity report, None for a graph that was not compared.
        quality: Measured cost of quantization, None for a graph that is not quantized.
        evaluation: Measurements of `eval --save`, None before its first run.
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
    """The tool that wrote an artifact.

    Attributes:
        name: Name of the tool, `minimind-edge` for this one.
        version: Version of the tool, None if not recorded.
    """

    name: Name
    version: Name | None = None


class Manifest(msgspec.Struct, frozen=True):
    """The content of `manifest.json`.

    Attributes:
        format: Version of the file's format, at most `FORMAT`.
        graphs: Graphs of the artifact, at least one.
        default_graph: File of the graph that runs by default, one of `graphs`; None for the first.
        tool: Tool that wrote the artifact, None if not recorded.
        checkpoint: Checkpoint that the weights came from, None if not recorded.
        architecture: Sizes and parameter counts of the model.
        config: Configuration by which the checkpoint can be read again; None if not recorded.
        versions: Version of each library that the export used, by its name.
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
            ArtifactError: The file cannot be read or is not JSON, or its content is not a manifest, as `parse` checks.
        """
        return cls.parse(read_object(path), str(path))

    @classmethod
    def parse(cls, values: dict[str, Any], where: str) -> Manifest:
        """Check a manifest.

        Args:
            values: The file's content.
            where: The file, for messages.

        Raises:
            ArtifactError: The format is newer, a value is missing or of the wrong type, or the default graph is not
                one of the graphs.
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
        """The graph that runs by default."""
        return next((graph for graph in self.graphs if graph.file == self.default_graph), self.graphs[0])

    def entry_of(self, file: str) -> GraphEntry | None:
        """The entry of the graph in a file, None where there is none."""
        return next((graph for graph in self.graphs if graph.file == file), None)

    def graph(self, precision: str | None = None) -> GraphEntry:
        """The graph of a precision; by default the artifact's default graph.

        Raises:
            ArtifactError: No graph has that precision.
        """
        for graph in (self.default, *self.graphs):
            if precision in (None, graph.precision):
                return graph
        found = ", ".join(sorted({graph.precision for graph in self.graphs}))
        raise ArtifactError(f"no graph of precision {precision!r} in this artifact, which has {found}; export it first")


class _Format(msgspec.Struct):
    """The schema of the one field that manifests of every format have."""

    format: Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
