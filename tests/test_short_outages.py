"""Databases that are away for one query of a running task, or are gone before they have answered it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from user_tasks import outages, recording
from user_tasks.containers import GROUP
from user_tasks.models import UserTaskStatus

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("executing")]

MakeStatus = Callable[..., UserTaskStatus]


@pytest.fixture
def executing() -> None:
    """A process that executes a task; what it executes is forgotten after each test."""
    outages.executions.begin()


class Gone:
    """A connection that is lost with the first statement that begins so, before or after it is executed."""

    def __init__(self, beginning: str, *, executed: bool) -> None:
        self.beginning = beginning
        self.executed = executed
        self.is_left = True

    def __call__(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if not self.is_left or not sql.startswith(self.beginning):
            return execute(sql, *arguments)
        self.is_left = False
        if self.executed:
            execute(sql, *arguments)
        raise OperationalError("server closed the connection unexpectedly")


def fresh(status: UserTaskStatus) -> UserTaskStatus:
    return UserTaskStatus.objects.get(pk=status.pk)


@pytest.fixture
def running(make_status: MakeStatus) -> UserTaskStatus:
    """A task that a worker executes, without containers."""
    return fresh(make_status(state="In Progress", started=timezone.now(), total_steps=3))


def track(status: UserTaskStatus) -> None:
    for _row in status.track(range(3), label="Packing"):
        pass


REPORTS: dict[str, Callable[[UserTaskStatus], object]] = {
    "start": lambda status: status.start(),
    "set_state": lambda status: status.set_state("Packing"),
    "retry": lambda status: status.retry(),
    "set_name": lambda status: status.set_name("Orders"),
    "increment_completed_steps": lambda status: status.increment_completed_steps(),
    "increment_total_steps": lambda status: status.increment_total_steps(2),
    "track": track,
    "add_artifact": lambda status: status.add_artifact(text="done"),
    "succeed": lambda status: status.succeed(),
    "fail": lambda status: status.fail("bad row"),
    "cancel": lambda status: status.cancel(),
}


def shown(status: UserTaskStatus) -> tuple[Any, ...]:
    found = fresh(status)
    numbers = (found.completed_steps, found.total_steps, found.attempts, found.artifacts.count())
    return found.state, found.name, bool(found.finished), *numbers


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("report", "beginning"),
    [*product(REPORTS, ["SELECT", "UPDATE"]), ("add_artifact", "INSERT"), ("fail", "INSERT")],
)
def test_a_report_outlives_a_query_and_is_made_once(
    make_status: MakeStatus, running: UserTaskStatus, report: str, beginning: str, executed: bool
) -> None:
    other = fresh(make_status(state="In Progress", started=timezone.now(), total_steps=3))
    REPORTS[report](other)

    with connection.execute_wrapper(Gone(beginning, executed=executed)):
        REPORTS[report](running)

    assert shown(running) == shown(other)


@pytest.mark.parametrize("report", ["start", "set_state"])
def test_a_report_of_a_member_reaches_its_container(
    make_status: MakeStatus, make_container: MakeStatus, report: str
) -> None:
    container = make_container("celery.chain")
    member = fresh(make_status(parent=container))
    gone = Gone("UPDATE", executed=False)

    def lost_for_the_container(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        reported = sql.startswith("UPDATE") and fresh(member).state != "Pending"
        return gone(execute, sql, *arguments) if reported else execute(sql, *arguments)

    with connection.execute_wrapper(lost_for_the_container):
        REPORTS[report](member)

    assert not gone.is_left
    assert fresh(container).state == fresh(member).state


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
def test_one_delivery_is_one_attempt(make_status: MakeStatus, executed: bool) -> None:
    status = make_status()

    with connection.execute_wrapper(Gone("UPDATE", executed=executed)):
        assert recording.started_alone(status.task_id)

    assert fresh(status).attempts == 1


def test_a_second_delivery_is_a_second_attempt(running: UserTaskStatus) -> None:
    with connection.execute_wrapper(Gone("UPDATE", executed=True)):
        recording.started(running.task_id)

    assert fresh(running).attempts == 2


ENDS: dict[str, Callable[[UserTaskStatus], object]] = {
    "returned, alone": lambda status: recording.succeeded_alone(status.task_id),
    "returned": lambda status: recording.succeeded(status.task_id),
    "returned, known": lambda status: recording.succeeded(status.task_id, status),
    "failed": lambda status: recording.failed(status.task_id, "bad row"),
    "revoked": lambda status: recording.revoked(status.task_id),
}


@pytest.mark.parametrize("lost", ["UPDATE", "COMMIT"])
@pytest.mark.parametrize("end", ENDS)
def test_an_end_is_told_once(
    running: UserTaskStatus, stopped: list[UserTaskStatus], lose_commit: Callable[[int], None], end: str, lost: str
) -> None:
    if lost == "COMMIT":
        lose_commit(1)
    with connection.execute_wrapper(Gone(lost, executed=True)):
        ENDS[end](running)

    assert [(status.pk, status.state) for status in stopped] == [(running.pk, fresh(running).state)]


@pytest.mark.parametrize("number", [1, 2])
def test_the_end_of_a_member_is_told_once_and_that_of_its_container(
    make_status: MakeStatus,
    make_container: MakeStatus,
    stopped: list[UserTaskStatus],
    lose_commit: Callable[[int], None],
    number: int,
) -> None:
    container = make_container(GROUP)
    member = make_status(parent=container, total_steps=3)
    recording.started(member.task_id)

    lose_commit(number)
    recording.succeeded(member.task_id)

    assert [status.pk for status in stopped] == [member.pk, container.pk]
    assert (fresh(container).completed_steps, fresh(container).total_steps) == (3, 3)


def test_the_stop_of_a_canceled_task_is_told_once(running: UserTaskStatus, stopped: list[UserTaskStatus]) -> None:
    fresh(running).cancel()

    with connection.execute_wrapper(Gone("UPDATE", executed=True)):
        recording.ended(running.task_id)

    assert [status.state for status in stopped] == ["Canceled"]


def test_the_cancelation_of_what_waits_is_told_once(
    make_status: MakeStatus, stopped: list[UserTaskStatus], revoked: list[str]
) -> None:
    status = make_status()

    with connection.execute_wrapper(Gone("UPDATE", executed=True)):
        fresh(status).cancel()

    assert [told.state for told in stopped] == ["Canceled"]
    assert revoked == [status.task_id]


def test_a_lost_task_is_put_back_at_its_next_step(running: UserTaskStatus) -> None:
    UserTaskStatus.objects.filter(pk=running.pk).change(state="Failed", lost=True, finished=timezone.now())

    with connection.execute_wrapper(Gone("UPDATE", executed=False)):
        running.start()

    assert (fresh(running).state, fresh(running).lost) == ("In Progress", False)
