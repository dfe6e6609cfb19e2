"""Command line: `python -m examples.train_demo train FOLDER [--moe]`, `... eval FOLDER` and `... held-out FILE`."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer

from examples.train_demo import evaluate
from examples.train_demo.checkpoint import save_checkpoint
from examples.train_demo.held_out import held_out, write_held_out
from examples.train_demo.tokenizer import save_tokenizer, train_tokenizer
from examples.train_demo.trainer import Progress, Settings, Trainer, demo_settings
from minimind_edge.minimind import load_checkpoint

REPORT_EVERY = 10
SAVE_EVERY = 40


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(prog="python -m examples.train_demo", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (results repeat only with the same number)")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train into FOLDER, or resume a run that was killed")
    train.add_argument("folder", type=Path)
    train.add_argument("--moe", action="store_true", help="a mixture of experts instead of a dense model")
    train.add_argument("--seed", type=int, default=Settings.seed)
    train.add_argument("--steps", type=int, help="optimizer steps (default: as many as the bundled checkpoints took)")
    measure = commands.add_parser("eval", help="measure the checkpoint in FOLDER on the held-out split")
    measure.add_argument("folder", type=Path)
    measure.add_argument("--wrong", type=int, default=0, help="the number of wrong answers to print")
    split = commands.add_parser("held-out", help="write the questions and documents of `minimind-export eval` to FILE")
    split.add_argument("file", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.command == "train":
        settings = demo_settings(arguments.moe, arguments.seed, arguments.steps)
        train_folder(settings, arguments.folder)
    elif arguments.command == "held-out":
        written = write_held_out(arguments.file)
        print(f"{len(written.questions)} questions, {len(written.documents)} documents")
    else:
        measure_folder(arguments.folder, arguments.wrong)


def train_folder(settings: Settings, folder: Path) -> None:
    """Train tokenizer and model into `folder`, showing progress on stderr."""
    if not (folder / "tokenizer.json").exists():
        save_tokenizer(train_tokenizer(settings.seed), folder)
    trainer = Trainer(settings, Tokenizer.from_file(str(folder / "tokenizer.json")), folder)
    meter = Meter(settings.steps, trainer.step)
    for progress in trainer.run():
        meter.add(progress)
        if progress.step % SAVE_EVERY == 0 or progress.step == settings.steps:
            trainer.save()
            save_checkpoint(trainer.model, folder)


def measure_folder(folder: Path, wrong: int) -> None:
    """Print the scores of the checkpoint in `folder` on the held-out split."""
    model = load_checkpoint(next(folder.glob("full_sft_*.pth")))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    split = held_out()
    asked = split.questions
    replies = evaluate.answers(model, tokenizer, [question.prompt for question in asked])
    for key, score in evaluate.scores(asked, replies).items():
        print(f"{key:16} {score:7.1%}")
    print(f"{'perplexity':16} {math.exp(evaluate.held_out_loss(model, tokenizer, split.documents)):7.3f}")
    if model.config.use_moe:
        for index, shares in enumerate(evaluate.expert_shares(model, tokenizer, split.documents)):
            print(f"experts layer {index}  " + " ".join(f"{share:6.1%}" for share in shares))
    failed = [(question, reply) for question, reply in zip(asked, replies, strict=True) if not question.is_right(reply)]
    for question, reply in failed[:: max(1, len(failed) // max(wrong, 1))][:wrong]:
        print(f"{question.prompt} -> {reply} (expected {question.exact or ' and '.join(question.names)})")


@dataclasses.dataclass
class Meter:
    """Prints loss, speed and the time left every few steps."""

    steps: int
    first: int

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._tokens, self._loss = 0, 0.0

    def add(self, progress: Progress) -> None:
        """Count a step; print where a report is due."""
        self._tokens += progress.tokens
        self._loss += progress.loss / REPORT_EVERY
        if progress.step % REPORT_EVERY:
            return
        elapsed = time.monotonic() - self._began
        left = elapsed / (progress.step - self.first) * (self.steps - progress.step)
        speed = self._tokens / elapsed
        print(
            f"step {progress.step}/{self.steps}  loss {self._loss:.3f}  {speed:.0f} tokens/s  {left / 60:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
        self._loss = 0.0


if __name__ == "__main__":
    main()
