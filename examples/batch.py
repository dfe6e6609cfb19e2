"""Answer many prompts at once: python examples/batch.py ARTIFACT.

Each row of the batch has a life of its own: it takes the next prompt as soon as its answer has ended.
"""

from __future__ import annotations

import sys

from minimind_edge.runtime import BatchEngine

QUESTIONS = ["What is the capital of France?", "What is the capital of Japan?", "法国的首都是哪里？", "Who are you?"]

engine = BatchEngine.load(sys.argv[1], slots=4)
requests = [engine.request(question, max_new_tokens=64, greedy=True) for question in QUESTIONS]
answers = {id(request): "" for request in requests}
for ticket, piece in engine.generate_all(requests):
    answers[id(ticket.request)] += piece.text
for question, request in zip(QUESTIONS, requests, strict=True):
    print(f"{question}\n  {answers[id(request)]}")
