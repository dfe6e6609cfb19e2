"""`minimind-run PROMPT`: one completion."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from .entry import INTERRUPTED

if TYPE_CHECKING:
    from minimind_edge.runtime import Completion, CompletionResult, Engine
    from minimind_edge.runtime.options import GenerationOptions
    from minimind_edge.runtime.text.prompt import Prompt, PromptLike

    from .answer_printer import AnswerPrinter
    from .run_request import RunRequest


def complete(engine: Engine, prompt: PromptLike, request: RunRequest) -> int:
    """Complete a prompt and print the answer; Ctrl-C ends the text.

    Args:
        engine: The engine that answers.
        prompt: Text, messages or token ids.
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

        print_json(described(result, completion.prompt, request.options), indent=request.json_indent)
    elif printer is None:
        print(",".join(map(str, result.token_ids)))
    else:
        tell_tool_calls(result, completion.prompt, request.options)
    request.tell_stats(result, engine.operators)
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


def described(result: CompletionResult, prompt: Prompt, options: GenerationOptions) -> dict[str, Any]:
    """The object that `--json` prints: the result, and its `tool_calls` where the model was given tools.

    Args:
        result: The result of the completion.
        prompt: Its prompt.
        options: Its options.
    """
    content = result.to_json()
    if options.tools is not None:
        from minimind_edge.runtime.text.tool_calls import find_tool_calls

        content["tool_calls"] = [
            call.to_json() for call in find_tool_calls(result.text, thinking=prompt.opens_thinking)
        ]
    return content


def tell_tool_calls(result: CompletionResult, prompt: Prompt, options: GenerationOptions) -> bool:
    """Print the tool calls of an answer on stderr, where the model was given tools, and return whether it has any."""
    if options.tools is None:
        return False
    from minimind_edge.runtime.text.tool_calls import find_tool_calls

    calls = find_tool_calls(result.text, thinking=prompt.opens_thinking)
    for call in calls:
        arguments = ", ".join(
            f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items()
        )
        print(f"(tool call: {call.name}({arguments}))", file=sys.stderr)
    return bool(calls)
