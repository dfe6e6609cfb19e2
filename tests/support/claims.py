"""Numbers on the pages against the values that they stand for: each is its value, rounded to the digits shown."""

from __future__ import annotations

import re
from decimal import Decimal

from pages import prose_of

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def numbers(text: str) -> list[str]:
    """The numbers of a cell, without the commas of thousands."""
    return [found.replace(",", "") for found in NUMBER.findall(text)]


def is_rounded(shown: str, value: float) -> bool:
    """Whether a number on a page is a value, rounded to the digits that the page shows."""
    exponent = Decimal(shown).as_tuple().exponent
    assert isinstance(exponent, int)
    return abs(float(shown) - value) <= 0.5 * 10.0**exponent * (1 + 1e-6)


def assert_shows(cell: str, *values: float) -> None:
    """Check that the numbers of a cell are these values, in order."""
    shown = numbers(cell)
    assert len(shown) == len(values), f"{cell!r} has other numbers than {values}"
    assert all(map(is_rounded, shown, values)), f"the page has {cell!r}, the results {values}"


def assert_says(page: str, pattern: str, *values: object) -> None:
    """Check that a page has one such sentence, whose groups are these values.

    Args:
        page: Path of the page in the repository.
        pattern: Regular expression for the page on one line, without marks of code and emphasis.
        values: For each group: a number, which the page may round, or a text.
    """
    found = re.findall(pattern, prose_of(page))
    assert len(found) == 1, f"{page} has {pattern!r} {len(found)} times"
    shown = [found[0]] if isinstance(found[0], str) else list(found[0])
    assert len(shown) == len(values), f"{pattern!r} has {len(shown)} groups for {len(values)} values"
    for each, value in zip(shown, values, strict=True):
        is_number = isinstance(value, (int, float))
        right = is_rounded(each.replace(",", ""), value) if is_number else each == str(value)
        assert right, f"{page} has {each} for {pattern!r}, expected {value}"
