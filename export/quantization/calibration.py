"""Calibration text, which the model writes itself: it needs no download, and it resembles the text of later use."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from minimind_edge.minimind import MiniMindForCausalLM
from minimind_edge.runtime.sampling import Sampler, SamplingParams
from minimind_edge.runtime.text.chat_template import ChatTemplate
from minimind_edge.runtime.text.prompt import PromptBuilder

from ..progress import Progress, silent
from .author import author_of

if TYPE_CHECKING:
    from ..artifact.tokenizer_files import TokenizerFiles

SAMPLING = SamplingParams(temperature=0.9, top_k=50, top_p=0.95, seed=20250426)
"""Top-k leaves few tokens for top-p to sort, which sorts most of the vocabulary where a model is unsure."""

PROMPT_SHARE = 0.5
"""The largest share of a row that its prompt may take; the end of a longer prompt is cut off."""

MESSAGES = (
    "Explain how photosynthesis works.",
    "Write a short story about a fox and a bridge.",
    "What is the capital of France?",
    "Give me three tips for sleeping better.",
    "Write a Python function that reverses a list.",
    "What are the rules of chess?",
    "Translate into French: The weather is nice today.",
    "Summarize the history of the Roman Empire.",
    "Write an e-mail that asks for a day off.",
    "How do I cook rice?",
    "What is 17 times 23? Show each step.",
    "List five animals that live in the sea, and say something of each.",
    "Who are you?",
    "Why is the sky blue?",
    "What is the difference between a contract and a licence?",
    "Compare cats and dogs in a table.",
    "解释一下什么是机器学习。",
    "写一个关于月亮的小故事。",
    "中国的首都是哪里？",
    "怎样才能睡得更好？",
    "请用 Python 写一个求最大值的函数。",
    "介绍一下长江。",
    "把这句话翻译成英文：今天天气很好。",
    "写一封请假的邮件。",
    "怎么做番茄炒鸡蛋？",
    "36 加 48 等于多少？请一步一步地算。",
    "列出五种水果，并各说一句话。",
    "你是谁？",
    "为什么天空是蓝色的？",
    "推荐几本好书。",
    "什么是合同？",
    "写一首关于春天的诗。",
)
"""User messages, for models with a chat template."""

OPENINGS = (
    "The ",
    "In 1923, ",
    "It is important to note that ",
    "Abstract. ",
    "Chapter 1\n\n",
    "def ",
    "You may ",
    "Dear ",
    "According to the ",
    "# Introduction\n\n",
    "Q: ",
    "Once upon a time, ",
    "Section 1. ",
    "Most people ",
    "1. ",
    "News: ",
    "在",
    "中国",
    "第一章",
    "从前",
    "根据",
    "我们",
    "问：",
    "一、",
)
"""The first words of raw texts, which a model that is only pretrained continues."""


def written_text(
    model: MiniMindForCausalLM,
    prompts: Sequence[Sequence[int]],
    rows: int,
    length: int,
    progress: Progress | None = None,
) -> torch.Tensor:
    """Let a model write text, sampled after the prompts, one prompt after the other.

    Sampling goes on after the end of an answer: a chat model opens the next turn itself. MiniMind writes by a session
    of its own int8 graph, see `author_of`.

    Args:
        model: MiniMind, or any other module with its `forward`; in float32, in eval mode, with finite logits.
        prompts: Token ids, at least one prompt of at least one token.
        rows: Number of texts.
        length: Tokens of each text, its prompt included.
        progress: Called with a stage's name and the share that is done.

    Returns:
        [rows, length] int64; the same model always writes the same text on the same machine.
    """
    tell = progress or silent
    most = max(1, int(length * PROMPT_SHARE))
    text = [list(prompt[:most]) for prompt in itertools.islice(itertools.cycle(prompts), rows)]
    sampler = Sampler(SAMPLING)
    start = min(map(len, text))
    tell("writing calibration text", 0.0)
    with author_of(model, length) as author:
        # A row whose prompt is longer than the shortest takes the tokens of its prompt first: no row is ever padded.
        logits = author.prefill(np.array([row[:start] for row in text]))
        for column in range(start, length):
            for row, token in zip(text, sampler(logits).tolist(), strict=True):
                if column == len(row):
                    row.append(token)
            tell("writing calibration text", (column + 1 - start) / (length - start))
            if column + 1 < length:
                logits = author.decode(np.array([row[column] for row in text]))
    return torch.tensor(text)


def calibration_prompts(tokenizer: TokenizerFiles | None, bos_token_id: int | None) -> list[tuple[int, ...]]:
    """The prompts of calibration text: chat messages and the openings of raw texts, alternating.

    Args:
        tokenizer: The model's tokenizer; without one, the only prompt is the bos token.
        bos_token_id: The bos token; None for 0.
    """
    if tokenizer is None:
        return [(0 if bos_token_id is None else bos_token_id,)]
    backend = tokenizer.load()
    template = None
    if tokenizer.chat_template is not None:
        template = ChatTemplate({"default": tokenizer.chat_template}, backend.special_tokens)
    build = PromptBuilder(backend, template).build
    openings = [build(text, raw=True).token_ids for text in OPENINGS]
    if template is None:
        return openings
    messages = [build(text).token_ids for text in MESSAGES]
    pairs = itertools.zip_longest(messages, openings)
    return [prompt for pair in pairs for prompt in pair if prompt is not None]
