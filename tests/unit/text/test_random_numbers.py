"""Random numbers for sampling are numpy's own."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime.random_numbers import RandomNumbers


@pytest.mark.parametrize("seed", [0, 1, 7, (1 << 32) - 1, 1 << 32, (1 << 64) + 5, (1 << 128) - 1, (1 << 300) + 12345])
def test_a_seed_gives_the_numbers_of_numpys_generator(seed):
    numbers = RandomNumbers(seed)
    assert [numbers.random() for _ in range(1000)] == np.random.default_rng(seed).random(1000).tolist()


def test_without_a_seed_the_numbers_are_fresh():
    assert len({RandomNumbers(None).random() for _ in range(20)}) == 20
