"""How the clients of the MiniMind project call a server: scripts/chat_api.py and scripts/eval_toolcall.py.

The loops below read the stream as these scripts do, so that what they rely on is what is tested.

Source:
    https://github.com/jingyaogong/minimind
"""

from __future__ import annotations

import json

TOOL = {
    "type": "function",
    "function": {
        "name": "calculate_math",
        "description": "计算数学表达式的结果",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "数学表达式"}},
            "required": ["expression"],
        },
    },
}
CALL = '<tool_call>\n{"name": "calculate_math", "arguments": {"expression": "256*37"}}\n</tool_call>'


def test_chat_api(client, follow) -> None:
    engine = follow("The user greets.\n", "</think>\n\n", "你好", "！")
    response = client.chat.completions.create(
        model="minimind-local:latest",
        messages=[{"role": "user", "content": "你好"}],
        stream=True,
        temperature=0.8,
        max_tokens=2048,
        top_p=0.8,
        extra_body={"chat_template_kwargs": {"open_thinking": True}, "reasoning_effort": "medium"},
    )
    reasoning = answer = ""
    for chunk in response:
        if not chunk.choices:
            continue
        delta = chunk.choices[0].delta
        reasoning += getattr(delta, "reasoning_content", None) or ""
        answer += delta.content or ""
    assert (reasoning, answer) == ("The user greets.\n", "你好！")
    assert engine.requests[0].prompt.opens_thinking and engine.requests[0].max_new_tokens == 2048


def ask(client, messages, *, stream):
    """`chat_api` of scripts/eval_toolcall.py."""
    response = client.chat.completions.create(
        model="jingyaogong/minimind-3:latest",
        messages=messages,
        tools=[TOOL],
        stream=stream,
        temperature=0.9,
        max_tokens=8192,
        top_p=0.9,
    )
    if not stream:
        choice = response.choices[0]
        calls = choice.message.tool_calls or []
        return choice.message.content or "", [(call.id, call.function.name, call.function.arguments) for call in calls]
    content, calls = "", []
    for chunk in response:
        delta = chunk.choices[0].delta
        content += delta.content or ""
        for part in delta.tool_calls or []:
            while len(calls) <= part.index:
                calls.append(["", "", ""])
            calls[part.index][0] += part.id or ""
            calls[part.index][1] += part.function.name or ""
            calls[part.index][2] += part.function.arguments or ""
    return content, [tuple(call) for call in calls]


def test_eval_toolcall(client, follow, minimind3) -> None:
    for stream in (True, False):
        engine = follow(pieces=[["好的。\n", CALL[:15], CALL[15:]], ["结果是 9472。"]])
        messages = [{"role": "user", "content": "帮我算一下 256 乘以 37 等于多少"}]
        content, calls = ask(client, messages, stream=stream)
        ((call, name, arguments),) = calls
        assert (content, name, json.loads(arguments)) == ("好的。", "calculate_math", {"expression": "256*37"})
        function = {"name": name, "arguments": arguments}
        messages += [
            {
                "role": "assistant",
                "content": content,
                "tool_calls": [{"id": call, "type": "function", "function": function}],
            },
            {"role": "tool", "content": json.dumps({"result": "9472"}), "tool_call_id": call},
        ]
        assert ask(client, messages, stream=stream) == ("结果是 9472。", [])
        tokenizer, template = minimind3
        expected = template.render(messages, tools=[TOOL], add_generation_prompt=True, open_thinking=False)
        assert tokenizer.decode(engine.requests[1].prompt.token_ids, skip_special_tokens=False) == expected


def test_open_webui_and_fastgpt(client, engine) -> None:
    """The fields that Open WebUI and FastGPT send along, in their usual types."""
    messages = [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]
    list(
        client.chat.completions.create(
            model="minimind",
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},
            temperature=0.8,
            top_p=0.9,
            max_tokens=2000,
            frequency_penalty=0,
            presence_penalty=0,
            stop=["</s>"],
            seed=42,
            logit_bias={"5": 1},
            user="someone@example.com",
            reasoning_effort="medium",
            response_format={"type": "text"},
            extra_body={"top_k": 40, "min_p": 0.0},
        )
    )
    client.chat.completions.create(
        model="minimind",
        messages=messages,
        stream=False,
        temperature=0.01,
        max_tokens=8000,
        tools=[TOOL],
        tool_choice="auto",
        parallel_tool_calls=True,
    )
    assert len(engine.requests) == 2
