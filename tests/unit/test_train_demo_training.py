"""The trainer: tokens and weights, Muon, and runs that repeat and resume exactly."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the example is no part of the installed package

from examples.train_demo import checkpoint
from examples.train_demo.batches import TOPIC_WEIGHT, Encoder, pad, training_batches
from examples.train_demo.corpus import BROAD, Document, Turn, training_document
from examples.train_demo.muon import Muon, orthogonalized
from examples.train_demo.tokenizer import SPECIAL_TOKENS, save_tokenizer, train_tokenizer
from examples.train_demo.trainer import Settings, Trainer, learning_rate_factor
from minimind_edge.minimind import load_checkpoint

TINY = Settings(
    hidden_size=64,
    num_hidden_layers=2,
    intermediate_size=64,
    moe_intermediate_size=32,
    steps=4,
    stories_from=3,
    decay=2,
    documents=4,
    max_tokens=512,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(1, vocab_size=600, documents=200), path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def finished(settings: Settings, tokenizer: Tokenizer, folder: Path) -> Trainer:
    trainer = Trainer(settings, tokenizer, folder)
    for _ in trainer.run():
        pass
    return trainer


def same(a: Trainer, b: Trainer) -> bool:
    left, right = a.model.state_dict(), b.model.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_special_tokens_and_bytes(tokenizer):
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2]
    for text in ("Tell me a story.", "给我讲一个关于狐狸的故事。", "naïve 🦊 žluťoučký\n\t 3+4=7", ""):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_tokens_never_join_chinese_characters(tokenizer):
    texts = [tokenizer.decode([token]) for token in range(tokenizer.get_vocab_size())]
    chinese = [text for text in texts if re.search("[\u4e00-\u9fff]", text)]
    assert len(chinese) > 50
    assert {len(text) for text in chinese} == {1}


def test_encoder_gives_the_chat_template_s_tokens(folder, tokenizer):
    turns = (Turn("What is ice?", "Ice is frozen water."), Turn("你好！", "你好！很高兴见到你。"))
    messages = [{"role": "system", "content": "You are MiniMind."}]
    for turn in turns:
        messages += [{"role": "user", "content": turn.user}, {"role": "assistant", "content": turn.assistant}]
    ids, _ = Encoder(tokenizer)(Document(turns, system="You are MiniMind."))
    reference = AutoTokenizer.from_pretrained(folder)
    assert ids == reference.apply_chat_template(messages, return_dict=False)
    opening = reference.apply_chat_template(messages[:2], add_generation_prompt=True, return_dict=False)
    assert ids[: len(opening)] == opening


def test_loss_weights_cover_answers_and_their_end_only(tokenizer):
    document = Document((Turn("Hi!", "Hello there."), Turn("Bye!", "See you!", weight=0.5)), system="You are MiniMind.")
    ids, weights = Encoder(tokenizer)(document)
    assert tokenizer.decode([i for i, w in zip(ids, weights, strict=True) if w == 1.0]) == "Hello there."
    assert tokenizer.decode([i for i, w in zip(ids, weights, strict=True) if w == 0.5]) == "See you!"
    assert [i for i, w in zip(ids, weights, strict=True) if w > 0].count(2) == 2
    plain_ids, plain_weights = Encoder(tokenizer)(Document(text="Snow is white."))
    assert (plain_ids[0], plain_ids[-1], plain_weights[0]) == (1, 2, 0.0)
    assert all(weight > 0 for weight in plain_weights[1:])


def test_topics_count_more_than_the_words_around_them(tokenizer):
    turn = Turn("A story about a fox and 猫.", "The fox met 猫 and a foxes' friend.", weight=0.5, topics=("fox", "猫"))
    ids, weights = Encoder(tokenizer)(Document((turn,)))
    heavy = [i for i, w in zip(ids, weights, strict=True) if w == 0.5 * TOPIC_WEIGHT]
    assert tokenizer.decode(heavy).replace(" ", "").startswith("fox猫fox")
    assert {w for w in weights if w} == {0.5, 0.5 * TOPIC_WEIGHT}


def test_batches_hold_every_document_once_and_stay_within_the_limit(tokenizer):
    encode = Encoder(tokenizer)
    batches = training_batches(encode, 1, 3, BROAD, documents=16, max_tokens=512)
    rows = sorted(tuple(i for i in row.tolist() if i != 0) for batch in batches for row in batch.input_ids)
    assert rows == sorted(tuple(encode(training_document(1, index))[0]) for index in range(48, 64))
    assert all(batch.input_ids.shape[0] == 1 or batch.input_ids.numel() <= 512 for batch in batches)
    batch = pad([([1, 5], [0.0, 1.0]), ([1, 6, 7], [0.0, 1.0, 1.0])])
    assert batch.input_ids.tolist()[0] == [1, 5, 0, 0, 0, 0, 0, 0]
    assert batch.weights.sum() == 3


def test_orthogonalized_matrices_keep_their_directions():
    torch.manual_seed(0)
    matrices = torch.randn(3, 16, 40)
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalized(matrices).float()
    singular = torch.linalg.svdvals(result)
    assert 0.6 < singular.min() <= singular.max() < 1.3
    alignment = (u.transpose(1, 2) @ result @ vh.transpose(1, 2)).diagonal(dim1=1, dim2=2)
    assert alignment.min() > 0.6  # near U V^T, the closest orthogonal matrix


def test_muon_steps_tall_and_wide_matrices_alike():
    torch.manual_seed(0)
    gradient = torch.randn(8, 24)
    wide, tall = torch.nn.Parameter(torch.zeros(8, 24)), torch.nn.Parameter(torch.zeros(24, 8))
    wide.grad, tall.grad = gradient, gradient.T.clone()
    Muon([wide, tall], lr=0.1).step()
    torch.testing.assert_close(tall.detach(), wide.detach().T * 3**0.5)
    first_momentum = 0.05 * gradient
    lookahead = 0.05 * gradient + 0.95 * first_momentum
    torch.testing.assert_close(wide.detach(), -0.1 * orthogonalized(lookahead[None])[0].float())


def test_rates_rise_stay_and_fall():
    settings = Settings(steps=100, decay=20, warmup=10)
    factors = [learning_rate_factor(step, settings) for step in (0, 4, 9, 50, 80, 90, 99)]
    assert factors == pytest.approx([0.1, 0.5, 1, 1, 1, 0.5, 0.05])


@pytest.mark.parametrize("moe", [False, True])
def test_a_killed_run_resumes_to_the_same_weights(moe, tokenizer, tmp_path):
    settings = replace(TINY, moe=moe)
    straight = finished(settings, tokenizer, tmp_path / "straight")
    killed = Trainer(settings, tokenizer, tmp_path / "killed")
    steps = killed.run()
    next(steps)
    next(steps)
    killed.save()
    next(steps)  # lost: done after the last save
    resumed = Trainer(settings, tokenizer, tmp_path / "killed")
    assert resumed.step == 2
    for _ in resumed.run():
        pass
    assert same(straight, resumed)
    assert same(straight, finished(settings, tokenizer, tmp_path / "again"))
    assert not same(straight, finished(replace(settings, seed=2), tokenizer, tmp_path / "other"))


def test_a_state_of_other_settings_is_refused(tokenizer, tmp_path):
    Trainer(TINY, tokenizer, tmp_path).save()
    Trainer(replace(TINY, steps=9), tokenizer, tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        Trainer(replace(TINY, muon_lr=0.1), tokenizer, tmp_path)


def test_training_lowers_the_loss(tokenizer, tmp_path):
    losses = [progress.loss for progress in Trainer(replace(TINY, steps=30, decay=10), tokenizer, tmp_path).run()]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("moe", [False, True])
def test_checkpoint_has_upstream_s_form(moe, tokenizer, tmp_path):
    trainer = Trainer(replace(TINY, moe=moe), tokenizer, tmp_path)
    path = checkpoint.save_checkpoint(trainer.model, tmp_path)
    assert path.name == ("full_sft_64_moe.pth" if moe else "full_sft_64.pth")
    state = torch.load(path, weights_only=True)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])
    ids = torch.randint(3, 600, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(
            load_checkpoint(path)(ids).logits, trainer.model.eval()(ids).logits, atol=2e-3, rtol=0
        )


def test_an_interrupted_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "state.pt"
    checkpoint.save_whole({"step": 1}, path)
    with pytest.raises(AttributeError):
        checkpoint.save_whole({"step": lambda: None}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
