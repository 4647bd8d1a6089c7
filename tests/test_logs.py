from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app, shared_task
from celery.app.trace import trace_task
from django.contrib.auth.models import User
from django.utils import timezone
from testfixtures import LogCapture

from user_tasks import containers, logs, recording, testing, transitions
from user_tasks.models import UserTaskStatus
from user_tasks.tasks import UserTask

MakeStatus = Callable[..., UserTaskStatus]


@shared_task(base=UserTask, bind=True)
def logged_task(self: UserTask, *, user_id: int) -> None:
    self.status.set_state("Compressing")
    self.status.increment_completed_steps()


@pytest.fixture
def log() -> Iterator[LogCapture]:
    """What is logged of states, as where the project's LOGGING asks for it."""
    with LogCapture(logs.logger.name, level=logging.INFO) as captured:
        yield captured


def told(log: LogCapture) -> list[tuple[str, str, bool]]:
    records: list[Any] = log.records
    return [(record.task_id, record.state, record.at_rest) for record in records]


def test_nothing_is_logged_unless_that_is_asked_for(owner: User) -> None:
    with LogCapture() as everything:
        testing.execute(logged_task.s(user_id=owner.pk))

    assert logs.logger.name not in {record.name for record in everything.records}


def test_each_state_is_logged_with_what_identifies_the_task(owner: User, log: LogCapture) -> None:
    status = testing.execute(logged_task.s(user_id=owner.pk)).status

    assert told(log) == [
        (status.task_id, "In Progress", False),
        (status.task_id, "Compressing", False),
        (status.task_id, "Succeeded", True),
    ]
    record: Any = log.records[-1]
    assert record.getMessage() == f"Task {status.task_id} is Succeeded."
    assert record.levelno == logging.INFO
    assert (record.status_uuid, record.user_id, record.task_class) == (
        str(status.uuid),
        owner.pk,
        logged_task.name,
    )
    assert 0 <= record.seconds < 60


@pytest.mark.django_db(transaction=True)
def test_a_task_that_a_worker_executes_alone_is_logged_too(owner: User, log: LogCapture) -> None:
    task_id = str(logged_task.delay(user_id=owner.pk).id)
    request = {"is_eager": False, "id": task_id, "group": None}
    trace_task(logged_task, task_id, (), {"user_id": owner.pk}, request, app=current_app)

    assert [state for _task_id, state, _at_rest in told(log)] == ["In Progress", "Compressing", "Succeeded"]


@pytest.mark.parametrize(
    ("started", "due", "seconds"),
    [(None, None, 7200), (None, 3600, 3600), (60, 3600, 60), (None, -60, 0)],
    ids=["waiting", "waiting since it was due", "running", "not due yet"],
)
def test_the_seconds_are_those_that_it_ran_or_waited(
    make_status: MakeStatus, log: LogCapture, started: int | None, due: int | None, seconds: int
) -> None:
    now = timezone.now()
    moments = {
        name: None if ago is None else now - timedelta(seconds=ago)
        for name, ago in {"created": 7200, "started": started, "due": due}.items()
    }

    make_status(**moments).fail("away")

    record: Any = log.records[-1]
    assert seconds <= record.seconds < seconds + 60


def test_a_running_task_is_logged_when_it_is_canceled_and_when_it_stops(
    make_status: MakeStatus, log: LogCapture
) -> None:
    status = make_status()
    recording.started(status.task_id)
    status.refresh_from_db()
    status.cancel()
    recording.ended(status.task_id)

    assert told(log)[1:] == [(status.task_id, "Canceled", False), (status.task_id, "Canceled", True)]


def test_containers_are_logged_too(make_status: MakeStatus, make_container: MakeStatus, log: LogCapture) -> None:
    group = make_container("celery.group")
    members = [make_status(parent=group) for _ in range(2)]
    recording.started(members[0].task_id)
    recording.failed(members[0].task_id, "away")

    assert told(log) == [
        (members[0].task_id, "In Progress", False),
        (group.task_id, "In Progress", False),
        (members[0].task_id, "Failed", True),
        (group.task_id, "Failed", False),
    ]
    log.clear()
    recording.started(members[1].task_id)
    recording.succeeded(members[1].task_id)
    assert told(log)[1:] == [(members[1].task_id, "Succeeded", True), (group.task_id, "Failed", True)]


def test_the_end_is_logged_with_the_state_that_the_row_has(
    make_status: MakeStatus, make_container: MakeStatus, log: LogCapture
) -> None:
    group = make_container("celery.group", state="In Progress")
    failing, canceled = (make_status(parent=group, state="In Progress", started=timezone.now()) for _ in range(2))
    recording.failed(failing.task_id, "away")
    read_before = UserTaskStatus.objects.get(pk=canceled.pk)
    UserTaskStatus.objects.get(pk=canceled.pk).cancel()
    log.clear()
    assert not transitions.succeed(read_before)
    transitions.end(read_before)

    assert told(log) == [(canceled.task_id, "Canceled", True), (group.task_id, "Failed", True)]


def test_a_member_that_fails_alone_is_logged_with_its_container(
    make_status: MakeStatus, make_container: MakeStatus, log: LogCapture
) -> None:
    group = make_container("celery.group", state="In Progress")
    member = make_status(parent=group, state="In Progress")
    recording.failed(member.task_id, "away")

    assert told(log) == [
        (member.task_id, "Failed", True),
        (group.task_id, "Failed", False),
        (group.task_id, "Failed", True),
    ]


def test_all_members_that_are_canceled_are_logged(
    make_status: MakeStatus, make_container: MakeStatus, log: LogCapture
) -> None:
    group = make_container("celery.group")
    members = [make_status(parent=group) for _ in range(3)]
    group.cancel()

    assert sorted(told(log)) == sorted(
        [(status.task_id, "Canceled", True) for status in members]
        + [(group.task_id, "Canceled", False), (group.task_id, "Canceled", True)]
    )


def test_a_container_that_is_open_again_for_a_new_member_is_logged(
    make_status: MakeStatus, make_container: MakeStatus, log: LogCapture
) -> None:
    outer = make_container("celery.chain", state="Failed")
    group = make_container("celery.group", parent=outer, state="Succeeded")

    containers.join(UserTaskStatus.objects.get(pk=group.pk), 1)

    assert told(log) == [(group.task_id, "In Progress", False)]


def test_a_container_that_is_open_again_after_the_return_of_a_member_is_logged(
    make_status: MakeStatus, make_container: MakeStatus, log: LogCapture
) -> None:
    group = make_container("celery.group")
    member = make_status(parent=group)
    recording.started(member.task_id)
    testing.lose(member)
    log.clear()

    recording.started(member.task_id)

    assert told(log)[:2] == [(group.task_id, "In Progress", False), (member.task_id, "In Progress", False)]


def test_a_retry_a_loss_and_a_return_are_logged(make_status: MakeStatus, log: LogCapture) -> None:
    status = make_status()
    recording.started(status.task_id)
    recording.retrying(status.task_id)
    recording.started(status.task_id)
    testing.lose(status)
    recording.started(status.task_id)

    assert [state for _task_id, state, _at_rest in told(log)][:4] == [
        "In Progress",
        "Retrying",
        "In Progress",
        "Failed",
    ]
    assert told(log)[4] == (status.task_id, "In Progress", False)
