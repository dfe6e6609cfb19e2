"""Questions put to an engine in batches: each gets its own answer, cut where no right one goes on."""

from __future__ import annotations

import numpy as np

from minimind_edge.export.evaluation import Question
from minimind_edge.export.evaluation.questions import FREE_ANSWER_TOKENS, answer_all
from minimind_edge.runtime.artifact.generation_config import GenerationConfig
from minimind_edge.runtime.engine import Engine

END = 255


class Letters:
    """A tokenizer of bytes; prompts are a letter."""

    bos_token_id = None
    eos_token_id = END
    vocab_size = 256

    def encode(self, text, add_special_tokens=True):
        return list(text.encode())

    encode_raw = encode

    def decode(self, token_ids, skip_special_tokens=True):
        return bytes(token_ids).decode()


class Counting:
    """A session whose answer to a letter is that letter, as often as it comes after "A"; "Z" never ends."""

    batch_size = 1
    vocab_size = 256
    max_length = 512

    def __init__(self):
        self.batches = []
        self.steps = 0
        self.length = 0

    def reset(self, batch_size=1):
        self.batch_size = batch_size
        self.length = 0

    def prefill(self, input_ids, attention_mask=None):
        self.batches.append(len(input_ids))
        self.letters = input_ids[:, -1]
        self.left = self.letters - ord("A")
        self.length = input_ids.shape[1]
        return self._logits()

    def decode(self, tokens):
        self.steps += 1
        self.length += 1
        self.left = self.left - 1
        return self._logits()

    def _logits(self):
        goes_on = (self.left > 0) | (self.letters == ord("Z"))
        return np.eye(256, dtype=np.float32)[np.where(goes_on, self.letters, END)]


def asked(letter, exact=None):
    return Question("facts", "en", letter, exact=exact, names=() if exact else ("x",))


def engine():
    return Engine(Counting(), Letters(), None, GenerationConfig(eos_token_ids=(END,)))


def test_answers_come_in_the_order_of_the_questions():
    letters = "CADBE"
    questions = [asked(letter, exact="?" * (ord(letter) - ord("A") + 1)) for letter in letters]
    done = []
    found = answer_all(engine(), questions, batch_size=2, progress=done.append)
    assert found == ["CC", "", "DDD", "B", "EEEE"]
    assert done[-1] == 1.0
    assert sorted(done) == done


def test_no_batch_is_larger_than_it_may_be():
    subject = engine()
    answer_all(subject, [asked("B", exact="B")] * 5, batch_size=2)
    assert subject.session.batches == [2, 2, 1]


def test_an_answer_that_is_too_long_to_be_right_is_not_waited_for():
    subject = engine()
    (answer,) = answer_all(subject, [asked("Z", exact="ZZZ")])
    assert answer == "Z" * (2 * 3 + 4)
    assert not asked("Z", exact="ZZZ").is_right(answer)


def test_an_answer_without_one_right_text_has_room_for_a_story():
    (answer,) = answer_all(engine(), [asked("Z")])
    assert answer == "Z" * FREE_ANSWER_TOKENS


def test_no_questions_no_answers():
    assert answer_all(engine(), []) == []
