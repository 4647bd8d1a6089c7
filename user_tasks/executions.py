"""The beginning of an execution in a worker, or in the caller where tasks are eager."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from . import canvas, recording, tracking, transitions
from .calls import TrackedTask, arguments_of, describe, user_id_of
from .exceptions import TaskCanceledException
from .heartbeat import heart
from .models import NAME_LENGTH, UserTaskStatus
from .recording import Description
from .states import State, is_final
from .texts import shorten
from .utils import Message

logger = logging.getLogger(__name__)


class ExecutedTask(TrackedTask, Protocol):
    """A task that a worker executes."""

    @property
    def request(self) -> Any:
        """What Celery tells about the current execution."""


@dataclass
class Execution:
    """What is known of a task that is being executed."""

    task_id: str
    status: UserTaskStatus | None = None
    """As it was last read; None where nothing has asked for it yet."""
    beats: bool = False
    """Whether the process gives signs of life for it."""

    @property
    def is_at_an_end(self) -> bool:
        """Whether the task had ended before this execution began, or is canceled."""
        return self.status is not None and is_final(self.status.state)

    @property
    def is_canceled(self) -> bool:
        """Whether the task has been canceled."""
        return self.status is not None and self.status.state == State.CANCELED


def begin(task: ExecutedTask, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Execution:
    """Record that a worker begins to execute a task."""
    if _seems_alone(task.request) and recording.started_alone(task_id):
        return Execution(task_id)
    status = recording.started(task_id, lambda: _total_steps(task, args, kwargs))
    if status is None:
        status = recorded_late(task, task_id, args, kwargs)
        transitions.execute(status, lambda: status.total_steps)
    status.is_repeated = is_final(status.state) and status.finished is not None
    return Execution(task_id, status)


def _seems_alone(request: Any) -> bool:
    """Tell whether nothing in a message says that its task is part of others; under an old protocol it may be."""
    related = (request.group, request.chord, request.chain, request.callbacks, request.errbacks, request.parent_id)
    return not request.is_eager and not any(related)


def _total_steps(task: TrackedTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """Return how many steps the task says that it has; None where its hook fails, lest that keeps it from running."""
    try:
        return int(task.calculate_total_steps(arguments_of(task, args, kwargs)))
    except Exception:
        logger.exception("The steps of task %s could not be counted.", task.name)
        return None


def keep_alive(request: Any) -> None:
    """Beat for the execution of a request from now on."""
    execution = of(request)
    if execution is not None and not execution.is_at_an_end and not request.is_eager:
        heart.take(execution.task_id)
        execution.beats = True


def leave(execution: Execution) -> None:
    """Beat no longer for an execution, if anything does; another one of the same task goes on."""
    if execution.beats:
        heart.leave(execution.task_id)
        execution.beats = False


def of(request: Any) -> Execution | None:
    """Return what is known of the execution of a request, if its task has a status."""
    execution = getattr(request, "user_task_execution", None)
    return execution if isinstance(execution, Execution) else None


def end_loops(request: Any) -> None:
    """Write what tracked loops have done, before the end of an execution is recorded or another may begin."""
    execution = of(request)
    if execution is not None and execution.status is not None:
        tracking.close(execution.status)


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
