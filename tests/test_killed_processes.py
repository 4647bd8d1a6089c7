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
from django.utils import timezone

from lies import lies
from user_tasks import executions, losses, recording
from user_tasks.containers import CHAIN, GROUP
from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskStatus
from user_tasks.recording import Description, Node
from user_tasks.states import FINAL
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
    """Two tasks side by side, and one that follows: their rows, and what workers do."""

    def __init__(self, owner: User) -> None:
        self.chain, self.group, self.first, self.second, self.last = (str(uuid4()) for _ in range(5))
        node = partial(Node, task_class=exporting.name, user_id=owner.pk, describe=lambda: Description("Export", 3))
        plan = [
            Node(self.chain, CHAIN, owner.pk, is_container=True),
            Node(self.group, GROUP, owner.pk, self.chain, is_container=True),
            node(self.first, parent=self.group, due=timezone.now()),
            node(self.second, parent=self.group, due=timezone.now()),
            node(self.last, parent=self.chain),
        ]
        recording.enqueued(plan)

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
        for task_id in (self.first, self.second):
            if self.status(task_id).state not in FINAL:
                self.execute(task_id)
        if self.status(self.group).state == "Succeeded":
            recording.published([self.last], timezone.now())
            self.execute(self.last)


def fail(task_id: str) -> None:
    recording.failed(task_id, "bad row")


WORKERS_DEEDS: dict[str, Callable[[Workflow], object]] = {
    "succeed": lambda workflow: workflow.execute(workflow.first),
    "fail": lambda workflow: workflow.execute(workflow.first, fail),
    "retry": lambda workflow: workflow.execute(workflow.first, recording.retrying),
    "give back": lambda workflow: workflow.execute(workflow.first, recording.requeued),
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


def is_killed(workflow: Workflow, deed: Callable[[Workflow], object], statements: int) -> bool:
    """Do a deed in a process that is killed after so many statements; tell whether there are more."""
    try:
        with connection.execute_wrapper(killed_after(statements)):
            deed(workflow)
    except Killed:
        return True
    return False


def look_for_lost_tasks(workflow: Workflow) -> list[str]:
    """Do as the schedule does much later; return what is wrong then."""
    rows = UserTaskStatus.objects.filter(task_id__in=vars(workflow).values())
    rows.update(modified=timezone.now() - LONG_AGO)
    rows.exclude(heartbeat=None).update(heartbeat=timezone.now() - LONG_AGO)
    losses.fail_lost()
    return [lie for row in rows for lie in lies(row)]


@pytest.mark.parametrize("aftermath", AFTERMATHS)
@pytest.mark.parametrize("deed", WORKERS_DEEDS)
def test_no_row_lies_after_a_worker_was_killed(owner: User, deed: str, aftermath: str) -> None:
    for statements in count():
        workflow = Workflow(owner)
        killed = is_killed(workflow, WORKERS_DEEDS[deed], statements)
        if killed:
            AFTERMATHS[aftermath](workflow)
        workflow.execute_the_rest()
        assert look_for_lost_tasks(workflow) == [], f"killed after {statements} statements"
        if not killed:
            break

    assert statements > 5


@pytest.mark.parametrize("deed", USERS_DEEDS)
def test_no_row_lies_after_a_request_was_killed(owner: User, deed: str) -> None:
    for statements in count():
        workflow = Workflow(owner)
        killed = is_killed(workflow, USERS_DEEDS[deed], statements)
        workflow.execute_the_rest()
        assert look_for_lost_tasks(workflow) == [], f"killed after {statements} statements"
        if not killed:
            break

    assert statements > 5
