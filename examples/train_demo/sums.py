"""Small sums and counting, in both languages."""

from __future__ import annotations

from random import Random

_ASKS: dict[str, dict[str, tuple[str, ...]]] = {
    "+": {
        "en": (
            "What is {a} + {b}?",
            "What is {a} plus {b}?",
            "{a} + {b}",
            "{a}+{b}=?",
            "How much is {a} plus {b}?",
            "Add {a} and {b}.",
            "What do you get when you add {a} and {b}?",
            "{a} plus {b} is what?",
        ),
        "zh": (
            "{a} 加 {b} 等于几？",
            "{a}加{b}等于几？",
            "{a}+{b}等于几？",
            "{a}+{b}=?",
            "{a} + {b}",
            "{a}加{b}是多少？",
            "算一下{a}加{b}。",
            "请问{a}加{b}等于多少？",
        ),
    },
    "-": {
        "en": (
            "What is {a} - {b}?",
            "What is {a} minus {b}?",
            "{a} - {b}",
            "{a}-{b}=?",
            "How much is {a} minus {b}?",
            "Take {b} away from {a}.",
            "{a} minus {b} is what?",
        ),
        "zh": (
            "{a} 减 {b} 等于几？",
            "{a}减{b}等于几？",
            "{a}-{b}等于几？",
            "{a}-{b}=?",
            "{a} - {b}",
            "{a}减{b}是多少？",
            "算一下{a}减{b}。",
            "请问{a}减{b}等于多少？",
        ),
    },
}
_HELD_OUT: dict[str, dict[str, tuple[str, ...]]] = {
    "+": {
        "en": ("How much is {a} + {b}?", "Tell me what {a} plus {b} is."),
        "zh": ("算一下{a}+{b}。", "{a}+{b}是多少？"),
    },
    "-": {
        "en": ("How much is {a} - {b}?", "Tell me what {a} minus {b} is."),
        "zh": ("算一下{a}-{b}。", "{a}-{b}是多少？"),
    },
}
COUNTS = {
    "en": ("Count from {a} to {b}.", "Please count from {a} to {b}.", "Can you count from {a} to {b}?"),
    "zh": ("从 {a} 数到 {b}。", "从{a}数到{b}。", "请从{a}数到{b}。"),
}
_LARGEST = 10


def sums() -> tuple[tuple[int, str, int], ...]:
    """Return every sum that the model is taught: (a, "+" or "-", b), no result below 0."""
    numbers = range(_LARGEST + 1)
    return tuple((a, "+", b) for a in numbers for b in numbers) + tuple(
        (a, "-", b) for a in numbers for b in range(a + 1)
    )


def questions(language: str, a: int, sign: str, b: int, held_out: bool) -> tuple[str, ...]:
    """Return every way in which one split asks for a sum."""
    table = _HELD_OUT if held_out else _ASKS
    return tuple(template.format(a=a, b=b) for template in table[sign][language])


def answer(a: int, sign: str, b: int) -> str:
    """Return the sum written out, `3 + 4 = 7`."""
    return f"{a} {sign} {b} = {a + b if sign == '+' else a - b}"


def count(rng: Random, language: str) -> tuple[str, str]:
    """Return a request to count, and the counting."""
    a = rng.randrange(1, 11)
    b = a + rng.randrange(2, 11)
    comma, stop = (", ", ".") if language == "en" else ("、", "。")
    return rng.choice(COUNTS[language]).format(a=a, b=b), comma.join(str(n) for n in range(a, b + 1)) + stop
