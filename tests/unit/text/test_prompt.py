from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime.errors import PromptError, UsageError
from minimind_edge.runtime.text.chat_template import ChatTemplate
from minimind_edge.runtime.text.prompt import Prompt, PromptBuilder

THINKING = """{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- if open_thinking is defined and open_thinking %}{{ '<think>\\n' }}{% endif %}"""


@pytest.fixture
def builder(tokenizer):
    return PromptBuilder(tokenizer, ChatTemplate({"default": THINKING}), tokenizer.bos_token_id)


@pytest.fixture
def text_of(tokenizer):
    return lambda prompt: tokenizer.decode(prompt.token_ids, skip_special_tokens=False)


USER = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_text_becomes_a_users_message(builder, text_of):
    assert text_of(builder.build("Hi")) == USER
    system = "<|im_start|>system\nBe brief.<|im_end|>\n"
    assert text_of(builder.build("Hi", system="Be brief.")) == system + USER


def test_messages_are_rendered(builder, text_of):
    messages = [{"role": "user", "content": "Hi"}]
    assert builder.build(messages) == builder.build("Hi")
    assert builder.build(messages, system="S") == builder.build("Hi", system="S")
    assert builder.build(messages, raw=True) == builder.build("Hi")


def test_raw_text_stands_behind_bos(builder, tokenizer):
    plain = tokenizer.encode("Hi there", add_special_tokens=False)
    assert builder.build("Hi there", raw=True) == Prompt((1, *plain))
    assert builder.build("", raw=True) == Prompt((1,))
    assert PromptBuilder(tokenizer).build("Hi there") == Prompt(tuple(plain))
    assert PromptBuilder(tokenizer, None, 1).build("Hi there") == Prompt((1, *plain))


def test_thinking(builder, text_of):
    assert text_of(builder.build("Hi", thinking=True)) == USER + "<think>\n"
    assert text_of(builder.build("Hi", thinking=False)) == USER + "<think>\n\n</think>\n\n"
    assert [builder.build("Hi", thinking=thinking).opens_thinking for thinking in (None, True, False)] == [
        False,
        True,
        False,
    ]
    assert builder.build("<think>\n", raw=True).opens_thinking


@pytest.mark.parametrize("ids", [[3, 4], (3, 4), np.array([3, 4])], ids=["list", "tuple", "array"])
def test_token_ids_stay_as_they_are(ids):
    prompt = PromptBuilder(None).build(ids)
    assert prompt == Prompt((3, 4))
    assert all(type(token) is int for token in prompt.token_ids)
    assert PromptBuilder(None).build(prompt) is prompt


@pytest.mark.parametrize("prompt", [[], (), [1.5], ["a", "b"], [None], [{"role": "user"}, 3]], ids=str)
def test_prompts_that_are_none(builder, prompt):
    with pytest.raises(PromptError):
        builder.build(prompt)


def test_what_the_model_lacks(tokenizer):
    with pytest.raises(PromptError, match="without a tokenizer"):
        PromptBuilder(None).build("Hi")
    with pytest.raises(PromptError, match="no chat template"):
        PromptBuilder(tokenizer).build([{"role": "user", "content": "Hi"}])
    with pytest.raises(PromptError, match="the prompt is empty"):
        PromptBuilder(tokenizer).build("")
    with pytest.raises(PromptError, match="empty prompt of these messages"):
        PromptBuilder(tokenizer, ChatTemplate({"default": "{# nothing #}"})).build("Hi")


@pytest.mark.parametrize("options", [{"system": "S"}, {"tools": []}], ids=str)
def test_a_raw_prompt_has_no_place_for_a_system_message(builder, options):
    for prompt, raw in (("Hi", True), ([1, 2], False), (Prompt((1,)), False)):
        with pytest.raises(UsageError, match="no place in a raw prompt"):
            builder.build(prompt, raw=raw, **options)
