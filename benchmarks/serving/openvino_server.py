"""A small HTTP server around OpenVINO GenAI's `ContinuousBatchingPipeline`, in the environment of that peer.

    python openvino_server.py FOLDER --port 8000 --threads 2 --clients 8

It is built as this project's server is: starlette on uvicorn in the main thread, with uvloop and httptools, and the
engine in a thread of its own, which hands the tokens of a step to the event loop at once. It does no more than the load
needs: `/v1/completions` with prompts of token ids, streamed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import threading
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import openvino
import openvino_genai
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route


class Engine:
    """The pipeline in its thread.

    Args:
        folder: The folder of the model.
        threads: The number of threads of the pipeline.
        clients: The most requests at once.
        step_tokens: The most tokens of a step, those of prompts included.
    """

    def __init__(self, folder: Path, threads: int, clients: int, step_tokens: int) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 1  # GB, more than the load can fill
        scheduler.max_num_seqs = clients
        scheduler.max_num_batched_tokens = step_tokens
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = False
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(folder), scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}
        )
        self._arrivals: deque[tuple[list[int], int, asyncio.Queue]] = deque()
        self._wake = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def texts(self) -> list[str]:
        """The text of every token."""
        tokenizer = self._pipeline.get_tokenizer()
        return list(tokenizer.decode([[token] for token in range(len(tokenizer.get_vocab()))]))

    def submit(self, prompt: list[int], new_tokens: int) -> asyncio.Queue:
        """Take a request; its tokens come one list at a time, and None after the last."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._run, daemon=True).start()
        queue: asyncio.Queue = asyncio.Queue()
        self._arrivals.append((prompt, new_tokens, queue))
        self._wake.set()
        return queue

    def _run(self) -> None:
        pipeline, numbers, running = self._pipeline, itertools.count(), {}
        while True:
            while self._arrivals:
                prompt, count, queue = self._arrivals.popleft()
                config = openvino_genai.GenerationConfig(max_new_tokens=count, ignore_eos=True, do_sample=False)
                number = next(numbers)
                handle = pipeline.add_request(number, openvino.Tensor(np.array([prompt], np.int64)), config)
                running[number] = handle, queue
            if not pipeline.has_non_finished_requests():
                self._wake.wait()
                self._wake.clear()
                continue
            pipeline.step()
            news = []
            for number, (handle, queue) in list(running.items()):
                if handle.can_read():
                    tokens = [token for output in handle.read().values() for token in output.generated_ids]
                    news.append((queue, tokens))
                if handle.get_status() != openvino_genai.GenerationStatus.RUNNING:
                    news.append((queue, None))
                    del running[number]
            self._loop.call_soon_threadsafe(deliver, news)


def deliver(news: list[tuple[asyncio.Queue, list[int] | None]]) -> None:
    """Put the tokens of one step into the queues of their requests, in the event loop."""
    for queue, tokens in news:
        queue.put_nowait(tokens)


def application(engine: Engine) -> Starlette:
    """The HTTP application."""
    texts = engine.texts()
    head = 'data: {"id":"cmpl-0123456789abcdef","object":"text_completion","created":1764100000,"model":"m","choices":['

    async def events(queue: asyncio.Queue, prompt_tokens: int) -> AsyncIterator[bytes]:
        count = 0
        while (tokens := await queue.get()) is not None:
            count += len(tokens)
            text = json.dumps("".join(texts[token] for token in tokens))
            yield f'{head}{{"index":0,"text":{text},"logprobs":null,"finish_reason":null}}]}}\n\n'.encode()
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": count, "total_tokens": prompt_tokens + count}
        yield f'{head}],"usage":{json.dumps(usage)}}}\n\ndata: [DONE]\n\n'.encode()

    async def completions(request: Request) -> StreamingResponse:
        content = await request.json()
        queue = engine.submit(content["prompt"], content["max_tokens"])
        return StreamingResponse(events(queue, len(content["prompt"])), media_type="text/event-stream")

    async def health(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/v1/completions", completions, methods=["POST"]), Route("/health", health)])


def main() -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--step-tokens", type=int, default=256)
    arguments = parser.parse_args()
    engine = Engine(arguments.folder, arguments.threads, arguments.clients, arguments.step_tokens)
    uvicorn.run(
        application(engine), port=arguments.port, loop="uvloop", http="httptools", log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main()
