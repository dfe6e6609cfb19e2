"""How evenly a mixture of experts shares its work: the share of tokens that each expert is chosen for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ExportError
from ..parity.case import Case, layout_of
from ..parity.runner import SessionRunner, graph_runner
from ..progress import Share
from .examples import BATCH_SIZE, Example, batches

if TYPE_CHECKING:
    from minimind_edge.runtime.session.contract import GraphFacts
    from minimind_edge.runtime.session.model import TokenIds


@dataclass(frozen=True)
class ExpertLoad:
    """The share of all choices that falls to each expert, layer by layer: a layer's shares sum to 1.

    Args:
        layers: The shares of each layer's experts.
    """

    layers: tuple[tuple[float, ...], ...]

    @property
    def least(self) -> float:
        """The smallest share of any expert of any layer."""
        return min(min(layer) for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {"least_share": self.least, "layers": [list(layer) for layer in self.layers]}


def expert_load(
    graph: Path,
    facts: GraphFacts,
    experts: int,
    examples: Sequence[Example],
    progress: Share = lambda done: None,
) -> ExpertLoad:
    """Count which experts the examples' tokens are sent to, context included.

    Args:
        graph: The `.onnx` file of a mixture of experts; it is run on the CPU.
        facts: The graph's metadata and sizes.
        experts: The number of routed experts of a layer.
        examples: At least one.
        progress: Called with the share that is done.

    Raises:
        ExportError: The graph does not show which experts it chooses.
    """
    runner = graph_runner(graph, facts, shows_experts=True)
    counts = np.zeros((facts.num_layers, experts), np.int64)
    done, total = 0, sum(len(example.token_ids) for example in examples)
    for batch in batches(examples, BATCH_SIZE):
        tokens = [ids[:length] for ids, length in zip(batch.token_ids, batch.lengths, strict=True)]
        for layer, chosen in enumerate(_choices(runner, tokens)):
            counts[layer] += np.bincount(chosen, minlength=experts)
        done += int(batch.lengths.sum())
        progress(done / total)
    return ExpertLoad(tuple(tuple((layer / layer.sum()).tolist()) for layer in counts))


def _choices(runner: SessionRunner, rows: Sequence[TokenIds]) -> list[TokenIds]:
    """The experts that the rows' real tokens are sent to, one array for each layer."""
    layout = layout_of([([len(row) for row in rows], "right")])
    (chunk,) = Case("experts", tuple(rows), layout, (layout.shape[1],)).chunks()
    runner.reset(*layout.shape)
    experts = runner.step(chunk).experts
    if experts is None:
        raise ExportError("the graph does not show which experts it chooses: export it again")
    real = (layout >= 0).ravel()
    return [np.asarray(layer.reshape(real.size, -1)[real].ravel(), np.int64) for layer in experts]
