from __future__ import annotations

import json

import numpy as np
import pytest
import transformers

from minimind_edge.runtime.artifact.tokenizer_config import JsonObject
from minimind_edge.runtime.errors import PromptError, UsageError
from minimind_edge.runtime.text.chat_template import ChatTemplate
from minimind_edge.runtime.text.prompt import Prompt, PromptBuilder
from minimind_edge.runtime.text.tokenizer import Tokenizer

THINKING = """{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- if open_thinking is defined and open_thinking %}{{ '<think>\\n' }}{% endif %}"""


@pytest.fixture
def builder(tokenizer):
    return PromptBuilder(tokenizer, ChatTemplate({"default": THINKING}))


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


def test_raw_text_is_what_transformers_makes_of_it(builder, tokenizer, tokenizer_folder):
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(str(tokenizer_folder))
    plain = tuple(reference("Hi there").input_ids)
    assert builder.build("Hi there", raw=True) == Prompt(plain)
    assert PromptBuilder(tokenizer).build("Hi there") == Prompt(plain)


def test_raw_text_stands_after_the_bos_of_tokenizer_json(tokenizer_folder, tmp_path):
    description = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    description["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(str(tmp_path))
    for config in ({}, {"bos_token": "<|im_start|>", "begins_with_bos": True}):
        tokenizer = Tokenizer.load(tmp_path / "tokenizer.json", JsonObject(config, "the config"))
        assert PromptBuilder(tokenizer).build("Hi there") == Prompt(tuple(reference("Hi there").input_ids))


def test_raw_text_stands_after_bos_where_the_export_says_so(tokenizer_folder):
    config = dict(JsonObject.read(tokenizer_folder / "tokenizer_config.json"))
    config["begins_with_bos"] = True
    tokenizer = Tokenizer.load(tokenizer_folder / "tokenizer.json", JsonObject(config, "the config"))
    plain = tokenizer.encode("Hi there", add_special_tokens=False)
    assert PromptBuilder(tokenizer).build("Hi there") == Prompt((1, *plain))
    assert PromptBuilder(tokenizer).build("") == Prompt((1,))
    config["bos_token"] = None
    tokenizer = Tokenizer.load(tokenizer_folder / "tokenizer.json", JsonObject(config, "the config"))
    assert PromptBuilder(tokenizer).build("Hi there") == Prompt(tuple(plain))


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
