"""Evaluation of a model in training, in PyTorch: answers, loss and routing.

The questions, the documents and the judge are those of `minimind-export eval`, which measures exported models.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from examples.train_demo.batches import END, PADDING, Encoder, pad
from examples.train_demo.corpus import Document, Turn
from minimind_edge.export import evaluation
from minimind_edge.export.evaluation import Question
from minimind_edge.export.evaluation.questions import FREE_ANSWER_TOKENS
from minimind_edge.minimind import MiniMindForCausalLM, MoEGate

BATCH = 128


def scores(asked: Sequence[Question], replies: Sequence[str]) -> dict[str, float]:
    """Return the share of right answers by "kind language"."""
    judged = ((question, question.is_right(reply)) for question, reply in zip(asked, replies, strict=True))
    found = evaluation.scores(judged)
    return {f"{kind} {name}": score.share for kind, languages in found.items() for name, score in languages.items()}


def answers(
    model: MiniMindForCausalLM, tokenizer: Tokenizer, prompts: Sequence[str], max_new_tokens: int = FREE_ANSWER_TOKENS
) -> list[str]:
    """Answer each prompt greedily, as a chat's first turn."""
    encoded = [
        tokenizer.encode(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n").ids for prompt in prompts
    ]
    order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
    replies = [""] * len(prompts)
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        for index, ids in zip(chosen, _greedy(model, [encoded[i] for i in chosen], max_new_tokens), strict=True):
            replies[index] = tokenizer.decode(ids)
    return replies


@torch.inference_mode()
def _greedy(model: MiniMindForCausalLM, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """Continue left-padded prompts, dropping each row from the batch when it has ended."""
    width = max(map(len, prompts))
    step = torch.tensor([[PADDING] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    replies: list[list[int]] = [[] for _ in prompts]
    rows, past = torch.arange(len(prompts)), None
    for _ in range(max_new_tokens):
        output = model(step, attention_mask=mask, past_key_values=past, use_cache=True, logits_to_keep=1)
        tokens = output.logits[:, -1].argmax(-1)
        running = tokens != END
        rows, tokens, mask = rows[running], tokens[running], mask[running]
        if not len(rows):
            break
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            replies[row].append(token)
        past = output.past_key_values
        if not running.all():
            past = tuple((key[running], value[running]) for key, value in past)
        step = tokens[:, None]
        mask = torch.cat((mask, mask.new_ones(len(rows), 1)), dim=1)
    return replies


@torch.inference_mode()
def held_out_loss(model: MiniMindForCausalLM, tokenizer: Tokenizer, documents: Sequence[evaluation.Document]) -> float:
    """Return the mean loss in nats per answer token over documents of the held-out split."""
    rows = sorted(_encoded(tokenizer, documents), key=lambda row: len(row[0]))
    total, count = 0.0, 0
    for first in range(0, len(rows), BATCH):
        batch = pad(rows[first : first + BATCH])
        due = batch.weights[:, 1:] > 0
        logits = model(batch.input_ids, use_cache=False).logits[:, :-1][due]
        total += float(cross_entropy(logits, batch.input_ids[:, 1:][due], reduction="sum"))
        count += int(due.sum())
    return total / count


def _encoded(tokenizer: Tokenizer, documents: Sequence[evaluation.Document]) -> list[tuple[list[int], list[float]]]:
    encode = Encoder(tokenizer)
    return [encode(Document((Turn(document.prompt, document.answer),))) for document in documents]


@torch.inference_mode()
def expert_shares(
    model: MiniMindForCausalLM, tokenizer: Tokenizer, documents: Sequence[evaluation.Document]
) -> list[list[float]]:
    """Return, per layer, the share of real tokens' routes that each expert takes; they sum to 1."""
    batch = pad(_encoded(tokenizer, documents))
    real = (batch.input_ids != PADDING).flatten()
    shares: list[list[float]] = []

    def record(gate: torch.nn.Module, inputs: object, routed: tuple[torch.Tensor, ...]) -> None:
        counts = torch.bincount(routed[0][real].flatten(), minlength=model.config.n_routed_experts)
        shares.append((counts / counts.sum()).tolist())

    gates = [module for module in model.modules() if isinstance(module, MoEGate)]
    handles = [gate.register_forward_hook(record) for gate in gates]
    model(batch.input_ids, use_cache=False, logits_to_keep=1)
    for handle in handles:
        handle.remove()
    return shares
