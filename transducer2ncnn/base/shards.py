"""Sharing work on recordings out among jobs, and taking some of many."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

K = TypeVar("K", bound=Any)


def share_out(seconds: Mapping[K, float], shards: int) -> list[list[K]]:
    """Keys by shard, so that all shards last about as long: the longest first, each to the shard
    that has the least so far.

    The same in whatever order the keys come; a shard may get none.

    Args:
        seconds: what each key lasts; keys that last the same are taken in their own order.
    """
    shared: list[list[K]] = [[] for _ in range(shards)]
    loads = [0.0] * shards
    for key in sorted(seconds, key=lambda key: (-seconds[key], key)):
        least = loads.index(min(loads))
        shared[least].append(key)
        loads[least] += seconds[key]
    return shared


def spread(seconds: Mapping[K, float], most: float) -> list[K]:
    """Some keys from the whole length, every so many in their order, that last about as long as
    wanted; all of them where they last no longer.

    Args:
        seconds: what each key lasts.
        most: seconds.
    """
    return list(seconds)[:: max(1, math.ceil(sum(seconds.values()) / most))]
