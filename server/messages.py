"""Messages and tools, from the form of OpenAI's interface to the form that chat templates read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .requests import AssistantMessage, Content, Message, MessageToolCall, TextPart, Tool, ToolMessage

_ROLES = {"developer": "system"}
"""The roles that templates know by another name."""


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as chat templates read them."""
    return [_message(message) for message in messages]


def template_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The tools as chat templates show them to the model."""
    return [{"type": "function", "function": _function(tool)} for tool in tools]


def _message(message: Message) -> dict[str, Any]:
    role = str(message.__struct_config__.tag)
    rendered: dict[str, Any] = {"role": _ROLES.get(role, role)}
    if message.content is not None:
        rendered["content"] = _text(message.content)
    elif role == "assistant":
        rendered["content"] = ""
    if message.name is not None:
        rendered["name"] = message.name
    if isinstance(message, AssistantMessage):
        if message.reasoning_content is not None:
            rendered["reasoning_content"] = message.reasoning_content
        if message.tool_calls:
            rendered["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if isinstance(message, ToolMessage) and message.tool_call_id is not None:
        rendered["tool_call_id"] = message.tool_call_id
    return rendered


def _text(content: Content) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart))


def _tool_call(call: MessageToolCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": call.function.arguments or "{}"}
    return {"id": call.id or "", "type": "function", "function": function}


def _function(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = msgspec.to_builtins(tool.function)
    function.pop("strict")
    return {name: value for name, value in function.items() if value is not None}
