"""What the given artifacts answer, and their logits along a text; `test_arm64.py` compares two machines by it.

python scripts/arm64_answers.py OUTPUT.npz ARTIFACT ...
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minimind_edge.runtime import Engine

PROMPTS = ("What is the capital of France?", "你是谁？")
"""Questions whose answers the demos know: the likeliest token is 3 or more ahead of the second one at each step.

A story's next token is often a matter of 0.01, which the rounding of int8 and int4 decides, on each processor in its
own way; so a story's logits are compared, and not the tokens chosen by them.
"""

STORY = "One sunny morning, a happy fox went for a walk. 一个晴朗的早晨，一只好奇的狐狸出门散步。"
NEW_TOKENS = 24


def main() -> None:
    """Write the name of this machine's processor type, and each artifact's tokens and logits."""
    found: dict[str, NDArray[Any]] = {"machine": np.array(platform.machine())}
    for path in map(Path, sys.argv[2:]):
        engine = Engine.load(path)
        answers = [engine.generate(prompt, greedy=True, max_new_tokens=NEW_TOKENS).token_ids for prompt in PROMPTS]
        found[f"{path.name} tokens"] = np.array([token for answer in answers for token in answer])
        found[f"{path.name} logits"] = logits_along(engine, STORY)
    np.savez(sys.argv[1], **found)


def logits_along(engine: Engine, text: str) -> NDArray[np.float32]:
    """The logits after each token of a text, `[S, V]`: of its first half from one run, of the others one by one.

    A run of many tokens and that of one are different kernels.
    """
    ids = np.array([engine.prompts.build(text, raw=True).token_ids])
    half = ids.shape[1] // 2
    engine.session.reset()
    rows = [engine.session.forward(ids[:, :half])[0].copy()]
    rows += [engine.session.decode(ids[:, position]).copy() for position in range(half, ids.shape[1])]
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
