"""Every query about statuses, and every conditional UPDATE."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections, models, transaction
from django.db.models import (
    Avg,
    Case,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    Max,
    Min,
    OuterRef,
    Q,
    Subquery,
    Value,
    When,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Greatest, JSONObject, Left, Length
from django.db.models.signals import post_save, pre_save
from django.utils import timezone

from . import logs, outages, states, stored_files
from .file_names import FOLDER
from .states import State

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

    from .models import UserTaskArtifact, UserTaskStatus  # noqa: F401 - one is named in a string

WITH_CONTAINERS = "parent__parent__parent"
"""What is read along with a status, so that its containers need no queries of their own."""

UNFINISHED = Q(finished__isnull=True) & (Q(started__isnull=False) | ~Q(state__in=states.FINAL))
"""Not at rest: it may run yet, or runs still although it has been canceled."""

LIVE = UNFINISHED & ~Q(state__in=(State.SUCCEEDED.value, State.FAILED.value))
"""What is shown to be going on."""


def visible(user: AbstractBaseUser | AnonymousUser, owner: str) -> Q:
    """Return the condition for what the user whom the field `owner` names triggered; a superuser sees all."""
    if not user.is_authenticated:
        return Q(pk__in=())
    return Q() if getattr(user, "is_superuser", False) else Q(**{owner: user.pk})


def many(keys: list[int], using: str) -> Any:
    """Return what a condition on many keys compares with: one parameter where the database can unpack that.

    SQLite takes no more than 32,766 parameters.
    """
    vendor = connections[using].vendor
    if vendor == "sqlite":
        return RawSQL("SELECT value FROM json_each(%s)", [json.dumps(keys)])
    return RawSQL("SELECT unnest(%s::bigint[])", [keys]) if vendor == "postgresql" else keys


@cache
def artifact_version(statuses: type[UserTaskStatus]) -> Subquery:
    """Return what says of a status which artifacts it has, made once: that takes longer than the query."""
    artifacts: Any = statuses._meta.get_field("artifacts").related_model
    its = artifacts._base_manager.filter(status=OuterRef("pk")).order_by().values("status")
    return Subquery(its.values(version=JSONObject(count=Count("pk"), newest=Max("modified"))))


class UserTaskStatusQuerySet(models.QuerySet["UserTaskStatus"]):
    """Statuses of tasks and of their containers."""

    subject: UserTaskStatus | None = None
    """The status that this is the query for, where it is for a single one: its moves are logged."""

    def about(self, status: UserTaskStatus) -> UserTaskStatusQuerySet:
        """Return the same query, known to be for this status alone."""
        query = self.all()
        query.subject = status
        return query

    def _clone(self) -> UserTaskStatusQuerySet:
        clone: UserTaskStatusQuerySet = super()._clone()  # type: ignore[misc]  # not in the stubs
        clone.subject = self.subject
        return clone

    def at_home(self) -> UserTaskStatusQuerySet:
        """Return the same, asked where statuses are written: a replica may know it later."""
        return self.using(outages.home())

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

    def alone(self) -> UserTaskStatusQuerySet:
        """Return tasks that are no part of others."""
        return self.roots().leaves()

    def untouched(self) -> UserTaskStatusQuerySet:
        """Return what no worker has begun to execute."""
        return self.filter(state=State.PENDING, started=None)

    def counting_like(self, status: UserTaskStatus) -> UserTaskStatusQuerySet:
        """Return what has the steps of this status, in the same container."""
        steps = {"completed_steps": status.completed_steps, "total_steps": status.total_steps}
        return self.filter(parent=status.parent_id, **steps)

    def named(self, text: str) -> UserTaskStatusQuerySet:
        """Return what has this text in its name, in upper or lower case."""
        return self.filter(name__icontains=text)

    def in_state(self, state: str) -> UserTaskStatusQuerySet:
        """Return what is in one of the known states; In Progress stands for every custom state too."""
        if state == State.IN_PROGRESS:
            return self.unfinished().exclude(state__in=(*states.FINAL, *states.WAITING))
        return self.filter(state=state)

    def has_unfinished_in(self, container: UserTaskStatus) -> bool:
        """Tell whether a member of a container is not at rest, without a look at the others.

        Databases like to visit all members instead, by the index of their container or by none, when most of them still
        run or statistics are old. So they are asked for the first container from this one on that has such members, by
        what the index of these has alone, and in an order that only it has.
        """
        # With the column first in the order PostgreSQL takes that index alone, and MariaDB sorts.
        order = ("finished", "parent") if connections[self.db].vendor == "postgresql" else ("parent",)
        running = self.filter(finished=None, parent__gte=container.pk).order_by(*order).values("pk")[:1]
        for parent, started, state in self.filter(pk=Subquery(running)).values_list("parent", "started", "state"):
            if parent == container.pk:
                is_running = started is not None or not states.is_final(state)
                return is_running or self.unfinished().filter(parent=container.pk).exists()
        return False

    def finished(self) -> UserTaskStatusQuerySet:
        """Return what is at rest."""
        return self.exclude(UNFINISHED)

    def live(self) -> UserTaskStatusQuerySet:
        """Return what may still change its state, or is about to stop; not a failed container whose members go on."""
        return self.filter(LIVE)

    def not_live(self) -> UserTaskStatusQuerySet:
        """Return the others."""
        return self.exclude(LIVE)

    def finished_since(self, moment: datetime) -> UserTaskStatusQuerySet:
        """Return what has come to rest since `moment`, or has not."""
        return self.filter(Q(finished__gte=moment) | Q(finished=None))

    def newest_first(self) -> UserTaskStatusQuerySet:
        """Order by when they were made."""
        return self.order_by("-created", "-pk")

    def with_artifact_version(self) -> UserTaskStatusQuerySet:
        """Read with each status how many artifacts it has, and when the last of them changed, or None."""
        return self.annotate(artifact_version=artifact_version(self.model))

    def with_keys(self, keys: list[int]) -> UserTaskStatusQuerySet:
        """Return the rows with these primary keys; an UPDATE locks them in that order, so that none waits in a circle.

        InnoDB does so by itself, and SQLite locks the whole database.
        """
        database = connections[self.db]
        if database.vendor != "postgresql" or len(keys) < 2:
            return self.filter(pk__in=keys)
        # Django makes the same of select_for_update(no_key=True), but wants a transaction, which a step does without.
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

    def unsuccessful_in(self, container: UserTaskStatus | OuterRef) -> UserTaskStatusQuerySet:
        """Return the members of a container that have begun, and come to rest without success."""
        begun = self.filter(parent=container, started__isnull=False)
        return begun.filter(state__in=states.UNSUCCESSFUL, finished__isnull=False)

    def half_ended(self, kinds: Sequence[str]) -> UserTaskStatusQuerySet:
        """Return containers of these kinds that are not at rest, although a member is, and has not succeeded."""
        members = UserTaskStatusQuerySet(self.model).unsuccessful_in(OuterRef("pk"))
        return self.unfinished().filter(Exists(members), is_container=True, task_class__in=kinds)

    def waiting_behind(self, member: UserTaskStatus, moment: datetime) -> UserTaskStatusQuerySet:
        """Return tasks that follow a member of a chain or a chord: published since it began, not begun by `moment`."""
        follows = Q(parent=member.parent_id, created__gt=member.created)
        branches = list(self.filter(follows, is_container=True).values_list("pk", flat=True))
        below = Q(parent__in=self.containers_in(branches))
        return self.filter(follows | below).leaves().untouched().filter(due__gt=member.started, due__lt=moment)

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

    def summary(self) -> Iterable[Mapping[str, Any]]:
        """Return, for each task class and state, how many there are, and how long they ran on average and at most."""
        moment, duration = models.DateTimeField(), models.DurationField()
        due = Greatest("created", Coalesce("due", "created", output_field=moment), output_field=moment)
        ran = ExpressionWrapper(F("finished") - F("started"), output_field=duration)
        waited = ExpressionWrapper(F("started") - due, output_field=duration)
        return (
            self.values("task_class", "state")
            .order_by("task_class", "state")
            .annotate(count=Count("pk"), run_average=Avg(ran), run_longest=Max(ran), wait_average=Avg(waited))
        )

    def older_than(self, age: timedelta) -> UserTaskStatusQuerySet:
        """Return what was created longer than `age` ago."""
        return self.filter(created__lt=timezone.now() - age)

    def oldest_after(
        self, last: tuple[datetime, int] | None, count: int
    ) -> list[tuple[datetime, int, bool, datetime | None]]:
        """Return of the oldest, after the `last` one seen: created, primary key, is_container, heartbeat.

        The index of the newest serves this, read backward.
        """
        left = self
        if last is not None:
            left = left.filter(created__gte=last[0]).exclude(created=last[0], pk__lte=last[1])
        ordered = left.order_by("created", "pk")
        return list(ordered.values_list("created", "pk", "is_container", "heartbeat")[:count])

    def beaten_since(self, moment: datetime) -> UserTaskStatusQuerySet:
        """Return tasks that have shown life since `moment`."""
        return self.filter(heartbeat__gte=moment)

    def under(self, containers: Iterable[int]) -> UserTaskStatusQuerySet:
        """Return everything below the containers with these primary keys, at any depth: one query per level."""
        return self.filter(parent__in=self.containers_in(containers))

    def containers_in(self, containers: Iterable[int]) -> list[int]:
        """Return the primary keys of these containers, and of all containers below them."""
        found: list[int] = []
        level = list(containers)
        while level:
            found += level
            level = list(self.filter(parent__in=level, is_container=True).values_list("pk", flat=True))
        return found

    def move(self, state: str, **values: Any) -> bool:
        """Give the state, and other values, to what may still change it; tell whether any row moved."""
        moved = bool(self.not_final().change(state=state, **values))
        if moved and self.subject is not None:
            logs.entered(self.subject, state, at_rest="finished" in values)
        return moved

    def start(self, state: str, **values: Any) -> bool:
        """Move into an in-progress state; the time of the first entry is kept as the start."""
        return self.move(state, started=Coalesce(F("started"), timezone.now()), **values)

    def succeed(self, now: datetime) -> bool:
        """Complete the missing steps of tasks without containers, and move them into Succeeded."""
        done = Greatest("completed_steps", "total_steps")
        return self.move(State.SUCCEEDED, completed_steps=done, finished=now)

    def finish(self, now: datetime) -> bool:
        """Set the time at which a row in a final state came to rest; tell whether it was not at rest before."""
        moved = bool(self.filter(finished__isnull=True, state__in=states.FINAL).change(finished=now))
        if moved and self.subject is not None:
            logs.entered(self.subject, self._state_to_log(self.subject), at_rest=True)
        return moved

    def _state_to_log(self, subject: UserTaskStatus) -> str:
        """Return the state of the row, which may have changed since the status was read; as that, if nobody asks."""
        state = self.values_list("state", flat=True).first() if logs.are_wanted() else None
        return state or subject.state

    def add_steps(self, completed: int = 0, total: int = 0) -> int:
        """Add to the counters, in the database; return how many rows there were."""
        added = {"completed_steps": completed, "total_steps": total}
        return self.change(**{field: F(field) + steps for field, steps in added.items() if steps})

    @property
    def reads_what_it_writes(self) -> bool:
        """Whether Django can read a row in the statement that writes it, which it does from 6.0 on.

        Not in a transaction: where there is no such row, Django would want that rolled back. Nor where somebody
        listens to what is saved, who would be sent the little that is written.
        """
        database = connections[self.db]
        heard = pre_save.has_listeners(self.model) or post_save.has_listeners(self.model)
        can_read = getattr(database.features, "can_return_rows_from_update", False)
        return can_read and not heard and not database.in_atomic_block

    def add_steps_to(self, status: UserTaskStatus, fields: Sequence[str], completed: int, total: int) -> bool:
        """Add to the counters of one row, and read these fields of it; tell whether it is there.

        One statement, where this `reads_what_it_writes`.
        """
        row = self.model(pk=status.pk, **{field: F(field) for field in fields})
        row.completed_steps = F("completed_steps") + completed
        row.total_steps = F("total_steps") + total
        row._state.adding = False
        try:
            # Not the status's own, which looks at its values.
            models.Model.save(row, using=self.db, update_fields=fields)
        except self.model.NotUpdated:
            return False
        vars(status).update({field: getattr(row, field) for field in fields})
        return True

    def reopen(self, total_steps: int) -> int:
        """Add steps that are still to be done; what had succeeded is in progress again."""
        succeeded = Q(state=State.SUCCEEDED)
        return self.change(
            total_steps=F("total_steps") + total_steps,
            finished=Case(When(succeeded, then=None), default=F("finished")),
            state=Case(When(succeeded, then=Value(State.IN_PROGRESS.value)), default=F("state")),
        )

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete as Django does; the files of the artifacts go after the commit."""
        self._for_write = True
        if stored_files.go_unheard(self.db):
            return super().delete()
        with transaction.atomic(using=self.db, savepoint=False):
            stored_files.release(self.artifacts_below(list(self.order_by().values_list("pk", flat=True))))
            return super().delete()

    delete.queryset_only = True  # type: ignore[attr-defined]  # functions take attributes; Django reads this one

    def delete_unheard(self, keys: list[int]) -> int:
        """Delete rows by queries alone, with their artifacts; nothing else may hang on them. Return how many went."""
        if not keys:
            return 0
        chosen = many(keys, self.db)
        artifacts: Any = self.model._meta.get_field("artifacts").related_model
        artifacts._base_manager.using(self.db).filter(status__in=chosen)._raw_delete(self.db)
        return UserTaskStatusQuerySet(self.model, using=self.db).filter(pk__in=chosen)._raw_delete(self.db)

    def artifacts_below(self, keys: list[int]) -> UserTaskArtifactQuerySet:
        """Return the artifacts of the statuses with these primary keys, and of all below them."""
        every = UserTaskStatusQuerySet(self.model, using=self.db)
        found, level = list(keys), list(keys)
        while level:
            members = every.filter(parent__in=many(level, self.db)).order_by().values_list("pk", "is_container")
            level = []
            for pk, is_container in members:
                found.append(pk)
                if is_container:
                    level.append(pk)
        artifacts: Any = self.model._meta.get_field("artifacts").related_model
        its: UserTaskArtifactQuerySet = artifacts._base_manager.using(self.db).filter(status__in=many(found, self.db))
        return its

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

    def with_containers(self) -> UserTaskArtifactQuerySet:
        """Read the status along, and what it is in."""
        return self.select_related(f"status__{WITH_CONTAINERS}")

    def stored_before(self, moment: datetime) -> UserTaskArtifactQuerySet:
        """Return what has a file that was stored before this."""
        # No file is older than its row, of whose time there is an index.
        return self.with_files().filter(created__lt=moment).filter(Q(stored=None) | Q(stored__lt=moment))

    def with_files(self) -> UserTaskArtifactQuerySet:
        """Return what has a stored file."""
        return self.filter(file__gt="")

    def oldest_after(self, last: tuple[datetime, int] | None, count: int) -> list[tuple[datetime, int]]:
        """Return of the oldest, after the `last` one seen: created and primary key; by the index of the newest."""
        left = self
        if last is not None:
            left = left.filter(created__gte=last[0]).exclude(created=last[0], pk__lte=last[1])
        return list(left.order_by("created", "pk").values_list("created", "pk")[:count])

    def sizes_by_file(self) -> dict[str, int | None]:
        """Return the names of the files stored for them, each with its size in bytes, or None where that is not known.

        A file that has only been named, somewhere else in the storage, is not this package's to remove.
        """
        own = Q(file__startswith=FOLDER) | ~Q(file_name="")
        return {str(name): size for name, size in self.with_files().filter(own).order_by().values_list("file", "size")}

    def names_among(self, names: list[str]) -> set[str]:
        """Return those of the names of stored files that these artifacts have."""
        # As values, of each of which PostgreSQL knows that it is rare; of those in an array it reads the whole index.
        return set(map(str, self.filter(file__in=names).order_by().values_list("file", flat=True)))

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete as Django does; the files go after the commit."""
        self._for_write = True
        if stored_files.go_unheard(self.db):
            return super().delete()
        with transaction.atomic(using=self.db, savepoint=False):
            stored_files.release(self)
            return super().delete()

    delete.queryset_only = True  # type: ignore[attr-defined]  # functions take attributes; Django reads this one

    def update(self, **values: Any) -> int:
        """Update as Django does; files that other ones replace go after the commit."""
        if "file" not in values:
            return super().update(**values)
        self._for_write = True
        with transaction.atomic(using=self.db, savepoint=False):
            stored_files.release(self)
            return super().update(**values)

    def _raw_delete(self, using: str | None) -> int:
        """Delete by one query, as Django does where nobody listens to each deletion; the files go after the commit.

        Django's `Collector` calls this for all artifacts of the statuses that it deletes, whoever asked for that.
        """
        with transaction.atomic(using=using, savepoint=False):
            stored_files.release(self.using(using))
            return super()._raw_delete(using)

    def errors_first(self) -> UserTaskArtifactQuerySet:
        """Order as they were made, but error texts before all others."""
        return self.order_by(Case(When(name="Error", then=0), default=1), "pk")

    def with_text_start(self, length: int) -> UserTaskArtifactQuerySet:
        """Read of the texts no more than `length` characters, as `text_start`, and their whole length."""
        return self.defer("text").annotate(text_start=Left("text", length), text_length=Length("text"))
