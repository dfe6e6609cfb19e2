"""minimind-run with files: messages, tools, and many prompts as JSON Lines."""

from __future__ import annotations

import json

import pytest
from transformers import AutoTokenizer

PROMPTS = ("How are you?", "你好", "Tell me a story about a fox.")
TOOLS = [{"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}]
OPTIONS = ("--greedy", "-n", 12)


def user(text):
    return {"role": "user", "content": text}


@pytest.fixture(scope="module")
def answers(command, artifact):
    """What the command answers to each prompt alone: text and token ids."""
    told = {}
    for prompt in PROMPTS:
        result = json.loads(command("minimind-run", "--engine", artifact, prompt, *OPTIONS, "--json").stdout)
        told[prompt] = (result["text"], result["token_ids"])
    return told


def written(folder, name, *values):
    path = folder / name
    path.write_text("\n".join(json.dumps(value) for value in values), encoding="utf-8")
    return path


def test_messages_are_answered_as_the_same_question_is(command, artifact, answers, tmp_path):
    prompt = PROMPTS[0]
    path = written(tmp_path, "messages.json", [user(prompt)])
    for source, stdin in ((path, ""), ("-", path.read_bytes())):
        result = command("minimind-run", "--engine", artifact, "--messages", source, *OPTIONS, stdin=stdin)
        assert (result.returncode, result.stdout, result.stderr) == (0, f"{answers[prompt][0]}\n", "")


def test_tools_reach_the_template_as_transformers_gives_them(command, artifact, tmp_path):
    conversation = [user("What time is it?"), {"role": "assistant", "content": "Where?"}, user("Here.")]
    files = ("--messages", written(tmp_path, "m", conversation), "--tools", written(tmp_path, "t", TOOLS))
    result = command("minimind-run", "--engine", artifact, *files, *OPTIONS, "--json")
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    text = tokenizer.apply_chat_template(conversation, tools=TOOLS, tokenize=False, add_generation_prompt=True)
    answer = json.loads(result.stdout)
    assert answer["prompt_tokens"] == len(tokenizer(text, add_special_tokens=False).input_ids)
    assert answer["tool_calls"] == []


def test_prompts_are_answered_in_their_order_each_with_its_options(command, artifact, answers, tmp_path):
    lines = [
        {"prompt": PROMPTS[0], "id": "a"},
        {"messages": [user(PROMPTS[1])], "id": 7},
        {"prompt": PROMPTS[2], "max_new_tokens": 5},
        {"prompt": "x " * 20_000, "id": "long"},
        {"prompt": PROMPTS[0], "tools": TOOLS},
    ]
    path = written(tmp_path, "prompts.jsonl", *lines)
    result = command("minimind-run", "--engine", artifact, "--prompts", path, *OPTIONS)
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 3, "one prompt is longer than the context"
    assert result.stderr == "error: 1 of 5 prompts could not be run; their lines say why\n"
    assert [line.get("id") for line in told] == ["a", 7, None, "long", None]
    assert [told[0]["text"], told[1]["text"]] == [answers[PROMPTS[0]][0], answers[PROMPTS[1]][0]]
    assert told[2]["token_ids"] == answers[PROMPTS[2]][1][:5]
    assert set(told[3]) == {"id", "error"}
    assert "8192" in told[3]["error"]
    assert told[4]["tool_calls"] == []
    assert "tool_calls" not in told[0]


def test_prompts_come_from_a_pipe_and_a_wrong_line_stops_all(command, refused, artifact, answers):
    lines = json.dumps({"prompt": PROMPTS[1]})
    options = ("minimind-run", "--engine", artifact, "--prompts", "-", *OPTIONS)
    result = command(*options, stdin=lines)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["token_ids"] == answers[PROMPTS[1]][1]
    assert "line 2" in refused(3, *options, stdin=f"{lines}\n{{}}\n")


def test_nothing_asked_is_nothing_answered(command, artifact):
    result = command("minimind-run", "--engine", artifact, "--prompts", "-", stdin="\n")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "options",
    [
        ("--messages", "m", "hello"),
        ("--messages", "m", "--prompts", "p"),
        ("--prompts", "p", "--chat"),
        ("--prompts", "p", "--json-indent"),
        ("--tools", "-", "--ids", "1"),
        ("--tools", "-", "--raw", "a"),
    ],
    ids=" ".join,
)
def test_options_that_exclude_each_other(refused, artifact, options):
    refused(2, "minimind-run", "--engine", artifact, *options, stdin=json.dumps(TOOLS))
