"""All traffic between a status and its containers: numbers and states up, cancellation down."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from django.db import router, transaction
from django.db.models import Q
from django.utils import timezone

from . import logs, notifications, outages, states
from .outages import Result
from .querysets import UserTaskStatusQuerySet

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from .models import UserTaskArtifact, UserTaskStatus

CHAIN = "celery.chain"
GROUP = "celery.group"
CHORD = "celery.chord"

SEQUENCES = (CHAIN, CHORD)
"""The containers whose members follow each other: the links of a chain, and the body of a chord its header."""

BATCH = 500
"""Rows canceled per transaction."""

ERRORS_KEPT = 20
"""Error artifacts that a container keeps; thousands of members may fail alike."""


def database(status: UserTaskStatus) -> str:
    """Return which database a status is written to; it may have been read from a replica of that."""
    return router.db_for_write(type(status), instance=status)


def rows(status: UserTaskStatus) -> UserTaskStatusQuerySet:
    """Return all statuses of the database that this one is written to."""
    return UserTaskStatusQuerySet(status._meta.concrete_model, using=database(status))


def row(status: UserTaskStatus) -> UserTaskStatusQuerySet:
    """Return the query for this status alone."""
    return rows(status).none() if status.is_detached else rows(status).about(status).filter(pk=status.pk)


def ancestors(status: UserTaskStatus) -> Iterator[UserTaskStatus]:
    """Yield the containers of a status, the innermost first."""
    container = status.parent
    while container is not None:
        yield container
        container = container.parent


def above(status: UserTaskStatus) -> UserTaskStatusQuerySet:
    """Return the query for all containers of a status."""
    return rows(status).with_keys([container.pk for container in ancestors(status)])


def with_ancestors(status: UserTaskStatus) -> UserTaskStatusQuerySet:
    """Return the query for a status and all its containers."""
    return rows(status).with_keys([status.pk, *(container.pk for container in ancestors(status))])


def root(status: UserTaskStatus) -> UserTaskStatus:
    """Return the outermost container of a status, or itself."""
    for container in ancestors(status):
        status = container
    return status


def add_steps(status: UserTaskStatus, completed: int, total: int) -> bool:
    """Add steps to a status and its containers; not to these if it is gone. Tell whether it is there."""
    containers = [container.pk for container in ancestors(status)]
    if with_ancestors(status).add_steps(completed, total) > len(containers):
        return True
    is_there = row(status).exists()
    if not is_there:
        rows(status).with_keys(containers).add_steps(-completed, -total)
    return is_there


def join(container: UserTaskStatus, total_steps: int) -> None:
    """Count new members in; a container that had succeeded without them is open again, a canceled one cancels them."""
    joined = [container, *ancestors(container)]
    every = with_ancestors(container)
    if every.exclude(state=states.State.CANCELED).reopen(total_steps) < len(joined):
        # Whoever cancels one of the others from now on sees the new members.
        every.filter(state=states.State.CANCELED).add_steps(total=total_steps)
        if row(container).filter(state=states.State.CANCELED).exists():
            cancel_members(container)
    for known in joined:
        if known.state == states.State.SUCCEEDED:
            logs.entered(known, states.State.IN_PROGRESS)


def move_in(member: UserTaskStatus, container: UserTaskStatus) -> None:
    """Put a member into a container that is new below its old one, with its steps."""
    outer = {known.pk for known in ancestors(member)}
    between = [known.pk for known in (container, *ancestors(container)) if known.pk not in outer]
    with transaction.atomic(using=database(member)):
        rows(member).with_keys(between).add_steps(member.completed_steps, member.total_steps)
        row(member).change(parent=container)


def take_out(member: UserTaskStatus) -> None:
    """Take the steps of a member out of its containers, in the transaction that will delete it."""
    holders = above(member)
    if member.parent_id is None or not holders.lock():
        return
    # It may have taken steps since it was read; it takes none while its containers are locked.
    for completed, total in row(member).values_list("completed_steps", "total_steps"):
        holders.add_steps(-completed, -total)


def settle_without(member: UserTaskStatus) -> None:
    """Bring the containers to rest that waited for nothing but this member, which has been deleted."""
    for container in ancestors(member):
        if not row(container).unfinished().exists() or not settle_container(container):
            return


def lock_from_the_top(status: UserTaskStatus) -> None:
    """Lock a status after its containers, inside a transaction that will write them in another order."""
    has_others = status.parent_id is not None or status.is_container
    if has_others and transaction.get_connection(database(status)).in_atomic_block:
        with_ancestors(status).lock()


def start_waiting(status: UserTaskStatus) -> None:
    """Start the containers that wait for their first member."""
    waiting = [container for container in ancestors(status) if container.state in states.WAITING]
    if waiting and above(status).waiting().start(states.State.IN_PROGRESS):
        for container in waiting:
            logs.entered(container, states.State.IN_PROGRESS)


def enter_custom_state(status: UserTaskStatus, state: str) -> None:
    """Show a member's custom state on its containers, up to the first group, where several would compete."""
    chain = []
    for container in ancestors(status):
        if container.task_class == GROUP:
            break
        chain.append(container.pk)
    if chain:
        rows(status).with_keys(chain).start(state)


@contextmanager
def locked_above(status: UserTaskStatus) -> Iterator[None]:
    """Keep others from writing the containers of a status while a block does, all at once."""
    with transaction.atomic(using=database(status)):
        above(status).lock()
        yield


def fail(member: UserTaskStatus, text: str | None) -> None:
    """Fail the locked containers of a failed member, which may have other members that still run."""
    for container in ancestors(member):
        row(container).start(states.State.FAILED)
        if text is not None:
            add_error(container, text)


def errors(status: UserTaskStatus) -> QuerySet[UserTaskArtifact]:
    """Return the error texts of a status, as they are where it is written."""
    return status.artifacts.db_manager(database(status)).filter(name="Error")


def add_error(status: UserTaskStatus, text: str) -> None:
    """Keep an error text on a failed status; a container keeps the first `ERRORS_KEPT`."""
    if status.is_container and errors(status).count() >= ERRORS_KEPT:
        return
    if row(status).filter(state=states.State.FAILED).exists():
        status.artifacts.create(name="Error", text=text)


def reopen(member: UserTaskStatus, lost_at: datetime, texts: Collection[str]) -> None:
    """Undo what the loss of a member did to its containers, as far as nothing else has failed in them.

    Their error artifacts with these `texts` go, and what was canceled as unreachable waits again, unless something else
    that has been canceled keeps it from being reached.
    """
    is_reachable = True
    for container in ancestors(member):
        others = _members(container).exclude(pk=member.pk)
        if others.filter(state=states.State.FAILED).exists():
            return
        ended = row(container).filter(state__in=states.UNSUCCESSFUL)
        if ended.change(state=states.State.IN_PROGRESS, finished=None):
            logs.entered(container, states.State.IN_PROGRESS)
        errors(container).filter(text__in=texts, created__gte=lost_at).delete()
        if is_reachable and container.task_class in SEQUENCES:
            branches = list(others.filter(is_container=True).values_list("pk", flat=True))
            for found in (others, rows(container).under(branches)):
                unreachable = found.filter(Q(due=None) | Q(lost=True), heartbeat=None, finished__gte=lost_at)
                canceled = unreachable.filter(state=states.State.CANCELED)
                canceled.change(state=states.State.PENDING, started=None, finished=None, lost=False)
        is_reachable = is_reachable and not others.filter(state=states.State.CANCELED).exists()
        member = container


def settle(member: UserTaskStatus) -> None:
    """Bring the containers to rest of which this was the last member, and cancel what it leaves unreachable.

    A container that another process brought to rest is passed by: that process may have looked at the next one before
    the cancelation here reached it.
    """
    if member.state != states.State.SUCCEEDED:
        _insist(partial(cancel_all_unreachable, member), member)
    for container in ancestors(member):
        if not settle_container(container):
            return


def settle_container(container: UserTaskStatus) -> bool:
    """Give a container its final state once none of its members is unfinished; tell whether it is at rest.

    A member's row is written before its container is looked at, so the last of two that end at once sees the other.
    The last look is taken with the container's row locked: inside a transaction the other's write may not be visible
    before that, and a member may be joining.
    """
    in_transaction = transaction.get_connection(database(container)).in_atomic_block
    has_unfinished = partial(_insist, partial(_has_unfinished, container), container)
    if not in_transaction and has_unfinished():
        return False
    now = timezone.now()
    is_moved = row(container).filter(finished=now).exists
    moved = outages.survive_once(partial(_fold, container, now), is_moved, database(container), outages.TRIES)
    if moved:
        notifications.stopped(row(container))
    return moved or not has_unfinished()


def _fold(container: UserTaskStatus, now: datetime) -> bool:
    with transaction.atomic(using=database(container)):
        row(container).lock()
        if _has_unfinished(container):
            return False
        outcome = states.fold(_members(container).order_by().values_list("state", flat=True).distinct())
        return row(container).move(outcome, finished=now) or row(container).finish(now)


def _insist(operation: Callable[[], Result], status: UserTaskStatus) -> Result:
    """Return what may be done twice, and what must be done once a member is at rest, on a site as in a worker."""
    return outages.survive(operation, database(status), outages.TRIES)


def _members(container: UserTaskStatus) -> UserTaskStatusQuerySet:
    return rows(container).filter(parent=container.pk)


def _has_unfinished(container: UserTaskStatus) -> bool:
    return rows(container).has_unfinished_in(container)


def cancel_all_unreachable(member: UserTaskStatus) -> None:
    """Cancel what can no longer run, in all containers of a member that does not succeed: neither will they.

    Whatever is still planned there follows a member that has been published; what is itself only planned yet may
    have others planned before it.
    """
    is_reached = member.due is not None or member.started is not None
    for container in ancestors(member):
        if container.task_class in SEQUENCES:
            planned = _members(container).exclude(pk=member.pk).planned()
            if not is_reached:
                planned = planned.filter(created__gt=member.created)
            for branch in planned.filter(is_container=True):
                if not _is_called_by(branch, member):
                    cancel_members(branch)
                    cancel_container(branch)
            cancel_waiting(planned.leaves())
        member = container


def _is_called_by(branch: UserTaskStatus, member: UserTaskStatus) -> bool:
    """Tell what has been published since a member began, such as for its error, from what was planned to follow it."""
    is_later = member.started is not None and branch.created > member.started
    return is_later and rows(branch).under([branch.pk]).filter(due__isnull=False).exists()


def cancel_members(container: UserTaskStatus, terminate: bool = False) -> None:
    """Cancel everything below a container, the leaves before the containers that hold them."""
    below = rows(container).under([container.pk])
    cancel_waiting(below.leaves())
    running = list(below.leaves().not_final().values_list("task_id", flat=True)) if terminate else []
    _insist(partial(below.leaves().move, states.State.CANCELED), container)
    _insist(partial(keep_canceled, below), container)
    notifications.revoked(below, running, terminate=True)
    for inner in below.filter(is_container=True).not_final().order_by("-pk"):
        cancel_container(inner)


def keep_canceled(statuses: UserTaskStatusQuerySet) -> None:
    """Let no message that arrives put these back any more: somebody has canceled what had been given up."""
    statuses.filter(state=states.State.CANCELED, lost=True).change(lost=False)


def cancel_container(container: UserTaskStatus) -> None:
    """Cancel a container whose members have been canceled; it comes to rest with the last that still runs."""
    canceled = row(container).filter(state=states.State.CANCELED)
    start = partial(row(container).start, states.State.CANCELED)
    if outages.survive_once(start, canceled.exists, database(container), outages.TRIES):
        container.state = states.State.CANCELED.value
    settle_container(container)


def cancel_all(statuses: UserTaskStatusQuerySet) -> None:
    """Cancel statuses as `UserTaskStatus.cancel` does; those that wait, and are in no container, by few queries."""
    statuses = statuses.using(router.db_for_write(statuses.model))
    cancel_waiting(statuses.alone())
    keep_canceled(statuses)
    for status in statuses.not_final():
        status.cancel()


def cancel_waiting(statuses: UserTaskStatusQuerySet) -> None:
    """Cancel those that no worker executes, and tell their queue and the world."""
    every = UserTaskStatusQuerySet(statuses.model, using=statuses.db)
    waiting = statuses.waiting().order_by("pk").values_list("pk", flat=True)
    last = 0
    while keys := list(waiting.filter(pk__gt=last)[:BATCH]):
        last = keys[-1]
        now = timezone.now()
        canceled = every.filter(pk__in=keys, state=states.State.CANCELED, finished=now).order_by("pk")
        # Of those that have been read some may have begun meanwhile.
        move = partial(every.with_keys(keys).waiting().move, states.State.CANCELED, finished=now)
        outages.survive_once(move, canceled.exists, statuses.db, outages.TRIES)
        found: list[UserTaskStatus] = outages.survive(partial(list, canceled), statuses.db, outages.TRIES)
        for status in found:
            logs.entered(status, states.State.CANCELED, at_rest=True)
        notifications.revoked(canceled, [status.task_id for status in found if _may_be_queued(status)])
        notifications.stopped(canceled)


def _may_be_queued(status: UserTaskStatus) -> bool:
    """Tell whether the message of a task may have left, as of all that are in no container; 4.x set no `due`."""
    return status.due is not None or status.parent_id is None
