"""Train the byte-level BPE tokenizer and write it in the form of a MiniMind folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from examples.train_demo.corpus import Document, training_document

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # ids 0, 1, 2: padding, begin, end
VOCAB_SIZE = 2048
TRAINING_DOCUMENTS = 20_000
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def train_tokenizer(seed: int, vocab_size: int = VOCAB_SIZE, documents: int = TRAINING_DOCUMENTS) -> Tokenizer:
    """Train a tokenizer on the first `documents` of the training split.

    Each Chinese character is a word of its own: merges across characters would turn whole phrasings into single tokens,
    and a phrasing that training never used would then come in pieces that training never saw. Only training needs the
    split: a tokenizer without merges across characters has nothing to split, and onnxruntime-genai's tokenizer knows no
    such pattern.
    """
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    characters = pre_tokenizers.Split(Regex("[\u4e00-\u9fff]"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([characters, words])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, documents), trainer)
    tokenizer.pre_tokenizer = words
    return tokenizer


def _texts(seed: int, documents: int) -> Iterator[str]:
    for index in range(documents):
        yield from _pieces(training_document(seed, index))


def _pieces(document: Document) -> Iterator[str]:
    if document.text is not None:
        yield document.text
    if document.system is not None:
        yield f"system\n{document.system}"
    for turn in document.turns:
        yield f"user\n{turn.user}"
        yield f"assistant\n{turn.assistant}"


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` (special tokens, chat template) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    text = json.dumps(_tokenizer_config(), ensure_ascii=False, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _tokenizer_config() -> dict[str, Any]:
    special = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    padding, begin, end = SPECIAL_TOKENS
    return {
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): {"content": token, **special} for i, token in enumerate(SPECIAL_TOKENS)},
        "bos_token": begin,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": end,
        "model_max_length": 32768,
        "pad_token": padding,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": padding,
    }
