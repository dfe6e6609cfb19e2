"""The training run: its settings and seed, one step, the schedule, and resuming."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from examples.train_demo.batches import Batch, Encoder, training_batches
from examples.train_demo.checkpoint import save_whole
from examples.train_demo.corpus import BROAD, STORIES
from examples.train_demo.muon import Muon
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

STATE_NAME = "training_state.pt"


@dataclass(frozen=True)
class Settings:
    """The settings of a run; the same ones give the same checkpoint on the same machine and thread count.

    Attributes:
        steps: The number of optimizer steps of the whole run.
        stories_from: The step from which more stories are drawn; None for never.
        decay: The number of last steps, in which the learning rates fall to 0; before these, a run can be resumed with
            another value of `steps`.
        documents: The number of documents per step.
        max_tokens: The most padded tokens per forward pass.
        muon_lr: The step size of Muon, for the blocks' matrices.
        adam_lr: The step size of AdamW, for embedding, norms and routers.
    """

    hidden_size: int = 256
    num_hidden_layers: int = 4
    intermediate_size: int = 512
    moe: bool = False
    moe_intermediate_size: int = 128
    aux_loss_alpha: float = 0.02
    seed: int = 1
    steps: int = 1000
    stories_from: int | None = None
    decay: int = 800
    documents: int = 32
    max_tokens: int = 1536
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    weight_decay: float = 0.05
    warmup: int = 20


def demo_settings(moe: bool, seed: int = Settings.seed, steps: int | None = None) -> Settings:
    """Return the settings of the bundled checkpoints.

    The mixture of experts took longer to learn Chinese stories about two topics, and so is trained on more of them.
    """
    if moe:
        return Settings(moe=True, seed=seed, steps=steps or 2300, stories_from=1400)
    return Settings(seed=seed, steps=steps or 2200)


@dataclass(frozen=True)
class Progress:
    """The progress after a step: the step's number, its mean loss in nats per answer token, and its tokens."""

    step: int
    loss: float
    tokens: int


class Trainer:
    """Owns model and optimizers, and takes the run's steps in order.

    Args:
        settings: The settings of the run.
        tokenizer: The tokenizer, trained on the same corpus.
        folder: The folder of the state; a run whose state is there is resumed.

    Raises:
        ValueError: The state in `folder` belongs to other settings.
    """

    def __init__(self, settings: Settings, tokenizer: Tokenizer, folder: Path) -> None:
        self.settings = settings
        self.step = 0
        torch.manual_seed(settings.seed)
        self.model = MiniMindForCausalLM(model_config(settings, tokenizer.get_vocab_size())).train()
        self._encode = Encoder(tokenizer)
        self._state_path = folder / STATE_NAME
        matrices = [p for name, p in self.model.model.layers.named_parameters() if _is_hidden_matrix(name, p)]
        chosen = {id(p) for p in matrices}
        others = [p for p in self.model.parameters() if id(p) not in chosen]
        self._optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=settings.muon_lr, weight_decay=settings.weight_decay),
            torch.optim.AdamW(others, lr=settings.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]
        self._peaks = [settings.muon_lr, settings.adam_lr]
        if self._state_path.exists():
            self._load()

    def run(self) -> Iterator[Progress]:
        """Take the remaining steps, yielding after each."""
        while self.step < self.settings.steps:
            yield self._take_step()

    def _take_step(self) -> Progress:
        settings = self.settings
        mix = BROAD if settings.stories_from is None or self.step < settings.stories_from else STORIES
        batches = training_batches(
            self._encode, settings.seed, self.step, mix, documents=settings.documents, max_tokens=settings.max_tokens
        )
        total = sum(float(batch.weights.sum()) for batch in batches)
        tokens = sum(batch.input_ids.numel() for batch in batches)
        loss = 0.0
        for batch in batches:
            answer_loss, aux_loss = self._losses(batch)
            share = batch.input_ids.numel() / tokens
            (answer_loss / total + aux_loss * share).backward()
            loss += float(answer_loss.detach()) / total
        self._update()
        self.step += 1
        return Progress(self.step, loss, tokens)

    def _losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted sum of the answers' cross-entropy, and the routers' balancing loss.

        Logits are computed only where the loss weight is not 0; padding comes after all real tokens, so the causal mask
        hides it.
        """
        with torch.autocast("cpu", torch.bfloat16):
            hidden_states, _, aux_loss = self.model.model(batch.input_ids)
            targets, weights = batch.input_ids[:, 1:].flatten(), batch.weights[:, 1:].flatten()
            due = weights.nonzero().squeeze(1)
            logits = self.model.lm_head(hidden_states[:, :-1].flatten(0, 1)[due])
        losses = cross_entropy(logits.float(), targets[due], reduction="none")
        return (losses * weights[due]).sum(), aux_loss

    def _update(self) -> None:
        factor = learning_rate_factor(self.step, self.settings)
        for optimizer, peak in zip(self._optimizers, self._peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def save(self) -> None:
        """Write the state to resume from."""
        state = {
            "settings": asdict(self.settings),
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        save_whole(state, self._state_path)

    def _load(self) -> None:
        state = torch.load(self._state_path, weights_only=True)
        if state["settings"] | {"steps": self.settings.steps} != asdict(self.settings):
            raise ValueError(f"{self._state_path} is of other settings: resume with those, or name another folder")
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def model_config(settings: Settings, vocab_size: int) -> MiniMindConfig:
    """Return the architecture of a run.

    It has eight heads, because a reader of a bare MiniMind2 checkpoint has to assume that. Attention is written out in
    training: on a CPU its backward pass takes a quarter of the time of the fused one's.
    """
    return MiniMindConfig(
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_hidden_layers,
        intermediate_size=settings.intermediate_size,
        vocab_size=vocab_size,
        use_moe=settings.moe,
        moe_intermediate_size=settings.moe_intermediate_size,
        aux_loss_alpha=settings.aux_loss_alpha,
        flash_attn=False,
    )


def learning_rate_factor(step: int, settings: Settings) -> float:
    """Return the factor of the peak learning rates: a linear rise, a plateau, a linear fall to 0."""
    rise = (step + 1) / settings.warmup
    fall = (settings.steps - step) / settings.decay
    return min(1.0, rise, fall)


def _is_hidden_matrix(name: str, param: torch.nn.Parameter) -> bool:
    return param.ndim == 2 and not name.endswith("mlp.gate.weight")
