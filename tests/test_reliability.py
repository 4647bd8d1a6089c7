"""What becomes of the row when a worker, or Celery, ends a task."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import chain, chord, current_app, group, shared_task
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

import fault_tasks
from fault_tasks import open_gate
from faults import LOST_AFTER, FragileWorker, RedisServer
from user_tasks import losses, removal
from user_tasks.models import UserTaskStatus
from user_tasks.states import State
from user_tasks.tasks import UserTask
from worker_tasks import notes
from workers import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.faults]

DIED = "The process that ran the task has died. The task was not finished."
SILENT = "The worker that ran the task has stopped reporting. The task was given up."
NO_RESULT = "The task ended without a result."

StartFragile = Callable[..., FragileWorker]


@shared_task(base=UserTask)
def only_here(user_id: Any) -> None:
    raise AssertionError("No worker knows this task.")


@pytest.fixture(autouse=True)
def _impatient(settings: Any) -> None:
    settings.USER_TASKS_LOST_AFTER = timedelta(seconds=LOST_AFTER)


def row(task_id: str) -> UserTaskStatus:
    return UserTaskStatus.objects.get(task_id=task_id)


def errors(status: UserTaskStatus) -> list[str]:
    return list(status.artifacts.filter(name="Error").values_list("text", flat=True))


def seen(task_id: str, text: str) -> None:
    wait_for(lambda: text in notes(task_id), f"{text!r} of task {task_id}, which has {notes(task_id)},")


def in_state(task_id: str, state: str) -> UserTaskStatus:
    wait_for(lambda: row(task_id).state == state, f"{state} of {row(task_id).state}")
    return row(task_id)


def at_rest(task_id: str) -> UserTaskStatus:
    wait_for(lambda: row(task_id).finished, f"The end of task {task_id}, {row(task_id).state},")
    return row(task_id)


def numbers(status: UserTaskStatus) -> tuple[str, int, int, int]:
    return status.state, status.completed_steps, status.total_steps, status.attempts


def stops(task_id: str) -> list[str]:
    """Return the notes of the stop signal, once there is one: it is sent after the row has moved."""
    return wait_for(lambda: [note for note in notes(task_id) if note.startswith("stopped")], "A stop signal")


def lose(task_id: str) -> UserTaskStatus:
    """Fail a task as lost once it has been silent for long enough."""
    heartbeat = row(task_id).heartbeat
    assert heartbeat is not None
    wait_for(lambda: timezone.now() - heartbeat > timedelta(seconds=LOST_AFTER))
    assert losses.fail_lost() == 1
    return row(task_id)


def test_a_process_that_is_killed_fails_its_task(start_fragile: StartFragile, owner: User) -> None:
    worker = start_fragile(concurrency=1)
    canvas: Any = chain(fault_tasks.walking.si(owner.pk, ["killed"]), fault_tasks.walking.si(owner.pk, [])).delay()
    first, second = canvas.parent.id, canvas.id
    seen(first, "at killed")

    worker.kill_children()

    status = in_state(first, State.FAILED)
    assert errors(status) == [DIED]
    assert numbers(status) == ("Failed", 1, 2, 1)
    assert at_rest(second).state == State.CANCELED
    container = status.parent
    assert container is not None
    assert at_rest(container.task_id).state == State.FAILED
    assert errors(container) == [DIED]
    assert stops(first) == ["stopped Failed"]


def test_a_process_that_is_killed_while_it_publishes_what_follows(start_fragile: StartFragile, owner: User) -> None:
    start_fragile(concurrency=1)
    canvas: Any = chain(fault_tasks.walking.si(owner.pk, ["followed"]), fault_tasks.walking.si(owner.pk, [])).delay()
    first, second = canvas.parent.id, canvas.id
    open_gate(f"sending {second}")
    open_gate("followed")

    assert (at_rest(first).state, errors(row(first))) == ("Failed", [DIED])
    assert row(second).due, "The process has died before the message was about to leave."
    wait_for(lambda: losses.fail_lost() or row(second).finished)
    assert row(second).state == State.CANCELED
    container = row(first).parent
    assert container is not None
    assert at_rest(container.task_id).state == State.FAILED
    assert notes(second) == ["stopped Canceled"]


def test_a_killed_process_s_task_that_is_delivered_again_begins_anew(start_fragile: StartFragile, owner: User) -> None:
    worker = start_fragile(concurrency=1)
    result = fault_tasks.delivered_again.delay(owner.pk, ["again1", "again2"])
    open_gate("again1")
    seen(result.id, "at again2")

    worker.kill_children()
    wait_for(lambda: notes(result.id).count("at again2") == 2, "The second execution")
    assert numbers(row(result.id)) == ("In Progress", 2, 3, 2)
    open_gate("again2")

    assert numbers(at_rest(result.id)) == ("Succeeded", 3, 3, 2)
    assert errors(row(result.id)) == []
    assert stops(result.id) == ["stopped Succeeded"]


def test_a_worker_that_is_killed_as_a_whole_loses_its_tasks(start_fragile: StartFragile, owner: User) -> None:
    worker = start_fragile()
    result: Any = group(fault_tasks.walking.si(owner.pk, ["group killed"]) for _ in range(2)).delay()
    ids = [child.id for child in result.children]
    for task_id in ids:
        seen(task_id, "at group killed")
    assert losses.fail_lost() == 0

    worker.kill()
    last = max(heartbeat for task_id in ids if (heartbeat := row(task_id).heartbeat) is not None)
    wait_for(lambda: timezone.now() - last > timedelta(seconds=LOST_AFTER))

    assert losses.fail_lost() == 2
    assert losses.fail_lost() == 0
    for task_id in ids:
        status = row(task_id)
        assert (status.state, errors(status), status.lost) == ("Failed", [SILENT], True)
        assert stops(task_id) == ["stopped Failed"]
    container = row(result.id)
    assert (container.state, errors(container)) == ("Failed", [SILENT, SILENT])
    assert container.finished


def test_a_lost_task_whose_message_is_delivered_again_goes_on(start_fragile: StartFragile, owner: User) -> None:
    worker = start_fragile(concurrency=1, overrides={"BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 3}})
    canvas: Any = chain(
        fault_tasks.acknowledged_late.si(owner.pk, ["late1", "late2"]), fault_tasks.walking.si(owner.pk, [])
    ).delay()
    first, second = canvas.parent.id, canvas.id
    open_gate("late1")
    seen(first, "at late2")

    worker.kill()
    assert lose(first).state == State.FAILED
    assert row(second).state == State.CANCELED
    start_fragile(concurrency=1)
    in_state(first, State.IN_PROGRESS)
    assert row(second).state == State.PENDING
    open_gate("late2")

    assert numbers(at_rest(second)) == ("Succeeded", 1, 1, 1)
    assert numbers(row(first)) == ("Succeeded", 3, 3, 2)
    assert errors(row(first)) == []
    assert stops(first) == ["stopped Failed", "stopped Succeeded"]


def test_a_canceled_task_whose_worker_is_killed_comes_to_rest(start_fragile: StartFragile, owner: User) -> None:
    worker = start_fragile()
    result = fault_tasks.walking.delay(owner.pk, ["canceled and killed"])
    seen(result.id, "at canceled and killed")

    row(result.id).cancel()
    assert row(result.id).finished is None
    worker.kill()

    status = lose(result.id)
    assert (status.state, errors(status), bool(status.finished)) == ("Canceled", [], True)
    assert stops(result.id) == ["stopped Canceled"]


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_task_is_not_lost_while_its_worker_lives(start_fragile: StartFragile, owner: User, pool: str) -> None:
    worker = start_fragile(pool=pool)
    result = fault_tasks.busy.delay(owner.pk, f"busy {pool}")
    seen(result.id, "ran")
    started = row(result.id).started
    assert started is not None

    wait_for(lambda: timezone.now() - started > timedelta(seconds=LOST_AFTER + 0.5))
    assert losses.fail_lost() == 0
    open_gate(f"busy {pool}")

    assert at_rest(result.id).state == State.SUCCEEDED
    worker.stop()


def test_a_worker_that_was_only_frozen_puts_its_task_back(start_fragile: StartFragile, owner: User) -> None:
    worker = start_fragile(concurrency=1)
    canvas: Any = chain(fault_tasks.walking.si(owner.pk, ["frozen"]), fault_tasks.walking.si(owner.pk, [])).delay()
    first, second = canvas.parent.id, canvas.id
    seen(first, "at frozen")

    worker.freeze()
    assert lose(first).state == State.FAILED
    assert row(second).state == State.CANCELED
    worker.thaw()
    status = in_state(first, State.IN_PROGRESS)
    assert (errors(status), status.finished, status.lost) == ([], None, False)
    assert row(second).state == State.PENDING
    open_gate("frozen")

    assert numbers(at_rest(second)) == ("Succeeded", 1, 1, 1)
    assert numbers(row(first)) == ("Succeeded", 2, 2, 1)
    container = row(first).parent
    assert container is not None
    wait_for(lambda: row(container.task_id).finished)
    assert numbers(row(container.task_id)) == ("Succeeded", 3, 3, 1)
    assert errors(container) == []


@pytest.mark.parametrize("limit", ["time_limit", "soft_time_limit"])
def test_a_time_limit_says_how_long_the_task_was_allowed_to_take(
    start_fragile: StartFragile, owner: User, limit: str
) -> None:
    start_fragile()

    options: dict[str, Any] = {limit: 1}
    result = fault_tasks.busy.apply_async((owner.pk, "never"), **options)

    status = in_state(result.id, State.FAILED)
    assert status.finished
    if limit == "time_limit":
        expected = "The task took longer than the 1 second that it is allowed to, and was stopped."
    else:
        expected = "The task took longer than it is allowed to, and was stopped."
    wait_for(lambda: errors(status) == [expected], f"{errors(status)} as {expected!r}")
    assert stops(result.id) == ["stopped Failed"]


@pytest.mark.parametrize(
    ("task", "how", "end"),
    [
        (fault_tasks.leaving, "ignore", ("Failed", [NO_RESULT], 1)),
        (fault_tasks.leaving, "reject", ("Failed", [NO_RESULT], 1)),
        (fault_tasks.leaving, "requeue", ("Failed", [NO_RESULT], 1)),
        (fault_tasks.leaving, "replace", ("Succeeded", [], 1)),
        (fault_tasks.leaving, "retry", ("Succeeded", [], 2)),
        (fault_tasks.leaving_late, "reject", ("Failed", [NO_RESULT], 1)),
        (fault_tasks.leaving_late, "requeue", ("Succeeded", [], 1)),
    ],
)
def test_tasks_that_end_in_one_of_celery_s_ways(
    start_fragile: StartFragile, owner: User, task: Any, how: str, end: tuple[str, list[str], int]
) -> None:
    state, texts, attempts = end
    start_fragile()

    result = task.delay(owner.pk, how)

    status = at_rest(result.id)
    wait_for(lambda: errors(status) == texts)
    assert (status.state, status.attempts) == (state, attempts)
    assert (status.completed_steps, status.total_steps) == ((1, 1) if state == "Succeeded" else (0, 1))
    assert stops(result.id) == [f"stopped {state}"]


def test_a_task_that_the_worker_does_not_know(start_fragile: StartFragile, owner: User) -> None:
    start_fragile()

    result = only_here.delay(owner.pk)

    status = at_rest(result.id)
    assert (status.state, errors(status)) == (
        "Failed",
        ["The worker does not know this kind of task. It was not started."],
    )


def test_a_message_that_cannot_be_read(start_fragile: StartFragile, owner: User) -> None:
    start_fragile(overrides={"CELERY_ACCEPT_CONTENT": ["yaml"]})

    result = fault_tasks.walking.delay(owner.pk, [])

    status = at_rest(result.id)
    assert (status.state, errors(status)) == (
        "Failed",
        ["The message to the worker could not be read. The task was not started."],
    )


def test_a_task_that_waited_longer_than_it_may(start_fragile: StartFragile, owner: User) -> None:
    start_fragile()

    result = fault_tasks.walking.apply_async((owner.pk, []), expires=timezone.now() - timedelta(seconds=1))

    status = at_rest(result.id)
    assert (status.state, errors(status)) == (
        "Failed",
        ["The task waited longer than it was allowed to, and was not started."],
    )
    assert "ran" not in notes(result.id)


def test_a_task_revoked_by_somebody_else_before_it_starts(start_fragile: StartFragile, owner: User) -> None:
    start_fragile(concurrency=1)
    first = fault_tasks.busy.delay(owner.pk, "first of one")
    seen(first.id, "ran")
    by_id = fault_tasks.walking.delay(owner.pk, [])
    by_stamp: Any = fault_tasks.walking.si(owner.pk, [])
    by_stamp.stamp(customer="shop")
    stamped = by_stamp.apply_async()

    current_app.control.revoke(by_id.id, reply=True, timeout=5)
    stamps: Any = {"customer": ["shop"]}
    current_app.control.revoke_by_stamped_headers(stamps, reply=True, timeout=5)
    open_gate("first of one")

    for result in (by_id, stamped):
        assert at_rest(result.id).state == State.CANCELED
        assert "ran" not in notes(result.id)
        assert stops(result.id) == ["stopped Canceled"]
    assert at_rest(first.id).state == State.SUCCEEDED


def test_a_running_task_that_somebody_else_terminates(start_fragile: StartFragile, owner: User) -> None:
    start_fragile(concurrency=1)
    result = fault_tasks.walking.delay(owner.pk, ["terminated"])
    seen(result.id, "at terminated")

    current_app.control.revoke(result.id, terminate=True)

    assert numbers(at_rest(result.id)) == ("Canceled", 1, 2, 1)
    assert stops(result.id) == ["stopped Canceled"]


def test_cancel_reaches_what_happens_inside_a_long_step_where_asked_to(
    start_fragile: StartFragile, owner: User
) -> None:
    start_fragile(concurrency=1)
    result = fault_tasks.busy.delay(owner.pk, "inside a long step")
    seen(result.id, "ran")

    row(result.id).cancel(terminate=True)
    assert row(result.id).state == State.CANCELED

    assert numbers(at_rest(result.id)) == ("Canceled", 0, 1, 1)
    assert stops(result.id) == ["stopped Canceled"]


def test_a_canceled_container_ends_the_processes_of_its_members_where_asked_to(
    start_fragile: StartFragile, owner: User
) -> None:
    start_fragile(concurrency=2)
    result: Any = group(fault_tasks.busy.si(owner.pk, "members") for _ in range(3)).delay()
    members = UserTaskStatus.objects.filter(is_container=False)
    wait_for(lambda: members.filter(state=State.IN_PROGRESS).count() == 2, "Two running members")

    row(result.id).cancel(terminate=True)

    assert at_rest(result.id).state == State.CANCELED
    assert not members.unfinished().exists()
    for child in result.children:
        assert stops(child.id) == ["stopped Canceled"]


@pytest.mark.parametrize("moment", ["waiting", "running"])
def test_a_deleted_row_stays_deleted(start_fragile: StartFragile, owner: User, moment: str) -> None:
    start_fragile(concurrency=1)
    running = fault_tasks.walking.delay(owner.pk, [f"deleted {moment}"])
    waiting = fault_tasks.walking.delay(owner.pk, [])
    seen(running.id, f"at deleted {moment}")
    deleted = running if moment == "running" else waiting

    removal.delete(row(deleted.id))
    open_gate(f"deleted {moment}")

    seen(running.id, "ended")
    kept = waiting if moment == "running" else running
    assert at_rest(kept.id).state == State.SUCCEEDED
    assert not UserTaskStatus.objects.filter(task_id=deleted.id).exists()


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("retry", ("Succeeded", 1)),
        ("replace", ("Succeeded", 1)),
        ("start", ("Succeeded", 2)),
        ("roll back", ("Failed", 1)),
    ],
)
def test_what_a_running_task_publishes_inside_a_transaction(
    start_fragile: StartFragile, owner: User, redis_server: RedisServer, how: str, end: tuple[str, int]
) -> None:
    state, rows = end
    start_fragile(overrides={"USER_TASKS_PUBLISH_ON_COMMIT": True, "CELERY_RESULT_BACKEND": redis_server.url})

    result = fault_tasks.publishing.delay(owner.pk, how)

    assert at_rest(result.id).state == state
    wait_for(lambda: not UserTaskStatus.objects.unfinished().exists())
    states = set(UserTaskStatus.objects.values_list("state", flat=True))
    assert (states, UserTaskStatus.objects.count()) == ({state}, rows)


@pytest.mark.parametrize("backend", ["polled", "counting"])
def test_a_chord_published_inside_a_transaction_runs_after_it(
    start_fragile: StartFragile, owner: User, settings: Any, redis_server: RedisServer, backend: str
) -> None:
    settings.USER_TASKS_PUBLISH_ON_COMMIT = True
    if backend == "counting":
        settings.CELERY_RESULT_BACKEND = redis_server.url
    start_fragile()
    header = [fault_tasks.walking.si(owner.pk, []), fault_tasks.ordinary.si()]

    with transaction.atomic():
        result = chord(header, fault_tasks.walking.si(owner.pk, [])).delay()
        seen_inside = UserTaskStatus.objects.count()
    body = at_rest(result.id)

    assert seen_inside == 4
    assert body.state == State.SUCCEEDED
    wait_for(lambda: UserTaskStatus.objects.filter(state=State.SUCCEEDED).count() == 4)
