"""Random numbers for sampling: those of numpy's generator, without importing it.

Importing `numpy.random` takes 7 MB, most of it for cryptography that seeds it, and as long as several tokens.
"""

from __future__ import annotations

import os

_STEP = 0x2360ED051FC65DA44385DF649FCCF645
_LOW, _WORD, _STATE = (1 << 32) - 1, (1 << 64) - 1, (1 << 128) - 1

_UNIT = 2.0**-53

_POOL = 4
"""The words of 32 bits that a seed is mixed into."""


class RandomNumbers:
    """The numbers that `numpy.random.default_rng(seed).random()` gives one after the other, bit for bit.

    Args:
        seed: The seed, at least 0; None draws a fresh one.

    Source:
        O'Neill 2014, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random Number
        Generation", the generator PCG XSL RR 128/64, seeded as numpy's SeedSequence does it.
    """

    def __init__(self, seed: int | None) -> None:
        entropy = int.from_bytes(os.urandom(16), "little") if seed is None else seed
        first, second, third, fourth = _seed_words(entropy)
        self._increment = (third << 64 | fourth) << 1 & _STATE | 1
        self._state = ((self._increment + (first << 64 | second)) * _STEP + self._increment) & _STATE

    def random(self) -> float:
        """The next number, from 0 to below 1, a multiple of 2**-53."""
        self._state = state = (self._state * _STEP + self._increment) & _STATE
        mixed, turns = (state >> 64 ^ state) & _WORD, state >> 122
        return (((mixed >> turns | mixed << 64 - turns) & _WORD) >> 11) * _UNIT


def _seed_words(entropy: int) -> list[int]:
    """The four words of 64 bits that numpy's SeedSequence makes of a seed."""
    words = [entropy >> shift & _LOW for shift in range(0, max(entropy.bit_length(), 1), 32)]
    hashed = _Hash(0x43B0D7E5, 0x931E8875)
    pool = [hashed(words[index] if index < len(words) else 0) for index in range(_POOL)]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                pool[target] = _mixed(pool[target], hashed(pool[source]))
    for word in words[_POOL:]:
        pool = [_mixed(each, hashed(word)) for each in pool]
    hashed = _Hash(0x8B51F9DD, 0x58F38DED)
    halves = [hashed(pool[index % _POOL]) for index in range(8)]
    return [low | high << 32 for low, high in zip(halves[::2], halves[1::2], strict=True)]


class _Hash:
    """A hash of words of 32 bits, another one at each call."""

    def __init__(self, constant: int, factor: int) -> None:
        self._constant, self._factor = constant, factor

    def __call__(self, word: int) -> int:
        word ^= self._constant
        self._constant = self._constant * self._factor & _LOW
        word = word * self._constant & _LOW
        return word ^ word >> 16


def _mixed(first: int, second: int) -> int:
    """One word of 32 bits made of two."""
    word = (0xCA01F9DD * first - 0x4973F715 * second) & _LOW
    return word ^ word >> 16
