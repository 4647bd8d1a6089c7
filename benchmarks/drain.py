"""How long a worker takes for tasks that do nothing: alone, with results, with plain statements, and tracked."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from operator import truediv
from typing import Any

from celery import current_app, group
from django.contrib.auth.models import User
from django.db import connection, connections

from user_tasks.models import UserTaskStatus

from . import tasks
from .figures import Figure, Scale
from .growth import exponent
from .locks import LongestWait, deadlocks
from .workers import Worker, worker

STATEMENTS = {"four plain ORM statements": tasks.four_statements, "tracked": tasks.tracked}
COMPARED = {"kept": {"with django-celery-results": tasks.with_result, **STATEMENTS}, "by default": STATEMENTS}
BUDGETS = {("tracked", "kept"): 3.0, ("tracked", "by default"): 7.0}
"""How many times as long as plain Celery a drain may take."""

CONNECTIONS = {"by default": 1.1, "kept": 0.1}
"""Database connections that a worker may open per task."""

EXPONENT = 1.1
"""The power of its size that the drain of a group may grow with."""

WAIT = 1.0
"""Seconds that anybody may wait for a lock."""


def figures(scale: Scale) -> Iterator[Figure]:
    """Measure drains of single tasks, and of groups."""
    user = User.objects.create_user("drains")
    with worker(KEEP_CONNECTIONS="1") as kept, worker() as default:
        yield from _ratios(user, {"kept": kept, "by default": default}, scale)
        for connecting, at_work in (("by default", default), ("kept", kept)):
            yield from _connections(user, at_work, connecting, scale.tasks // 10)
        yield from _groups(user, kept, scale)


def _ratios(user: User, workers: dict[str, Worker], scale: Scale) -> Iterator[Figure]:
    for connecting, at_work in workers.items():
        compared = COMPARED[connecting]
        taken: dict[str, list[float]] = {"plain": [], **{name: [] for name in compared}}
        for _ in range(scale.rounds):
            for name, task in {"plain": tasks.plain, **compared}.items():
                taken[name].append(_seconds(user, at_work, task, scale.tasks))
        for name in compared:
            # Each to its neighbor: the machine may be slower in another round.
            ratio = statistics.median(map(truediv, taken[name], taken["plain"]))
            what = f"drain of {scale.tasks:,} tasks, {name}, connections {connecting}"
            yield Figure(what, ratio, "x", BUDGETS.get((name, connecting)), "plain Celery")


def _seconds(user: User, at_work: Worker, task: Any, count: int) -> float:
    for pk in _pks(user, count):
        task.apply_async(kwargs={"user_id": user.pk, "pk": pk}, queue=at_work.queue)
    taken = at_work.drain(count)
    UserTaskStatus.objects.all().delete()
    return taken


def _pks(user: User, count: int) -> list[int]:
    """Make a row for each task that reads and writes one of its own accord."""
    made = UserTaskStatus.objects.bulk_create(
        UserTaskStatus(user=user, task_id=f"row{number}", task_class="benchmark", name="Row", total_steps=1)
        for number in range(count)
    )
    return [row.pk for row in made]


def _connections(user: User, at_work: Worker, connecting: str, count: int) -> Iterator[Figure]:
    """Count the sessions that the database has seen; PostgreSQL reports a session when it ends, and when it is idle."""
    before = _sessions()
    _seconds(user, at_work, tasks.tracked, count)
    opened = (_sessions() - before - 1) / count  # less that of the benchmark itself
    yield Figure(f"database connections per task, {connecting}", opened, "", CONNECTIONS[connecting])


def _sessions() -> int:
    connections.close_all()
    with connection.cursor() as cursor:
        cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def _groups(user: User, at_work: Worker, scale: Scale) -> Iterator[Figure]:
    """Measure groups that wait in the queue as a whole, and one that a worker begins while it is published."""
    small, middle, large = scale.groups
    rounds: dict[int, list[float]] = {size: [] for size in scale.groups}
    before = deadlocks()
    # The large one takes minutes, in which the machine may become slower: the others are measured before and after it.
    others = (small, middle) * scale.rounds
    with LongestWait() as waits:
        for size in (*others, large, *others):
            _publish(user, at_work, size)
            rounds[size].append(at_work.drain(size))
            _check(size)
        with at_work.at_work(middle):
            _publish(user, at_work, middle)
        _check(middle)
    taken = {size: statistics.median(seconds) for size, seconds in rounds.items()}
    for size, seconds in taken.items():
        yield Figure(f"group of {size:,} tasks, per member", seconds / size * 1000, "ms")
    yield Figure("exponent with which the drain of a group grows", exponent(taken), "", EXPONENT)
    yield Figure(f"longest wait for a lock in groups of up to {large:,}", waits.seconds, "s", WAIT)
    yield Figure("deadlocks in these groups", deadlocks() - before, "", 0)
    current_app.control.purge()


def _publish(user: User, at_work: Worker, size: int) -> None:
    tree: Any = group(tasks.tracked.si(user_id=user.pk, pk=0) for _ in range(size))
    tree.apply_async(queue=at_work.queue)


def _check(size: int) -> None:
    """Raise `AssertionError` unless a group has ended right; delete it."""
    container = UserTaskStatus.objects.get(is_container=True)
    succeeded = UserTaskStatus.objects.filter(parent=container, state="Succeeded").count()
    if (container.state, succeeded) != ("Succeeded", size):
        raise AssertionError(f"A group of {size} is {container.state}, with {succeeded} that have succeeded.")
    UserTaskStatus.objects.all().delete()
