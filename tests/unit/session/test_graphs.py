"""Graphs that are broken, foreign, or fail as they run."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.load import load_session


def refusal(path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load_session(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert caught.value.exit_code == 3
    return message


def rename(old: str, new: str):
    def change(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            if value.name == old:
                value.name = new
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    return change


def retype(name: str, element: int):
    """Change what the interface declares of all whose name starts with `name`."""

    def change(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            if value.name.startswith(name):
                value.type.tensor_type.elem_type = element

    return change


@pytest.mark.parametrize("content", [b"", b"not a graph at all" * 20, b"\x08\x08" + b"\xff" * 64])
def test_a_file_that_is_no_graph(tmp_path, capfd, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert str(path) in refusal(path)
    assert capfd.readouterr() == ("", "")


def test_a_truncated_graph(save_graph, capfd):
    path = save_graph("ort")
    path.write_bytes(path.read_bytes()[:-5000])
    assert "cannot load" in refusal(path)
    assert capfd.readouterr() == ("", "")


def test_no_file(tmp_path, capfd):
    assert "nowhere.onnx" in refusal(tmp_path / "nowhere.onnx")
    assert capfd.readouterr() == ("", "")


def test_an_operator_nobody_knows(save_graph, capfd):
    def change(model):
        model.graph.node[0].op_type = "Conjure"

    assert "Conjure" in refusal(save_graph("portable", change=change))
    assert capfd.readouterr() == ("", "")


def spare(model: onnx.ModelProto) -> None:
    """Add an input that nothing reads and that has a default."""
    model.graph.input.append(helper.make_tensor_value_info("spare", TensorProto.FLOAT, [1]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "spare"))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"logits", "the graph has names or metadata that are not UTF-8"),
        (b"minimind_edge.generation", "the graph has names or metadata that are not UTF-8"),
        (b"spare", "the graph has names or metadata that are not UTF-8"),
        (b"Softmax", "ONNX Runtime's message quotes a name of the graph that is not UTF-8"),
    ],
)
def test_text_that_is_not_utf_8(save_graph, capfd, text, part):
    path = save_graph("portable", change=spare, generation="minimind3")
    data = path.read_bytes()
    assert text in data
    path.write_bytes(data.replace(text, text[:-1] + b"\xae"))  # onnx writes no such text
    assert part in refusal(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("position_ids", "positions", "lacks position_ids and has positions, which this runtime does not know"),
        ("past_key_values.1.value", "past.1.value", "lacks past_key_values.1.value and has past.1.value"),
        ("present.0.key", "present_key_0", "the graph's outputs: it lacks present.0.key and has present_key_0"),
        ("logits", "scores", "lacks logits and has scores"),
    ],
)
def test_other_names(save_graph, old, new, part):
    assert part in refusal(save_graph("portable", change=rename(old, new)))


def test_a_graph_without_a_cache(save_graph, tmp_path):
    def change(model):
        graph = model.graph
        for value in [value for value in graph.input if value.name.startswith("past")]:
            graph.input.remove(value)
            graph.initializer.append(numpy_helper.from_array(np.zeros((1, 2, 0, 8), np.float32), value.name))
        del graph.output[1:]

    assert "no decoder with a cache" in refusal(save_graph("portable", change=change))


def test_a_cache_of_another_type(save_graph):
    def change(model):
        retype("past_key_values", TensorProto.DOUBLE)(model)
        retype("present", TensorProto.DOUBLE)(model)
        for node in model.graph.node:
            for attribute in node.attribute:
                if node.op_type == "Cast" and node.output[0] in {"k_0", "v_0", "k_1", "v_1"}:
                    attribute.i = TensorProto.DOUBLE

    assert "is tensor(double), expected tensor(float) or tensor(float16)" in refusal(
        save_graph("portable", change=change)
    )


def test_token_ids_of_another_type(save_graph):
    message = refusal(save_graph("portable", change=retype("input_ids", TensorProto.INT32)))
    assert "input_ids is tensor(int32), expected tensor(int64)" in message


def test_a_graph_for_another_target(save_graph):
    message = refusal(save_graph("portable", target="webgpu"))
    assert "'webgpu'; this runtime runs portable, ort, tensorrt" in message


@pytest.mark.parametrize("metadata", [{"max_length": "many"}, {"eos_token_id": "2;3"}, {"max_length": "0"}])
def test_metadata_that_is_nonsense(save_graph, metadata):
    assert f"minimind_edge.{next(iter(metadata))}" in refusal(save_graph("portable", **metadata))


def test_what_the_graph_tells(save_graph):
    path = save_graph(
        "ort", "fp16", target="ort", precision="fp16", max_length="64", generation="minimind3", eos_token_id="2"
    )
    facts = load_session(path).facts
    assert (facts.target, facts.precision, facts.generation) == ("ort", "fp16", "minimind3")
    assert (facts.num_layers, facts.num_key_value_heads, facts.head_dim, facts.vocab_size) == (2, 2, 8, 32)
    assert (facts.kv_dtype, facts.max_length, facts.eos_token_ids) == (np.float16, 64, (2,))


def test_rows_of_their_own_length_are_for_target_ort(save_graph):
    assert load_session(save_graph("ort", target="ort", cache="rows")).facts.has_row_lengths
    assert not load_session(save_graph("ort", target="ort")).facts.has_row_lengths
    message = refusal(save_graph("portable", target="portable", cache="rows"))
    assert "target portable has a rows cache, this runtime runs growing" in message
    assert "static cache, this runtime runs shared or rows" in refusal(save_graph("ort", target="ort", cache="static"))


def test_a_graph_without_metadata_is_portable(save_graph, decoder):
    session = load_session(save_graph("portable"), threads=1)
    assert (session.facts.target, session.facts.max_length, session.max_length) == ("portable", None, 32768)
    assert session.facts.eos_token_ids == ()
    ids = np.array([[3, 1, 4]])
    assert np.allclose(session.prefill(ids), decoder.logits(ids)[:, -1], atol=1e-3)


@pytest.mark.parametrize("text", ["2,0", "[2, 0]", "2, 0"])
def test_several_ids_end_a_text(save_graph, text):
    assert load_session(save_graph("portable", eos_token_id=text)).facts.eos_token_ids == (2, 0)


@pytest.mark.parametrize("target", ["portable", "ort"])
def test_a_graph_that_fails_as_it_runs(save_graph, decoder, capfd, target):
    def change(model):
        for table in model.graph.initializer:
            if table.name in {"cos_table", "sin_table"}:
                table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[:6], table.name))

    session = load_session(save_graph(target, change=change, target=target), threads=1)
    ids = np.arange(8)[None]
    expected = decoder.logits(ids)
    session.prefill(ids[:, :4])
    with pytest.raises(ArtifactError, match="failed at positions 4 to 7"):
        session.prefill(ids[:, 4:])
    assert capfd.readouterr() == ("", "")
    assert session.length == 4
    for slot in (4, 5):
        assert np.allclose(session.decode(ids[:, slot]), expected[:, slot], atol=1e-3)
    with pytest.raises(ArtifactError, match="failed at positions 6 to 6"):
        session.decode(ids[:, 6])
    session.truncate(3)
    assert np.allclose(session.decode(ids[:, 3]), expected[:, 3], atol=1e-3)
