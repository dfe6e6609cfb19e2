"""`minimind-run PROMPT`: one completion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .entry import INTERRUPTED

if TYPE_CHECKING:
    from minimind_edge.runtime import Completion, Engine
    from minimind_edge.runtime.text.prompt import PromptLike

    from .answer_printer import AnswerPrinter
    from .run_request import RunRequest


def complete(engine: Engine, prompt: PromptLike, request: RunRequest) -> int:
    """Complete a prompt and print the answer; Ctrl-C ends the text.

    Args:
        engine: The engine that answers.
        prompt: Text or token ids.
        request: The options of the command.

    Returns:
        The exit code: 0, or that of Ctrl-C.

    Raises:
        EdgeError: The prompt or an option does not suit the model.
    """
    completion = engine.stream(prompt, request.options)
    is_silent = request.as_json or engine.tokenizer is None
    printer = None if is_silent else request.printer(thinking=completion.prompt.opens_thinking)
    finished = show(completion, printer)
    result = completion.result
    if request.as_json:
        from .json_output import print_json

        print_json(result.to_json())
    elif printer is None:
        print(",".join(map(str, result.token_ids)))
    request.tell_stats(result)
    return 0 if finished else INTERRUPTED


def show(pieces: Completion, printer: AnswerPrinter | None) -> bool:
    """Print the pieces as they come, and return whether the answer ended before Ctrl-C.

    Args:
        pieces: The pieces of the answer's text.
        printer: The printer of the pieces; None prints nothing.
    """
    finished = True
    try:
        for piece in pieces:
            if printer is not None:
                printer.push(piece)
    except KeyboardInterrupt:
        pieces.close()
        finished = False
    if printer is not None:
        printer.finish()
    return finished
