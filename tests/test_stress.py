"""Many workflows at once, in workers that are killed: whatever happens, no row lies in the end."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import chain, chord, group
from django.contrib.auth.models import User

import fault_tasks
from faults import LOST_AFTER, FragileWorker, RedisServer
from lies import lies
from user_tasks import losses
from user_tasks.models import UserTaskStatus
from worker_tasks import notes

pytestmark = [pytest.mark.integration, pytest.mark.faults]

TASKS = int(os.environ.get("STRESS_TASKS", "300"))
"""How many tasks there are; 2000 for the long form."""

SECONDS = 120 + TASKS // 4
"""Within which all must have come to rest."""

WORKERS = 4


def canvas(user_id: int, dice: random.Random) -> Any:
    """Return a workflow of up to six tasks."""

    def task() -> Any:
        return fault_tasks.unsteady.si(user_id, dice.randrange(2**31))

    forms: list[Callable[[], Any]] = [
        task,
        lambda: chain(task(), task(), task()),
        lambda: group(task(), task(), task()),
        lambda: chord([task(), task()], task()),
        lambda: group(chain(task(), task()), chain(task(), task())),
        lambda: chain(task(), chord([task(), task()], task()), task()),
    ]
    return dice.choice(forms)()


def disturb(workers: list[FragileWorker], dice: random.Random, faults: Counter[str]) -> None:
    """Kill a process, or cancel a workflow."""
    if dice.random() < 0.3:
        dice.choice(workers).kill_children()
        faults["processes killed"] += 1
    else:
        roots = UserTaskStatus.objects.roots().not_final().order_by("?")
        for status in roots[:2]:
            status.cancel(terminate=dice.random() < 0.3)
            faults["workflows canceled"] += 1


def told_wrong(status: UserTaskStatus, entries: int) -> list[str]:
    """Return what was told wrongly of the end of a row that has been in a final state up to so many times."""
    told = [note.removeprefix("stopped ") for note in notes(status.task_id) if note.startswith("stopped")]
    is_wrong = told and (told[-1] != status.state or len(told) > entries)
    return [f"{status.task_class} {status.pk} {status.state}: told {told}"] if is_wrong else []


@pytest.mark.timeout(SECONDS + 120)
def test_no_row_lies_whatever_happens(
    start_fragile: Callable[..., FragileWorker],
    redis_server: RedisServer,
    owner: User,
    settings: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = int(os.environ.get("STRESS_SEED", "1"))
    dice, faults = random.Random(seed), Counter[str]()
    settings.USER_TASKS_LOST_AFTER = timedelta(seconds=3 * LOST_AFTER)
    settings.CELERY_RESULT_BACKEND = redis_server.url
    # By default workers look every 100 seconds for messages that nobody acknowledges, and one that is killed while it
    # does keeps the others from it for 300.
    transport = {
        "visibility_timeout": 10,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 10,
    }
    overrides = {"BROKER_TRANSPORT_OPTIONS": transport, "CELERY_RESULT_BACKEND": redis_server.url}
    workers = [start_fragile(concurrency=1, overrides=overrides)]
    workers += [start_fragile(concurrency=1) for _ in range(WORKERS - 1)]
    started = time.monotonic()

    while UserTaskStatus.objects.leaves().count() < TASKS:
        canvas(owner.pk, dice).apply_async()
        if dice.random() < 0.15:
            disturb(workers, dice, faults)
    workers[0].kill()
    faults["workers killed"] += 1
    while UserTaskStatus.objects.unfinished().exists() and time.monotonic() - started < SECONDS:
        if dice.random() < 0.02 and faults["processes killed"] < TASKS / 20:
            disturb(workers[1:], dice, faults)
        faults["tasks found lost"] += losses.fail_lost()
        time.sleep(0.1)  # the interval of the schedule that this loop stands for

    rows = list(UserTaskStatus.objects.all())
    states = Counter(row.state for row in rows if not row.is_container)
    figures = (
        f"{sum(states.values())} tasks, {len(rows)} rows, seed {seed}, {time.monotonic() - started:.0f} s: "
        f"{dict(states)}, {dict(faults)}\n"
    )
    with capsys.disabled():
        sys.stdout.write(figures)
    untold = [row for row in rows if not any(note.startswith("stopped") for note in notes(row.task_id))]
    wrong = [text for row in rows for text in [*lies(row), *told_wrong(row, 1 + faults["tasks found lost"])]]
    assert not wrong, f"{figures}{wrong}"
    # A process that is killed right after it has stored an end takes the signal with it.
    assert len(untold) <= faults["processes killed"] + faults["workers killed"], f"{figures}{untold}"
