"""The served models: their names, and what the endpoints need of each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .constraints import GrammarCompiler
from .delivery import Delivery, Observer
from .engine import BatchEngine
from .errors import ApiError, bad_request
from .logprobs import TokenTexts
from .settings import ServerSettings


class ServedModel:
    """A model that is served.

    Attributes:
        name: The name under which it is served.
        engine: The engine that runs it.
        delivery: The way of its pieces to the event loop.
        preparation: The thread that renders templates, tokenizes prompts and compiles grammars, so that a long prompt
            delays no stream.
        texts: The texts of tokens.
    """

    def __init__(self, name: str, engine: BatchEngine, observer: Observer | None = None) -> None:
        self.name = name
        self.engine = engine
        self.delivery = Delivery(name, engine, observer)
        self.preparation = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"prepare-{name}")
        self.texts = TokenTexts(engine.tokenizer)
        self.created = int(time.time())
        self._grammars: GrammarCompiler | None = None

    @property
    def grammars(self) -> GrammarCompiler:
        """The compiler of grammars, which is made when it is first used, on the preparation thread.

        Raises:
            UsageError: The model's answers cannot be held to a grammar.
        """
        if self._grammars is None:
            engine = self.engine
            self._grammars = GrammarCompiler(engine.tokenizer, engine.vocab_size, engine.stop_token_ids)
        return self._grammars

    def describe(self) -> dict[str, Any]:
        """The entry of this model in `/v1/models`."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "minimind-edge",
            "max_model_len": self.engine.max_length,
        }


class ServedModels:
    """The models by name.

    Args:
        engines: The engine of each model by the name under which it is served.
        settings: The settings of the server.
        observer: Is told about every answer that ends.
    """

    def __init__(
        self, engines: Mapping[str, BatchEngine], settings: ServerSettings, observer: Observer | None = None
    ) -> None:
        self._models = {name: ServedModel(name, engine, observer) for name, engine in engines.items()}
        self._aliases = settings.aliases
        self._takes_any_name = len(self._models) == 1 and not settings.strict_model_names

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def find(self, name: str) -> ServedModel:
        """The model with exactly this name or alias.

        Raises:
            ApiError: There is none (404).
        """
        found = self._models.get(self._aliases.get(name, name))
        if found is None:
            served = ", ".join(self._models)
            message = f"the model {name!r} is not served here: expected one of {served}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return found

    def choose(self, name: str | None) -> ServedModel:
        """The model that a request asks for; where one model is served, any name means it, unless names are strict.

        Raises:
            ApiError: The name is missing (400) or not served (404).
        """
        if self._takes_any_name:
            return next(iter(self._models.values()))
        if name is None:
            raise bad_request("model is missing: expected the name of a served model", "model")
        return self.find(name)
