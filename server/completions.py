"""`POST /v1/completions`."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from minimind_edge.runtime.batch.request import BatchRequest
from minimind_edge.runtime.errors import InputError, UsageError
from minimind_edge.runtime.text.prompt import Prompt

from .completion_writer import CompletionObject, CompletionShape, CompletionStream
from .decoding import decode
from .errors import api_error, bad_request
from .models import ServedModel, ServedModels
from .requests import CompletionRequest
from .sampling import check_stream_options, make_plan
from .settings import ServerSettings
from .streaming import AnswerResponse

DEFAULT_MAX_TOKENS = 16
"""OpenAI's default for the most tokens of a text completion."""


async def completions(request: Request) -> Response:
    """Complete texts."""
    models: ServedModels = request.app.state.models
    settings: ServerSettings = request.app.state.settings
    asked = decode(CompletionRequest, await request.body())
    model = models.choose(asked.model)
    prompts = prompt_list(asked.prompt)
    _check(asked, len(prompts), settings)
    loop = asyncio.get_running_loop()
    requests, shape = await loop.run_in_executor(model.preparation, _prepare, asked, prompts, model)
    writer = (CompletionStream if asked.stream else CompletionObject)(shape, model.texts)
    return AnswerResponse(
        model.delivery,
        requests,
        writer,
        model=model.name,
        param="prompt",
        settings=settings,
    )


def prompt_list(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """The prompts of a request, which are one text, one list of token ids, or a list of either.

    Raises:
        ApiError: The prompt is empty, or mixes texts and token ids (400).
    """
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise bad_request("prompt is empty: expected text or token ids", "prompt", "invalid_value")
    kinds = {type(item) for item in prompt}
    if len(kinds) > 1:
        raise bad_request("prompt mixes texts and token ids: expected one kind", "prompt", "invalid_value")
    if kinds == {int}:
        return [[item for item in prompt if isinstance(item, int)]]
    return [item for item in prompt if not isinstance(item, int)]


def _check(asked: CompletionRequest, prompts: int, settings: ServerSettings) -> None:
    """The checks of fields that depend on each other.

    Raises:
        ApiError: Two fields contradict each other, or there are too many answers (400).
    """
    answers = asked.n or 1
    if answers * prompts > settings.max_sequences:
        message = f"{prompts} prompts with {answers} answers each: expected at most {settings.max_sequences} answers"
        raise bad_request(message, "n" if answers > 1 else "prompt", "invalid_value")
    if asked.best_of is not None and asked.best_of != answers:
        raise bad_request(f"best_of is {asked.best_of}: expected the same as n, or none", "best_of", "invalid_value")
    check_stream_options(asked)
    if asked.echo and asked.logprobs is not None:
        message = "logprobs of an echoed prompt are not computed: give echo or logprobs"
        raise bad_request(message, "logprobs", "unsupported_parameter")


def _prepare(
    asked: CompletionRequest, prompts: list[str | list[int]], model: ServedModel
) -> tuple[list[BatchRequest], CompletionShape]:
    """Tokenize the prompts, on the model's preparation thread."""
    engine = model.engine
    plan = make_plan(asked, engine, asked.max_tokens or DEFAULT_MAX_TOKENS, asked.logprobs)
    try:
        built = [_build(prompt, model) for prompt in prompts]
        echoes = [_echo(prompt, model) if asked.echo else "" for prompt in prompts]
    except (InputError, UsageError) as error:
        raise api_error(error, "prompt") from error
    answers = asked.n or 1
    shape = CompletionShape(
        model=model.name,
        echoes=echoes,
        answers_per_prompt=answers,
        has_logprobs=asked.logprobs is not None,
        has_usage=asked.stream_options is not None and bool(asked.stream_options.include_usage),
    )
    return [plan.request(prompt, index) for prompt in built for index in range(answers)], shape


def _build(prompt: str | list[int], model: ServedModel) -> Prompt:
    return model.engine.prompts.build(prompt, raw=True)


def _echo(prompt: str | list[int], model: ServedModel) -> str:
    if isinstance(prompt, str):
        return prompt
    tokenizer = model.engine.tokenizer
    return "" if tokenizer is None else tokenizer.decode(prompt)
