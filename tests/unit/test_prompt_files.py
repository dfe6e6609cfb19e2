"""The files of minimind-run (cli/prompt_files.py): messages, tools, and many prompts as JSON Lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minimind_edge.cli.prompt_files import read_messages, read_prompts, read_tools
from minimind_edge.cli.prompt_input import RunInput
from minimind_edge.cli.run_request import RunRequest
from minimind_edge.runtime.errors import InputError, UsageError
from minimind_edge.runtime.options import GenerationOptions

HI = [{"role": "user", "content": "Hi"}]
SCHEMA = {"name": "get_time", "parameters": {"type": "object"}}


@pytest.fixture
def write(tmp_path):
    """Write a file of these lines, each a text or a value of JSON; its path."""

    def run(*lines, mark=""):
        path = tmp_path / "file"
        text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
        path.write_text(mark + text, encoding="utf-8")
        return path

    return run


def test_the_options_of_a_line_replace_those_of_the_command(write):
    path = write(
        {"prompt": "你好"},
        "",
        {"messages": HI, "id": "b", "max_new_tokens": 3, "stop": ["x"], "tools": [SCHEMA]},
        {"prompt": "a", "id": 7, "temperature": 0.5, "system": None},
        mark="\ufeff",
    )
    plain, second, third = read_prompts(path, GenerationOptions(greedy=True, max_new_tokens=9, system="Be brief."))
    assert (plain.prompt, plain.id) == ("你好", None)
    assert plain.options == GenerationOptions(greedy=True, max_new_tokens=9, system="Be brief.")
    assert (second.prompt, second.id) == (HI, "b")
    assert second.options == GenerationOptions(
        greedy=True, max_new_tokens=3, stop=["x"], tools=[SCHEMA], system="Be brief."
    )
    assert third.id == 7
    assert third.options == GenerationOptions(temperature=0.5, max_new_tokens=9), "sampling is asked for"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected|must hold a JSON object"),
        ({}, "either a prompt or messages"),
        ({"prompt": "a", "messages": HI}, "either a prompt or messages"),
        ({"prompt": ""}, "at least one word"),
        ({"prompt": 3}, "prompt is 3"),
        ({"messages": []}, "empty"),
        ({"messages": "hi"}, 'found "hi"'),
        ({"messages": ["hi"]}, 'one is "hi"'),
        ({"messages": [{"content": "hi"}]}, "message 0 has no role"),
        ({"prompt": "a", "temprature": 1}, "did you mean 'temperature'"),
        ({"prompt": "a", "temperature": "hot"}, 'temperature is "hot": expected a number'),
        ({"prompt": "a", "stop": "x"}, "stop"),
        ({"prompt": "a", "id": [1]}, "id is a list"),
        ({"prompt": "a", "id": True}, "id is true"),
        ({"prompt": "a", "tools": [{}]}, "function schema 0 has no name"),
        ({"prompt": "a", "tools": {}}, "list of function schemas"),
        ("[" * 100_000, "line 2"),
    ],
)
def test_a_line_that_is_wrong_is_named_before_any_is_run(write, line, told):
    with pytest.raises(InputError, match=told) as caught:
        read_prompts(write({"prompt": "a"}, line), GenerationOptions())
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize("content", ["", "{}", '{"role": "user"}', "[]", "[1]", "[{}]", "[" * 100_000, "null", '"hi"'])
def test_what_is_no_list_of_messages_is_refused(write, content):
    with pytest.raises(InputError):
        read_messages(write(content))


@pytest.mark.parametrize("content", ["{}", "[1]", "[{}]", '[{"function": 1}]', '[{"function": {"name": 1}}]'])
def test_what_is_no_list_of_schemas_is_refused(write, content):
    with pytest.raises(InputError):
        read_tools(write(content))


@pytest.mark.parametrize("schema", [SCHEMA, {"type": "function", "function": SCHEMA}])
def test_schemas_are_taken_alone_or_as_openai_has_them(write, schema):
    assert read_tools(write([schema])) == [schema]


def test_a_file_that_is_missing_or_is_not_text(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_messages(tmp_path / "none")
    (tmp_path / "latin").write_bytes(b'["\xe9"]')
    with pytest.raises(InputError, match="not UTF-8"):
        read_messages(tmp_path / "latin")


@pytest.mark.parametrize(
    ("source", "request_"),
    [
        ({"messages": True, "prompts": True}, {}),
        ({"messages": True, "prompt": "hi"}, {}),
        ({"prompts": True, "prompt": "hi"}, {}),
        ({"messages": True}, {"chat": True}),
        ({"messages": True}, {"ids": True}),
        ({"prompts": True}, {"ids": True}),
        ({"messages": True}, {"options": GenerationOptions(raw=True)}),
        ({"prompts": True}, {"json_indent": True}),
    ],
)
def test_two_places_of_a_prompt_exclude_each_other(source, request_):
    files = {name: Path("x") if value is True else value for name, value in source.items()}
    with pytest.raises(UsageError, match="exclude each other"):
        RunInput(**files).check(RunRequest(**request_))


def test_one_place_of_a_prompt_is_enough():
    RunInput(prompt="hi").check(RunRequest(ids=True))
    RunInput(messages=Path("x")).check(RunRequest(json_indent=True))
    RunInput(prompts=Path("x")).check(RunRequest(options=GenerationOptions(raw=True)))
