from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import transformers

from minimind_edge.runtime.artifact.tokenizer_config import JsonObject
from minimind_edge.runtime.errors import ArtifactError, PromptError
from minimind_edge.runtime.text import chat_template
from minimind_edge.runtime.text.chat_template import ChatTemplate
from minimind_edge.runtime.text.tokenizer import Tokenizer

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city, <now> & 'then' 天气",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "北京", "n": 1.5}}}
CONVERSATIONS = {
    "one question": [{"role": "user", "content": "你好 <b>&</b>"}],
    "system": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "turns": [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "<think>\neasy\n</think>\n\n2"},
        {"role": "user", "content": "and 2 + 2?"},
        {"role": "assistant", "content": "4", "reasoning_content": "also easy\n"},
        {"role": "system", "content": "stay calm"},
        {"role": "user", "content": "thanks"},
    ],
    "tool calls": [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
        {"role": "tool", "content": "sunny"},
        {"role": "tool", "content": "windy"},
        {"role": "assistant", "content": "Sunny.", "tool_calls": None},
        {"role": "user", "content": "thanks"},
    ],
}
VARIABLES = [
    {},
    {"enable_thinking": False},
    {"enable_thinking": True},
    {"open_thinking": True},
    {"open_thinking": False},
]


def load(folder):
    config = JsonObject.read(folder / "tokenizer_config.json")
    tokenizer = Tokenizer.load(folder / "tokenizer.json", config)
    return ChatTemplate.find(None, config, tokenizer.special_tokens)


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
@pytest.mark.parametrize("tools", [None, [TOOL], [TOOL, TOOL]], ids=["no tools", "a tool", "two tools"])
def test_models_templates_equal_transformers(tokenizer_folders, messages, tools):
    for folder in tokenizer_folders:
        template = load(folder)
        reference = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
        for variables in VARIABLES:
            for add_generation_prompt in (True, False):
                options = {"tools": tools, "add_generation_prompt": add_generation_prompt, **variables}
                expected = reference.apply_chat_template(messages, tokenize=False, **options)
                assert template.render(messages, **options) == expected


SNIPPETS = {
    "whitespace": "  {% if true %}  \n a {%- if 1 %} b {% endif +%}\n{# note #}\n c\n  {% endif %}\n\nd\n\n",
    "tojson": "{{ messages | tojson }}{{ {'b': 1, 'a': '<é>'} | tojson(indent=2, sort_keys=true) }}{{ none | tojson }}",
    "loop controls": "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{{ loop.index }}"
    "{{ loop.length }}{{ loop.last }}{{ loop.revindex0 }}{% if loop.index == 4 %}{% break %}{% endif %}{% endfor %}",
    "filtered loop": ""
    "{% for m in messages if m.role == 'user' %}{{ loop.length }}{{ m.content }}{% else %}-{% endfor %}",
    "generators": "{% for m in messages | map(attribute='role') %}{{ loop.index }}{{ m }}{{ loop.last }}{% endfor %}"
    "{% for r, g in messages | groupby('role') %}{{ r }}{{ g | length }}{% endfor %}",
    "generation": ""
    "{% for m in messages %}{% generation %}{% set x = m.role %}{{ x }}\n{% endgeneration %}{% endfor %}{{ x }}",
    "namespace": ""
    "{% set ns = namespace(a=0, self=1) %}{% for m in messages %}{% set ns.a = ns.a + 1 %}{% endfor %}{{ ns.a }}",
    "special tokens": ""
    "{{ bos_token }}|{{ eos_token + 'x' }}|{{ pad_token ~ 1 ~ none }}|{{ unk_token }}|{{ cls_token is defined }}",
    "dict": "{{ dict(a=1, b=[2]) }}{{ dict(messages[0]).items() | list }}{{ range(3) | list }}",
    "macro": "{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(4) }}",
    "recursive loop": "{% for k in [[1, []], [2, [[3, []]]]] recursive %}{{ k[0] }}({{ loop(k[1]) }}){% endfor %}",
    "undefined": "{% for x in nothing %}{{ x }}{% else %}none{% endfor %}{{ nothing }}{{ messages[0].nothing }}",
    "arithmetic": ""
    "{{ 2 ** 10 }}{{ 'ab' * 3 }}{{ [1] + [2] }}{{ 7 // 2 }}{{ 7 % 4 }}{{ '%s-%d' % ('a', 3) }}{{ 1.5 * 2 }}",
    "filters": "{{ ' a ' | trim }}{{ 'x' | center(5) }}{{ messages | length }}{{ 'a\nb' | indent(2) }}"
    "{{ [3, 1] | sort | join(',') }}{{ 'abc' | replace('b', '') }}"
    "{{ messages | selectattr('role', 'eq', 'user') | list }}",
    "strings": "{{ 'A b'.split(' ')[0].lower() }}{{ '{:>4}'.format(2) }}{{ messages[0].content[:2] }}",
    "documents": "{% for d in documents %}{{ d.title }}{% endfor %}{{ tools is none }}{{ custom.a[0] }}",
    "reasoning": ""
    "{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }}|{{ m.tool_calls is defined }};{% endfor %}",
}


@pytest.mark.parametrize("source", SNIPPETS.values(), ids=SNIPPETS)
def test_constructs_equal_transformers(tokenizer_folder, source):
    config = JsonObject.read(tokenizer_folder / "tokenizer_config.json")
    specials = Tokenizer.load(tokenizer_folder / "tokenizer.json", config).special_tokens
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(str(tokenizer_folder))
    options = {"documents": [{"title": "T", "text": "x"}], "custom": {"a": (1, 2)}}
    for messages in CONVERSATIONS.values():
        expected = reference.apply_chat_template(messages, chat_template=source, tokenize=False, **options)
        assert ChatTemplate({"default": source}, specials).render(messages, **options) == expected


def test_strftime_now():
    text = ChatTemplate({"default": "{{ strftime_now('%Y') }}"}).render([{"role": "user", "content": ""}])
    assert abs(int(text) - time.localtime().tm_year) <= 1


ASK = [{"role": "user", "content": "Hi"}]

MANY = "{% for i in range(99999) %}"
OUTPUT = MANY + "{% for j in range(999) %}xxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}"
BOMBS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "nested loops in a set block": "{% set x %}{% for i in range(99999) %}{% for j in range(99999) %}a{% endfor %}"
    "{% endfor %}{% endset %}",
    "loops over text": "{% set s = 'x' * 90000 %}{% for i in s %}{% for j in s %}{% endfor %}{% endfor %}",
    "loops over generators": "{% for i in range(99999) | map('string') %}{% for j in range(99999) | map('string') %}"
    "{% endfor %}{% endfor %}",
    "loops over constants": "{% for a in [1,2,3,4,5,6,7,8,9,0] %}" * 8 + "{% endfor %}" * 8,
    "output": "{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
    "doubling by +": "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "doubling by ~": "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "squaring": "{% set ns = namespace(n=3) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "repetition": "{{ 'x' * 10 ** 10 }}",
    "repetition of a list": "{{ 10 ** 10 * [0] }}",
    "filter": "{{ 'x' | center(10 ** 10) }}",
    "constant filter": "{{ 'x' | center(9999999999) }}",
    "method": "{{ 'x'.ljust(9999999999) }}",
    "replace": "{% set a = 'x' * 9000 %}{{ a.replace('x', a) }}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursive loops": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 60 }}{% endfor %}",
    "endless recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "range": "{{ range(10 ** 9) | list }}",
    "in on lists": "{% set a = range(99999) | list %}" + MANY + "{% if -1 in a %}{% endif %}{% endfor %}",
    "== on lists": "{% set a = range(99999) | list %}{% set b = range(99999) | list %}"
    + MANY
    + "{% if a == b %}{% endif %}{% endfor %}",
    "list doubled": "{% set ns = namespace(a=[0]) %}{% for i in range(40) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
    "list doubled by sum": "{% set ns = namespace(a=[0]) %}"
    "{% for i in range(40) %}{% set ns.a = (ns.a, ns.a) | sum(start=[]) %}{% endfor %}",
    "batch": "{{ [1] | batch(999999999, 'x') | list | length }}",
    "slice": "{{ [1] | slice(999999999, 'x') | list | length }}",
    "lipsum": "{{ lipsum(n=100000) }}",
    "lipsum of many words": "{{ lipsum(n=1, min=10000000, max=10000001) }}",
    "width by %": "{{ '%3000000000d' % 1 }}",
    "width by format": "{{ '{:3000000000}'.format(1) }}",
    "width by a filter": "{{ '%3000000000d' | format(1) }}",
    "indent": "{{ ('x\n' * 10000) | indent(15000000) }}",
    "replace twice": "{% set a = 'x' * 9000 %}{{ a | replace('x', a) | replace('x', a) }}",
    "join": "{{ range(99999) | join('x' * 15000000) }}",
    "translate": "{{ ('x' * 9999999).translate({120: 'y' * 9999999}) }}",
    "expandtabs": "{{ ('\t' * 9999999).expandtabs(15000000) }}",
    "set block": "{% set x %}" + OUTPUT + "{% endset %}",
    "filter block": "{% filter upper %}" + OUTPUT + "{% endfilter %}",
    "macro": "{% macro m() %}" + OUTPUT + "{% endmacro %}{{ m() | length }}",
    "call block": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}{% call m() %}" + OUTPUT + "{% endcall %}",
    "chained ~": "{% set ns = namespace(a='x' * 1000) %}"
    "{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a ~ ns.a ~ ns.a %}{% endfor %}",
    "copies": "{% set ns = namespace(b=range(99999) | list) %}" + MANY + "{% set ns.b = ns.b[1:] %}{% endfor %}",
    "long number": "{{ (10 ** 4000000) | string | length }}",
    "long template": "{{ 1 }}" * 140000,
    "compile deep": "{{ " + "(" * 100000 + "1" + ")" * 100000 + " }}",
    "compile nested if": "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
}


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
def test_bombs_end_soon(source, monkeypatch):
    monkeypatch.setattr(chat_template, "RENDER_SECONDS", 0.3)  # of the second that it is, to save the suite a minute
    before = computed_by_children()
    with pytest.raises(ArtifactError, match=r"more than|number over|recursion|Range too big") as raised:
        ChatTemplate({"default": source}).render(ASK)
    assert raised.value.exit_code == 3
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
    assert computed_by_children() - before < 1.5


def computed_by_children():
    """Seconds that processes which have ended computed: what a bomb costs on a machine that does nothing else."""
    times = os.times()
    return times.children_user + times.children_system


def test_bombs_leave_the_memory_to_others():
    code = (
        "import resource, sys; from minimind_edge.runtime.text.chat_template import ChatTemplate\n"
        "try: ChatTemplate({'default': sys.argv[1]}).render([{'role': 'user', 'content': 'Hi'}])\n"
        "except Exception as error: print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    for name in ("list doubled", "replace twice", "chained ~", "join"):
        command = [sys.executable, "-c", code, BOMBS[name]]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        assert 0 < int(run.stdout) * KIBIBYTES < 640 << 10


KIBIBYTES = 1 / 1024 if sys.platform == "darwin" else 1
"""What `ru_maxrss` counts."""


def test_the_next_rendering_gets_another_process():
    template = ChatTemplate(
        {"default": "{% if messages[0].content == 'Hi' %}" + BOMBS["nested loops"] + "{% endif %}fine"}
    )
    for _ in range(2):
        before = computed_by_children()
        with pytest.raises(ArtifactError, match="takes more than 1 s"):
            template.render(ASK)
        assert computed_by_children() - before < 3
        assert template.render([{"role": "user", "content": "Bye"}]) == "fine"


def test_the_process_ends_with_its_template_and_with_its_parent():
    template = ChatTemplate({"default": "x"})
    template.render(ASK)
    process = template._process._process
    assert process.poll() is None
    del template
    assert process.poll() is not None
    code = (
        "import os; from minimind_edge.runtime.text.chat_template import ChatTemplate\n"
        "t = ChatTemplate({'default': 'x'}); t.render([{}])\n"
        "print(t._process._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    for _ in range(100):
        if not is_running(int(killed.stdout)):
            return
        time.sleep(0.1)
    raise AssertionError("the child outlived its parent")


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_models_own_templates_need_no_process(tokenizer_folders, demo_folder):
    assert len(tokenizer_folders) in (1, 3)
    for folder in [*tokenizer_folders[1:], demo_folder]:
        template = load(folder)
        template.render(ASK)
        assert template._process is None


def test_messages_that_hold_themselves():
    message = {"role": "user", "content": []}
    message["content"].append(message)
    with pytest.raises(PromptError, match="holds itself"):
        ChatTemplate({"default": "x"}).render([message])


BROKEN = {
    "syntax": "{% if %}",
    "unclosed": "{% for m in messages %}",
    "unknown filter": "{{ 1 | nonesuch }}",
    "unknown tag": "{% nonesuch %}",
    "type": "{{ messages[0].content + 1 }}",
    "none": "{% for x in none %}{% endfor %}",
    "division": "{{ 1 // 0 }}",
    "undefined": "{{ a.b.c }}",
    "missing": "{{ {}['a'].b }}",
    "include": "{% include '/etc/hostname' %}",
    "interpreter": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['json'] }}",
    "format": "{{ '{0.__class__.__mro__[0].x}'.format(1) }}",
    "namespace": "{% set ns = namespace() %}{% set ns.__init__ = 1 %}",
    "namespace by name": "{{ namespace(_a=1) }}",
    "mutation": "{{ messages.append(1) }}",
    "nothing to cycle through": "{{ cycler() }}",
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_broken_and_prying_templates(source):
    with pytest.raises(ArtifactError, match=r"cannot be rendered: [^;]") as raised:
        ChatTemplate({"default": source}).render(ASK)
    assert "\n" not in str(raised.value)


def test_a_template_may_refuse_the_messages():
    with pytest.raises(PromptError, match="refuses these messages: roles must alternate"):
        ChatTemplate({"default": "{{ raise_exception('roles must alternate') }}"}).render(ASK)


def test_the_budget_is_one_renderings():
    template = ChatTemplate({"default": "{% for i in range(90000) %}{{ i ~ '' }}{% endfor %}"})
    assert len({template.render(ASK) for _ in range(8)}) == 1


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "messages", [[], [{"role": "user", "content": {1, 2}}], [{"role": "user", "content": Colour.RED}], ["hi"]], ids=str
)
def test_messages_that_are_none(messages):
    with pytest.raises(PromptError):
        ChatTemplate({"default": "x"}).render(messages)


def test_rendering_leaves_the_messages_as_they_are():
    messages = [{"role": "user", "content": "a", "thinking": "b", "x": None}]
    before = json.dumps(messages)
    ChatTemplate({"default": "{{ messages[0].reasoning_content }}"}).render(messages)
    assert json.dumps(messages) == before


def find(tmp_path, file=None, config=None):
    path = None
    if file is not None:
        path = tmp_path / "chat_template.jinja"
        path.write_bytes(file)
    return ChatTemplate.find(path, JsonObject(config or {}, "the config"))


def test_the_file_goes_before_the_config(tmp_path):
    assert find(tmp_path) is None
    assert find(tmp_path, config={"chat_template": "config"}).render(ASK) == "config"
    assert find(tmp_path, b"file\r\nof two lines", {"chat_template": "config"}).render(ASK) == "file\nof two lines"


def test_templates_by_name(tmp_path):
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    template = find(tmp_path, config={"chat_template": named})
    assert (template.render(ASK), template.render(ASK, tools=[TOOL])) == ("plain", "tools")
    with pytest.raises(ArtifactError, match="no chat template named default, only tool_use"):
        find(tmp_path, config={"chat_template": named[1:]})


@pytest.mark.parametrize(
    ("file", "config"),
    [
        (b"\xff\xfe\x00", None),
        (b"x" * (1 << 20) + b"x", None),
        (None, {"chat_template": 3}),
        (None, {"chat_template": [1]}),
        (None, {"chat_template": [{"name": "default"}]}),
    ],
    ids=["no text", "too large", "number", "list", "no template"],
)
def test_hostile_files(tmp_path, file, config):
    with pytest.raises(ArtifactError):
        find(tmp_path, file, config)


def test_jinja2_is_imported_by_rendering_a_known_template_only(demo_folder):
    config = JsonObject.read(demo_folder / "tokenizer_config.json")
    code = (
        "import sys; from minimind_edge.runtime.text.chat_template import ChatTemplate as T\n"
        "ask = [{'role': 'user', 'content': 'x'}]; T({'default': 'x'}).render(ask); T({'default': sys.argv[1]})\n"
        "assert 'jinja2' not in sys.modules; T({'default': sys.argv[1]}).render(ask); assert 'jinja2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, config["chat_template"]], check=True)


def test_the_process_of_a_template_imports_neither_numpy_nor_onnxruntime():
    code = (
        "import sys; from minimind_edge.runtime.text.template_environment import open_renderer\n"
        "open_renderer({'default': 'x'}); import minimind_edge.runtime.limited_process\n"
        "assert not {'numpy', 'onnxruntime', 'tokenizers', 'asyncio'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


OUTSIDE_OF_A_LOOP = ["{% break %}", "{% macro m() %}{% continue %}{% endmacro %}"]


@pytest.mark.parametrize("source", [*OUTSIDE_OF_A_LOOP, "{{ messages[1e999 - 1] }}"])
def test_a_template_that_python_cannot_compile_is_broken_and_takes_nothing_down(source):
    with pytest.raises(ArtifactError, match="the chat template cannot be rendered"):
        ChatTemplate({"default": source}).render([{"role": "user", "content": "hi"}])
