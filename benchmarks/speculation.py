"""Speculative against plain decoding: the speed-up of each prompt, and whether the tokens are the same.

    python benchmarks/speculation.py ARTIFACT[:PRECISION] ... [--new-tokens 128] [--rounds 5] [--threads 2] [-o FILE]

For each artifact and each prompt, greedy and sampled, plain and speculative runs are interleaved; results are medians
of the time per token after the first. "copy" prompts repeat a text and begin it again, so that the continuation repeats
the prompt. "random" prompts are random tokens, sampled at a temperature where nothing repeats. Writes JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np

from minimind_edge.runtime import Engine, SamplingParams, generate
from minimind_edge.runtime.bench import describe_machine

GREEDY = SamplingParams(greedy=True)
SAMPLED = SamplingParams(temperature=0.8, top_p=0.9, seed=1)
HOT = SamplingParams(temperature=5.0, seed=1)
TEXT = (
    "The garden behind the old house was long and narrow, with a stone path that led from the kitchen door to a small "
    "wooden gate. On the left stood three apple trees, and on the right a row of currant bushes that gave fruit."
)
CODE = 'def read(path):\n    with open(path) as file:\n        return [line.split(",") for line in file]\n\n'


def cases(engine: Engine) -> dict[str, tuple[list[int], SamplingParams]]:
    """The prompts by name, each with its sampling parameters."""
    noise = np.random.default_rng(0).integers(10, engine.session.vocab_size, 96).tolist()
    found = {"random tokens, temperature 5": (noise, HOT)}
    if engine.tokenizer is not None:
        text, code = (engine.tokenizer.encode(each, add_special_tokens=False) for each in (TEXT, CODE))
        copy = f"Repeat this text: {TEXT}"
        found["copy of a text, greedy"] = (text * 3 + text[:8], GREEDY)
        found["copy of code, greedy"] = (code * 3 + code[:8], GREEDY)
        found["copy of a text, sampled"] = (text * 3 + text[:8], SAMPLED)
        found["asked to repeat, greedy"] = (list(engine.prompts.build(copy).token_ids), GREEDY)
        found["a story, sampled"] = (list(engine.prompts.build("Tell me a story about a fox.").token_ids), SAMPLED)
    return found


def run(engine: Engine, prompt: list[int], params: SamplingParams, count: int, *, speculate: bool):
    """Run one generation; return its tokens, seconds per token after the first, and timings."""
    generation = generate(engine.session, [prompt], params, count, speculate=speculate)
    tokens = [step.token_ids[0] for step in generation]
    return tokens, generation.timings.decode_s / generation.timings.decode_steps, generation.timings


def measure(engine: Engine, prompt: list[int], params: SamplingParams, arguments: argparse.Namespace) -> dict:
    """Measure both ways, interleaved, with the order reversed in every other round."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    same, drafted, accepted = [], 0, 0
    for number in range(arguments.rounds + 1):
        tokens = {}
        for speculate in (False, True) if number % 2 else (True, False):
            tokens[speculate], took, timings = run(engine, prompt, params, arguments.new_tokens, speculate=speculate)
            if number:  # the first round warms up
                seconds[speculate].append(took)
                drafted, accepted = drafted + timings.drafted, accepted + timings.accepted
        same.append(tokens[False] == tokens[True])
    ratios = [plain / ahead for plain, ahead in zip(seconds[False], seconds[True], strict=True)]
    return {
        "plain_tokens_per_s": 1 / statistics.median(seconds[False]),
        "speculating_tokens_per_s": 1 / statistics.median(seconds[True]),
        "speed_up": statistics.median(ratios),
        "speed_up_range": [min(ratios), max(ratios)],
        "same_tokens": all(same),
        "drafted_per_run": drafted / arguments.rounds,
        "accepted_per_run": accepted / arguments.rounds,
    }


def main() -> None:
    """Measure, print a line for each case, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", nargs="+")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.artifacts:
        path, _, precision = name.partition(":")
        engine = Engine.load(path, device="cpu", threads=arguments.threads, precision=precision or None)
        size = f"{engine.session.facts.num_layers} layers, vocabulary {engine.session.vocab_size}"
        for case, (prompt, params) in cases(engine).items():
            row = {
                "artifact": Path(path).name,
                "model": size,
                "precision": engine.session.facts.precision,
                "case": case,
            }
            row |= measure(engine, prompt, params, arguments)
            rows.append(row)
            print(
                f"{row['artifact']:12} {row['precision']:5} {case:29} {row['speed_up']:5.2f} x  same tokens: "
                f"{row['same_tokens']}  accepted {row['accepted_per_run']:.0f} of {row['drafted_per_run']:.0f}",
                file=sys.stderr,
            )
    report = {"machine": describe_machine(), "threads": arguments.threads, "rows": rows}
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
