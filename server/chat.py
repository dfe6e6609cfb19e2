"""`POST /v1/chat/completions`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from minimind_edge.runtime.batch.request import BatchRequest
from minimind_edge.runtime.errors import InputError, UsageError

from .chat_writer import ChatObject, ChatShape, ChatStream
from .constraints import Grammar
from .decoding import decode
from .errors import api_error, bad_request
from .messages import template_messages, template_tools
from .models import ServedModel, ServedModels
from .requests import ChatRequest, JsonObjectFormat, JsonSchemaFormat, NamedToolChoice, Tool
from .sampling import check_stream_options, make_plan
from .settings import ServerSettings
from .streaming import AnswerResponse

_NO_THINKING = ("none", "minimal")


async def chat_completions(request: Request) -> Response:
    """Answer a conversation."""
    models: ServedModels = request.app.state.models
    settings: ServerSettings = request.app.state.settings
    asked = decode(ChatRequest, await request.body())
    model = models.choose(asked.model)
    _check(asked, settings)
    loop = asyncio.get_running_loop()
    requests, shape = await loop.run_in_executor(model.preparation, _prepare, asked, model)
    writer = (ChatStream if asked.stream else ChatObject)(shape, model.texts)
    return AnswerResponse(
        model.delivery,
        requests,
        writer,
        model=model.name,
        param="messages",
        settings=settings,
    )


def thinking_choice(asked: ChatRequest) -> bool | None:
    """Whether a request asks the model to think first; None leaves the choice to the chat template.

    The flags come before `reasoning_effort`; of several flags, one that is true decides.
    """
    template = asked.chat_template_kwargs
    flags = [asked.open_thinking, asked.enable_thinking]
    if template is not None:
        flags += [template.open_thinking, template.enable_thinking]
    given = [flag for flag in flags if flag is not None]
    if given:
        return any(given)
    return None if asked.reasoning_effort is None else asked.reasoning_effort not in _NO_THINKING


def _check(asked: ChatRequest, settings: ServerSettings) -> None:
    """The checks of fields that depend on each other.

    Raises:
        ApiError: Two fields contradict each other, or there are too many answers (400).
    """
    if (asked.n or 1) > settings.max_sequences:
        raise bad_request(f"n is {asked.n}: expected at most {settings.max_sequences}", "n", "invalid_value")
    if asked.store:
        raise bad_request("store: answers are not stored here: expected false", "store", "invalid_value")
    check_stream_options(asked)
    if asked.top_logprobs and not asked.logprobs:
        raise bad_request("top_logprobs needs logprobs", "top_logprobs", "invalid_value")
    limits = {asked.max_tokens, asked.max_completion_tokens} - {None}
    if len(limits) > 1:
        message = "max_completion_tokens and max_tokens differ: give one of them"
        raise bad_request(message, "max_completion_tokens", "invalid_value")
    if isinstance(asked.tool_choice, NamedToolChoice) or asked.tool_choice == "required":
        _check_forced_call(asked)


def _check_forced_call(asked: ChatRequest) -> None:
    if not asked.tools:
        raise bad_request("tool_choice needs tools", "tool_choice", "invalid_value")
    if isinstance(asked.response_format, (JsonObjectFormat, JsonSchemaFormat)):
        message = "an answer cannot be a tool call and follow response_format: give one of them"
        raise bad_request(message, "response_format", "invalid_value")
    if isinstance(asked.tool_choice, NamedToolChoice):
        name = asked.tool_choice.function.name
        if name not in (tool.function.name for tool in asked.tools):
            message = f"tool_choice names {name!r:.80}, which is not among the tools"
            raise bad_request(message, "tool_choice.function.name", "invalid_value")


def _prepare(asked: ChatRequest, model: ServedModel) -> tuple[list[BatchRequest], ChatShape]:
    """Render and tokenize the prompt, and compile the grammar, on the model's preparation thread."""
    engine = model.engine
    tools = _usable_tools(asked, model)
    try:
        prompt = engine.prompts.build(
            template_messages(asked.messages),
            tools=template_tools(tools) or None,
            thinking=thinking_choice(asked),
        )
    except (InputError, UsageError) as error:
        raise api_error(error, "messages") from error
    grammar = _grammar(asked, model, tools, prompt.opens_thinking)
    top_logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
    limit = asked.max_completion_tokens or asked.max_tokens or engine.max_new_tokens
    plan = make_plan(asked, engine, limit, top_logprobs)
    answers = asked.n or 1
    requests = [
        plan.request(prompt, index, None if grammar is None else grammar.constraint()) for index in range(answers)
    ]
    shape = ChatShape(
        model=model.name,
        answers=answers,
        opens_thinking=prompt.opens_thinking,
        reads_calls=bool(tools),
        one_call=bool(tools) and asked.parallel_tool_calls is False,
        has_logprobs=bool(asked.logprobs),
        has_usage=asked.stream_options is not None and bool(asked.stream_options.include_usage),
    )
    return requests, shape


def _usable_tools(asked: ChatRequest, model: ServedModel) -> list[Tool]:
    """The tools that the model may call.

    Raises:
        ApiError: The model's chat template cannot show tools to it, and a call is not forced by a grammar (400).
    """
    if not asked.tools or asked.tool_choice == "none":
        return []
    template = model.engine.prompts.template
    if asked.tool_choice in (None, "auto") and template is not None and not template.reads("tools"):
        message = "this model's chat template has no place for tools: only a tool_choice that forces a call is possible"
        raise bad_request(message, "tools", "unsupported_parameter")
    return asked.tools


def _grammar(asked: ChatRequest, model: ServedModel, tools: Sequence[Tool], thinks: bool) -> Grammar | None:
    """The grammar of the answers, None where they may be any text.

    Raises:
        ApiError: A schema is wrong, or cannot be enforced (400).
    """
    functions = [tool.function for tool in tools]
    choice, form = asked.tool_choice, asked.response_format
    several = asked.parallel_tool_calls is not False
    if isinstance(form, (JsonObjectFormat, JsonSchemaFormat)):
        schema = form.json_schema.schema if isinstance(form, JsonSchemaFormat) else None
        return _compiled("response_format", lambda: model.grammars.json_answer(schema, functions, thinks=thinks))
    if isinstance(choice, NamedToolChoice):
        named = [function for function in functions if function.name == choice.function.name][:1]
        return _compiled("tools", lambda: model.grammars.tool_calls(named, several=False, thinks=thinks))
    if choice == "required":
        return _compiled("tools", lambda: model.grammars.tool_calls(functions, several=several, thinks=thinks))
    if any(function.strict for function in functions):
        return _compiled("tools", lambda: model.grammars.text_with_calls(functions))
    return None


def _compiled(param: str, compile_grammar: Callable[[], Grammar]) -> Grammar:
    try:
        return compile_grammar()
    except UsageError as error:
        raise bad_request(f"{param}: {error}", param, "invalid_value") from error
