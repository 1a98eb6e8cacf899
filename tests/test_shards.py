"""How work is shared out: all of it, evenly, and the same every time."""

from __future__ import annotations

import random

import pytest

from transducer2ncnn.base.shards import share_out


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_everything_is_in_one_shard_and_the_shards_last_as_long(shards: int) -> None:
    rng = random.Random(0)
    seconds = {f"{i:03}": rng.uniform(1, 20) for i in range(100)}
    shared = share_out(seconds, shards)
    assert len(shared) == shards
    assert sorted(key for keys in shared for key in keys) == sorted(seconds)
    loads = [sum(seconds[key] for key in keys) for keys in shared]
    # What is shared out last is short.
    assert max(loads) - min(loads) < 20
    assert max(loads) - min(loads) < 0.1 * sum(loads) / shards + 1


def test_by_duration_and_not_by_number() -> None:
    seconds = {"a": 10.0, "b": 1.0, "c": 2.0, "d": 3.0, "e": 4.0}
    assert share_out(seconds, 2) == [["a"], ["e", "d", "c", "b"]]


def test_the_order_does_not_matter() -> None:
    seconds = {f"{i}": float(i % 3) for i in range(12)}
    assert share_out(dict(reversed(seconds.items())), 4) == share_out(seconds, 4)


def test_more_shards_than_work() -> None:
    assert share_out({"a": 1.0}, 3) == [["a"], [], []]
    assert share_out({}, 2) == [[], []]
