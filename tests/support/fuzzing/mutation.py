"""Mutations of JSON, text and bytes that know the structure of what they change."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from random import Random
from typing import Any


class Raw(str):
    """JSON that no value of Python stands for; it is written as it is."""


HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 127, -(2**31) - 1, 2**31, 2**53, 2**63, 2**64, -(2**63)),
    *(0.5, -0.5, -0.0, 1.0, 1e-320, 1e300, -1e308),
    *(Raw("1" + "0" * 400), Raw("-1" + "0" * 400), Raw("1e999"), Raw("-1e999"), Raw("NaN"), Raw("-Infinity")),
    *(Raw("9" * 5000), Raw("1e"), Raw("01"), Raw("undefined")),
    *("", " ", "1", "true", "null", "\0", "a\0b", "n" * 5000, "\u202e\x1b[31m\r\n\x85\u2028", "\U0010ffff", "日本"),
    *(Raw(r'"\ud800"'), Raw(r'"x\udfffy"'), Raw('"\x01"'), Raw('"\n"')),
    *("../../etc/passwd", "/etc/passwd", "..", ".", "onnx/../../x", "a/" * 600, "con", "*/_ORT_MEM_ADDR_/*"),
    *([], {}, [[]], [None], {"": ""}, [0] * 300, ["\0"], {"n" * 5000: 1}, [1, "1", None, [], {}], [-1, 2**64]),
    *(Raw("[" * 3000 + "]" * 3000), Raw('{"a":' * 3000 + "1" + "}" * 3000), Raw("[" * 100 + "]" * 100)),
    *(Raw('{"a":1,"a":[]}'), {"content": 1}, {"type": None}, {"__type": "AddedToken"}),
)
"""Values of wrong types, out of every range, and that readers trip over."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
)

CHUNKS = (b"\0", b"\xff", b"\xfe\xff", b"{", b"[", b'"', b"\\", b",", b"\x80\x02", b"PK\x03\x04", b"\xed\xa0\x80", b"9")


def mutated_json(random: Random, value: Any, keys: Sequence[str] = (), most: int = 4) -> bytes:
    """A JSON file that was `value`, with a few faults in it.

    Args:
        random: Where the choices come from.
        value: The content of a good file.
        keys: Names that mean something to the reader.
        most: Most changes.
    """
    changed = mutated(random, value, keys, most)
    data = dumped(changed).encode("utf-8", "surrogatepass")
    return mutated_bytes(random, data, 2) if random.random() < 0.1 else marked(random, data)


def mutated(random: Random, value: Any, keys: Sequence[str] = (), most: int = 4) -> Any:
    """A copy of a value of JSON, with a few faults in it; `Raw` in it is what no value stands for."""
    holder = [deepcopy(value)]
    for _ in range(few(random, most)):
        parent, key = _place(random, holder)
        random.choice(_CHANGES)(random, holder, parent, key, keys)
    return holder[0] if holder else None


def few(random: Random, most: int) -> int:
    """How many changes: one for the most part, as whatever is refused early is not read on."""
    return random.choice((1, 1, 1, 2, most))


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Each container and key under it."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield value, key
        if isinstance(item, (dict, list)) and depth < 12:
            yield from _places(item, depth + 1)


def _place(random: Random, holder: Any) -> tuple[Any, Any]:
    return random.choice(list(_places(holder)))


def _replace(random: Random, holder: Any, parent: Any, key: Any, keys: Sequence[str]) -> None:
    parent[key] = deepcopy(random.choice(HOSTILE))


def _remove(random: Random, holder: Any, parent: Any, key: Any, keys: Sequence[str]) -> None:
    if parent is not holder:
        del parent[key]


def _add(random: Random, holder: Any, parent: Any, key: Any, keys: Sequence[str]) -> None:
    item = parent[key]
    name = random.choice([*keys, "", "\0", "n" * 5000, "\ud800", "__class__", "\x1b[2J"])
    if isinstance(item, dict):
        item[name] = deepcopy(random.choice(HOSTILE))
    elif isinstance(item, list):
        item.append(deepcopy(random.choice(HOSTILE)))


def _rename(random: Random, holder: Any, parent: Any, key: Any, keys: Sequence[str]) -> None:
    if isinstance(parent, dict):
        parent[random.choice([*keys, "\0", "n" * 5000, key + "s", key.upper()])] = parent.pop(key)


def _swap(random: Random, holder: Any, parent: Any, key: Any, keys: Sequence[str]) -> None:
    other, name = _place(random, holder)
    parent[key] = deepcopy(other[name])


def _wrap(random: Random, holder: Any, parent: Any, key: Any, keys: Sequence[str]) -> None:
    parent[key] = random.choice(([parent[key]], {"a": parent[key]}, [parent[key]] * 40, str(parent[key])))


def _nudge(random: Random, holder: Any, parent: Any, key: Any, keys: Sequence[str]) -> None:
    item = parent[key]
    if isinstance(item, bool) or not isinstance(item, (int, float)):
        parent[key] = deepcopy(random.choice(HOSTILE))
    else:
        parent[key] = random.choice((item + 1, item - 1, -item, item * 1.5, item * 10**9, float(item), str(item), 0))


def _repeat(random: Random, holder: Any, parent: Any, key: Any, keys: Sequence[str]) -> None:
    if isinstance(parent, dict) and parent is not holder:
        parent[Raw(key)] = parent[key]
        parent[key] = Raw(f"{dumped(parent[key])},{json.dumps(key)}:{dumped(random.choice(HOSTILE))}")


_CHANGES: tuple[Callable[[Random, Any, Any, Any, Sequence[str]], None], ...] = (
    *(_replace, _replace, _replace, _remove, _add, _rename, _swap, _wrap, _nudge, _repeat),
)


def dumped(value: Any) -> str:
    """JSON of a value; `Raw` as it is."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(key))}:{dumped(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dumped, value)) + "]"
    return json.dumps(value)


def mutated_bytes(random: Random, data: bytes, most: int = 6) -> bytes:
    """A copy with bytes changed, put in, taken out, moved, or cut off."""
    changed = bytearray(data)
    for _ in range(few(random, most)):
        at = random.randrange(len(changed) + 1)
        kind = random.randrange(6)
        if kind == 0:
            changed[at : at + 1] = bytes([random.randrange(256)])
        elif kind == 1:
            changed[at:at] = random.choice(CHUNKS)
        elif kind == 2:
            del changed[at : at + random.choice((1, 4, 64, len(changed)))]
        elif kind == 3:
            changed[at:at] = changed[at : at + random.choice((1, 8, 64))] * random.choice((1, 2, 50))
        elif kind == 4 and at < len(changed):
            changed[at] ^= 1 << random.randrange(8)
        else:
            changed[at : at + 8] = random.choice((b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7))
    return bytes(changed)


def marked(random: Random, data: bytes) -> bytes:
    """UTF-8 text, now and then in another encoding, with or without its byte order mark."""
    if random.random() > 0.05:
        return data
    mark, encoding = random.choice(MARKS)
    text = data.decode("utf-8", "surrogatepass")
    return (mark if random.random() < 0.8 else b"") + text.encode(encoding, "surrogatepass")


def mutated_text(random: Random, text: str, pieces: Sequence[str], most: int = 5) -> str:
    """A copy with pieces of its language put in, parts taken out, repeated or moved."""
    for _ in range(few(random, most)):
        at = random.randrange(len(text) + 1)
        end = min(len(text), at + random.choice((1, 3, 10, 60)))
        kind = random.randrange(4)
        if kind == 0:
            text = text[:at] + random.choice(pieces) + text[at:]
        elif kind == 1:
            text = text[:at] + text[end:]
        elif kind == 2:
            text = text[:at] + text[at:end] * random.choice((2, 3, 30)) + text[end:]
        else:
            other = random.randrange(len(text) + 1)
            text = text[:other] + text[at:end] + text[other:]
    return text
