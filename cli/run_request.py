"""The options of `minimind-run` for generating and for printing the answer."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.options import GenerationOptions

from .answer_printer import AnswerPrinter
from .choices import ThinkDisplay

if TYPE_CHECKING:
    from minimind_edge.runtime import CompletionResult


@dataclass(frozen=True)
class RunRequest:
    """The options of `minimind-run`, except those that choose and load the model.

    Attributes:
        options: Options of the generation.
        chat: Hold a conversation, turn by turn.
        ids: Take the prompt as token ids.
        think: Display of the part of an answer between think tags.
        stream: Print each piece of the answer as it comes.
        stats: Print speeds on stderr.
        as_json: Print one JSON object instead of text.
        json_indent: Print that object on several lines.

    Raises:
        UsageError: Two options exclude each other.
    """

    options: GenerationOptions = field(default_factory=GenerationOptions)
    chat: bool = False
    ids: bool = False
    think: ThinkDisplay = ThinkDisplay.SHOW
    stream: bool = True
    stats: bool = False
    as_json: bool = False
    json_indent: bool = False

    def __post_init__(self) -> None:
        options = self.options
        excluded = {"--ids": self.ids, "--raw": options.raw, "--json": self.as_json, "--ignore-eos": options.ignore_eos}
        for option, given in excluded.items():
            if self.chat and given:
                raise UsageError(f"--chat and {option} exclude each other: leave one out")
        for option, value in {"--system": options.system, "--tools": options.tools}.items():
            if self.ids and value is not None:
                raise UsageError(f"--ids and {option} exclude each other: only the chat template has a place for it")

    def printer(self, *, thinking: bool) -> AnswerPrinter:
        """The printer of an answer, which begins inside a think block if `thinking` is true."""
        return AnswerPrinter(self.think, stream=self.stream, thinking=thinking)

    def tell_stats(self, result: CompletionResult, operators: str) -> None:
        """Print the speed of an answer on stderr, if `--stats` was given."""
        if self.stats:
            print(stats_line(result, operators), file=sys.stderr)


def stats_line(result: CompletionResult, operators: str) -> str:
    """The counts and the speed of a completion on one line, and whether native operators ran it."""
    timings = result.timings
    native = f", {operators} operators" if operators == "native" else ""
    drafts = f"{result.accepted_tokens} of {result.drafted_tokens} drafted accepted; " if result.drafted_tokens else ""
    return (
        f"[{result.prompt_tokens} prompt tokens, {result.completion_tokens} new ({result.finish_reason}); {drafts}"
        f"{timings.decode_tokens_per_s:.0f} tokens/s, first token after {timings.time_to_first_token_s * 1e3:.0f} ms, "
        f"loaded in {timings.load_s * 1e3:.0f} ms{native}]"
    )
