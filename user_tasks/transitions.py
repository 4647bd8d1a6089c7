"""The moves of one status: a conditional UPDATE, and what follows for whoever's row moved.

Each takes a status that has just been read, changes its `state` with the row's, and tells whether the row moved.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from . import containers, logs, notifications, outages, texts
from .containers import row
from .exceptions import TaskCanceledException
from .states import WAITING, State, is_final

if TYPE_CHECKING:
    from .models import UserTaskStatus
    from .querysets import UserTaskStatusQuerySet

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

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
    _halt(status, is_there=_survive(status, partial(refresh, status)))


def _halt(status: UserTaskStatus, *, is_there: bool) -> None:
    if not is_there:
        raise TaskCanceledException(f"The status of task {status.task_id} has been deleted.")
    if status.lost:
        revive(status)
    if status.state == State.CANCELED and not status.is_container:
        raise TaskCanceledException(f"Task {status.task_id} has been canceled.")


def step(status: UserTaskStatus, completed: int = 0, total: int = 0) -> None:
    """Add steps as `add_steps` does, and halt as `halt_if_canceled` does, in one statement where that is possible."""
    if status.parent_id or status.is_detached or status.is_repeated or not containers.rows(status).reads_what_it_writes:
        add_steps(status, completed, total)
        halt_if_canceled(status)
        return
    add = partial(containers.rows(status).add_steps_to, status, SHOWN, completed, total)
    _halt(status, is_there=_add_once(status, completed, total, add))


def add_steps(status: UserTaskStatus, completed: int = 0, total: int = 0) -> None:
    """Add steps to a status and its containers, once, even if the database goes away meanwhile.

    None are added by an execution that began after the end of the task, as a message may be delivered again.
    """
    if not status.is_repeated:
        _add_once(status, completed, total, partial(containers.add_steps, status, completed, total))


def _add_once(status: UserTaskStatus, completed: int, total: int, add: Callable[[], bool]) -> bool:
    expected = (status.completed_steps + completed, status.total_steps + total)

    def is_added() -> bool:
        return refresh(status) and (status.completed_steps, status.total_steps) == expected

    return outages.survive_once(add, is_added, containers.database(status))


def start(status: UserTaskStatus) -> bool:
    """Enter In Progress; from Retrying the steps begin again."""
    containers.lock_from_the_top(status)
    is_retried = status.state == State.RETRYING
    moved = enter(status, State.IN_PROGRESS)
    if moved:
        if is_retried:
            _take_back_steps(status)
        _survive(status, partial(containers.start_waiting, status))
    return moved


def execute(status: UserTaskStatus, total_steps: Callable[[], int | None]) -> bool:
    """Enter In Progress in a worker; what an earlier execution of the same message recorded begins again.

    `total_steps` tells, where that is needed, how many steps there are before any is added, or None to keep them.
    """
    containers.lock_from_the_top(status)
    executed_before = status.started is not None or status.state == State.RETRYING
    redelivered = executed_before and status.state not in WAITING
    now = timezone.now()
    values = {"started": now, "heartbeat": now, "attempts": F("attempts") + (1 if redelivered else 0)}
    move = partial(row(status).move, State.IN_PROGRESS, **values)
    is_moved = row(status).filter(state=State.IN_PROGRESS, started=now).exists
    moved = outages.survive_once(move, is_moved, containers.database(status))
    if not moved:
        _survive(status, partial(refresh, status))
        # It may have been given up since it was read.
        return status.lost and revive(status) and execute(status, total_steps)
    status.state = State.IN_PROGRESS.value
    if executed_before:
        _take_back_steps(status)
        steps = total_steps()
        if steps is not None and steps != status.total_steps:
            add_steps(status, total=steps - status.total_steps)
    _survive(status, partial(containers.start_waiting, status))
    return True


def enter(status: UserTaskStatus, state: str) -> bool:
    """Enter an in-progress state."""
    moved = _survive(status, partial(row(status).start, state))
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
    containers.lock_from_the_top(status)
    moved = enter(status, state)
    if moved:
        _survive(status, partial(containers.enter_custom_state, status, state))
    return moved


def succeed(status: UserTaskStatus, *, as_known: bool = False) -> bool:
    """Complete the missing steps, here and in the containers, and enter Succeeded.

    With `as_known` the status need not have been read just now: nothing happens if it has changed meanwhile.
    """
    containers.lock_from_the_top(status)
    missing = max(status.total_steps - status.completed_steps, 0)
    own = row(status).counting_like(status) if as_known else row(status)
    completed = F("completed_steps") + missing

    def move(now: datetime) -> bool:
        if not missing or not status.parent_id:
            return own.move(State.SUCCEEDED, completed_steps=completed, finished=now)
        with transaction.atomic(using=containers.database(status)):
            # The containers first: everything locks rows from the top down, so that nothing waits in a circle.
            containers.above(status).add_steps(missing)
            moved = own.move(State.SUCCEEDED, completed_steps=completed, finished=now)
            transaction.set_rollback(not moved, using=containers.database(status))
        return moved

    return _move_to_rest(status, State.SUCCEEDED, move) and _stopped(status)


def fail(status: UserTaskStatus, message: Any) -> bool:
    """Enter Failed, with the message as an artifact; a status that has failed already keeps a later message too."""
    return _fail(status, texts.error_text(message))


def lose(status: UserTaskStatus, text: str) -> bool:
    """Enter Failed because nobody reports on the task, or come to rest in the final state that it has.

    Not if it has shown life since it was read.
    """
    silent = row(status).filter(heartbeat=status.heartbeat, state=status.state)
    return _end(status, silent) if is_final(status.state) else _fail(status, text, silent, lost=True)


def withdraw(status: UserTaskStatus) -> bool:
    """Enter Canceled, of a task that no worker has begun, and whose message may never have left.

    Should it arrive, its task is put back, as one that was taken for lost.
    """
    containers.lock_from_the_top(status)
    waiting = row(status).untouched()
    moved = _move_to_rest(status, State.CANCELED, lambda now: waiting.move(State.CANCELED, finished=now, lost=True))
    return moved and _stopped(status)


def revive(status: UserTaskStatus) -> bool:
    """Put a task that was taken for lost back to work, with its containers and what had become unreachable."""
    moved = _survive(status, partial(_put_back, status))
    _survive(status, partial(refresh, status))
    if moved:
        logs.entered(status, State.IN_PROGRESS)
    return moved


def _put_back(status: UserTaskStatus) -> bool:
    lost_at = status.finished or timezone.now()
    with transaction.atomic(using=containers.database(status)):
        containers.with_ancestors(status).lock()
        taken_for_lost = row(status).filter(lost=True)
        if not taken_for_lost.change(state=State.IN_PROGRESS, finished=None, lost=False, heartbeat=timezone.now()):
            return False
        explanations = containers.errors(status).filter(created__gte=lost_at)
        explained = list(explanations.values_list("text", flat=True))
        explanations.delete()
        containers.reopen(status, lost_at, explained)
    return True


def retry(status: UserTaskStatus, due: datetime | None = None) -> bool:
    """Enter Retrying, with one more attempt, which begins at `due` at the earliest."""
    containers.lock_from_the_top(status)
    move = partial(row(status).move, State.RETRYING, attempts=F("attempts") + 1, due=due or F("due"))
    is_moved = row(status).filter(state=State.RETRYING, attempts=status.attempts + 1).exists
    return outages.survive_once(move, is_moved, containers.database(status))


def cancel(status: UserTaskStatus, terminate: bool = False) -> bool:
    """Enter Canceled: at rest at once if no worker executes it, else as soon as its worker stops."""
    containers.lock_from_the_top(status)
    if status.is_container:
        return _cancel_container(status, terminate)
    waiting = row(status).filter(state__in=WAITING)
    if _move_to_rest(status, State.CANCELED, lambda now: waiting.move(State.CANCELED, finished=now)):
        notifications.revoked(row(status), [status.task_id])
        return _stopped(status)
    move, is_moved = partial(row(status).move, State.CANCELED), row(status).filter(state=State.CANCELED).exists
    if not outages.survive_once(move, is_moved, containers.database(status)):
        containers.keep_canceled(row(status))
        return False
    status.state = State.CANCELED.value
    if terminate:
        notifications.revoked(row(status), [status.task_id], terminate=True)
    _survive(status, partial(containers.settle, status))
    return True


def stop(status: UserTaskStatus) -> bool:
    """Cancel a task that no worker executes any more."""
    containers.lock_from_the_top(status)
    running = row(status)
    moved = _move_to_rest(status, State.CANCELED, lambda now: running.move(State.CANCELED, finished=now))
    return moved and _stopped(status)


def end(status: UserTaskStatus) -> bool:
    """Bring a task to rest that was given a final state while it ran, now that it runs no longer.

    The containers of one that is at rest already are told again: the process that ended it may have been killed
    before it told them.
    """
    return _end(status, row(status))


def _end(status: UserTaskStatus, ending: UserTaskStatusQuerySet) -> bool:
    containers.lock_from_the_top(status)
    now = timezone.now()
    finish, is_finished = partial(ending.finish, now), row(status).filter(finished=now).exists
    moved = outages.survive_once(finish, is_finished, containers.database(status))
    _survive(status, partial(refresh, status))
    if moved:
        _stopped(status)
    elif is_final(status.state):
        tell_containers(status)
    return moved


def tell_containers(status: UserTaskStatus) -> None:
    """Tell the containers of a task's end, as far as they have not heard of it."""
    if status.state == State.FAILED and status.parent is not None and row(status.parent).not_final().exists():
        text = containers.errors(status).values_list("text", flat=True).first()
        with containers.locked_above(status):
            containers.fail(status, text)
    containers.settle(status)


def postpone(status: UserTaskStatus, due: datetime | None) -> bool:
    """Enter Pending again, for what takes the place of a running task; its steps begin again."""
    containers.lock_from_the_top(status)
    moved = _survive(status, partial(row(status).move, State.PENDING, due=due))
    if moved:
        _take_back_steps(status)
    _survive(status, partial(refresh, status))
    return moved


def give_up(status: UserTaskStatus, text: str) -> None:
    """Cancel a planned task that can no longer run, and fail the containers in which that became clear.

    One that has no container says itself what has failed in its place.
    """
    if status.parent is None:
        fail(status, text)
        return
    containers.lock_from_the_top(status)

    def move(now: datetime) -> bool:
        with containers.locked_above(status):
            moved = row(status).planned().move(State.CANCELED, finished=now)
            if moved:
                containers.fail(status, text)
        return moved

    if _move_to_rest(status, State.CANCELED, move):
        _stopped(status)


def set_name(status: UserTaskStatus, name: str) -> None:
    """Name a status and its containers."""
    containers.with_ancestors(status).change(name=name)


def _cancel_container(status: UserTaskStatus, terminate: bool) -> bool:
    if not row(status).not_final().exists():
        containers.keep_canceled(containers.rows(status).under([status.pk]))
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

    def move(now: datetime) -> bool:
        # With its containers: whoever looks at one after the other would find it failed, and not explained.
        with containers.locked_above(status):
            moved = failing.move(State.FAILED, finished=now, **values)
            # Celery reports a hard time limit twice.
            if text is not None and (moved or not row(status).filter(artifacts__text=text).exists()):
                containers.add_error(status, text)
            if moved:
                containers.fail(status, text)
        return moved

    moved = _move_to_rest(status, State.FAILED, move)
    if moved:
        _stopped(status)
    return moved


def _survive(status: UserTaskStatus, operation: Callable[[], Result]) -> Result:
    return outages.survive(operation, containers.database(status))


def _move_to_rest(status: UserTaskStatus, state: State, move: Callable[[datetime], bool]) -> bool:
    """Make a move to a final state, once; the time at which the row came to rest tells who has moved it."""
    now = timezone.now()
    is_moved = row(status).filter(state=state, finished=now).exists
    moved = outages.survive_once(partial(move, now), is_moved, containers.database(status), outages.TRIES)
    if moved:
        status.state = state.value
    return moved


def _stopped(status: UserTaskStatus) -> bool:
    notifications.stopped(row(status))
    _survive(status, partial(containers.settle, status))
    return True


def _take_back_steps(status: UserTaskStatus) -> None:
    if status.completed_steps:
        add_steps(status, completed=-status.completed_steps)
