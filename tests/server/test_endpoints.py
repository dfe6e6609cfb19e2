"""The smaller endpoints: models, health, tokens and the OpenAPI document."""

from __future__ import annotations

import httpx
import openai
import pytest
from starlette.testclient import TestClient

from minimind_edge.server.app import create_app
from minimind_edge.server.settings import ServerSettings


def test_the_list_of_models(client, address) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("minimind", "model", "minimind-edge") and model.created > 0
    assert client.models.retrieve("minimind") == model and client.models.retrieve("small") == model
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("a/b")
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    assert httpx.get(f"{address}/health").json() == {"status": "ok"}


@pytest.mark.parametrize("name", ["minimind", "small", "jingyaogong/minimind-3:latest", None])
def test_one_model_answers_to_any_name_and_says_its_own(address, engine, name) -> None:
    fields = {} if name is None else {"model": name}
    response = httpx.post(f"{address}/v1/completions", json={"prompt": "x", **fields})
    assert response.json()["model"] == "minimind"


@pytest.mark.parametrize("strict", [True, False])
def test_names_are_checked_where_they_must_be(minimind3, strict) -> None:
    from scripted_engine import ScriptedEngine

    names = ["a"] if strict else ["a", "b"]
    engines = {name: ScriptedEngine(*minimind3) for name in names}
    with TestClient(create_app(engines, ServerSettings(aliases={"c": "a"}, strict_model_names=strict))) as client:
        assert client.post("/v1/completions", json={"prompt": "x", "model": "c"}).json()["model"] == "a"
        missing = client.post("/v1/completions", json={"prompt": "x", "model": "d"})
        assert missing.status_code == 404 and missing.json()["error"]["code"] == "model_not_found"
        assert client.post("/v1/completions", json={"prompt": "x"}).json()["error"]["param"] == "model"


def test_tokenize_in_each_form(address, minimind3) -> None:
    tokenizer, template = minimind3
    text = "Hello 世界"

    def tokens(**fields: object) -> httpx.Response:
        return httpx.post(f"{address}/tokenize", json=fields)

    plain = tokenizer.encode(text, add_special_tokens=False)
    assert tokens(content=text).json() == {"tokens": plain, "count": len(plain), "max_model_len": 2048}
    assert tokens(prompt=text).json()["tokens"] == tokenizer.encode_raw(text)
    assert tokens(prompt=text, add_special_tokens=False).json()["tokens"] == plain
    assert tokens(content=text, add_special=True).json()["tokens"] == tokenizer.encode_raw(text)
    messages = [{"role": "user", "content": "Hi"}]
    rendered = template.render(messages, add_generation_prompt=True)
    assert tokens(messages=messages).json()["tokens"] == tokenizer.encode(rendered, add_special_tokens=False)
    pieces = tokens(content=text, with_pieces=True).json()["tokens"]
    data = [piece["piece"].encode() if isinstance(piece["piece"], str) else bytes(piece["piece"]) for piece in pieces]
    assert b"".join(data).decode() == text and [piece["id"] for piece in pieces] == plain
    for fields, param in [({}, "prompt"), ({"prompt": "a", "content": "b"}, "content"), ({"x": 1}, "x")]:
        refused = tokens(**fields)
        assert refused.status_code == 400 and refused.json()["error"]["param"] == param


def test_detokenize(address, minimind3) -> None:
    text = "Hello<|im_end|> 世界"
    ids = minimind3[0].encode(text, add_special_tokens=False)
    answer = httpx.post(f"{address}/detokenize", json={"tokens": ids}).json()
    assert answer == {"prompt": text, "content": text}
    assert httpx.post(f"{address}/detokenize", json={"tokens": [-1]}).json()["error"]["param"] == "tokens[0]"


def test_the_openapi_document_describes_every_endpoint(address) -> None:
    document = httpx.get(f"{address}/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        "/health",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/chat/completions",
        "/v1/completions",
        "/tokenize",
        "/detokenize",
    }
    chat = document["components"]["schemas"]["ChatRequest"]
    assert chat["additionalProperties"] is False and chat["required"] == ["messages"]

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
