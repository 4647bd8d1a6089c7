"""Statuses that go: one at a user's request, or all that are past their age."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, IntegrityError, OperationalError, connections, transaction
from django.db.models import ProtectedError, RestrictedError
from django.db.models.deletion import Collector
from django.db.models.signals import post_delete, pre_delete
from django.utils import timezone

from . import containers, lifetimes, outages, stored_files
from .conf import settings
from .models import UserTaskArtifact, UserTaskStatus
from .querysets import many

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from .querysets import UserTaskStatusQuerySet

BATCH = 1000
"""Trees looked at together, and deleted in one transaction unless that takes too many rows."""

ROWS = 2000
"""Members deleted per transaction; on ordinary hardware that takes less than a tenth of a second."""

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
    try:
        outages.insist(partial(_take_out_and_delete, status, status.pk, database), database)
    except IntegrityError as error:
        if isinstance(error, HELD):
            raise
        raise ProtectedError(str(error), set()) from error
    outages.survive(partial(containers.settle_without, status), database, outages.TRIES)


def delete_all(statuses: QuerySet[UserTaskStatus]) -> None:
    """Delete statuses as `delete` does; those in no container by few queries, if no rows of other tables refer to them.

    Raises what `delete` raises, for the first that cannot go; others may be gone by then.
    """
    chosen = list(statuses.order_by("pk").values_list("pk", "parent", "is_container"))
    roots = {pk: is_container for pk, parent, is_container in chosen if parent is None}
    for keys in _in_batches(list(roots)):
        _delete_roots(Trees(keys, _levels([pk for pk in keys if roots[pk]])))
    every = UserTaskStatus.objects.at_home()
    for keys in _in_batches([pk for pk, *_ in chosen]):
        for pk in list(every.filter(pk__in=keys).order_by("pk").values_list("pk", flat=True)):
            # It may be gone with its container by now.
            if (status := every.filter(pk=pk).first()) is not None:
                delete(status)


def _in_batches(keys: list[int]) -> Iterator[list[int]]:
    return (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))


def _take_out_and_delete(status: UserTaskStatus, pk: int, database: str) -> None:
    try:
        with transaction.atomic(using=database):
            containers.take_out(status)
            status.delete(using=database)
    except DatabaseError:
        status.pk = pk
        raise


@dataclass
class Purged(stored_files.Removed):
    """What a purge did: rows deleted, trees kept since other tables hold them, files removed, and their bytes.

    Among the files are those of artifacts whose rows stay, which have `expired`. After a purge inside a transaction
    they are removed, and counted here, with its commit.
    """

    statuses: int = 0
    held: int = 0
    expired: int = 0


def purge(older_than: timedelta) -> int:
    """Delete the statuses created longer ago than this, in batches of whole trees; return how many rows went.

    Other artifacts past ``USER_TASKS_ARTIFACT_MAX_AGE`` lose their files.
    A tree in which a task has shown life within ``USER_TASKS_LOST_AFTER`` stays, and so does what other tables hold.
    """
    return purge_and_count(older_than).statuses


def purge_and_count(older_than: timedelta) -> Purged:
    """Do what `purge` does, and tell more about it."""
    purged = Purged()
    with stored_files.counted(purged):
        for trees in _batches(older_than):
            _delete_trees(trees, purged)
        purged.expired = lifetimes.expire()
    return purged


def count(older_than: timedelta) -> int:
    """Return how many statuses `purge` would delete if nothing held any of them."""
    return sum(len(trees.roots) + trees.below().count() for trees in _batches(older_than))


@dataclass
class Trees:
    """Some roots by their primary keys, and by level the containers in their trees, each with its root."""

    roots: list[int]
    levels: list[dict[int, int]]

    def below(self) -> UserTaskStatusQuerySet:
        """Return all that is below the roots."""
        if not any(self.levels):
            return UserTaskStatus.objects.at_home().none()
        return _members(chain.from_iterable(self.levels))

    def of(self, roots: list[int]) -> Trees:
        """Return only the trees with these roots."""
        chosen = set(roots)
        return Trees(roots, [{pk: root for pk, root in level.items() if root in chosen} for level in self.levels])

    def halves(self) -> tuple[Trees, Trees]:
        """Return the first half of the trees, and the others."""
        middle = len(self.roots) // 2
        return self.of(self.roots[:middle]), self.of(self.roots[middle:])


def _batches(older_than: timedelta) -> Iterator[Trees]:
    """Yield the trees that may go, some at a time."""
    old = UserTaskStatus.objects.at_home().older_than(older_than).roots()
    last = None
    while batch := old.oldest_after(last, BATCH):
        last = batch[-1][:2]
        heartbeats = {pk: heartbeat for _created, pk, _is_container, heartbeat in batch}
        yield _without_the_living(heartbeats, [pk for _created, pk, is_container, _heartbeat in batch if is_container])


def _without_the_living(heartbeats: dict[int, datetime | None], holders: list[int]) -> Trees:
    """Return the trees in which no task has beaten lately, of roots with these heartbeats; some hold others."""
    moment = timezone.now() - settings.USER_TASKS_LOST_AFTER
    alive = {pk for pk, heartbeat in heartbeats.items() if heartbeat is not None and heartbeat >= moment}
    levels = _levels(holders)
    for level in levels:
        parents = _members(level).beaten_since(moment).values_list("parent", flat=True)
        alive |= {level[parent] for parent in parents if parent}
    return Trees([], levels).of([pk for pk in heartbeats if pk not in alive])


def _levels(holders: list[int]) -> list[dict[int, int]]:
    """Return by level these containers, which are roots, and all below them, each with its root."""
    level = {pk: pk for pk in holders}
    levels = []
    while level:
        levels.append(level)
        inner = _members(level).filter(is_container=True)
        level = {pk: level[parent] for pk, parent in inner.values_list("pk", "parent") if parent}
    return levels


def _delete_roots(trees: Trees) -> None:
    """Cancel and delete trees together if queries are enough for that; what could not go is still there then."""
    if not _hang_alone(trees):
        return
    containers.cancel_all(UserTaskStatus.objects.at_home().filter(pk__in=trees.roots))
    try:
        _delete_trees(trees, Purged())
    except OperationalError:
        if connections[outages.home()].in_atomic_block:
            raise


def _members(holders: Iterable[int]) -> UserTaskStatusQuerySet:
    statuses = UserTaskStatus.objects.at_home()
    return statuses.filter(parent__in=many(list(holders), statuses.db)).order_by()


def _delete_trees(trees: Trees, purged: Purged) -> None:
    """Delete trees at once, or one by one where some are held; count the rows that went and the trees that stay."""
    members = list(trees.below().leaves().values_list("pk", flat=True)[: ROWS + 1])
    if len(members) > ROWS and len(trees.roots) > 1:
        for half in trees.halves():
            _delete_trees(half, purged)
        return
    try:
        if not _hang_alone(trees):
            purged.statuses += _delete_heard(trees.roots)
        elif len(members) > ROWS:
            for part in _parts(trees):
                purged.statuses += _delete_at_once([part])
        else:
            purged.statuses += _delete_at_once([members, *map(list, reversed(trees.levels[1:])), trees.roots])
    except IntegrityError:
        for root in trees.roots:
            _delete_unless_held(root, purged)


def _hang_alone(trees: Trees) -> bool:
    """Tell whether nobody listens to the deletion of these trees, and no rows but artifacts refer to them.

    Then no more is needed than queries; Django's `Collector`, which takes care of all else, reads each row first.
    """
    if any(signal.has_listeners(UserTaskStatus) for signal in (pre_delete, post_delete)):
        return False
    if not stored_files.go_unheard(outages.home()):
        return False
    parts = [trees.roots, *([trees.below().values("pk")] if any(trees.levels) else [])]
    return not any(
        field.model._base_manager.using(outages.home()).filter(**{f"{field.name}__in": part}).exists()
        for field in _foreign_keys()
        for part in parts
    )


def _foreign_keys() -> list[Any]:
    """Return the fields of other models than our own that refer to statuses."""
    relations: Any = UserTaskStatus._meta.get_fields(include_hidden=True)
    fields = [relation.field for relation in relations if relation.auto_created and not relation.concrete]
    return [field for field in fields if field.model not in (UserTaskStatus, UserTaskArtifact)]


def _parts(trees: Trees) -> Iterator[list[int]]:
    """Yield the rows of a large tree for one transaction after the other, the members before their containers."""
    members = trees.below().leaves().values_list("pk", flat=True)
    while keys := list(members[:ROWS]):
        yield keys
    for level in reversed(trees.levels):
        keys = list(level)
        yield from (keys[start : start + ROWS] for start in range(0, len(keys), ROWS))


def _delete_at_once(parts: list[list[int]]) -> int:
    statuses = UserTaskStatus.objects.at_home()

    def delete_parts() -> int:
        with transaction.atomic(using=statuses.db):
            return sum(map(statuses.delete_unheard, parts))

    return outages.insist(delete_parts, statuses.db)


def _delete_unless_held(root: int, purged: Purged) -> None:
    try:
        purged.statuses += _delete_heard([root])
    except IntegrityError:
        purged.held += 1


def _delete_heard(roots: list[int]) -> int:
    trees = UserTaskStatus.objects.at_home().filter(pk__in=roots)
    _rows, by_model = outages.insist(trees.delete, trees.db)
    return by_model.get(UserTaskStatus._meta.label, 0)
