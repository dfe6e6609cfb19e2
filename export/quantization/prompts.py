"""What a model is asked, so that it writes the text it is calibrated on: all kinds of text, in both languages."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from minimind_edge.runtime.text.chat_template import ChatTemplate
from minimind_edge.runtime.text.prompt import PromptBuilder

if TYPE_CHECKING:
    from ..artifact.tokenizer_files import TokenizerFiles

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
"""Of users, for models with a chat template."""

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
"""Of texts, which are raw: how a model that is pretrained only goes on."""


def calibration_prompts(tokenizer: TokenizerFiles | None, bos_token_id: int | None) -> list[tuple[int, ...]]:
    """What a model writes its calibration text behind: messages and openings by turns.

    Args:
        tokenizer: The model's; without one, the text begins with the token that begins every text.
        bos_token_id: That token; None for 0.
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
