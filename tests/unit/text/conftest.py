from __future__ import annotations

import json

import numpy as np
import pytest
import tokenizers

from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.runtime.artifact.tokenizer_config import JsonObject
from minimind_edge.runtime.errors import ContextLengthError
from minimind_edge.runtime.text.tokenizer import Tokenizer


class FakeSession:
    """A session whose next token follows from the real tokens it holds: `(31 * sum + 7 * count) % vocab_size`."""

    gives_all_logits = True
    device = "cpu"

    def __init__(self, vocab_size=50, max_length=40):
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.calls = []
        self.fail_in = None
        self.reset()

    @property
    def batch_size(self):
        return len(self.rows)

    @property
    def length(self):
        return len(self.rows[0])

    def reset(self, batch_size=1):
        self.rows = [[] for _ in range(batch_size)]
        self.calls.append(("reset", batch_size))

    def truncate(self, length):
        assert 0 <= length <= self.length
        self.rows = [row[:length] for row in self.rows]
        self.calls.append(("truncate", length))

    def prefill(self, input_ids, attention_mask=None):
        mask = np.ones_like(input_ids) if attention_mask is None else attention_mask
        assert input_ids.dtype == mask.dtype == np.int64
        assert input_ids.shape == mask.shape
        assert len(input_ids) == self.batch_size
        self.calls.append(("prefill", input_ids.tolist()))
        return self._append(np.where(mask == 1, input_ids, -1))

    def decode(self, tokens):
        assert tokens.dtype == np.int64
        assert tokens.shape == (self.batch_size,)
        self.calls.append(("decode", tokens.tolist()))
        return self._append(tokens[:, None])

    def forward(self, tokens):
        assert tokens.dtype == np.int64
        assert len(tokens) == self.batch_size
        self.calls.append(("forward", tokens.tolist()))
        if self.length + tokens.shape[1] > self.max_length:
            raise ContextLengthError("the context is full")
        return np.stack([self._append(column[:, None]) for column in tokens.T], axis=1)

    def _append(self, slots):
        if self.length + slots.shape[1] > self.max_length:
            raise ContextLengthError("the context is full")
        for row, new in zip(self.rows, slots.tolist(), strict=True):
            row.extend(new)
        if self.fail_in is not None:
            self.fail_in -= 1
            if self.fail_in == 0:
                raise KeyboardInterrupt
        logits = np.zeros((self.batch_size, self.vocab_size), np.float32)
        logits[np.arange(self.batch_size), [self.next_token(row) for row in self.rows]] = 9
        return logits

    def next_token(self, row):
        real = [token for token in row if token >= 0]
        return (31 * sum(real) + 7 * len(real)) % self.vocab_size

    def expected(self, prompt, count):
        """The `count` greedy tokens behind a prompt, without any cache."""
        row = list(prompt)
        for _ in range(count):
            row.append(self.next_token(row))
        return row[len(prompt) :]


@pytest.fixture
def session():
    return FakeSession()


@pytest.fixture
def make_session():
    return FakeSession


CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on in the warm sun of the afternoon.",
    "Hello! How are you today? I'm fine, thank you; what can I do for you?",
    "你好！请介绍一下你自己。我是一个小小的语言模型，很高兴认识你。今天天气很好，我们去公园散步吧。",
    "Ça va? Où est la bibliothèque? Größe, Straße, übermütig. Привет, мир! こんにちは世界。",
    "def f(x):\n    return x * 2\n\n\tfor i in range(10):\n        print(i)\n",
    "😀 👍🏽 👨‍👩‍👧 🎉 e\u0301 ¡olé! ½ ™ ←→",
]
CHATML = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    """`tokenizer.json` and `tokenizer_config.json` of a small byte-level BPE, with a ChatML template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=420, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in ("<think>", "</think>")])
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "add_bos_token": False,
        "add_eos_token": False,
        "bos_token": "<|im_start|>",
        "eos_token": {"content": "<|im_end|>", "lstrip": False, "__type": "AddedToken"},
        "pad_token": "<|endoftext|>",
        "chat_template": CHATML,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder):
    return Tokenizer.load(
        tokenizer_folder / "tokenizer.json", JsonObject.read(tokenizer_folder / "tokenizer_config.json")
    )


@pytest.fixture(scope="session")
def tokenizer_folders(tokenizer_folder, shared_folder):
    """The small tokenizer, and upstream's own where they are at hand."""
    upstream = shared_folder and sorted((shared_folder / "data" / "tokenizers").glob("*"))
    return [tokenizer_folder, *(upstream or [])]


@pytest.fixture(scope="session")
def demo_folder():
    """The bundled demo checkpoint with its tokenizer."""
    return bundled_checkpoint(moe=False).parent


@pytest.fixture(scope="session")
def corpus():
    return CORPUS
