"""The bodies of requests: a type for each endpoint, by which JSON is checked and the OpenAPI document is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

Count: TypeAlias = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TokenId: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Temperature: TypeAlias = Annotated[float, Meta(ge=0, le=1e6)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-100, le=100)]
RepetitionPenalty: TypeAlias = Annotated[float, Meta(ge=0.01, le=100)]
TopK: TypeAlias = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
TopLogprobs: TypeAlias = Annotated[int, Meta(ge=0, le=20)]
StopString: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1000)]
StopStrings: TypeAlias = Annotated[list[StopString], Meta(max_length=32)]
OnlyFalse: TypeAlias = Annotated[bool, Meta(extra_json_schema={"const": False})]
JsonObject: TypeAlias = dict[str, Any]


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A JSON object whose unknown fields are errors."""


class StreamOptions(Body):
    """Options of a stream.

    Attributes:
        include_usage: Whether the last chunk has the usage, and no choice.
        include_obfuscation: Padding against listeners on an encrypted line; only false.
    """

    include_usage: bool | None = None
    include_obfuscation: OnlyFalse | None = None


class Sampling(Body):
    """What chat and text completions have in common.

    Attributes:
        model: Name of a served model; where one model is served, any name or none means it, unless names are strict.
        n: Number of answers of each prompt; further ones take the seeds after the given one.
        stream: Whether the answer comes as server-sent events.
        stream_options: Options of the stream.
        stop: Strings that end the answer and are not part of it.
        max_tokens: Most tokens of the answer; one that the context ends sooner has the finish reason `length` as well.
        seed: Seed of the random generator.
        temperature: Divisor of the logits; 0 is greedy.
        top_p: Probability that the kept likeliest tokens reach together.
        top_k: Number of likeliest tokens to keep; 0 or -1 for all.
        min_p: Least probability of a kept token, as a fraction of the likeliest one's.
        repetition_penalty: Above 1, tokens of the prompt and of the answer become less likely.
        presence_penalty: Number subtracted from the logits of tokens that occur in the answer.
        frequency_penalty: The same for each occurrence.
        logit_bias: Number added to the logit of each of these token ids.
        min_tokens: Number of tokens before the answer may end by a stop token.
        stop_token_ids: Further token ids that end the answer.
        ignore_eos: Whether the model's own stop tokens do not end the answer.
        user: Accepted, without effect.
    """

    model: str | None = None
    n: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | StopStrings | None = None
    max_tokens: Count | None = None
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_p: Fraction | None = None
    top_k: TopK | None = None
    min_p: Fraction | None = None
    repetition_penalty: RepetitionPenalty | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Penalty] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=128)] | None = None
    ignore_eos: bool | None = None
    user: str | None = None


class TextPart(Body, tag_field="type", tag="text"):
    """A part of a message's content; only text."""

    text: str


Content: TypeAlias = str | list[TextPart]


class SystemMessage(Body, tag_field="role", tag="system"):
    """Instructions for the model."""

    content: Content
    name: str | None = None


class DeveloperMessage(Body, tag_field="role", tag="developer"):
    """Instructions for the model, by OpenAI's newer name; the same as a system message."""

    content: Content
    name: str | None = None


class UserMessage(Body, tag_field="role", tag="user"):
    """A message of the user."""

    content: Content
    name: str | None = None


class CalledFunction(Body):
    """A function call that the model made; its arguments are JSON text, or the object itself."""

    name: str
    arguments: str | JsonObject = ""


class MessageToolCall(Body):
    """A tool call in an earlier answer."""

    function: CalledFunction
    id: str | None = None
    type: Literal["function"] | None = None
    index: int | None = None


class AssistantMessage(Body, tag_field="role", tag="assistant"):
    """An earlier answer, in the form in which the server gave it."""

    content: Content | None = None
    reasoning_content: str | None = None
    tool_calls: list[MessageToolCall] | None = None
    name: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None


class ToolMessage(Body, tag_field="role", tag="tool"):
    """The result of a tool call."""

    content: Content
    tool_call_id: str | None = None
    name: str | None = None


Message: TypeAlias = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class FunctionDefinition(Body):
    """A function that the model may call.

    Attributes:
        name: The function's name.
        description: What it does.
        parameters: JSON schema of its arguments; none for a function without any.
        strict: Whether the arguments of every call follow the schema, by a grammar.
    """

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool; only functions."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(Body):
    """The name of a function."""

    name: str


class NamedToolChoice(Body):
    """The function that the model has to call."""

    type: Literal["function"]
    function: FunctionName


class TextFormat(Body, tag_field="type", tag="text"):
    """An answer in plain text."""


class JsonObjectFormat(Body, tag_field="type", tag="json_object"):
    """An answer that is some JSON object."""


class JsonSchema(Body):
    """A JSON schema; answers follow it whether `strict` or not."""

    name: str | None = None
    description: str | None = None
    schema: JsonObject | None = None
    strict: bool | None = None


class JsonSchemaFormat(Body, tag_field="type", tag="json_schema"):
    """An answer that follows a JSON schema."""

    json_schema: JsonSchema


class TemplateArguments(Body):
    """Variables of the chat template: whether the model thinks first, by MiniMind-3's name and by Qwen's."""

    open_thinking: bool | None = None
    enable_thinking: bool | None = None


class ChatRequest(Sampling, kw_only=True):
    """The body of `POST /v1/chat/completions`.

    Attributes:
        messages: The conversation.
        max_completion_tokens: The newer name of `max_tokens`.
        logprobs: Whether the log probability of each token comes with the answer.
        top_logprobs: Number of likeliest tokens whose log probabilities come besides; needs `logprobs`.
        tools: Functions that the model may call.
        tool_choice: Whether it may, may not or must call one.
        parallel_tool_calls: Whether an answer may have several calls; the default is true.
        response_format: The form of the answer.
        reasoning_effort: `none` and `minimal` ask the model not to think, the others to think.
        open_thinking: Whether to ask the model to think first.
        enable_thinking: The same by another name.
        chat_template_kwargs: The same two, as vLLM has them.
        modalities: Only text.
        store: Only false.
        service_tier: Only `auto` and `default`.
        metadata: Accepted, without effect.
        safety_identifier: Accepted, without effect.
        prompt_cache_key: Accepted, without effect: the longest known prefix of a prompt is always reused.
    """

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    open_thinking: bool | None = None
    enable_thinking: bool | None = None
    chat_template_kwargs: TemplateArguments | None = None
    modalities: Annotated[list[Literal["text"]], Meta(min_length=1, max_length=1)] | None = None
    store: OnlyFalse | None = None
    service_tier: Literal["auto", "default"] | None = None
    metadata: JsonObject | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class CompletionRequest(Sampling, kw_only=True):
    """The body of `POST /v1/completions`.

    Attributes:
        prompt: A text, token ids, or a list of texts or of lists of token ids.
        best_of: Only the same as `n`.
        echo: Whether each answer begins with its prompt; not together with `logprobs`.
        logprobs: Number of likeliest tokens whose log probabilities come with the answer.
        suffix: Only an empty one.
    """

    prompt: str | list[str | TokenId | list[TokenId]]
    best_of: Count | None = None
    echo: bool | None = None
    logprobs: TopLogprobs | None = None
    suffix: Literal[""] | None = None


class TokenizeRequest(Body):
    """The body of `POST /tokenize`: a text, by vLLM's name or by llama.cpp's, or a conversation.

    Attributes:
        model: Name of a served model.
        prompt: The text.
        content: The text, by llama.cpp's name.
        messages: The conversation, which the chat template renders, with the assistant's turn opened at its end.
        tools: Functions that the template shows to the model.
        add_special_tokens: Whether to add the tokens that the tokenizer puts around a text; the default is true.
        add_special: The same by llama.cpp's name, where the default is false.
        with_pieces: Whether each token comes with its text.
    """

    model: str | None = None
    prompt: str | None = None
    content: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    add_special_tokens: bool | None = None
    add_special: bool | None = None
    with_pieces: bool | None = None


class DetokenizeRequest(Body):
    """The body of `POST /detokenize`.

    Attributes:
        model: Name of a served model.
        tokens: Token ids.
    """

    tokens: list[TokenId]
    model: str | None = None
