"""The moves of one status: a conditional UPDATE, and what follows for whoever's row moved.

Each takes a status that has just been read, changes its `state` with the row's, and tells whether the row moved.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from . import containers, notifications, outages, texts
from .containers import row
from .exceptions import TaskCanceledException
from .states import WAITING, State, is_final

if TYPE_CHECKING:
    from .models import UserTaskStatus
    from .querysets import UserTaskStatusQuerySet

logger = logging.getLogger(__name__)

SHOWN = (
    "name",
    "state",
    "completed_steps",
    "total_steps",
    "attempts",
    "modified",
    "started",
    "finished",
    "heartbeat",
    "lost",
)
"""The fields that change while a task lives."""


def refresh(status: UserTaskStatus) -> bool:
    """Bring an instance, and the containers cached on it, up to date; tell whether its row is still there."""
    if status.is_detached:
        return True
    known = {status.pk: status}
    holder = status
    while (container := holder._state.fields_cache.get("parent")) is not None:
        known[container.pk] = holder = container
    there = {values["pk"]: values for values in containers.rows(status).filter(pk__in=known).values("pk", *SHOWN)}
    for pk, values in there.items():
        vars(known[pk]).update({field: values[field] for field in SHOWN})
    return status.pk in there


def halt_if_canceled(status: UserTaskStatus) -> None:
    """Refresh a status; raise `TaskCanceledException` if it is a canceled task, or is gone."""
    if not refresh(status):
        raise TaskCanceledException(f"The status of task {status.task_id} has been deleted.")
    if status.lost:
        revive(status)
    if status.state == State.CANCELED and not status.is_container:
        raise TaskCanceledException(f"Task {status.task_id} has been canceled.")


def add_steps(status: UserTaskStatus, completed: int = 0, total: int = 0) -> None:
    """Add steps to a status and its containers, once, even if the database goes away meanwhile.

    None are added by an execution that began after the end of the task, as a message may be delivered again.
    """
    if status.is_repeated:
        return
    expected = (status.completed_steps + completed, status.total_steps + total)
    tried = False

    def add() -> None:
        nonlocal tried
        if not (tried and refresh(status) and (status.completed_steps, status.total_steps) == expected):
            tried = True
            containers.with_ancestors(status).add_steps(completed, total)

    outages.survive(add, containers.database(status))


def start(status: UserTaskStatus) -> bool:
    """Enter In Progress; from Retrying the steps begin again."""
    if status.state == State.RETRYING:
        _take_back_steps(status)
    moved = enter(status, State.IN_PROGRESS)
    if moved:
        containers.start_waiting(status)
    return moved


def execute(status: UserTaskStatus, total_steps: Callable[[], int | None]) -> bool:
    """Enter In Progress in a worker; what an earlier execution of the same message recorded begins again.

    `total_steps` tells, where that is needed, how many steps there are before any is added, or None to keep them.
    """
    executed_before = status.started is not None or status.state == State.RETRYING
    redelivered = executed_before and status.state not in WAITING
    if executed_before and not is_final(status.state):
        _take_back_steps(status)
        steps = total_steps()
        if steps not in (None, status.total_steps):
            add_steps(status, total=steps - status.total_steps)
    now = timezone.now()
    attempts = F("attempts") + (1 if redelivered else 0)
    moved = row(status).move(State.IN_PROGRESS, started=now, heartbeat=now, attempts=attempts)
    if moved:
        status.state = State.IN_PROGRESS.value
        containers.start_waiting(status)
    else:
        refresh(status)
    return moved


def enter(status: UserTaskStatus, state: str) -> bool:
    """Enter an in-progress state."""
    moved = row(status).start(state)
    if moved:
        status.state = state
    elif not status.is_detached:
        logger.warning("Task %s is %s already and does not become %s.", status.task_id, status.state, state)
    return moved


def set_state(status: UserTaskStatus, state: str) -> bool:
    """Enter any state, a final one without an artifact; a custom one is shown on the containers too."""
    if state == State.SUCCEEDED:
        return succeed(status)
    if state == State.FAILED:
        return _fail(status, None)
    if state == State.CANCELED:
        return cancel(status)
    moved = enter(status, state)
    if moved:
        containers.enter_custom_state(status, state)
    return moved


def succeed(status: UserTaskStatus) -> bool:
    """Complete the missing steps, here and in the containers, and enter Succeeded."""
    missing = max(status.total_steps - status.completed_steps, 0)
    with transaction.atomic(using=containers.database(status)):
        # The containers first: everything locks rows from the top down, so that nothing waits in a circle.
        if missing and status.parent_id:
            containers.above(status).add_steps(missing)
        moved = row(status).move(
            State.SUCCEEDED, completed_steps=F("completed_steps") + missing, finished=timezone.now()
        )
        transaction.set_rollback(not moved, using=containers.database(status))
    return _stopped(status, State.SUCCEEDED) if moved else False


def fail(status: UserTaskStatus, message: Any) -> bool:
    """Enter Failed, with the message as an artifact; a status that has failed already keeps a later message too."""
    return _fail(status, texts.error_text(message))


def lose(status: UserTaskStatus, text: str) -> bool:
    """Enter Failed because nobody reports on the task; not if it has shown life since it was read."""
    return _fail(status, text, row(status).filter(heartbeat=status.heartbeat, state=status.state), lost=True)


def revive(status: UserTaskStatus) -> bool:
    """Put a task that was taken for lost back to work, with its containers and what had become unreachable."""
    lost_at = status.finished or timezone.now()
    with transaction.atomic(using=containers.database(status)):
        taken_for_lost = row(status).filter(lost=True)
        moved = bool(
            taken_for_lost.change(state=State.IN_PROGRESS, finished=None, lost=False, heartbeat=timezone.now())
        )
        if moved:
            explanations = status.artifacts.filter(name="Error", created__gte=lost_at)
            texts = list(explanations.values_list("text", flat=True))
            explanations.delete()
            containers.reopen(status, lost_at, texts)
    refresh(status)
    return moved


def retry(status: UserTaskStatus, due: datetime | None = None) -> bool:
    """Enter Retrying, with one more attempt, which begins at `due` at the earliest."""
    return row(status).move(State.RETRYING, attempts=F("attempts") + 1, due=due or F("due"))


def cancel(status: UserTaskStatus, terminate: bool = False) -> bool:
    """Enter Canceled: at rest at once if no worker executes it, else as soon as its worker stops."""
    containers.lock_from_the_top(status)
    if status.is_container:
        return _cancel_container(status, terminate)
    if row(status).filter(state__in=WAITING).move(State.CANCELED, finished=timezone.now()):
        status.state = State.CANCELED.value
        notifications.revoked(row(status), [status.task_id])
        return _stopped(status, State.CANCELED)
    if not row(status).move(State.CANCELED):
        return False
    status.state = State.CANCELED.value
    if terminate:
        notifications.revoked(row(status), [status.task_id], terminate=True)
    containers.settle(status)
    return True


def stop(status: UserTaskStatus) -> bool:
    """Cancel a task that no worker executes any more."""
    cancel(status)
    return end(status)


def end(status: UserTaskStatus) -> bool:
    """Bring a task to rest that was given a final state while it ran, now that it runs no longer.

    The containers of one that is at rest already are told again: the process that ended it may have been killed
    before it told them.
    """
    moved = row(status).finish()
    refresh(status)
    if moved:
        _stopped(status, status.state)
    elif is_final(status.state):
        tell_containers(status)
    return moved


def tell_containers(status: UserTaskStatus) -> None:
    """Tell the containers of a task's end, as far as they have not heard of it."""
    if status.state == State.FAILED and status.parent is not None and row(status.parent).not_final().exists():
        containers.fail(status, status.artifacts.filter(name="Error").values_list("text", flat=True).first())
    containers.settle(status)


def postpone(status: UserTaskStatus, due: datetime | None) -> bool:
    """Enter Pending again, for what takes the place of a running task; its steps begin again."""
    _take_back_steps(status)
    refresh(status)
    return row(status).move(State.PENDING, due=due)


def give_up(status: UserTaskStatus, text: str) -> None:
    """Cancel a planned task that can no longer run, and fail the containers in which that became clear.

    One that has no container says itself what has failed in its place.
    """
    if status.parent is None:
        fail(status, text)
    else:
        containers.fail(status, text)
        cancel(status)


def set_name(status: UserTaskStatus, name: str) -> None:
    """Name a status and its containers."""
    containers.with_ancestors(status).change(name=name)


def _cancel_container(status: UserTaskStatus, terminate: bool) -> bool:
    if not row(status).not_final().exists():
        return False
    containers.cancel_members(status, terminate)
    containers.cancel_container(status)
    containers.settle(status)
    return True


def _fail(
    status: UserTaskStatus, text: str | None, failing: UserTaskStatusQuerySet | None = None, **values: Any
) -> bool:
    failing = row(status) if failing is None else failing
    containers.lock_from_the_top(status)
    with transaction.atomic(using=containers.database(status)):
        moved = failing.move(State.FAILED, finished=timezone.now(), **values)
        # Celery reports a hard time limit twice.
        if text is not None and (moved or not row(status).filter(artifacts__text=text).exists()):
            containers.add_error(status, text)
    if moved:
        status.state = State.FAILED.value
        notifications.stopped(row(status))
        containers.fail(status, text)
        containers.settle(status)
    return moved


def _stopped(status: UserTaskStatus, state: str) -> bool:
    status.state = str(state)
    notifications.stopped(row(status))
    containers.settle(status)
    return True


def _take_back_steps(status: UserTaskStatus) -> None:
    if status.completed_steps:
        add_steps(status, completed=-status.completed_steps)
