"""The inbound port: what a queue reports about its tasks, by their ids there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, OperationalError, connections, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from . import containers, logs, notifications, outages, texts, transitions
from .models import NAME_LENGTH, TASK_CLASS_LENGTH, UserTaskStatus
from .querysets import UserTaskStatusQuerySet
from .states import State


@dataclass(frozen=True)
class Description:
    """What a project says about a task before it runs: the name that users read, and the number of its steps."""

    name: str = ""
    total_steps: int = 0


@dataclass(frozen=True)
class Node:
    """One row to be: a task, or a container of tasks."""

    task_id: str
    task_class: str
    user_id: Any
    parent: str | None = None
    is_container: bool = False
    due: datetime | None = None
    """When it may run at the earliest, of a task whose message leaves now; None of what follows later."""
    describe: Callable[[], Description] = field(default=Description, repr=False, compare=False)


Plan = Sequence[Node]
"""A tree, each container before its members."""


UNSENT = _("The task could not be handed over to a worker.")


def enqueued(plan: Plan, home: UserTaskStatus | None = None) -> None:
    """Record the tasks of a plan that have no row yet, the containers that they need, and what leaves now.

    What has no container in the plan goes into `home`. Raises `TypeError` if a task's user does not exist; then
    nothing is recorded.
    """
    nodes = list({node.task_id: node for node in plan}.values())
    known = _known(nodes) if len(nodes) > 1 else {}
    nodes = _without_groups_of_parts(nodes, known)
    _published(nodes, known)
    missing = _missing(nodes, known)
    if not missing:
        return
    check_users({node.user_id for node in missing} - {status.user_id for status in known.values()})
    for tries_left in reversed(range(outages.TRIES)):
        try:
            _insert(missing, known, home)
        except (IntegrityError, OperationalError) as error:
            # Somebody else records them at the same moment; MariaDB may call that a deadlock.
            if not tries_left or (isinstance(error, OperationalError) and connections[outages.home()].in_atomic_block):
                raise
            known = _known(nodes)
            missing = _missing(nodes, known)
        else:
            return
        if not missing:
            return


def published(task_ids: Iterable[str], due: datetime) -> bool:
    """Record that the messages of tasks planned earlier leave now; tell whether there is any such task."""
    return bool(UserTaskStatus.objects.filter(task_id__in=list(task_ids)).change(due=due))


def replaced(task_id: str, plan: Plan) -> None:
    """Record that a running task hands its place to a plan in which its id comes last, or is the only one.

    Its row waits again, and is put into the container of the plan that it belongs to, if that is new.
    """
    status = status_of(task_id)
    if status is None:
        return
    own = {node.task_id: node for node in plan}[task_id]
    transitions.postpone(status, own.due)
    if status.parent is not None and status.parent.task_class == plan[0].task_class == containers.CHAIN:
        plan = _without_outermost(plan)
    enqueued([node for node in plan if node.task_id != task_id], home=status.parent)
    container = status_of(own.parent) if own.parent is not None else None
    if container is not None and container.pk != status.parent_id:
        containers.move_in(status, container)


def joined(task_id: str, plan: Plan) -> None:
    """Record tasks that follow the end of another one, beside which they belong."""
    status = status_of(task_id)
    root = containers.root(status) if status is not None else None
    enqueued(plan, home=root if root is not None and root.is_container else None)


def unsent(task_ids: Iterable[str]) -> None:
    """Record that the messages of tasks could not be sent; should one arrive all the same, its task is put back."""
    for status in _stored().filter(task_id__in=list(task_ids)).waiting().leaves():
        transitions.lose(status, str(UNSENT))


def requeued(task_id: str) -> None:
    """Record that a worker has given a task back, for another one to execute."""
    status = _reported(task_id)
    if status is not None:
        transitions.postpone(status, timezone.now())


def broken(task_ids: Iterable[str], message: Any) -> None:
    """Record that planned tasks can never run, since something before them that has no row of its own has failed."""
    planned = _stored().filter(task_id__in=list(task_ids)).leaves().planned()
    for status in planned.order_by("created", "pk"):
        transitions.give_up(status, texts.error_text(message))


def started(task_id: str, total_steps: Callable[[], int | None] | None = None) -> UserTaskStatus | None:
    """Record that a worker begins to execute a task; return its status, in whatever state that is, or None.

    `total_steps` tells how many steps there are, if an earlier execution has to be taken back; without it they stay.
    """
    status = _reported(task_id)
    if status is not None:
        transitions.execute(status, total_steps or (lambda: None))
    return status


def started_alone(task_id: str) -> bool:
    """Record, if that is so, that a worker begins to execute a task for the first time that has no container.

    Its row is not read. Tells whether it was so; nothing is recorded else, or where what the row says is logged.
    """
    if logs.are_wanted():
        return False
    now = timezone.now()
    its = _stored().filter(task_id=task_id)
    first = its.alone().untouched()
    return outages.survive_once(
        lambda: bool(first.change(state=State.IN_PROGRESS, started=now, heartbeat=now)),
        its.filter(state=State.IN_PROGRESS, started=now).exists,
    )


def succeeded_alone(task_id: str) -> bool:
    """Record, if that is so, that a task has returned that has no container; tell whether it was so.

    Its row is not read, unless somebody listens. Nothing is recorded so where what the row says is logged.
    """
    if logs.are_wanted():
        return False
    now = timezone.now()
    its = _stored().filter(task_id=task_id)
    moved = outages.survive_once(
        lambda: its.alone().succeed(now), its.filter(state=State.SUCCEEDED, finished=now).exists
    )
    if moved:
        notifications.stopped(its)
    return moved


def succeeded(task_id: str, known: UserTaskStatus | None = None) -> None:
    """Record that a task has returned. Its status is read, unless what is `known` of it still holds."""

    def succeed() -> None:
        # A project may have given its instance anything to count with.
        is_counted = known is not None and type(known.completed_steps) is type(known.total_steps) is int
        if known is None or not is_counted or not transitions.succeed(known, as_known=True):
            _end(task_id, transitions.succeed)

    outages.survive(succeed)


def failed(task_id: str, message: Any) -> None:
    """Record that a task has failed, with the text that its user reads."""
    outages.survive(partial(_end, task_id, partial(transitions.fail, message=message)))


def retrying(task_id: str, due: datetime | None = None) -> bool:
    """Record that a task will be tried again, at `due` at the earliest; tell whether that was not refused."""
    status = _reported(task_id)
    return status is not None and transitions.retry(status, due)


def revoked(task_id: str) -> None:
    """Record that a task was kept from running, or stopped, by somebody else than its status."""
    outages.survive(partial(_end, task_id, transitions.stop))


def ended(task_id: str) -> None:
    """Record that an execution is over that reported no result of its own."""
    outages.survive(partial(_end, task_id, lambda _status: False))


def status_of(task_id: str) -> UserTaskStatus | None:
    """Return the status of a task, its containers read with it, or None."""
    return _stored().of_task(task_id)


def _stored() -> UserTaskStatusQuerySet:
    """Return the query for what has been recorded, asked where that is done: a replica may know it later."""
    return UserTaskStatus.objects.at_home()


def _end(task_id: str, move: Callable[[UserTaskStatus], bool]) -> None:
    """Make a move that ends an execution; where it is refused, what was given a final state meanwhile comes to rest."""
    status = _reported(task_id)
    if status is not None and not move(status):
        transitions.end(status)


def _reported(task_id: str) -> UserTaskStatus | None:
    """Return the status of a task that somebody reports on, so that it is not lost."""
    status = outages.survive(partial(status_of, task_id))
    if status is not None and status.lost:
        transitions.revive(status)
    return status


def check_users(user_ids: Iterable[Any]) -> None:
    """Raise `TypeError` for the first of these ids that no user has.

    Asked is the database that users are written to: a replica may not know yet who has just signed up.
    """
    user = get_user_model()
    users = user._base_manager.using(router.db_for_write(user))
    for user_id in user_ids:
        try:
            exists = users.filter(pk=user_id).exists()
        except (TypeError, ValueError, ValidationError, DataError):
            exists = False
        if not exists:
            raise TypeError(f"Invalid user_id: {user_id}")


def _known(nodes: Plan) -> dict[str, UserTaskStatus]:
    """Return the rows that are there, by task id.

    A chain or chord without a row is the one that holds its known members.
    """
    ids = [node.task_id for node in nodes]
    known = _stored().select_related("parent").in_bulk(ids, field_name="task_id")
    groups = {node.task_id for node in nodes if node.task_class == containers.GROUP}
    for node in nodes:
        member = known.get(node.task_id)
        if node.parent is not None and member is not None and member.parent is not None and node.parent not in groups:
            known.setdefault(node.parent, member.parent)
    return known


def _without_groups_of_parts(nodes: Plan, known: Mapping[str, UserTaskStatus]) -> list[Node]:
    """Leave out the groups without a row that hold a task planned elsewhere.

    A queue makes them to send the next link of a chain together with what else follows the link before.
    """
    parents = {node.task_id: node.parent for node in nodes}
    made = {node.parent for node in nodes if node.task_id in known and node.parent} - known.keys()
    return [
        replace(node, parent=parents[node.parent]) if node.parent in made else node
        for node in nodes
        if node.task_id not in made
    ]


def _without_outermost(plan: Plan) -> list[Node]:
    """Leave out a chain that goes into another chain, where its links become links."""
    chain, *inner = plan
    return [replace(node, parent=None) if node.parent == chain.task_id else node for node in inner]


def _missing(nodes: Plan, known: dict[str, UserTaskStatus]) -> list[Node]:
    """Return the tasks that have no row, and the containers above them that have none.

    Raises `ValueError` for containers that are in each other.
    """
    parents = {node.task_id: node.parent for node in nodes}
    needed: set[str] = set()
    for node in nodes:
        above: list[str] = []
        task_id = None if node.is_container else node.task_id
        while task_id is not None and task_id not in known and task_id not in needed:
            if task_id in above:
                raise ValueError(f"The container {task_id} is in itself.")
            above.append(task_id)
            task_id = parents[task_id]
        needed.update(above)
    return [node for node in nodes if node.task_id in needed]


def _published(nodes: Plan, known: dict[str, UserTaskStatus]) -> None:
    """Record what leaves now of tasks that were planned earlier: one statement for those due at a time."""
    leaving: dict[datetime, list[str]] = {}
    for node in nodes:
        if node.due is not None and node.task_id in known and known[node.task_id].due is None:
            leaving.setdefault(node.due, []).append(node.task_id)
    for due, task_ids in leaving.items():
        published(task_ids, due)


def _insert(missing: Plan, known: dict[str, UserTaskStatus], home: UserTaskStatus | None) -> None:
    """Insert containers level by level, then all tasks at once; add their steps to the containers that were there."""
    steps = dict[str, int]()
    rows = _rows(missing, steps)
    with transaction.atomic(using=outages.home()):
        holders: dict[str | None, UserTaskStatus | None] = {None: home}
        holders.update(known)
        containing = [node for node in missing if node.is_container]
        while containing:
            level = [node for node in containing if node.parent in holders]
            holders.update(_insert_level(level, rows, holders))
            containing = [node for node in containing if node.task_id not in holders]
        _insert_level([node for node in missing if not node.is_container], rows, holders)
        for task_id in steps.keys() & known.keys():
            containers.join(known[task_id], steps[task_id])
        if home is not None:
            containers.join(home, sum(steps[node.task_id] for node in missing if node.parent is None))


def _rows(missing: Plan, steps: dict[str, int]) -> dict[str, UserTaskStatus]:
    """Return the rows to insert, created in the order of the plan; note the `steps` that come to every row."""
    parents = {node.task_id: node.parent for node in missing}
    now = timezone.now()
    rows = {}
    for place, node in enumerate(missing):
        description = node.describe()
        rows[node.task_id] = UserTaskStatus(
            task_id=node.task_id,
            task_class=texts.shorten(node.task_class, TASK_CLASS_LENGTH),
            user_id=node.user_id,
            is_container=node.is_container,
            name=texts.shorten(description.name, NAME_LENGTH),
            due=node.due,
            created=now + timedelta(microseconds=place),
        )
        holder: str | None = node.task_id
        while holder is not None:
            steps[holder] = steps.get(holder, 0) + description.total_steps
            holder = parents.get(holder)
    for task_id, row in rows.items():
        row.total_steps = steps[task_id]
    return rows


def _insert_level(
    nodes: Plan, rows: dict[str, UserTaskStatus], holders: Mapping[str | None, UserTaskStatus | None]
) -> dict[str, UserTaskStatus]:
    inserted = {node.task_id: rows[node.task_id] for node in nodes}
    for node in nodes:
        inserted[node.task_id].parent = holders[node.parent]
    UserTaskStatus.objects.bulk_create(inserted.values())
    if (
        any(node.is_container for node in nodes)
        and not connections[outages.home()].features.can_return_rows_from_bulk_insert
    ):
        return _stored().in_bulk(inserted, field_name="task_id")
    return inserted
