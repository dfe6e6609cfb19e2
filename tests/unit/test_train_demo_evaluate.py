"""The measure of what a demo model learned, and the bundled checkpoints that it measures."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the example is no part of the installed package

from examples.train_demo import evaluate
from minimind_edge.export.evaluation import Question, bundled_held_out
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM, load_checkpoint

DEMO = Path(str(files("minimind_edge.export"))) / "demo"
BUNDLED = {"dense": DEMO / "dense" / "full_sft_256.pth", "moe": DEMO / "moe" / "full_sft_256_moe.pth"}
DOCUMENTS = bundled_held_out().documents[:8]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(DEMO / "dense" / "tokenizer.json"))


def random_model(**overrides: object) -> MiniMindForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 2048, "intermediate_size": 64}
    model = MiniMindForCausalLM(MiniMindConfig(**sizes, **overrides)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)  # far from uniform, so that greedy choices differ between prompts
    return model


def test_scores_are_shares_by_kind_and_language():
    exact = Question("facts", "en", "?", exact="Snow is white.")
    named = Question("topic_copy", "en", "?", names=("fox", "lamp"))
    assert evaluate.scores([exact, exact, named], ["Snow is white.", "Snow is blue.", "A lamp, a fox."]) == {
        "facts en": 0.5,
        "topic_copy en": 1.0,
    }


def test_batched_answers_equal_generate_on_each_prompt(tokenizer):
    model = random_model()
    prompts = ["Hi!", "What is the capital of France?", "你好", "Tell me a story about a fox and a lamp, please."]
    expected = []
    for prompt in prompts:
        ids = tokenizer.encode(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n").ids
        out = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=2)
        expected.append(tokenizer.decode([i for i in out[0, len(ids) :].tolist() if i != 2]))
    assert len(set(expected)) > 1
    assert evaluate.answers(model, tokenizer, prompts, max_new_tokens=12) == expected


def test_loss_of_a_model_that_knows_nothing_is_that_of_a_uniform_guess(tokenizer):
    model = random_model()
    torch.nn.init.zeros_(model.lm_head.weight)
    assert evaluate.held_out_loss(model, tokenizer, DOCUMENTS) == pytest.approx(7.6246, abs=1e-3)  # ln 2048


def test_expert_shares_follow_the_router(tokenizer):
    model = random_model(use_moe=True, moe_intermediate_size=32)
    with torch.no_grad():
        model.model.layers[1].mlp.gate.weight.zero_()
    shares = evaluate.expert_shares(model, tokenizer, DOCUMENTS)
    assert [len(layer) for layer in shares] == [4, 4]
    assert [sum(layer) for layer in shares] == pytest.approx([1, 1])
    assert max(shares[1]) == pytest.approx(0.5)  # equal scores: top-2 takes the same two experts for every token


@pytest.mark.parametrize("kind", BUNDLED)
def test_bundled_folder_is_what_a_user_has(kind):
    path = BUNDLED[kind]
    assert path.stat().st_size <= 8_000_000
    model = load_checkpoint(path)
    assert model.config.use_moe is (kind == "moe")
    assert sum(parameter.numel() for parameter in model.parameters()) <= 4_000_000
    reference = AutoTokenizer.from_pretrained(path.parent)
    assert len(reference) == model.config.vocab_size == 2048
    assert [reference.pad_token_id, reference.bos_token_id, reference.eos_token_id] == [0, 1, 2]


@pytest.mark.parametrize("kind", BUNDLED)
def test_bundled_model_knows_its_facts_in_both_languages(kind):
    path = BUNDLED[kind]
    asked = [question for question in bundled_held_out().questions if question.kind == "facts"][::20]
    tokenizer = Tokenizer.from_file(str(path.parent / "tokenizer.json"))
    replies = evaluate.answers(load_checkpoint(path), tokenizer, [question.prompt for question in asked])
    scores = evaluate.scores(asked, replies)
    assert set(scores) == {"facts en", "facts zh"}
    assert min(scores.values()) > 0.85  # a sample of about 50 each; the whole table is right in 95 % or more
