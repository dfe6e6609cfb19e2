"""The example of Ray Serve on two simulated machines: answers, affinity, and a replica that is killed under load."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import httpx
import pytest

ray = pytest.importorskip("ray", reason="ray is not installed: pip install -r examples/ray_serve/requirements.txt")

from minimind_edge.runtime import Engine  # noqa: E402

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ray_serve"
QUESTION = "What is the capital of France?"
STORE_BYTES = 80 << 20

# Ray's own modules warn of what their authors will change.
pytestmark = pytest.mark.filterwarnings("ignore")


def chat(question: str, **fields) -> dict:
    return {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 24, **fields}


@pytest.fixture(scope="module")
def demo(export_demo) -> Path:
    return export_demo(target="ort")


@pytest.fixture(scope="module")
def address(demo):
    """Two machines with room for one replica each."""
    from ray import serve
    from ray.cluster_utils import Cluster

    sys.path.insert(0, str(EXAMPLE))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": STORE_BYTES})
    try:
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        environment = {"env_vars": {"PYTHONPATH": ":".join([str(EXAMPLE), *filter(None, sys.path)])}}
        ray.init(address=cluster.address, runtime_env=environment, log_to_driver=False)
        import deployment

        serve.start(http_options={"port": 8127, "host": "127.0.0.1"})
        arguments = {"artifact": str(demo), "slots": "4", "threads": "1", "min_replicas": "2", "max_replicas": "2"}
        serve.run(deployment.app(arguments), route_prefix="/")
        yield "http://127.0.0.1:8127"
        serve.shutdown()
    finally:
        ray.shutdown()
        cluster.shutdown()
        sys.path.remove(str(EXAMPLE))


def replicas() -> list:
    """The actors of the replicas."""
    named = ray.util.list_named_actors(all_namespaces=True)
    return [
        ray.get_actor(each["name"], each["namespace"])
        for each in named
        if "SERVE_REPLICA" in each["name"] and "#Model#" in each["name"]
    ]


async def ask(client: httpx.AsyncClient, question: str) -> tuple[str, str]:
    """Stream an answer; its text, and "whole", "error" where it ended with an error event, or "broken"."""
    text, end = "", "broken"
    async with client.stream("POST", "/v1/chat/completions", json=chat(question, stream=True)) as response:
        if response.status_code != 200:
            return "", f"HTTP {response.status_code}"
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                end = "whole"
                continue
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                end = "error"
                continue
            text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return text, end


def test_answers_are_those_of_the_engine(address, demo):
    expected = Engine.load(demo, threads=1, speculate=False).generate(QUESTION, max_new_tokens=24, greedy=True).text
    answer = httpx.post(f"{address}/v1/chat/completions", json=chat(QUESTION), timeout=60)
    assert answer.json()["choices"][0]["message"]["content"] == expected
    refused = httpx.post(f"{address}/v1/chat/completions", json=chat(QUESTION, unknown=1), timeout=60)
    assert refused.status_code == 400


def test_the_same_beginning_finds_its_prefix_again(address):
    def cached() -> int:
        answer = httpx.post(f"{address}/v1/chat/completions", json=chat(f"{QUESTION} Please."), timeout=60)
        return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    cached()
    assert all(cached() > 8 for _ in range(4))


def test_no_request_is_lost_when_a_replica_is_killed(address):
    async def load() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        done, ends = [], asyncio.get_running_loop().time() + 8

        async def go_on(number: int) -> None:
            count = 0
            while asyncio.get_running_loop().time() < ends:
                count += 1
                done.append(await ask(client, f"{number} {count} {QUESTION}"))

        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            running = asyncio.gather(*(go_on(number) for number in range(6)))
            await asyncio.sleep(3)
            ray.kill(replicas()[0])
            await running
            late = [await ask(client, QUESTION)]
        return done, late

    done, late = asyncio.run(load())
    ends = [end for _, end in done]
    assert set(ends) <= {"whole", "error"}, ends
    assert ends.count("error") <= 4  # what one replica had begun
    assert ends.count("whole") > 10
    assert late[0][1] == "whole"
