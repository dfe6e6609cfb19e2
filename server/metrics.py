"""Metrics for Prometheus, by vLLM's names with llama-server's as aliases, summed over all workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from minimind_edge.runtime.batch.request import EndReason, Ticket

from .engine import BatchEngine

REASONS: dict[EndReason, str] = {"stop": "stop", "length": "length", "cancelled": "abort", "error": "error"}
"""vLLM's word for each reason why an answer ends."""

COUNTERS = ("prompt_tokens", "cached_tokens", "generation_tokens", "prompt_seconds", "generation_seconds")
GAUGES = ("running", "waiting", "kv_cache_usage")

LATENCY_BUCKETS = (0.01, 0.02, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKEN_BUCKETS = (0.001, 0.002, 0.004, 0.007, 0.012, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)

HISTOGRAMS = {
    "time_to_first_token": (LATENCY_BUCKETS, "Seconds from the request to the first token"),
    "inter_token_latency": (TOKEN_BUCKETS, "Seconds between two tokens, by token, averaged within each answer"),
    "e2e_request_latency": (LATENCY_BUCKETS, "Seconds from the request to the end of its answer"),
    "request_queue_time": (LATENCY_BUCKETS, "Seconds that a request waited for a slot"),
}
"""Upper bounds of the buckets in seconds, and the help, by vLLM's name without its prefix and unit."""

CONTENT_TYPE = CONTENT_TYPE_LATEST


def _offsets() -> dict[str, slice]:
    """The place of each figure in a row; a histogram has a count for each bucket, one for the rest, and its sum."""
    sizes = dict.fromkeys((*COUNTERS, *REASONS, *GAUGES), 1)
    sizes |= {name: len(buckets) + 2 for name, (buckets, _) in HISTOGRAMS.items()}
    ends = np.cumsum(list(sizes.values()))
    return {name: slice(int(end) - size, int(end)) for (name, size), end in zip(sizes.items(), ends, strict=True)}


OFFSETS = _offsets()
ROW = max(place.stop for place in OFFSETS.values())
"""Number of figures of one model in one worker."""


class Metrics:
    """The figures of the models that a worker serves, and those of the other workers for the exposition.

    Times are counted when an answer ends, by what its ticket tells; tokens are those that the engine has counted.
    Nothing is done here for a single token.

    Args:
        engines: The engines by the name of their model.
        rows: The figures of all workers, `[workers, models, ROW]` float64, in memory that the workers share; None for a
            single worker.
        worker: The index of this worker.
    """

    def __init__(
        self, engines: Mapping[str, BatchEngine], rows: NDArray[np.float64] | None = None, worker: int = 0
    ) -> None:
        self._engines = engines
        self._rows = np.zeros((1, len(engines), ROW)) if rows is None else rows
        self._own = {name: self._rows[worker, index] for index, name in enumerate(engines)}
        self._before = {name: row.copy() for name, row in self._own.items()}  # what a worker before this one counted
        self._registry = CollectorRegistry()
        self._registry.register(self)
        if rows is None:  # with several workers, the figures of the one that was asked mean little
            ProcessCollector(registry=self._registry)

    def ended(self, model: str, ticket: Ticket, reason: EndReason) -> None:
        """Count an answer that has ended."""
        row, tokens = self._own[model], len(ticket.token_ids)
        row[OFFSETS[reason]] += 1
        if not ticket.begun_at:
            return
        _observe(row, "request_queue_time", ticket.begun_at - ticket.asked_at)
        if not ticket.first_token_at:
            return
        row[OFFSETS["prompt_seconds"]] += ticket.first_token_at - ticket.begun_at
        _observe(row, "time_to_first_token", ticket.first_token_at - ticket.asked_at)
        if not ticket.ended_at:
            return
        seconds = ticket.ended_at - ticket.first_token_at
        row[OFFSETS["generation_seconds"]] += seconds
        _observe(row, "e2e_request_latency", ticket.ended_at - ticket.asked_at)
        if tokens > 1:
            _observe(row, "inter_token_latency", seconds / (tokens - 1), tokens - 1)

    def update(self) -> None:
        """Note what the engines are doing now."""
        for name, engine in self._engines.items():
            counts, row, before = engine.counts(), self._own[name], self._before[name]
            row[OFFSETS["running"]], row[OFFSETS["waiting"]] = counts.running, counts.waiting
            row[OFFSETS["kv_cache_usage"]] = counts.kv_positions / max(1, counts.kv_capacity)
            for counter, count in (
                ("prompt_tokens", counts.prompt_tokens),
                ("cached_tokens", counts.cached_tokens),
                ("generation_tokens", counts.generated_tokens),
            ):
                row[OFFSETS[counter]] = before[OFFSETS[counter]] + count

    def collect(self) -> Iterator[Metric]:
        """The figures of all workers together."""
        self.update()
        totals = {name: self._rows[:, index].sum(axis=0) for index, name in enumerate(self._engines)}
        shares = {name: self._rows[:, index, OFFSETS["kv_cache_usage"]].mean() for index, name in enumerate(totals)}
        yield from _vllm(totals, shares)
        yield from _llama_server(sum(totals.values()))

    def exposition(self) -> bytes:
        """The figures in Prometheus's text format."""
        return generate_latest(self._registry)

    async def endpoint(self, request: Request) -> Response:
        """Answer `GET /metrics`."""
        return Response(self.exposition(), headers={"content-type": CONTENT_TYPE})


def _observe(row: NDArray[np.float64], name: str, value: float, times: int = 1) -> None:
    figures = row[OFFSETS[name]]
    figures[int(np.searchsorted(HISTOGRAMS[name][0], value))] += times
    figures[-1] += value * times


def _vllm(totals: Mapping[str, NDArray[np.float64]], shares: Mapping[str, Any]) -> Iterator[Metric]:
    def figure(kind: Any, name: str, text: str, values: Iterable[tuple[str, float]]) -> Metric:
        family: Metric = kind(f"vllm:{name}", text, labels=["model_name"])
        for model, value in values:
            family.add_metric([model], float(value))  # type: ignore[attr-defined]
        return family

    def totals_of(name: str) -> list[tuple[str, float]]:
        return [(model, total[OFFSETS[name]].item()) for model, total in totals.items()]

    gauge, counter = GaugeMetricFamily, CounterMetricFamily
    yield figure(gauge, "num_requests_running", "Requests that have a slot", totals_of("running"))
    yield figure(gauge, "num_requests_waiting", "Requests that wait for a slot", totals_of("waiting"))
    yield figure(gauge, "kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1", shares.items())
    yield figure(
        counter, "prompt_tokens", "Tokens of prompts, those of cached prefixes included", totals_of("prompt_tokens")
    )
    yield figure(counter, "generation_tokens", "Tokens of answers", totals_of("generation_tokens"))
    yield figure(counter, "prefix_cache_queries", "Tokens of prompts that were looked for", totals_of("prompt_tokens"))
    yield figure(counter, "prefix_cache_hits", "Tokens of prompts that were copied", totals_of("cached_tokens"))
    success = CounterMetricFamily(
        "vllm:request_success", "Answers that ended", labels=["model_name", "finished_reason"]
    )
    for model, total in totals.items():
        for reason, word in REASONS.items():
            success.add_metric([model, word], total[OFFSETS[reason]].item())
    yield success
    for name, (bounds, text) in HISTOGRAMS.items():
        histogram = HistogramMetricFamily(f"vllm:{name}_seconds", text, labels=["model_name"])
        for model, total in totals.items():
            *counts, seconds = total[OFFSETS[name]]
            names = [*map(str, bounds), "+Inf"]
            histogram.add_metric([model], list(zip(names, np.cumsum(counts).tolist(), strict=True)), float(seconds))
        yield histogram


def _llama_server(total: Any) -> Iterator[Metric]:
    def of(name: str) -> float:
        return float(total[OFFSETS[name]].item())

    def speed(tokens: float, seconds: str) -> float:
        return tokens / of(seconds) if of(seconds) else 0.0

    counter, gauge = CounterMetricFamily, GaugeMetricFamily
    processed = of("prompt_tokens") - of("cached_tokens")  # unlike vLLM, llama-server counts cached ones by themselves
    yield counter("llamacpp:prompt_tokens", "Tokens of prompts, without those of cached prefixes", processed)
    yield counter("llamacpp:prompt_tokens_cached", "Tokens of cached prefixes", of("cached_tokens"))
    yield counter("llamacpp:prompt_seconds", "Seconds of prompts, from slot to first token", of("prompt_seconds"))
    yield counter("llamacpp:tokens_predicted", "Tokens of answers", of("generation_tokens"))
    yield counter("llamacpp:tokens_predicted_seconds", "Seconds of answers", of("generation_seconds"))
    yield gauge(
        "llamacpp:prompt_tokens_seconds",
        "Tokens of prompts a second, without cached",
        speed(processed, "prompt_seconds"),
    )
    yield gauge(
        "llamacpp:predicted_tokens_seconds",
        "Tokens a second of one answer",
        speed(of("generation_tokens"), "generation_seconds"),
    )
    yield gauge("llamacpp:requests_processing", "Requests that have a slot", of("running"))
    yield gauge("llamacpp:requests_deferred", "Requests that wait for a slot", of("waiting"))
