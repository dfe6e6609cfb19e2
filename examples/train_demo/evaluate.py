"""What a model has learned, asked in ways that training never used: facts, sums, stories; and its routing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from examples.train_demo import stories, sums
from examples.train_demo.batches import END, PADDING, Encoder, pad
from examples.train_demo.corpus import LANGUAGES, held_out_document
from examples.train_demo.facts import held_out_questions
from examples.train_demo.topics import topic_pairs
from minimind_edge.minimind import MiniMindForCausalLM, MoEGate

BATCH = 128


@dataclass(frozen=True)
class Question:
    """A prompt of the held-out split; right where the answer equals `exact`, or else names all of `names`."""

    kind: str
    language: str
    prompt: str
    exact: str | None = None
    names: tuple[str, ...] = ()

    def is_right(self, answer: str) -> bool:
        """Judge an answer."""
        return answer == self.exact if self.exact is not None else all(name in answer for name in self.names)


def questions(seed: int = 0, stories_per_language: int = 100) -> list[Question]:
    """Return every held-out question about facts and sums, and stories about unseen pairs of topics."""
    rng = Random(f"questions:{seed}")
    asked = [Question("facts", fact.language, prompt, fact.answer) for prompt, fact in held_out_questions()]
    for language in LANGUAGES:
        for entry in sums.sums():
            prompt = rng.choice(sums.questions(language, *entry, held_out=True))
            asked.append(Question("sums", language, prompt, sums.answer(*entry)))
        for pair in rng.sample(topic_pairs(held_out=True), stories_per_language):
            topics = tuple(rng.sample(pair, 2))
            names = tuple(topic.noun(language) for topic in topics)
            asked.append(Question("topic copy", language, stories.ask(rng, language, topics, True), names=names))
    return asked


def answers(
    model: MiniMindForCausalLM, tokenizer: Tokenizer, prompts: Sequence[str], max_new_tokens: int = 160
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


def scores(asked: Sequence[Question], replies: Sequence[str]) -> dict[str, float]:
    """Return the share of right answers by "kind language"."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for question, reply in zip(asked, replies, strict=True):
        key = f"{question.kind} {question.language}"
        total[key] += 1
        right[key] += question.is_right(reply)
    return {key: right[key] / total[key] for key in sorted(total)}


@torch.inference_mode()
def held_out_loss(model: MiniMindForCausalLM, tokenizer: Tokenizer, documents: int = 512) -> float:
    """Return the mean loss in nats per answer token over documents of the held-out split."""
    encode = Encoder(tokenizer)
    rows = sorted((encode(held_out_document(0, index)) for index in range(documents)), key=lambda row: len(row[0]))
    total, count = 0.0, 0
    for first in range(0, len(rows), BATCH):
        batch = pad(rows[first : first + BATCH])
        due = batch.weights[:, 1:] > 0
        logits = model(batch.input_ids, use_cache=False).logits[:, :-1][due]
        total += float(cross_entropy(logits, batch.input_ids[:, 1:][due], reduction="sum"))
        count += int(due.sum())
    return total / count


@torch.inference_mode()
def expert_shares(model: MiniMindForCausalLM, tokenizer: Tokenizer, documents: int = 512) -> list[list[float]]:
    """Return, per layer, the share of real tokens' routes that each expert takes; they sum to 1."""
    encode = Encoder(tokenizer)
    batch = pad([encode(held_out_document(0, index)) for index in range(documents)])
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
