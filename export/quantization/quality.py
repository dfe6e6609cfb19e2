"""The cost of quantization, measured by the graph on text that the rounding did not see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.load import load_session

from ..errors import ParityError
from ..evaluation.examples import Example
from ..evaluation.likelihood import EagerLanguageModel, SessionLanguageModel, measure_likelihood
from ..progress import Share

if TYPE_CHECKING:
    import torch

    from minimind_edge.minimind import MiniMindForCausalLM

KL_BOUNDS = {"fp32": 0.03, "fp16": 0.03, "int8": 0.03, "int4": 0.5}
"""The largest mean KL divergence from the float32 model that an export accepts, in nats per token. int8 costs trained
models 0.002 to 0.005. int4 costs 0.02 to 0.2 with GPTQ and 0.4 without; a model beyond 0.5 is not worth its bytes. fp32
and fp16 lose next to nothing by themselves: their bound is for an int8 KV cache, which may cost as much as int8."""


def measure_quality(
    model: MiniMindForCausalLM, graph: Path, held_out: torch.Tensor, progress: Share = lambda done: None
) -> dict[str, Any]:
    """The divergence of a graph from the float model, as the manifest has it.

    Args:
        model: The float model.
        graph: The graph's file.
        held_out: Text that the rounding did not see, [N, S] int64.
        progress: Called with the share that is done.
    """
    rows = [Example(tuple(row), 1) for row in held_out.tolist()]
    session = load_session(graph, device="cpu", native=False)
    found = measure_likelihood(rows, SessionLanguageModel(session), EagerLanguageModel(model), progress=progress)
    return {
        "mean_kl": found.mean_kl,
        "top1_agreement": found.top1_agreement,
        "perplexity": found.perplexity,
        "reference_perplexity": found.reference_perplexity,
        "tokens": found.tokens,
    }


def require_quality(quality: dict[str, Any], precision: str) -> None:
    """Check that a graph is near enough to the float32 model.

    Raises:
        ParityError: The graph diverges from the float32 model by more than its bound.
    """
    bound = KL_BOUNDS[precision]
    if not quality["mean_kl"] <= bound:
        raise ParityError(
            f"mean KL from float32 is {quality['mean_kl']:.3g} nats, bound {bound:.3g} for {precision}: the rounding "
            "costs this model too much; choose a wider precision or --kv-cache float "
            "(--no-verify writes it anyway)"
        )
