"""Whoever gives logits for every token of a row: a session, or the model itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindForCausalLM
    from minimind_edge.runtime.session.model import TokenIds
    from minimind_edge.runtime.session.session import Session


class Predictor(Protocol):
    """A causal language model that is shown rows of tokens, some at a time."""

    @property
    def vocab_size(self) -> int:
        """V."""
        ...

    def start(self, batch_size: int) -> None:
        """Forget everything; `batch_size` rows follow."""
        ...

    def extend(self, tokens: TokenIds) -> NDArray[np.float32]:
        """Show every row its next tokens.

        Args:
            tokens: [B, k] int64, k at least 1.

        Returns:
            [B, k, V] float32, what each token is followed by; valid until the next call.
        """
        ...


class SessionPredictor:
    """The artifact as users run it.

    Args:
        session: Of the graph or plan.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def vocab_size(self) -> int:
        """See `Predictor.vocab_size`."""
        return self._session.vocab_size

    def start(self, batch_size: int) -> None:
        """See `Predictor.start`."""
        self._session.reset(batch_size)

    def extend(self, tokens: TokenIds) -> NDArray[np.float32]:
        """See `Predictor.extend`."""
        if self._session.gives_all_logits:
            return self._session.forward(tokens)
        return np.stack([self._session.decode(column).copy() for column in tokens.T], axis=1)


class EagerPredictor:
    """The model in PyTorch, float32.

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: MiniMindForCausalLM) -> None:
        self._model = model
        self._past: Any = None

    @property
    def vocab_size(self) -> int:
        """See `Predictor.vocab_size`."""
        return int(self._model.config.vocab_size)

    def start(self, batch_size: int) -> None:
        """See `Predictor.start`."""
        self._past = None

    def extend(self, tokens: TokenIds) -> NDArray[np.float32]:
        """See `Predictor.extend`."""
        import torch

        with torch.inference_mode():
            ids = torch.from_numpy(np.ascontiguousarray(tokens))
            output = self._model(input_ids=ids, past_key_values=self._past, use_cache=True)
        self._past = output.past_key_values
        return np.asarray(output.logits.float().numpy())
