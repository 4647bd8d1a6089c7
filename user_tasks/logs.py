"""What is logged of the states that tasks enter, and how long they took."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

if TYPE_CHECKING:
    from .models import UserTaskStatus

logger = logging.getLogger("user_tasks.states")

if logger.level == logging.NOTSET:
    # Not a word unless the project's LOGGING asks for it: there are several records for each task.
    logger.setLevel(logging.WARNING)


def are_wanted() -> bool:
    """Tell whether anybody asks for these logs."""
    return logger.isEnabledFor(logging.INFO)


def entered(status: UserTaskStatus, state: str, *, at_rest: bool = False) -> None:
    """Log that a status has entered a state, or come to rest in it: `at_rest` if nothing executes it any more."""
    if not are_wanted():
        return
    state = str(state)
    logger.info(
        "Task %s is %s.",
        status.task_id,
        state,
        extra={
            "task_id": status.task_id,
            "task_class": status.task_class,
            "status_uuid": str(status.uuid),
            "user_id": status.user_id,
            "state": state,
            "at_rest": at_rest,
            "seconds": _seconds(status, timezone.now()),
        },
    )


def waited(status: UserTaskStatus) -> timedelta | None:
    """Return how long a task waited for a worker since it was due; None if none has begun it."""
    return None if status.started is None else max(status.started - _due(status), timedelta())


def ran(status: UserTaskStatus) -> timedelta | None:
    """Return how long the last attempt took; None if there was none, or it has not ended."""
    if status.started is None or status.finished is None:
        return None
    return max(status.finished - status.started, timedelta())


def _seconds(status: UserTaskStatus, now: datetime) -> float:
    """Return how long the task has run, or waited if it had not begun when it was read."""
    return max((now - (status.started or _due(status))).total_seconds(), 0.0)


def _due(status: UserTaskStatus) -> datetime:
    return max(status.created, status.due or status.created)
