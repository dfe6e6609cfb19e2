"""Tool calls in a model's answer (runtime/text/tool_calls.py), in the format of MiniMind's and Qwen's templates."""

from __future__ import annotations

import pytest
import transformers

from minimind_edge.runtime.text.tool_calls import ToolCall, find_tool_calls

WEATHER = ToolCall("get_weather", {"city": "北京", "days": 2})
TIME = ToolCall("get_time", {})


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('<tool_call>\n{"name": "get_weather", "arguments": {"city": "北京", "days": 2}}\n</tool_call>', [WEATHER]),
        (
            'Let me see.<tool_call>{"name":"get_time","arguments":{}}</tool_call> <tool_call>{"name":"get_time"}',
            [TIME] * 2,
        ),
        (
            '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"北京\\", \\"days\\": 2}"}</tool_call>',
            [WEATHER],
        ),
        ('<think>\n<tool_call>{"name": "get_time"}</tool_call>\n</think>\n\nNo.', []),
        ('<think>\nWhich?\n</think>\n\n<tool_call>{"name": "get_time"}</tool_call>', [TIME]),
        ("It is noon.", []),
        ("<tool_call>noon</tool_call>", []),
        ('<tool_call>{"arguments": {}}</tool_call>', []),
        ('<tool_call>{"name": "f", "arguments": [1]}</tool_call>', []),
        ('<tool_call>{"name": "f", "arguments": "x"}</tool_call>', []),
        ('<tool_call>{"name": 3}</tool_call>', []),
        ("<tool_call>[]</tool_call>", []),
        (f"<tool_call>{'[' * 100_000}</tool_call>", []),
    ],
)
def test_calls_are_found_and_other_text_is_none(text, calls):
    assert find_tool_calls(text) == calls


def test_a_call_in_a_think_block_that_the_prompt_opened_is_a_thought():
    text = '<tool_call>{"name": "get_time"}</tool_call></think>\n\n<tool_call>{"name": "get_weather"}</tool_call>'
    assert find_tool_calls(text, thinking=True) == [ToolCall("get_weather", {})]


def test_what_the_models_templates_write_is_found(tokenizer_folders):
    """The templates themselves write the calls of a history, in the format that the models learn."""
    calls = [
        {"type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in (WEATHER, TIME)
    ]
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": calls}]
    for folder in tokenizer_folders:
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        assert find_tool_calls(text) in ([WEATHER, TIME], []), "a template without tools writes none"
        assert ("<tool_call>" in text) == bool(find_tool_calls(text))
