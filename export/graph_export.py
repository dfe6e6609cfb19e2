"""Export of one graph: rounding its weights where requested, then building, writing, measuring and verifying it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifact.graph_file import graph_file
from .artifact.manifest import graph_entry
from .errors import ParityError
from .graph.precision import INTEGERS
from .progress import Progress, part, parts, stage_share
from .request import ExportRequest

if TYPE_CHECKING:
    from minimind_edge.minimind.causal_lm import MiniMindForCausalLM

    from .artifact.tokenizer_files import TokenizerFiles
    from .parity import ParityReport
    from .parity.tolerance import Tolerance
    from .quantization.kv_cache_scales import CalibratedCache
    from .quantization.quantize import QuantizedModel

ROUNDING_SECONDS = {"int8": 9.6, "int4": 17.8}
CACHE_SECONDS, BUILDING_SECONDS, QUALITY_SECONDS, VERIFYING_SECONDS = 5.0, 0.5, 0.7, 3.0
"""The seconds that the stages of an export take, for a model of 26M parameters on two cores."""


def stage_seconds(request: ExportRequest) -> dict[str, float]:
    """The stages of a graph's export, in their order, and the seconds that each takes for a model of 26M parameters."""
    is_rounded, has_int8_cache = request.precision in INTEGERS, request.kv_cache == "int8"
    return {
        "rounding": ROUNDING_SECONDS[request.precision] if is_rounded else 0.0,
        "cache": CACHE_SECONDS if has_int8_cache else 0.0,
        "building": BUILDING_SECONDS,
        "quality": QUALITY_SECONDS if is_rounded or has_int8_cache else 0.0,
        "verifying": VERIFYING_SECONDS if request.verify else 0.0,
    }


BUILT = 0.3
"""The share of the time of building and writing a graph that has passed when it is built."""


@dataclass(frozen=True)
class WrittenGraph:
    """A graph that was written.

    Args:
        entry: The graph's entry of the manifest.
        parity: The parity report; None where it was not verified.
        bits_per_weight: The stored bits of all weights divided by the model's parameters.
        notes: Lines for the user about how the weights were rounded.
    """

    entry: dict[str, Any]
    parity: ParityReport | None
    bits_per_weight: float
    notes: tuple[str, ...]


class GraphExport:
    """Writes the graph of one request.

    Args:
        request: What to export; its target is decided.
        model: The checkpoint's model in float32. Verification frees its weights.
        tokenizer: The tokenizer that calibration texts are encoded with; None where the model has none that fits.
        max_length: The context length in tokens.
        unread_code: What says that the checkpoint has code of its own, for the parity report.
        progress: Called with a stage's name and the share of the graph's work that is done.
    """

    def __init__(
        self,
        request: ExportRequest,
        model: MiniMindForCausalLM,
        tokenizer: TokenizerFiles | None,
        max_length: int,
        *,
        unread_code: Sequence[str],
        progress: Progress,
    ) -> None:
        self._request = request
        self._model = model
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._unread_code = unread_code
        self._stages = parts(progress, stage_seconds(request))

    def write(self, folder: Path) -> WrittenGraph:
        """Write the graph into an artifact folder.

        Raises:
            ParityError: The graph does not compute what the model computes, or rounding cost the model too much.
        """
        request, quantized = self._request, self._quantize()
        computed = self._model if quantized is None else quantized.model
        cached = self._calibrate_cache(computed)
        file = graph_file(request.target, request.precision, request.kv_cache)
        opset, stored_bytes = self._build(computed, quantized, cached, folder / file)
        bits = 8 * stored_bytes / sum(weight.numel() for weight in self._model.parameters())
        quality = self._quality(quantized or cached, folder / file)
        if quality is not None and quantized is not None:
            quality = {"bits_per_weight": round(bits, 3), **quality, "calibration": quantized.calibration}
        parity = self._verify(computed, quantized is not None, folder / file) if request.verify else None
        entry = graph_entry(
            folder,
            file,
            target=request.target,
            precision=request.precision,
            opset=opset,
            max_length=self._max_length,
            kv_cache=request.kv_cache,
            parity=None if parity is None else parity.to_json(),
            quality=quality,
        )
        return WrittenGraph(entry, parity, bits, () if quantized is None else quantized.notes)

    def _quantize(self) -> QuantizedModel | None:
        """The model with its weights rounded; None where the precision rounds none."""
        request = self._request
        if request.precision not in INTEGERS:
            return None
        from .quantization.quantize import quantize_model

        return quantize_model(
            self._model,
            request.precision,
            self._prompts(),
            request.quantization,
            self._stages["rounding"],
            target=request.target,
        )

    def _calibrate_cache(self, computed: MiniMindForCausalLM) -> CalibratedCache | None:
        """The scales of an int8 KV cache, for the model that the graph computes; None where the cache is float."""
        if self._request.kv_cache == "float":
            return None
        from .quantization.kv_cache_scales import calibrate_cache

        progress = part(self._stages["cache"], 0.0, 1.0, "keys and values: ")
        return calibrate_cache(computed, self._prompts(), self._request.quantization, progress)

    def _prompts(self) -> Any:
        from .quantization.calibration import calibration_prompts

        return calibration_prompts(self._tokenizer, self._model.config.bos_token_id)

    def _build(
        self,
        computed: MiniMindForCausalLM,
        quantized: QuantizedModel | None,
        cached: CalibratedCache | None,
        path: Path,
    ) -> tuple[int, int]:
        """Build and write the graph; the version of its standard operators, and the bytes of its weights."""
        from .graph import build_graph, save_graph
        from .graph.onnx_file import weight_bytes

        graph = build_graph(
            computed,
            self._request.target,
            self._request.precision,
            self._max_length,
            progress=part(self._stages["building"], 0.0, BUILT),
            quantized=None if quantized is None else quantized.matrices,
            cache_scales=None if cached is None else cached.scales,
        )
        self._stages["building"]("writing the graph", BUILT)
        save_graph(graph, path)
        return graph.opset_imports[""], weight_bytes(graph)

    def _quality(self, rounded: QuantizedModel | CalibratedCache | None, graph: Path) -> dict[str, Any] | None:
        """The quality that was lost by rounding weights or cache, for the manifest; None where nothing was rounded.

        Raises:
            ParityError: The loss is too large, and the export is to be verified.
        """
        if rounded is None:
            return None
        from .quantization.quality import measure_quality, require_quality

        share = stage_share(self._stages["quality"], "measuring the cost of the rounding", 0.0, 1.0)
        quality = measure_quality(self._model, graph, rounded.held_out, share)
        if self._request.verify:
            require_quality(quality, self._request.precision)
        return quality

    def _verify(self, computed: MiniMindForCausalLM, is_rounded: bool, graph: Path) -> ParityReport:
        """Compare the graph with the eager model of the same (rounded) weights, which allows narrow bounds.

        Raises:
            ParityError: The graph is out of tolerance.
        """
        from .parity import compare
        from .parity.reference import StockModel

        request = self._request
        report = compare(
            StockModel(computed, self._unread_code),
            graph,
            target=request.target,
            precision=request.precision,
            tolerance=_rounded_tolerance(request.target, computed.config.num_hidden_layers) if is_rounded else None,
            release=True,
            progress=part(self._stages["verifying"], 0.0, 1.0, "verifying: "),
        )
        if not report:
            raise ParityError(f"{report.summary()}; nothing was written (--no-verify writes it anyway)")
        return report


def _rounded_tolerance(target: str, num_hidden_layers: int) -> Tolerance:
    """The bounds of an int8 or int4 graph against the model of the rounded weights: it still rounds activations."""
    from .parity.tolerance import rounded_weights_tolerance, tolerance_of

    if target == "tensorrt":
        return tolerance_of("fp16", num_hidden_layers)
    return rounded_weights_tolerance(num_hidden_layers)
