"""What `minimind-run` was asked for."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.errors import UsageError

from .answer_printer import AnswerPrinter
from .choices import ThinkDisplay

if TYPE_CHECKING:
    from minimind_edge.runtime import CompletionResult, Engine, SamplingParams


@dataclass(frozen=True)
class RunRequest:
    """The options that say what to generate and how to show it.

    Attributes:
        chat: talk, turn by turn.
        ids: the prompt is token ids.
        raw: the prompt is continued as it is, without the chat template.
        system: a system message before all others.
        thinking: whether to ask the model to think first; None leaves the choice to its template.
        max_new_tokens: most tokens of an answer; None for the model's own number.
        stop: texts that end the answer.
        ignore_eos: go on behind the tokens that end a text.
        sampling: parameters by name; None leaves one as the model has it.
        think: what happens to the thinking of an answer.
        stream: print each piece as it comes.
        stats: tell speeds on stderr.
        as_json: print one JSON object instead of text.
    """

    chat: bool = False
    ids: bool = False
    raw: bool = False
    system: str | None = None
    thinking: bool | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    sampling: dict[str, Any] = field(default_factory=dict)
    think: ThinkDisplay = ThinkDisplay.SHOW
    stream: bool = True
    stats: bool = False
    as_json: bool = False

    def __post_init__(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            UsageError: they do.
        """
        excluded = {"--ids": self.ids, "--raw": self.raw, "--json": self.as_json, "--ignore-eos": self.ignore_eos}
        for option, given in excluded.items():
            if self.chat and given:
                raise UsageError(f"--chat and {option} exclude each other: leave one out")
        if self.ids and self.system is not None:
            raise UsageError("--ids and --system exclude each other: a system message is text")

    def params(self, engine: Engine) -> SamplingParams:
        """How tokens are chosen.

        Raises:
            UsageError: a parameter is out of its range.
        """
        return engine.sampling_params(**self.sampling)

    def printer(self, *, thinking: bool) -> AnswerPrinter:
        """What an answer is shown by; `thinking` tells that it begins inside a think block."""
        return AnswerPrinter(self.think, stream=self.stream, thinking=thinking)

    def tell_stats(self, result: CompletionResult) -> None:
        """Tell, where it was asked for, how fast an answer came."""
        if self.stats:
            print(stats_line(result), file=sys.stderr)


def stats_line(result: CompletionResult) -> str:
    """One line about a completion for people."""
    timings = result.timings
    drafts = f"{result.accepted_tokens} of {result.drafted_tokens} drafted accepted; " if result.drafted_tokens else ""
    return (
        f"[{result.prompt_tokens} prompt tokens, {result.completion_tokens} new ({result.finish_reason}); {drafts}"
        f"{timings.decode_tokens_per_s:.0f} tokens/s, first token after {timings.time_to_first_token_s * 1e3:.0f} ms, "
        f"loaded in {timings.load_s * 1e3:.0f} ms]"
    )
