"""A tokenizer of 6,400 tokens for models with random weights: every token that they can write has a text.

The demo's tokenizer is smaller than the vocabulary of the models, and the answers of random weights would be tokens
without a text, which servers do not send.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..peers.preparation import PROJECT

VOCABULARY = 6400

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""MiniMind's special tokens, ids 0 to 2."""


def write_tokenizer(folder: Path) -> Path:
    """Write a byte-level BPE, trained on this project's documentation and code, unless it is there; gives the folder.

    The text is reduced to ASCII, so that only 128 single bytes are no whole characters.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if (folder / "tokenizer_config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    paths = sorted([*(PROJECT / "docs").rglob("*.md"), *(PROJECT / "runtime").rglob("*.py")])
    text = [path.read_text(encoding="utf-8") for path in paths]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([part.encode("ascii", "ignore").decode("ascii") for part in text], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "pad_token": SPECIAL[0], "unk_token": SPECIAL[0]}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 32768, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))  # last: marks it complete
    return folder
