"""minimind-run: the text it prints, what goes to which stream, and how it ends."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from minimind_edge.minimind import load_checkpoint

SCRIPTS = Path(sysconfig.get_path("scripts"))
PROMPT = "How are you?"


@pytest.fixture(scope="module")
def eager(checkpoint, artifact):
    """What transformers' own tokenizer, template and generate() make of the checkpoint: text and token ids."""
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    model = load_checkpoint(checkpoint)

    def answer(prompt, count):
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            output = model.generate(ids, max_new_tokens=count, do_sample=False, eos_token_id=2, pad_token_id=0)
        new = output[0, ids.shape[1] :].tolist()
        return ids[0].tolist(), new, tokenizer.decode(new, skip_special_tokens=True)

    return answer


def test_greedy_json_equals_eager(command, artifact, eager):
    prompt_ids, ids, text = eager(PROMPT, 48)
    result = command("minimind-run", "--engine", artifact, PROMPT, "-n", 48, "--greedy", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer["token_ids"] == ids
    assert len(set(ids)) > 20, "a text that repeats itself would prove little"
    assert answer["text"] == text
    assert answer["prompt_tokens"] == len(prompt_ids)
    assert answer["completion_tokens"] == 48
    assert answer["finish_reason"] == "length"
    timings = {"load_s", "prefill_s", "decode_s", "decode_tokens_per_s", "time_to_first_token_s"}
    counts = {"prompt_tokens", "completion_tokens", "drafted_tokens", "accepted_tokens"}
    assert set(answer) == {"text", "token_ids", "finish_reason", "timings"} | counts
    assert set(answer["timings"]) == timings
    assert all(value > 0 for value in answer["timings"].values())


@pytest.mark.parametrize("options", [(), ("--no-stream",)])
def test_text_goes_to_stdout_and_stats_to_stderr(command, artifact, eager, options):
    text = eager(PROMPT, 24)[2]
    result = command("minimind-run", "--engine", artifact, "-n", 24, "--greedy", "--stats", *options, stdin=PROMPT)
    assert result.stdout == f"{text}\n"
    assert result.stderr.count("\n") == 1
    assert "24 new (length)" in result.stderr


def test_speculation_is_told_and_changes_nothing(command, artifact):
    repeated = "1,2,3,4,5,6,7,8," * 8 + "1,2,3"
    options = ("--engine", artifact, "--ids", repeated, "-n", 100, "--temperature", 0.5, "--seed", 3, "--json")
    plain, ahead = (
        json.loads(command("minimind-run", *options, flag).stdout) for flag in ("--no-speculate", "--speculate")
    )
    assert plain["token_ids"] == ahead["token_ids"]
    assert (plain["drafted_tokens"], plain["accepted_tokens"]) == (0, 0)
    assert ahead["accepted_tokens"] <= ahead["drafted_tokens"]


def test_ids_are_taken_as_they_are(command, artifact, eager):
    prompt_ids, ids, _ = eager(PROMPT, 16)
    options = ("--greedy", "--json", "-n", 16, "--ids", ",".join(map(str, prompt_ids)))
    assert json.loads(command("minimind-run", "--engine", artifact, *options).stdout)["token_ids"] == ids


def test_a_bare_graph_answers_in_ids(command, artifact, tmp_path, eager):
    graph = tmp_path / "alone.onnx"
    graph.write_bytes((artifact / "onnx/model.onnx").read_bytes())
    prompt_ids, ids, _ = eager(PROMPT, 8)
    result = command("minimind-run", "--engine", graph, "--ids", ",".join(map(str, prompt_ids)), "-n", 8, "--greedy")
    assert (result.stdout, result.stderr) == (",".join(map(str, ids)) + "\n", "")


def test_a_seed_gives_the_same_text_again_and_another_one_another(command, artifact):
    options = ("--engine", artifact, PROMPT, "-n", 32, "--temperature", "1.5", "--seed")
    first, again, other = (command("minimind-run", *options, seed).stdout for seed in (7, 7, 8))
    assert first == again != other


def test_a_stop_string_ends_the_text(command, artifact, eager):
    text = eager(PROMPT, 48)[2]
    stop = next(text[start : start + 3] for start in range(10, len(text)) if text[start : start + 3].isascii())
    result = command("minimind-run", "--engine", artifact, PROMPT, "-n", 48, "--greedy", "--json", "--stop", stop)
    answer = json.loads(result.stdout)
    assert answer["finish_reason"] == "stop"
    assert answer["text"] == text[: text.index(stop)]


def test_a_chat_from_a_pipe_keeps_its_history(command, artifact, eager):
    lines = f"{PROMPT}\n/reset\n\n{PROMPT}\n/nonsense\n/exit\nnot said\n"
    result = command("minimind-run", "--engine", artifact, "--chat", "--greedy", "-n", 12, stdin=lines)
    text = eager(PROMPT, 12)[2]
    assert result.returncode == 0
    assert result.stdout == f"{text}\n" * 2
    assert result.stderr == "there is no command /nonsense; /help lists them\n"
    kept = command("minimind-run", "--engine", artifact, "--chat", "--greedy", "-n", 12, PROMPT, stdin=f"{PROMPT}\n")
    assert kept.stdout.startswith(f"{text}\n")
    assert kept.stdout != result.stdout, "the second turn must see the first"


@pytest.mark.alone  # the answer has an end: the signal has to come before it
def test_ctrl_c_ends_cleanly_with_what_was_said_so_far(artifact, eager):
    words = [SCRIPTS / "minimind-run", "--engine", artifact, PROMPT, "--greedy", "--ignore-eos", "-n", "8000"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    with subprocess.Popen(words, **pipes) as process:
        first = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    said = (first + rest).decode()
    assert (process.returncode, err) == (130, b"")
    assert said.endswith("\n")
    text = eager(PROMPT, 48)[2]
    length = min(len(text), len(said) - 1)
    assert said[:length] == text[:length]


def test_a_line_to_try_is_a_line_that_runs(exported, command):
    result, folder = exported
    words = shlex.split(result.stdout.splitlines()[-1])
    assert words[:3] == ["minimind-run", "--engine", str(folder)]
    assert command(*words, "-n", "4").returncode == 0


def test_more_context_than_was_exported_is_told(command, artifact):
    """The export sets the limit; asking for more is no error, but it does not pass in silence."""
    result = command("minimind-run", "--engine", artifact, PROMPT, "-n", 2, "--max-length", 32768)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert "warning: --max-length 32768 is more than the 8192 tokens" in line
    assert "minimind-export onnx --max-length 32768" in line


def test_a_checkpoint_is_not_run_but_the_command_that_exports_it_is_told(refused, checkpoint):
    line = refused(3, "minimind-run", "--engine", checkpoint, PROMPT)
    assert "is a checkpoint" in line
    assert f"minimind-export onnx {checkpoint}" in line
