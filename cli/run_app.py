"""`minimind-run`: generates text from an artifact."""

from __future__ import annotations

import gc
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from .artifact_options import MACHINE, DeviceOption, MaxLengthOption, PrecisionOption
from .choices import Device, ThinkDisplay
from .entry import EXIT_CODES, compute_without_blas, run
from .help_text import HelpCommand
from .version import VersionOption

app = typer.Typer(rich_markup_mode=None)

PROMPT, SAMPLING, OUTPUT = "Prompt", "Sampling (defaults: the model's own)", "Output"


@app.command(cls=HelpCommand, epilog=EXIT_CODES)
def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(help="The prompt; left out, or -, it is read from stdin.", show_default=False),
    ] = None,
    *,
    engine: Annotated[
        Path,
        typer.Option(
            "--engine",
            "-e",
            metavar="PATH",
            help="An artifact folder, hf://OWNER/NAME, an .onnx graph or a .plan.",
            show_default=False,
        ),
    ],
    chat: Annotated[bool, typer.Option("--chat", help="Hold a conversation, turn by turn.")] = False,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", "-n", metavar="N", help="Most tokens of an answer.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End the answer before this string; repeatable.")
    ] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Continue after the tokens that end a text.")
    ] = False,
    version: VersionOption = False,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A system message before all others.", rich_help_panel=PROMPT)
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Continue the text as it is, without the chat template.", rich_help_panel=PROMPT),
    ] = False,
    messages: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Answer a conversation: a JSON list of messages.", rich_help_panel=PROMPT),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Answer many prompts: JSON Lines, an object with prompt or messages in, an object out.",
            rich_help_panel=PROMPT,
        ),
    ] = None,
    tools: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Functions that the model may call: a JSON list of schemas.", rich_help_panel=PROMPT
        ),
    ] = None,
    ids: Annotated[
        bool, typer.Option("--ids", help="Take PROMPT as token ids, such as 1,2,3.", rich_help_panel=PROMPT)
    ] = False,
    thinking: Annotated[
        bool | None,
        typer.Option("--thinking/--no-thinking", help="Ask the model to think first.", rich_help_panel=PROMPT),
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Always take the likeliest token.", rich_help_panel=SAMPLING)
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(metavar="X", help="Divisor of the logits; 0 is greedy.", rich_help_panel=SAMPLING)
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="N", help="Keep the N likeliest tokens.", rich_help_panel=SAMPLING)
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(metavar="X", help="Keep the likeliest tokens that sum to X.", rich_help_panel=SAMPLING),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(metavar="X", help="Keep tokens with X times the best probability.", rich_help_panel=SAMPLING),
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(metavar="X", help="Above 1: make seen tokens less likely.", rich_help_panel=SAMPLING),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Random seed; the same one gives the same text.", rich_help_panel=SAMPLING),
    ] = None,
    think: Annotated[
        ThinkDisplay | None,
        typer.Option(help="How to print the thinking.  (default: dim; in a pipe show)", rich_help_panel=OUTPUT),
    ] = None,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Print the answer only when it is complete.", rich_help_panel=OUTPUT)
    ] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print speeds on stderr.", rich_help_panel=OUTPUT)] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object, on one line: text, ids, timings.", rich_help_panel=OUTPUT),
    ] = False,
    json_indent: Annotated[
        bool,
        typer.Option("--json-indent", help="The same object on several lines, for people.", rich_help_panel=OUTPUT),
    ] = False,
    precision: PrecisionOption = None,
    device: DeviceOption = Device.AUTO,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="CPU threads.  (default: the fastest that was measured, or the physical cores)",
            show_default=False,
            rich_help_panel=MACHINE,
        ),
    ] = None,
    max_length: MaxLengthOption = None,
    speculate: Annotated[
        bool | None,
        typer.Option(
            "--speculate/--no-speculate",
            help="Prompt-lookup speculative decoding.  (default: where it changes no token)",
            rich_help_panel=MACHINE,
        ),
    ] = None,
) -> int:
    """Generate text from an artifact, with numpy, onnxruntime and tokenizers alone.

    Ctrl-C ends an answer; the text printed so far stays.

    \b
    Examples:
      minimind-run --engine minimind-demo "What is the capital of France?"
      minimind-run --engine minimind-demo --chat
      echo "Why is the sky blue?" | minimind-run --engine minimind-demo --json
      minimind-run --engine minimind-demo --prompts prompts.jsonl > answers.jsonl
    """
    gc.disable()  # imported objects stay: collecting garbage among them takes a twentieth of the start
    from minimind_edge.runtime import Engine
    from minimind_edge.runtime.hub import local_path
    from minimind_edge.runtime.options import GenerationOptions

    from .answer_printer import default_think_display
    from .chat_input import is_at_terminal
    from .prompt_files import read_tools
    from .prompt_input import RunInput
    from .run_request import RunRequest

    refuse_sampling_without_effect(greedy, {"temperature": temperature, "top-k": top_k, "top-p": top_p, "min-p": min_p})
    request = RunRequest(
        GenerationOptions(
            max_new_tokens=max_new_tokens,
            stop=tuple(stop or ()),
            ignore_eos=ignore_eos,
            raw=raw,
            system=system,
            tools=None if tools is None else read_tools(tools),
            thinking=thinking,
            greedy=greedy or None,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        ),
        chat=chat,
        ids=ids,
        think=think or default_think_display(),
        stream=not no_stream,
        stats=stats,
        as_json=as_json or json_indent,
        json_indent=json_indent,
    )
    source = RunInput(prompt, messages, prompts)
    source.check(request)
    lines = source.read_lines(request.options)
    ready = None if chat or lines is not None else source.read_prompt(ids=ids)
    loading: dict[str, Any] = {
        "device": device.value,
        "threads": threads,
        "max_length": max_length,
        "precision": precision.value if precision else None,
    }
    path = local_path(engine, precision=loading["precision"], is_artifact=True)
    if lines is not None:
        from .run_prompts import answer_prompts, load_batch

        batch, load_s = load_batch(path, lines, **loading)
        warn_of_limit(max_length, batch.max_length)
        return answer_prompts(batch, lines, request, load_s)
    if threads is None:
        from minimind_edge.runtime.thread_count import best_threads

        # Measured where it is not known only for a conversation, which is worth the second that it takes.
        tell = partial(print, file=sys.stderr) if ready is None and is_at_terminal() else None
        loading["threads"] = best_threads(path, loading["precision"], device=device.value, tell=tell)
    model = Engine.load(path, **loading, speculate=speculate)
    warn_of_limit(max_length, model.session.max_length)
    gc.freeze()
    gc.enable()
    if ready is None:
        from .run_chat import Conversation

        return Conversation(model, request).run(prompt)
    from .run_complete import complete

    return complete(model, ready, request)


def refuse_sampling_without_effect(greedy: bool, given: dict[str, float | None]) -> None:
    """Refuse options that have no effect with `--greedy`, except temperature 0, which is greedy itself.

    Args:
        greedy: Whether `--greedy` was given.
        given: The values by name of options that only sampling uses, None for those not given.

    Raises:
        typer.BadParameter: Such an option was given.
    """
    for name, value in given.items():
        if greedy and value is not None and (name, value) != ("temperature", 0):
            raise typer.BadParameter(
                "has no effect with --greedy, which always takes the likeliest token; leave one out",
                param_hint=f"--{name}",
            )


def warn_of_limit(asked: int | None, limit: int) -> None:
    """Warn on stderr if the artifact's context is shorter than `--max-length`.

    Args:
        asked: The value of `--max-length`, None where it was not given.
        limit: Most tokens of prompt and answer together that the loaded model holds.
    """
    if asked is not None and asked > limit:
        print(
            f"warning: --max-length {asked} is more than the {limit} tokens that this artifact was exported for; it "
            f"runs with {limit} (a longer context takes `minimind-export onnx --max-length {asked}`)",
            file=sys.stderr,
        )


def main() -> NoReturn:
    """Run `minimind-run`."""
    compute_without_blas()
    run(app, "minimind-run", at_once=True)
