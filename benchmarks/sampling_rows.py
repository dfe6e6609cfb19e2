"""Sampling the rows of a batch together against one by one: the time of a step, by setting, rows and vocabulary.

    python benchmarks/sampling_rows.py [--vocabularies 6400,49152] [--rows 1,8,32] [--rounds 100] [-o FILE]

In each round every setting samples one array of logits together (`sample_rows`) and one by one (`Sampler`), so that
settings and ways are interleaved; results are medians and least values. "flat" logits are normal with a standard
deviation of 3, of which top-p 0.9 keeps hundreds; "peaked" ones have a dozen larger ones on top, as in the text of a
trained model, of which it keeps a few. Prompts have 256 random tokens. Prints a line for each case, and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from minimind_edge.runtime.batch.request import BatchRequest
from minimind_edge.runtime.batch.row_sampler import RowSampler, sample_rows
from minimind_edge.runtime.bench import describe_machine
from minimind_edge.runtime.sampling import Sampler, SamplingParams, TokenHistory
from minimind_edge.runtime.text.prompt import Prompt

SETTINGS: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0},
    "temperature 0.8": {"temperature": 0.8},
    "top-k 50": {"temperature": 0.8, "top_k": 50},
    "top-p 0.9": {"temperature": 0.8, "top_p": 0.9},
    "top-p 0.9 at temperature 1": {"top_p": 0.9},
    "top-k 50, top-p 0.9": {"temperature": 0.8, "top_k": 50, "top_p": 0.9},
    "min-p 0.05": {"temperature": 0.8, "min_p": 0.05},
    "repetition penalty 1.1": {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.1},
    "frequency penalty 0.2": {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "frequency_penalty": 0.2},
}
MIXED, LOGPROBS = "all of these in turn", "greedy, 5 log probabilities"
PROMPT_TOKENS, ARRAYS = 256, 8


def logits_of(kind: str, rows: int, vocab_size: int) -> list[NDArray[np.float32]]:
    """Arrays of logits, `[rows, vocab_size]`, that follow one another as in an answer."""
    random = np.random.default_rng(vocab_size)
    arrays = [(random.standard_normal((rows, vocab_size)) * 3).astype(np.float32) for _ in range(ARRAYS)]
    if kind == "peaked":
        for array in arrays:
            for row in array:
                row[random.integers(0, vocab_size, 12)] = random.uniform(5, 22, 12)
    return arrays


class Case:
    """One setting: rows that are sampled together, and samplers that do the same one by one."""

    def __init__(self, setting: str, rows: int, vocab_size: int) -> None:
        random = np.random.default_rng(0)
        prompts = [random.integers(0, vocab_size, PROMPT_TOKENS).tolist() for _ in range(rows)]
        choices = list(SETTINGS.values())
        fields = [choices[row % len(choices)] if setting == MIXED else SETTINGS.get(setting) for row in range(rows)]
        params = [SamplingParams(seed=row, **(each or {"greedy": True})) for row, each in enumerate(fields)]
        logprobs = 5 if setting == LOGPROBS else None
        self._rows = [
            RowSampler(BatchRequest(Prompt(tuple(prompt)), each, 1 << 20, top_logprobs=logprobs), vocab_size)
            for prompt, each in zip(prompts, params, strict=True)
        ]
        self._alone = [
            (Sampler(each), TokenHistory(vocab_size, prompt)) for prompt, each in zip(prompts, params, strict=True)
        ]
        self.seconds: dict[str, list[float]] = {"together": [], "alone": []}

    def step(self, logits: NDArray[np.float32]) -> None:
        """Sample both ways and compare the tokens."""
        started = perf_counter()
        sampled = sample_rows(logits, self._rows)
        self.seconds["together"].append(perf_counter() - started)
        started = perf_counter()
        tokens = [
            int(sampler(logits[row : row + 1], [history])[0]) for row, (sampler, history) in enumerate(self._alone)
        ]
        for (_, history), token in zip(self._alone, tokens, strict=True):
            history.add(token)
        self.seconds["alone"].append(perf_counter() - started)
        if tokens != [each.token_id for each in sampled if each is not None]:
            raise SystemExit("the tokens differ")


def measure(kind: str, rows: int, vocab_size: int, rounds: int) -> list[dict[str, object]]:
    """Measure all settings, interleaved; the first rounds warm up."""
    arrays = logits_of(kind, rows, vocab_size)
    cases = {setting: Case(setting, rows, vocab_size) for setting in [*SETTINGS, MIXED, LOGPROBS]}
    for number in range(rounds + 3):
        for case in cases.values():
            case.step(arrays[number % ARRAYS])
    found: list[dict[str, object]] = []
    for setting, case in cases.items():
        together, alone = case.seconds["together"][3:], case.seconds["alone"][3:]
        ratio = statistics.median(one / both for one, both in zip(alone, together, strict=True))
        found.append(
            {
                "vocabulary": vocab_size,
                "rows": rows,
                "logits": kind,
                "setting": setting,
                "together_s": statistics.median(together),
                "together_least_s": min(together),
                "alone_s": statistics.median(alone),
                "speed_up": ratio,
            }
        )
        print(
            f"V {vocab_size:5}  {rows:2} rows  {kind:6} {setting:28} {statistics.median(together) * 1e6:7.0f} us "
            f"(least {min(together) * 1e6:6.0f}), one by one {statistics.median(alone) * 1e6:7.0f} us, {ratio:5.2f} x",
            file=sys.stderr,
        )
    return found


def main() -> None:
    """Measure, print a line for each case, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", default="6400,49152")
    parser.add_argument("--rows", default="1,8,32")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    found = [
        row
        for vocab_size in map(int, arguments.vocabularies.split(","))
        for rows in map(int, arguments.rows.split(","))
        for kind in ("peaked", "flat")
        for row in measure(kind, rows, vocab_size, arguments.rounds)
    ]
    if arguments.output:
        report = {"machine": describe_machine(), "rounds": arguments.rounds, "rows": found}
        arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
