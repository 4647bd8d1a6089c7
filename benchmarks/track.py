"""What a tracked loop costs beside one with tqdm, over the same numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from tqdm import tqdm

from user_tasks.models import UserTaskStatus

from .figures import Figure, Scale, alternate

BUDGET = 2.0
"""How many times what tqdm takes a tracked loop may take."""

WRITES = 2.0
"""Writes a second."""

Loop = Callable[[Iterable[int]], Iterable[int]]


def figures(scale: Scale) -> Iterator[Figure]:
    """Measure loops; tqdm has its default settings, and writes to the null device."""
    user = User.objects.create_user("loops")
    status = UserTaskStatus.objects.create(user=user, task_id="loops", task_class="benchmark", total_steps=1)
    with Path(os.devnull).open("w") as null:
        loops: dict[str, Loop] = {
            "tqdm": lambda numbers: tqdm(numbers, file=null),
            "track": status.track,
            "track, with a label": lambda numbers: status.track(numbers, label=lambda number: f"Row {number}"),
        }
        taken = alternate({name: partial(_go_over, loop, scale.items) for name, loop in loops.items()}, scale.rounds)
    for name in ("track", "track, with a label"):
        yield Figure(f"{name}: a loop over {scale.items:,} items", taken[name] / taken["tqdm"], "x", BUDGET, "tqdm")
    yield Figure("track: writes a second in a tight loop", _writes(status, scale.seconds) / scale.seconds, "", WRITES)


def _writes(status: UserTaskStatus, seconds: int) -> int:
    """Return how often a loop is written in so many seconds, the first and the last time apart."""
    numbers = iter(status.track(count()))
    next(numbers), next(numbers)
    end = time.monotonic() + seconds
    with CaptureQueriesContext(connection) as queries:
        while time.monotonic() < end:
            next(numbers)
    return sum(query["sql"].startswith("UPDATE") for query in queries)


def _go_over(loop: Loop, items: int) -> None:
    for _item in loop(range(items)):
        pass
