"""What rounding cost a model, measured by its graph on text that the rounding did not see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.load import load_session

from ..errors import ParityError
from ..evaluation.likelihood import measure_likelihood
from ..evaluation.predictor import EagerPredictor, SessionPredictor
from ..evaluation.row import Row

if TYPE_CHECKING:
    import torch

    from minimind_edge.minimind import MiniMindForCausalLM

    from .quantize import QuantizedModel

KL_BOUNDS = {"fp32": 0.03, "fp16": 0.03, "int8": 0.03, "int4": 0.5}
"""Most that a model may be away from its float32 self, nats a token. Eight bits cost trained models 0.002 to 0.005;
four, with what makes up for it, 0.02 to 0.2, and without it 0.4: a model beyond that is not worth its bytes. Floats
lose next to nothing by themselves: there it is a cache of eight bits, which may cost what weights of eight bits may."""


def measure_quality(
    model: MiniMindForCausalLM, graph: Path, held_out: torch.Tensor, quantized: QuantizedModel | None
) -> dict[str, Any]:
    """The `quality` of a graph in the manifest.

    Args:
        model: The float model.
        graph: The file.
        held_out: Text that the rounding did not see, [N, S] int64.
        quantized: What the graph was made from; None where its weights are the model's.
    """
    rows = [Row(tuple(row), 1) for row in held_out.tolist()]
    session = load_session(graph, device="cpu")
    found = measure_likelihood(rows, SessionPredictor(session), EagerPredictor(model))
    return {
        **({} if quantized is None else {"bits_per_weight": round(quantized.bits_per_weight, 3)}),
        "mean_kl": found.mean_kl,
        "top1_agreement": found.top1_agreement,
        "perplexity": found.perplexity,
        "reference_perplexity": found.reference_perplexity,
        "tokens": found.tokens,
        **({} if quantized is None else {"calibration": quantized.calibration}),
    }


def require_quality(quality: dict[str, Any], precision: str) -> None:
    """See that a model is still itself.

    Raises:
        ParityError: It is too far from its float32 self.
    """
    bound = KL_BOUNDS[precision]
    if not quality["mean_kl"] <= bound:
        raise ParityError(
            f"mean KL from float32 is {quality['mean_kl']:.3g} nats, bound {bound:.3g} for {precision}: the model does "
            "not bear the rounding; choose a wider precision or --kv-cache float (--no-verify writes it all the same)"
        )
