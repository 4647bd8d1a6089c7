"""Tasks that do nothing, tracked in different ways, and a count of what a worker executes."""

from __future__ import annotations

import os
import time
from multiprocessing import Value
from typing import Any

from celery import current_app, shared_task
from celery.signals import task_postrun
from redis import Redis

from user_tasks.models import UserTaskStatus
from user_tasks.tasks import UserTask

NOTED = "{}:noted"
"""Where the worker of a queue notes when it has executed the first task of a round, and the last."""

executed = Value("L", 0)
"""What all processes of this worker have executed, in shared memory: that costs all that is compared the same."""

expected = Value("L", 0)
"""How many tasks there are in this round."""


@task_postrun.connect
def count(**_kwargs: Any) -> None:
    queue = os.environ.get("QUEUE")
    if queue is None:
        return
    with executed.get_lock():
        executed.value += 1
        if executed.value == 1:
            broker = Redis.from_url(current_app.conf.broker_url)
            expected.value = int(broker.get(f"{queue}:left"))  # type: ignore[arg-type]  # answered at once
            broker.rpush(NOTED.format(queue), time.time())
        if executed.value == expected.value:
            executed.value = 0
            Redis.from_url(current_app.conf.broker_url).rpush(NOTED.format(queue), time.time())


@shared_task(ignore_result=True)
def plain(user_id: int, pk: int) -> None:
    """Do nothing."""


@shared_task(ignore_result=False)
def with_result(user_id: int, pk: int) -> None:
    """Do nothing, and keep that as a result, in the database."""


@shared_task(ignore_result=True)
def four_statements(user_id: int, pk: int) -> None:
    """Read and write a row when the task starts, and when it ends: what tracking takes where it is written simply."""
    for state in ("In Progress", "Succeeded"):
        status = UserTaskStatus.objects.get(pk=pk)
        UserTaskStatus.objects.filter(pk=status.pk).update(state=state)


@shared_task(base=UserTask, ignore_result=True)
def tracked(user_id: int, pk: int) -> None:
    """Do nothing, seen by a user."""
