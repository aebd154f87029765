"""Whether the process-wide generators have moved is seen without reading them, and no draw is missed."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from ckpt.capture import randomness
from ckpt.capture.randomness import random_marks, read_random_state, write_random_state

DRAWS: list[Callable[[], object]] = [
    random.random,
    lambda: random.getrandbits(1),
    lambda: random.gauss(0, 1),
    lambda: random.gauss(0, 1),  # the second of a pair comes from the first
    lambda: random.shuffle([1, 2, 3]),
    lambda: random.seed(5),
    np.random.random,
    np.random.standard_normal,
    np.random.standard_normal,  # again
    lambda: np.random.randint(10),
    lambda: np.random.seed(6),
    lambda: np.random.set_state(np.random.RandomState(9).get_state()),
]


@pytest.fixture(params=[True, False], ids=["memory", "states"], autouse=True)
def memory_tells(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert randomness._memory_tells("random"), "this Python's generators do not show their draws"
    assert randomness._memory_tells("numpy"), "this numpy's generators do not show their draws"
    if not request.param:
        monkeypatch.setattr(randomness, "_memory_tells", lambda library: False)


def test_every_draw_is_seen_and_nothing_else() -> None:
    for number, draw in enumerate(DRAWS * 3):
        before, state = random_marks(), read_random_state()
        assert random_marks() == before
        draw()
        assert random_marks() != before, f"draw {number}"
        assert read_random_state() != state, f"draw {number}"


def test_another_bit_generator_of_numpy_comes_back_whatever_is_there_by_then() -> None:
    mersenne = np.random.mtrand._rand._bit_generator
    try:
        np.random.set_bit_generator(np.random.PCG64(3))
        np.random.standard_normal()
        before, saved = random_marks(), read_random_state()
        expected = np.random.standard_normal(3).tolist()
        assert random_marks() != before
        for there in (np.random.PCG64(4), np.random.MT19937(5)):
            np.random.set_bit_generator(there)
            write_random_state(saved)
            assert np.random.standard_normal(3).tolist() == expected
    finally:
        np.random.set_bit_generator(mersenne)


def test_generators_that_were_set_back_are_where_they_were() -> None:
    for draw in DRAWS:
        before, state = random_marks(), read_random_state()
        draw()
        write_random_state(state)
        assert random_marks() == before
