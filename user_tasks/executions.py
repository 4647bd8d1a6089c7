"""The beginning of an execution in a worker, or in the caller where tasks are eager."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from . import canvas, recording, transitions
from .calls import TrackedTask, arguments_of, describe, user_id_of
from .exceptions import TaskCanceledException
from .heartbeat import heart
from .models import NAME_LENGTH, UserTaskStatus
from .recording import Description
from .states import State, is_final
from .texts import shorten
from .utils import Message

logger = logging.getLogger(__name__)


def begin(task: TrackedTask, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> UserTaskStatus:
    """Record that a worker begins to execute a task, and return its status."""
    status = recording.started(task_id, lambda: _total_steps(task, args, kwargs))
    if status is None:
        status = recorded_late(task, task_id, args, kwargs)
        transitions.execute(status, lambda: status.total_steps)
    status.is_repeated = is_final(status.state) and status.finished is not None
    return status


def _total_steps(task: TrackedTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """Return how many steps the task says that it has; None where its hook fails, lest that keeps it from running."""
    try:
        return int(task.calculate_total_steps(arguments_of(task, args, kwargs)))
    except Exception:
        logger.exception("The steps of task %s could not be counted.", task.name)
        return None


def keep_alive(request: Any) -> None:
    """Beat for the execution of a request from now on."""
    status = getattr(request, "user_task_status", None)
    if isinstance(status, UserTaskStatus) and not is_final(status.state) and not request.is_eager:
        heart.take(status.pk)


def recorded_late(task: TrackedTask, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> UserTaskStatus:
    """Return the status of an eager task, or of one whose publisher's transaction is still open, made here."""
    plan = canvas.Planner(lambda _name: task).message(Message(task_id, task.name, args, kwargs))
    recording.enqueued(plan.nodes)
    status = recording.status_of(task_id)
    if status is None:
        raise TaskCanceledException(f"The status of task {task_id} has been deleted.")
    return status


def detached(task: TrackedTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> UserTaskStatus:
    """Return a status that is never stored, for a task that is called as a function, such as by `celery.map`."""
    try:
        arguments = arguments_of(task, args, kwargs)
        user_id, description = user_id_of(arguments), describe(task, arguments)
    except Exception:  # noqa: BLE001 - the project's own hooks may raise anything, and the call needs no status
        user_id, description = None, Description(type(task).__name__, 1)
    status = UserTaskStatus(
        task_class=task.name,
        user_id=user_id,
        name=shorten(description.name, NAME_LENGTH),
        state=State.IN_PROGRESS,
        total_steps=description.total_steps,
    )
    status.is_detached = True
    return status
