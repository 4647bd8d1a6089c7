"""Every query about statuses, and every conditional UPDATE."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections, models
from django.db.models import Case, Count, Exists, F, Max, Min, OuterRef, Q, Subquery, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Left, Length
from django.utils import timezone

from . import states
from .states import State

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

    from .models import UserTaskArtifact, UserTaskStatus  # noqa: F401 - one is named in a string

WITH_CONTAINERS = "parent__parent__parent"
"""What is read along with a status, so that its containers need no queries of their own."""

UNFINISHED = Q(finished__isnull=True) & (Q(started__isnull=False) | ~Q(state__in=states.FINAL))
"""Not at rest: it may run yet, or runs still although it has been canceled."""


def visible(user: AbstractBaseUser | AnonymousUser, owner: str) -> Q:
    """Return the condition for what the user whom the field `owner` names triggered; a superuser sees all."""
    if not user.is_authenticated:
        return Q(pk__in=())
    return Q() if getattr(user, "is_superuser", False) else Q(**{owner: user.pk})


class UserTaskStatusQuerySet(models.QuerySet["UserTaskStatus"]):
    """Statuses of tasks and of their containers."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> UserTaskStatusQuerySet:
        """Return what the user triggered; a superuser sees all, an anonymous user nothing."""
        return self.filter(visible(user, "user"))

    def of_task(self, task_id: str) -> UserTaskStatus | None:
        """Return the status of a queue's task, its containers read with it, or None."""
        return self.select_related(WITH_CONTAINERS).filter(task_id=task_id).first()

    def unfinished(self) -> UserTaskStatusQuerySet:
        """Return what is not at rest."""
        return self.filter(UNFINISHED)

    def planned(self) -> UserTaskStatusQuerySet:
        """Return tasks whose message has not left yet, since they follow others."""
        return self.filter(state=State.PENDING, due=None)

    def waiting(self) -> UserTaskStatusQuerySet:
        """Return what no worker executes, but may yet."""
        return self.filter(state__in=states.WAITING)

    def not_final(self) -> UserTaskStatusQuerySet:
        """Return what may still change its state."""
        return self.exclude(state__in=states.FINAL)

    def leaves(self) -> UserTaskStatusQuerySet:
        """Return tasks, without the containers that hold them."""
        return self.filter(is_container=False)

    def roots(self) -> UserTaskStatusQuerySet:
        """Return what is no part of another task."""
        return self.filter(parent=None)

    def named(self, text: str) -> UserTaskStatusQuerySet:
        """Return what has this text in its name, in upper or lower case."""
        return self.filter(name__icontains=text)

    def in_state(self, state: str) -> UserTaskStatusQuerySet:
        """Return what is in one of the known states; In Progress stands for every custom state too."""
        if state == State.IN_PROGRESS:
            return self.exclude(state__in=(*states.FINAL, *states.WAITING))
        return self.filter(state=state)

    def changed_since(self, moment: datetime) -> UserTaskStatusQuerySet:
        """Return what may still change, and what has changed since `moment`."""
        return self.filter(~Q(state__in=states.FINAL) | Q(modified__gte=moment))

    def running_first(self) -> UserTaskStatusQuerySet:
        """Order by what may still change and what does not, each with the newest first."""
        final = Case(When(state__in=states.FINAL, then=1), default=0)
        return self.order_by(final, "-created", "-pk")

    def with_artifact_version(self) -> UserTaskStatusQuerySet:
        """Read with each status how many artifacts it has, and when the last of them changed."""
        artifacts = self.model._meta.get_field("artifacts").related_model
        its = artifacts._base_manager.filter(status=OuterRef("pk")).order_by().values("status")
        return self.annotate(
            artifact_count=Coalesce(Subquery(its.annotate(count=Count("pk")).values("count")), 0),
            artifact_modified=Subquery(its.annotate(newest=Max("modified")).values("newest")),
        )

    def with_keys(self, keys: list[int]) -> UserTaskStatusQuerySet:
        """Return the rows with these primary keys; an UPDATE locks them in that order, so that none waits in a circle.

        InnoDB does so by itself, and SQLite locks the whole database.
        """
        database = connections[self.db]
        if database.vendor != "postgresql" or len(keys) < 2:
            return self.filter(pk__in=keys)
        table = database.ops.quote_name(self.model._meta.db_table)
        in_order = f"SELECT id FROM {table} WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"  # noqa: S608 - quoted by Django
        return self.filter(pk__in=RawSQL(in_order, [keys]))  # noqa: S611 - all values are parameters

    def silent_since(self, moment: datetime) -> UserTaskStatusQuerySet:
        """Return tasks that a worker executed, and that have shown no life since `moment`."""
        return self.unfinished().leaves().filter(heartbeat__lt=moment).exclude(state__in=states.WAITING)

    def stranded_since(self, moment: datetime) -> UserTaskStatusQuerySet:
        """Return containers that wait for nothing that runs, or whose message has left, unchanged since `moment`."""
        awaited = self.model._base_manager.filter(UNFINISHED, parent=OuterRef("pk"))
        awaited = awaited.exclude(state=State.PENDING, due=None, is_container=False)
        return self.unfinished().filter(~Exists(awaited), is_container=True, modified__lt=moment)

    def ended_in(self, container: UserTaskStatus) -> UserTaskStatusQuerySet:
        """Return one member of a container that has ended, one in each final state."""
        members = self.filter(parent=container, finished__isnull=False, state__in=states.FINAL).order_by()
        return self.filter(pk__in=members.values("state").annotate(first=Min("pk")).values("first"))

    def overdue_since(self, moment: datetime) -> UserTaskStatusQuerySet:
        """Return tasks whose message has left, and that should have been executed before `moment`."""
        return self.waiting().leaves().filter(due__lt=moment)

    def unreached_since(self, moment: datetime) -> UserTaskStatusQuerySet:
        """Return planned tasks with nothing of ours before them that has not ended, and no news since `moment`."""
        return self.planned().leaves().filter(parent__in=self.stranded_since(moment)).order_by("created", "pk")

    def older_than(self, age: timedelta) -> UserTaskStatusQuerySet:
        """Return what was created longer than `age` ago."""
        return self.filter(created__lt=timezone.now() - age)

    def beaten_since(self, moment: datetime) -> UserTaskStatusQuerySet:
        """Return tasks that have shown life since `moment`."""
        return self.filter(heartbeat__gte=moment)

    def under(self, containers: Iterable[int]) -> UserTaskStatusQuerySet:
        """Return everything below the containers with these primary keys, at any depth: one query per level."""
        found: list[int] = []
        level = list(containers)
        while level:
            found += level
            level = list(self.filter(parent__in=level, is_container=True).values_list("pk", flat=True))
        return self.filter(parent__in=found)

    def move(self, state: str, **values: Any) -> bool:
        """Give the state, and other values, to what may still change it; tell whether any row moved."""
        return bool(self.not_final().change(state=state, **values))

    def start(self, state: str, **values: Any) -> bool:
        """Move into an in-progress state; the time of the first entry is kept as the start."""
        return self.move(state, started=Coalesce(F("started"), timezone.now()), **values)

    def finish(self) -> bool:
        """Set the time at which a row in a final state came to rest; tell whether it was not at rest before."""
        return bool(self.filter(finished__isnull=True, state__in=states.FINAL).change(finished=timezone.now()))

    def add_steps(self, completed: int = 0, total: int = 0) -> int:
        """Add to the counters, in the database; return how many rows there were."""
        added = {"completed_steps": completed, "total_steps": total}
        return self.change(**{field: F(field) + steps for field, steps in added.items() if steps})

    def reopen(self, total_steps: int) -> int:
        """Add steps that are still to be done; what had succeeded is in progress again."""
        succeeded = Q(state=State.SUCCEEDED)
        return self.change(
            total_steps=F("total_steps") + total_steps,
            finished=Case(When(succeeded, then=None), default=F("finished")),
            state=Case(When(succeeded, then=Value(State.IN_PROGRESS.value)), default=F("state")),
        )

    def lock(self) -> int:
        """Keep others from writing these rows until the transaction ends; return how many there are.

        By a write that changes nothing: SQLite lets nobody wait who has only read before.
        """
        return self.update(modified=F("modified"))

    def change(self, **values: Any) -> int:
        """Update as Django does, and `modified` with it."""
        return self.update(modified=timezone.now(), **values)


class UserTaskArtifactQuerySet(models.QuerySet["UserTaskArtifact"]):
    """Outputs of tasks."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> UserTaskArtifactQuerySet:
        """Return the artifacts of what the user triggered; a superuser sees all, an anonymous user nothing."""
        return self.filter(visible(user, "status__user"))

    def of(self, status: UserTaskStatus, members: int) -> UserTaskArtifactQuerySet:
        """Return what a status has; for a container also the outputs, not the errors, of its first members."""
        own = Q(status=status)
        if not status.is_container:
            return self.filter(own)
        statuses = UserTaskStatusQuerySet(status._meta.concrete_model).filter(parent=status).order_by("pk")
        first = list(statuses.values_list("pk", flat=True)[:members])
        return self.filter(own | (Q(status__in=first) & ~Q(name="Error")))

    def errors_first(self) -> UserTaskArtifactQuerySet:
        """Order as they were made, but error texts before all others."""
        return self.order_by(Case(When(name="Error", then=0), default=1), "pk")

    def with_text_start(self, length: int) -> UserTaskArtifactQuerySet:
        """Read of the texts no more than `length` characters, as `text_start`, and their whole length."""
        return self.defer("text").annotate(text_start=Left("text", length), text_length=Length("text"))
