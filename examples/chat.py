"""A conversation in the terminal, with the model's thinking told apart: python examples/chat.py ARTIFACT."""

from __future__ import annotations

import sys

from minimind_edge.runtime import Engine, ThinkSplitter

engine = Engine.load(sys.argv[1])
chat = engine.chat(max_new_tokens=256, greedy=True)
for line in sys.stdin:
    answer = chat.send(line.strip())
    splitter = ThinkSplitter(answer.prompt.opens_thinking)
    thought = [segment for piece in answer for segment in splitter.push(piece)] + splitter.finish()
    for kind, text in thought:
        print(f"(thinking) {text}" if kind == "think" else text, end="")
    print()

print(f"{len(chat.messages)} messages", file=sys.stderr)
