"""`minimind-run --prompts`: many prompts, one JSON object a line in and one out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.errors import InputError, UsageError

from .entry import BAD_INPUT
from .json_output import print_json
from .progress import progress_display
from .run_complete import described

if TYPE_CHECKING:
    from minimind_edge.runtime import Engine

    from .prompt_files import PromptLine
    from .run_request import RunRequest


def answer_prompts(engine: Engine, lines: Sequence[PromptLine], request: RunRequest) -> int:
    """Answer prompts in their order, and print each answer as soon as it is complete.

    A prompt that cannot be run, such as one that is longer than the context, gets a line with `error` in place of an
    answer, and the others are answered all the same.

    Args:
        engine: The engine that answers.
        lines: The prompts, each with its options.
        request: The options of the command.

    Returns:
        The exit code: 0, or that of bad input where a prompt could not be run.
    """
    failed = 0
    with progress_display(for_program=True, shares_terminal=True) as progress:
        for number, line in enumerate(lines):
            progress(f"answer {number + 1} of {len(lines)}", number / len(lines))
            answer = answer_of(engine, line, request)
            failed += "error" in answer
            print_json(answer if line.id is None else {"id": line.id, **answer})
    if failed:
        print(f"error: {failed} of {len(lines)} prompts could not be run; their lines say why", file=sys.stderr)
    return BAD_INPUT if failed else 0


def answer_of(engine: Engine, line: PromptLine, request: RunRequest) -> dict[str, Any]:
    """The answer to one prompt as an object of JSON, or an object that says why there is none."""
    try:
        completion = engine.stream(line.prompt, line.options)
    except (InputError, UsageError) as error:
        return {"error": str(error)}
    result = completion.run()
    request.tell_stats(result)
    return described(result, completion.prompt, line.options)
