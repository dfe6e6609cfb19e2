"""minimind-bench: the numbers that it must tell."""

from __future__ import annotations

import json

ROW = {
    "prompt_tokens",
    "new_tokens",
    "batch",
    "threads",
    "runs",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "time_to_first_token_s",
    "step_overhead_s",
}


def test_json_has_the_machine_the_artifact_and_a_row_for_each_length(command, artifact):
    options = ("--prompt-tokens", "8,24", "--new-tokens", 8, "--batch", 2, "--threads", 1, "--runs", 3, "--json")
    result = command("minimind-bench", artifact, *options)
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert [(row["prompt_tokens"], row["batch"], row["threads"]) for row in answer["rows"]] == [(8, 2, 1), (24, 2, 1)]
    for row in answer["rows"]:
        assert set(row) >= ROW
        for name in ("prefill_tokens_per_s", "decode_tokens_per_s", "time_to_first_token_s", "step_overhead_s"):
            low, high = row[f"{name}_range"]
            assert 0 < low <= row[name] <= high
        assert row["step_overhead_s"] < row["step_s"]
    assert answer["machine"]["cores"] >= 1
    assert answer["artifact"]["target"] == "ort"
    assert answer["load_s"] > 0
    assert answer["peak_rss_bytes"] > 20_000_000
    assert answer["disk_bytes"] == (artifact / "onnx/model.onnx").stat().st_size


def test_people_get_a_table(command, artifact):
    result = command("minimind-bench", artifact, "--prompt-tokens", "8", "--new-tokens", 4, "--runs", 1)
    assert result.returncode == 0
    assert "decode" in result.stdout
    assert "peak memory" in result.stdout.splitlines()[-1]


def test_precision_chooses_the_graph(refused, artifact):
    line = refused(3, "minimind-bench", artifact, "--precision", "int4")
    assert "fp32" in line


def test_more_tokens_than_the_context_holds_are_refused(refused, artifact):
    assert "8192" in refused(2, "minimind-bench", artifact, "--prompt-tokens", "8192")
