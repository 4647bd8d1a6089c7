"""Processes that are killed before any one of their statements, and what others make of that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from celery import shared_task
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F
from django.utils import timezone

from lies import lies
from user_tasks import executions, losses, recording
from user_tasks.containers import CHAIN, GROUP
from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskStatus
from user_tasks.querysets import UserTaskStatusQuerySet
from user_tasks.recording import Description, Node
from user_tasks.states import WAITING, State
from user_tasks.tasks import UserTask

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.embedded]

LONG_AGO = timedelta(hours=1)


class Exporting(UserTask):
    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        return 3


@shared_task(base=Exporting)
def exporting(user_id: Any) -> None:
    """Be executed by the tests themselves."""


class Killed(BaseException):
    """Ends a process where a signal would that no process survives."""


def killed_after(statements: int) -> Callable[..., Any]:
    """Return a wrapper of queries in which a process is killed after this many."""
    left = iter(range(statements))

    def run(execute: Callable[..., Any], *arguments: Any) -> Any:
        if next(left, None) is None:
            raise Killed
        return execute(*arguments)

    return run


class Workflow:
    """Tasks side by side, and one that follows them: their rows, and what workers do."""

    def __init__(self, owner: User, side_by_side: int = 2) -> None:
        self.chain, self.group, self.last = (str(uuid4()) for _ in range(3))
        self.members = [str(uuid4()) for _ in range(side_by_side)]
        self.first = self.members[0]
        self.last_has_left = False
        node = partial(Node, task_class=exporting.name, user_id=owner.pk, describe=lambda: Description("Export", 3))
        plan = [
            Node(self.chain, CHAIN, owner.pk, is_container=True),
            Node(self.group, GROUP, owner.pk, self.chain, is_container=True),
            *(node(member, parent=self.group, due=timezone.now()) for member in self.members),
            node(self.last, parent=self.chain),
        ]
        recording.enqueued(plan)

    @property
    def rows(self) -> UserTaskStatusQuerySet:
        return UserTaskStatus.objects.filter(task_id__in=[self.chain, self.group, self.last, *self.members])

    def status(self, task_id: str) -> UserTaskStatus:
        found = recording.status_of(task_id)
        assert found is not None
        return found

    def execute(self, task_id: str, end: Callable[[str], object] = recording.succeeded) -> None:
        """Do as a worker does that has got the message."""
        exporting.push_request(id=task_id, group=self.group)
        try:
            status = executions.begin(exporting, task_id, (), {"user_id": 1}).status
        finally:
            exporting.pop_request()
        assert status is not None
        try:
            status.increment_completed_steps()
        except TaskCanceledException:
            recording.ended(task_id)
        else:
            end(task_id)

    def execute_the_rest(self) -> None:
        """Do what workers do with the messages that are left."""
        for task_id in self.members:
            if self.status(task_id).state in WAITING:
                self.execute(task_id)
        if self.status(self.group).state == State.SUCCEEDED and not self.last_has_left:
            self.publish_last()
        if self.last_has_left:
            self.execute(self.last)

    def publish_last(self) -> None:
        """Do as the process does that executes the last of the tasks side by side, before it says that it has."""
        recording.published([self.last], timezone.now())
        self.last_has_left = self.rows.exists()  # a statement, before which it may be killed too


def fail(task_id: str) -> None:
    recording.failed(task_id, "bad row")


def hand_over(workflow: Workflow) -> None:
    """Publish what follows a task before that is known to have succeeded, as Celery does."""

    def publish_and_succeed(task_id: str) -> None:
        workflow.publish_last()
        recording.succeeded(task_id)

    workflow.execute(workflow.first, publish_and_succeed)


WORKERS_DEEDS: dict[str, Callable[[Workflow], object]] = {
    "succeed": lambda workflow: workflow.execute(workflow.first),
    "fail": lambda workflow: workflow.execute(workflow.first, fail),
    "retry": lambda workflow: workflow.execute(workflow.first, recording.retrying),
    "give back": lambda workflow: workflow.execute(workflow.first, recording.requeued),
    "hand over": hand_over,
}

AFTERMATHS: dict[str, Callable[[Workflow], object]] = {
    "the message is delivered again": lambda workflow: workflow.execute(workflow.first),
    "the pool reports it": lambda workflow: recording.failed(workflow.first, "The process has died."),
    "nobody reports any more": lambda workflow: None,
}

USERS_DEEDS: dict[str, Callable[[Workflow], object]] = {
    "cancel one": lambda workflow: workflow.status(workflow.first).cancel(),
    "cancel all": lambda workflow: workflow.status(workflow.chain).cancel(),
}


def is_killed(deed: Callable[[], object], statements: int) -> bool:
    """Do a deed in a process that is killed after so many statements; tell whether there are more."""
    try:
        with connection.execute_wrapper(killed_after(statements)):
            deed()
    except Killed:
        return True
    return False


def look_for_lost_tasks(rows: UserTaskStatusQuerySet) -> list[str]:
    """Do as the schedule does much later; return what is wrong with these rows then."""
    rows.update(modified=timezone.now() - LONG_AGO)
    rows.exclude(heartbeat=None).update(heartbeat=timezone.now() - LONG_AGO)
    rows.exclude(due=None).update(due=F("due") - LONG_AGO)
    rows.exclude(started=None).update(started=F("started") - LONG_AGO)
    losses.fail_lost()
    return [lie for row in rows for lie in lies(row)]


@pytest.mark.parametrize("aftermath", AFTERMATHS)
@pytest.mark.parametrize("deed", WORKERS_DEEDS)
def test_no_row_lies_after_a_worker_was_killed(owner: User, deed: str, aftermath: str) -> None:
    for statements in count():
        workflow = Workflow(owner, side_by_side=1 if deed == "hand over" else 2)
        killed = is_killed(partial(WORKERS_DEEDS[deed], workflow), statements)
        if killed:
            AFTERMATHS[aftermath](workflow)
        workflow.execute_the_rest()
        assert look_for_lost_tasks(workflow.rows) == [], f"killed after {statements} statements"
        if not killed:
            break

    assert statements > 5


def test_what_an_ordinary_task_leads_to_is_given_up_half(owner: User) -> None:
    node = partial(Node, task_class=exporting.name, user_id=owner.pk)
    for statements in count():
        chain, *planned = (str(uuid4()) for _ in range(3))
        links = [node(task_id, parent=chain) for task_id in planned]
        recording.enqueued([Node(chain, CHAIN, owner.pk, is_container=True), *links])
        give_up = partial(recording.broken, planned, "It has failed.")
        killed = is_killed(give_up, statements)
        rows = UserTaskStatus.objects.filter(task_id__in=[chain, *planned]).order_by("pk")
        if rows[0].state == State.PENDING:
            give_up()  # as the pool makes the worker do whose process has left no trace

        look_for_lost_tasks(rows)

        assert [row.state for row in rows] == ["Failed", "Canceled", "Canceled"], statements
        assert all(row.finished for row in rows), statements
        assert [error.text for error in rows[0].artifacts.all()] == ["It has failed."]
        if not killed:
            break

    assert statements > 5


@pytest.mark.parametrize("deed", USERS_DEEDS)
def test_no_row_lies_after_a_request_was_killed(owner: User, deed: str) -> None:
    for statements in count():
        workflow = Workflow(owner)
        killed = is_killed(partial(USERS_DEEDS[deed], workflow), statements)
        workflow.execute_the_rest()
        assert look_for_lost_tasks(workflow.rows) == [], f"killed after {statements} statements"
        if not killed:
            break

    assert statements > 5
