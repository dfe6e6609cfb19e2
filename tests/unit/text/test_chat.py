from __future__ import annotations

import pytest

from minimind_edge.runtime.artifact.generation_config import GenerationConfig
from minimind_edge.runtime.artifact.tokenizer_config import JsonObject
from minimind_edge.runtime.engine import Engine
from minimind_edge.runtime.errors import ContextLengthError, PromptError
from minimind_edge.runtime.sampling import SamplingParams
from minimind_edge.runtime.text.chat_template import ChatTemplate
from minimind_edge.runtime.text.tokenizer import Tokenizer

GREEDY = SamplingParams(greedy=True)
END = 2


@pytest.fixture
def make_engine(make_session):
    """An engine whose model gives the answers of a list, in turn, behind whatever it is asked."""

    def build(folder, answers, max_length=2000):
        config = JsonObject.read(folder / "tokenizer_config.json")
        tokenizer = Tokenizer.load(folder / "tokenizer.json", config)
        script = [[*tokenizer.encode(answer), END] for answer in answers]

        class Scripted(make_session):
            def prefill(self, input_ids, attention_mask=None):
                self.answer = iter(script.pop(0))
                return super().prefill(input_ids, attention_mask)

            def next_token(self, row):
                return next(self.answer)

        session = Scripted(vocab_size=tokenizer.vocab_size, max_length=max_length)
        template = ChatTemplate.find(None, config, tokenizer.special_tokens)
        return Engine(session, tokenizer, template, GenerationConfig(eos_token_ids=(END,)))

    return build


def run_tokens(session):
    """How many tokens of the last prompt were run."""
    prefill = next(call for call in reversed(session.calls) if call[0] == "prefill")
    return len(prefill[1][0])


def test_history_grows_and_only_new_tokens_run(make_engine, tokenizer_folder):
    engine = make_engine(tokenizer_folder, ["Hello!", "I'm fine, thank you.", "Bye 你好"])
    chat = engine.chat(system="Be brief.", params=GREEDY)
    assert [chat.send(text).run().text for text in ("Hi", "How are you?", "Bye")] == [
        "Hello!",
        "I'm fine, thank you.",
        "Bye 你好",
    ]
    assert [(message["role"], message["content"]) for message in chat.messages] == [
        ("user", "Hi"),
        ("assistant", "Hello!"),
        ("user", "How are you?"),
        ("assistant", "I'm fine, thank you."),
        ("user", "Bye"),
        ("assistant", "Bye 你好"),
    ]
    # what was run last: from the end of the second answer on
    new = "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    assert run_tokens(engine.session) == len(engine.tokenizer.encode(new))


@pytest.mark.parametrize("thinking", [None, True, False])
def test_the_session_holds_what_the_prompt_says(make_engine, tokenizer_folders, thinking):
    answers = ["pondering\n</think>\n\nOne.", "<think>\nhm\n</think>\n\nTwo.", "", "Three 三 😀"]
    for folder in tokenizer_folders:
        engine = make_engine(folder, answers)
        chat = engine.chat(thinking=thinking, params=GREEDY)
        for text in ("1?", "2? 二", "  3?\n", "4"):
            completion = chat.send(text)
            result = completion.run()
            held = [*completion.prompt.token_ids, *result.token_ids]
            assert engine.session.rows[0] == held[: engine.session.length]
            assert engine.session.length == len(held) - 1
            expected = engine.prompts.build([*chat.messages[:-2], {"role": "user", "content": text}], thinking=thinking)
            assert completion.prompt == expected


def test_a_prefix_written_anew_runs_again(make_engine, shared_folder):
    """MiniMind2's template shuts an empty think block into the prompt, and leaves it out of the history."""
    if shared_folder is None:
        pytest.skip("upstream's templates are not at hand")
    folder = shared_folder / "data" / "tokenizers" / "minimind2"
    engine = make_engine(folder, ["One.", "Two."])
    chat = engine.chat(thinking=False, params=GREEDY)
    chat.send("1?").run()
    chat.send("2?").run()
    again = "One.<|im_end|>\n<|im_start|>user\n2?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert run_tokens(engine.session) == len(engine.tokenizer.encode(again))


def test_an_opened_think_block_enters_the_history_closed(make_engine, tokenizer_folder):
    engine = make_engine(tokenizer_folder, ["why\n</think>\n\nso", "never done"])
    engine.prompts.template = ChatTemplate({"default": "{{ messages | map(attribute='content') | join }}<think>\n"})
    chat = engine.chat(params=GREEDY)
    chat.send("a").run()
    chat.send("b").run()
    assert chat.messages[1]["content"] == "<think>\nwhy\n</think>\n\nso"
    assert chat.messages[3]["content"] == "<think>\nnever done\n</think>\n\n"


def test_the_oldest_turns_are_dropped_and_the_system_message_stays(make_engine, tokenizer_folder):
    engine = make_engine(tokenizer_folder, ["Answer."] * 12, max_length=160)
    drops = []
    chat = engine.chat(system="Be brief.", params=GREEDY, max_new_tokens=30, on_drop=drops.append)
    for number in range(12):
        completion = chat.send(f"Question {number}?")
        assert len(completion.prompt.token_ids) + 30 <= 160
        prompt = engine.tokenizer.decode(completion.prompt.token_ids, skip_special_tokens=False)
        assert prompt.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
        assert completion.run().text == "Answer."
    dropped = [message["content"] for messages in drops for message in messages]
    kept = [message["content"] for message in chat.messages]
    assert dropped + kept == [text for number in range(12) for text in (f"Question {number}?", "Answer.")]
    assert dropped
    assert all(messages[0]["role"] == "user" and len(messages) % 2 == 0 for messages in drops)


def test_room_for_the_answer_is_a_quarter_of_the_context_at_most(make_engine, tokenizer_folder):
    engine = make_engine(tokenizer_folder, ["Answer."] * 2, max_length=160)
    chat = engine.chat(params=GREEDY, max_new_tokens=1000)
    chat.send("Question?").run()
    size = len(chat.send("Question?").prompt.token_ids)
    assert size < 120
    assert len(chat.messages) == 2


def test_a_message_that_is_too_long_alone(make_engine, tokenizer_folder):
    engine = make_engine(tokenizer_folder, ["Answer.", "Answer."], max_length=100)
    drops = []
    chat = engine.chat(params=GREEDY, on_drop=drops.append)
    chat.send("Hi").run()
    with pytest.raises(ContextLengthError, match="the context holds 100"):
        chat.send("long " * 200)
    assert [message["content"] for message in chat.messages] == ["Hi", "Answer."]
    assert drops == []
    assert chat.send("Hi again").run().text == "Answer."


def test_an_answer_that_was_cut_off_stays_in_the_history(make_engine, tokenizer_folder):
    engine = make_engine(tokenizer_folder, ["The quick brown fox", "Yes."])
    chat = engine.chat(params=GREEDY)
    completion = chat.send("Hi")
    said = next(completion) + next(completion)
    assert chat.messages == []
    assert chat.send("Go on").run().text == "Yes."
    assert chat.messages[1] == {"role": "assistant", "content": said}


def test_an_answer_cut_off_before_its_first_word_leaves_no_turn(make_engine, tokenizer_folder):
    engine = make_engine(tokenizer_folder, ["never", "Yes."])
    engine.session.fail_in = 1
    chat = engine.chat(params=GREEDY)
    with pytest.raises(KeyboardInterrupt):
        chat.send("Hi").run()
    assert chat.messages == []
    assert chat.send("Hi?").run().text == "Yes."


def test_a_model_without_a_template(make_engine, tokenizer_folder):
    engine = make_engine(tokenizer_folder, [])
    engine.prompts.template = None
    with pytest.raises(PromptError, match="no chat template"):
        engine.chat().send("Hi")
