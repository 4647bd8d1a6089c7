"""The beginning of an execution in a worker, or in the caller where tasks are eager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import canvas, recording, transitions
from .calls import TrackedTask, arguments_of, describe
from .exceptions import TaskCanceledException
from .models import UserTaskStatus
from .utils import Message


def begin(task: TrackedTask, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> UserTaskStatus:
    """Record that a worker begins to execute a task, and return its status."""
    status = recording.started(task_id, lambda: describe(task, arguments_of(task, args, kwargs)).total_steps)
    if status is None:
        status = recorded_late(task, task_id, args, kwargs)
        transitions.execute(status, lambda: status.total_steps)
    return status


def recorded_late(task: TrackedTask, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> UserTaskStatus:
    """Return the status of an eager task, or of one whose publisher's transaction is still open, made here."""
    plan = canvas.Planner(lambda _name: task).message(Message(task_id, task.name, args, kwargs))
    recording.enqueued(plan.nodes)
    status = recording.status_of(task_id)
    if status is None:
        raise TaskCanceledException(f"The status of task {task_id} has been deleted.")
    return status
