"""Statuses that go: one at a user's request, or all that are past their age."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import IntegrityError, OperationalError, connections, transaction
from django.db.models import ProtectedError, RestrictedError
from django.db.models.deletion import Collector
from django.utils import timezone

from . import containers
from .conf import settings
from .models import UserTaskStatus

if TYPE_CHECKING:
    from .querysets import UserTaskStatusQuerySet

BATCH = 200
"""Trees deleted per transaction."""

TRIES = 4
"""How often one status is deleted whose task writes at the same moment, which MariaDB may call a deadlock."""

HELD = (ProtectedError, RestrictedError)
"""Raised where rows of other tables hold a status; where only the database knows which, none of them is named."""


def delete(status: UserTaskStatus) -> None:
    """Delete a status with its artifacts and members; what is unfinished is canceled first.

    Raises one of `HELD` where other tables' rows refer to it and forbid that: before anything else happens, unless only
    the database knows of them.
    """
    database = containers.database(status)
    Collector(using=database).collect([status])
    status.cancel()
    pk = status.pk
    for tries_left in reversed(range(TRIES)):
        try:
            with transaction.atomic(using=database):
                containers.take_out(status)
                status.delete(using=database)
            break
        except IntegrityError as error:
            status.pk = pk
            raise error if isinstance(error, HELD) else ProtectedError(str(error), set()) from error
        except OperationalError:
            status.pk = pk
            if not tries_left or connections[database].in_atomic_block:
                raise
    containers.settle_without(status)


def purge(older_than: timedelta) -> int:
    """Delete the statuses created longer ago than this, in batches of whole trees; return how many rows went.

    A tree in which a task has shown life within ``USER_TASKS_LOST_AFTER`` stays, and so does what other tables hold.
    """
    return purge_and_count(older_than)[0]


def purge_and_count(older_than: timedelta) -> tuple[int, int]:
    """Do what `purge` does, and return also how many trees stay since rows of other tables hold them."""
    purged = held = 0
    for roots in _batches(older_than):
        deleted, kept = _delete_trees(roots)
        purged += deleted
        held += kept
    return purged, held


def count(older_than: timedelta) -> int:
    """Return how many statuses `purge` would delete if nothing held any of them."""
    return sum(len(roots) + UserTaskStatus.objects.under(roots).count() for roots in _batches(older_than))


def _batches(older_than: timedelta) -> Iterator[list[int]]:
    """Yield the roots of the trees that may go, some at a time."""
    old = UserTaskStatus.objects.older_than(older_than).filter(parent=None).order_by("pk")
    last = 0
    while batch := list(old.filter(pk__gt=last).values_list("pk", flat=True)[:BATCH]):
        last = batch[-1]
        yield sorted(set(batch) - _alive(batch))


def _alive(roots: list[int]) -> set[int]:
    """Return the roots of those trees in which a task has beaten lately."""
    beating = UserTaskStatus.objects.beaten_since(timezone.now() - settings.USER_TASKS_LOST_AFTER)
    alive = set(beating.filter(pk__in=roots).values_list("pk", flat=True))
    level = {root: root for root in roots}
    while level:
        members = UserTaskStatus.objects.filter(parent__in=level)
        alive |= {
            level[parent] for parent in beating.filter(parent__in=level).values_list("parent", flat=True) if parent
        }
        inner = members.filter(is_container=True).values_list("pk", "parent")
        level = {pk: level[parent] for pk, parent in inner if parent}
    return alive


def _delete_trees(roots: list[int]) -> tuple[int, int]:
    """Delete trees at once, or one by one where some are held; return the rows that went and the trees that stay."""
    trees: UserTaskStatusQuerySet = UserTaskStatus.objects.filter(pk__in=roots)
    try:
        return _statuses_deleted(trees), 0
    except IntegrityError:
        deleted = [_delete_unless_held(pk) for pk in roots]
        return sum(filter(None, deleted)), deleted.count(None)


def _delete_unless_held(root: int) -> int | None:
    try:
        return _statuses_deleted(UserTaskStatus.objects.filter(pk=root))
    except IntegrityError:
        return None


def _statuses_deleted(trees: UserTaskStatusQuerySet) -> int:
    return trees.delete()[1].get(UserTaskStatus._meta.label, 0)
