"""Constraints: answers that follow a JSON schema or call a function, by llguidance's grammars."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minimind_edge.runtime.errors import ArtifactError, UsageError
from minimind_edge.runtime.text.think import CLOSE_TAG as THINK_END
from minimind_edge.runtime.text.tokenizer import Tokenizer

from .tool_calls import CLOSE_TAG, OPEN_TAG

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from .requests import FunctionDefinition

JSON_STYLE: dict[str, Any] = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""JSON on one line, as MiniMind's training data has it; unbounded white space would let an answer never end."""

_ANY_OBJECT: dict[str, Any] = {"type": "object"}

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

_THINKING = f'thinking[suffix="{THINK_END}"]: /(.|\\n)*/\nGAP: /\\n{{1,2}}/\n'
_TEXT = "TEXT: /(.|\\n)*/\n"


class GrammarConstraint:
    """The tokens that a grammar allows; a `TokenConstraint` of one answer.

    Args:
        matcher: The grammar's state.
        vocab_size: Size V of the vocabulary.
    """

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    def allowed(self) -> NDArray[np.bool_]:
        """The tokens that may come next, `[V]` bool.

        Raises:
            ArtifactError: The grammar has grown beyond llguidance's limits.
        """
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise _lost(self._matcher)
        return np.unpackbits(packed, count=self._vocab_size, bitorder="little").view(np.bool_)

    def accept(self, token_id: int) -> bool:
        """Take the token that was chosen, and tell whether the answer is complete with it.

        Raises:
            ArtifactError: The token is not allowed, or the grammar has grown beyond llguidance's limits.
        """
        if not self._matcher.consume_token(token_id):
            raise _lost(self._matcher)
        return self._matcher.is_stopped()


class Grammar:
    """A compiled grammar, from which every answer gets a constraint of its own."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    def constraint(self) -> GrammarConstraint:
        """A new constraint, for one answer."""
        return GrammarConstraint(self._matcher.deep_copy(), self._vocab_size)


class GrammarCompiler:
    """Compiles the grammars of one model.

    Args:
        tokenizer: The model's tokenizer.
        vocab_size: Number V of the model's logits.
        stop_token_ids: Token ids that end an answer.

    Raises:
        UsageError: The tokenizer is not byte-level, so that its tokens have no bytes of their own.
    """

    def __init__(self, tokenizer: Tokenizer | None, vocab_size: int, stop_token_ids: Sequence[int]) -> None:
        if tokenizer is None or not tokenizer.is_byte_level:
            raise UsageError("this model's tokenizer is not byte-level: its answers cannot be held to a grammar")
        if not stop_token_ids:
            raise UsageError("this model has no token that ends a text: its answers cannot be held to a grammar")
        self._vocab_size = vocab_size
        self._tokens = _open_tokenizer(tokenizer, vocab_size, stop_token_ids)

    def json_answer(
        self, schema: dict[str, Any] | None, functions: Sequence[FunctionDefinition], *, thinks: bool
    ) -> Grammar:
        """An answer that is JSON, or calls functions instead.

        Args:
            schema: The schema that it follows; None for any object.
            functions: The functions that may be called, none for an answer that is always JSON.
            thinks: Whether the answer begins inside a think block, which comes first.

        Raises:
            UsageError: A schema is wrong, or has keywords that cannot be enforced.
        """
        answer = _schema("answer", _ANY_OBJECT if schema is None else schema)
        if not functions:
            return self._compile(_start("@answer", thinks), [answer])
        rules = _start(f"@answer | {_SEVERAL_CALLS}", thinks) + _call_rules(functions)
        return self._compile(rules, [answer, *_argument_schemas(functions, strictly=False)])

    def tool_calls(self, functions: Sequence[FunctionDefinition], *, several: bool, thinks: bool) -> Grammar:
        """An answer that calls functions, and nothing else.

        Args:
            functions: The functions of which one has to be called.
            several: Whether more calls may follow.
            thinks: Whether the answer begins inside a think block, which comes first.

        Raises:
            UsageError: The schema of a function's parameters is wrong, or cannot be enforced.
        """
        rules = _start(_SEVERAL_CALLS if several else "call", thinks) + _call_rules(functions)
        return self._compile(rules, _argument_schemas(functions, strictly=True))

    def text_with_calls(self, functions: Sequence[FunctionDefinition]) -> Grammar:
        """An answer of any text, in which every tool call is well-formed and follows the schema where that is strict.

        Args:
            functions: The functions that may be called.

        Raises:
            UsageError: The schema of a strict function's parameters is wrong, or cannot be enforced.
        """
        rules = [f"start: ({' | '.join(f'call{index}' for index in range(len(functions)))})* tail\ntail: TEXT\n", _TEXT]
        for index, function in enumerate(functions):
            rules.append(f"head{index}[lazy]: TEXT {json.dumps(OPEN_TAG)}\n")
            rules.append(f"call{index}: head{index} {json.dumps(_head(function))} @arguments{index} {_TAIL}\n")
        return self._compile("".join(rules), _argument_schemas(functions, strictly=False))

    def _compile(self, lark: str, schemas: list[dict[str, Any]]) -> Grammar:
        from llguidance import LLMatcher

        try:
            grammar = json.dumps({"grammars": [{"name": "root", "lark_grammar": lark}, *schemas]})
        except RecursionError as error:
            raise UsageError("the schema is nested too deeply") from error
        matcher = LLMatcher(self._tokens, grammar, log_level=0)
        if matcher.is_error():
            raise UsageError(f"the schema cannot be enforced: {_first_line(matcher.get_error())}")
        trial = matcher.deep_copy()
        trial.compute_bitmask()
        if trial.is_error():
            raise UsageError("no answer follows the schema: expected one that some JSON value follows")
        return Grammar(matcher, self._vocab_size)


_TAIL = json.dumps("}\n" + CLOSE_TAG)
_SEVERAL_CALLS = 'call ("\\n" call)*'


def _start(answer: str, thinks: bool) -> str:
    """The first rule of a grammar, whose answer may come after a think block."""
    return f"start: thinking GAP? ({answer})\n{_THINKING}" if thinks else f"start: {answer}\n"


def _call_rules(functions: Sequence[FunctionDefinition]) -> str:
    rules = [f"call: {' | '.join(f'call{index}' for index in range(len(functions)))}\n"]
    for index, function in enumerate(functions):
        rules.append(f"call{index}: {json.dumps(OPEN_TAG + _head(function))} @arguments{index} {_TAIL}\n")
    return "".join(rules)


def _head(function: FunctionDefinition) -> str:
    return f'\n{{"name": {json.dumps(function.name)}, "arguments": '


def _argument_schemas(functions: Sequence[FunctionDefinition], *, strictly: bool) -> list[dict[str, Any]]:
    schemas = []
    for index, function in enumerate(functions):
        parameters = _NO_PARAMETERS if function.parameters is None else function.parameters
        if not strictly and not function.strict:
            parameters = _ANY_OBJECT
        if parameters.get("type", "object") != "object":
            raise UsageError(f"the parameters of {function.name} are no object: expected a schema of type object")
        schemas.append(_schema(f"arguments{index}", {**_ANY_OBJECT, **parameters}))
    return schemas


def _schema(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "json_schema": {**schema, "x-guidance": JSON_STYLE}}


def _open_tokenizer(tokenizer: Tokenizer, vocab_size: int, stop_token_ids: Sequence[int]) -> LLTokenizer:
    """The tokenizer as llguidance sees it: the bytes of every token, so that ids and logits agree by construction.

    Reading tokenizer.json itself, llguidance takes MiniMind's `<tool_call>`, an added token that is not special, for a
    special one, and then cannot write it as text.
    """
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(
        TokenizerWrapper(_TokenBytes(tokenizer, vocab_size, stop_token_ids)), eos_token=[*stop_token_ids]
    )


class _TokenBytes:
    """What llguidance's wrapper reads of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, stop_token_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        ids = range(vocab_size)
        self.tokens = [tokenizer.token_bytes(token) or _special_text(tokenizer, token) for token in ids]
        self.special_token_ids = [token for token in ids if tokenizer.is_special(token)]
        self.eos_token_id = stop_token_ids[0]
        self.bos_token_id = None

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode(text.decode(errors="replace"), add_special_tokens=False)


def _special_text(tokenizer: Tokenizer, token_id: int) -> bytes:
    return tokenizer.decode([token_id], skip_special_tokens=False).encode()


def _lost(matcher: LLMatcher) -> ArtifactError:
    return ArtifactError(f"the grammar of this answer failed: {_first_line(matcher.get_error())}")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
