"""What two processes do to a row at the same moment, each on a database connection of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from functools import partial
from threading import Barrier, Event
from typing import Any

import pytest
from celery import shared_task
from django.contrib.auth.models import User
from django.db import connection, transaction

from user_tasks import executions, outages, recording, removal, transitions
from user_tasks.containers import CHAIN, GROUP
from user_tasks.exceptions import TaskCanceledException
from user_tasks.heartbeat import heart
from user_tasks.models import UserTaskStatus
from user_tasks.recording import Description, Node
from user_tasks.states import State
from user_tasks.tasks import UserTask

pytestmark = pytest.mark.django_db(transaction=True)

MakeStatus = Callable[..., UserTaskStatus]
Action = Callable[[], object]

ROUNDS = 6
"""How often each race is run: which of the two comes first differs."""


@shared_task(base=UserTask)
def racing(user_id: Any) -> None:
    """Be executed by the test itself."""


def closing(action: Action) -> object:
    try:
        return action()
    finally:
        connection.close()


def race(*actions: Action) -> list[object]:
    """Do all at the same moment, and return what each returned."""
    barrier = Barrier(len(actions))

    def run(action: Action) -> object:
        barrier.wait(30)
        return closing(action)

    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.result(60) for future in [pool.submit(run, action) for action in actions]]


def fresh(status: UserTaskStatus) -> UserTaskStatus:
    return UserTaskStatus.objects.get(pk=status.pk)


def running(make_status: MakeStatus, **fields: Any) -> UserTaskStatus:
    status = make_status(**fields)
    recording.started(status.task_id)
    return fresh(status)


def cancel(status: UserTaskStatus) -> str:
    """Cancel as a view does, and return the state that the view shows then."""
    found = fresh(status)
    found.cancel()
    return found.state


def take_steps_until_halted(status: UserTaskStatus) -> None:
    for _ in range(10**6):
        try:
            status.increment_completed_steps()
        except TaskCanceledException:
            return
    raise AssertionError("The task was not halted.")


def told(stopped: list[UserTaskStatus]) -> Counter[str]:
    return Counter(status.task_id for status in stopped)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_cancel_against_start(make_status: MakeStatus, stopped: list[UserTaskStatus], round_: int) -> None:
    status = make_status()

    def work() -> bool:
        """Begin as a worker does, and tell whether the first line would run."""
        found = recording.started(status.task_id)
        runs = found is not None and found.state != State.CANCELED
        if runs:
            assert found is not None
            take_steps_until_halted(found)
        recording.ended(status.task_id)
        return runs

    _shown, ran = race(partial(cancel, status), work)

    end = fresh(status)
    assert (end.state, bool(end.finished)) == ("Canceled", True)
    assert ran or end.completed_steps == 0
    assert told(stopped) == {status.task_id: 1}


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_cancel_against_the_end(
    make_status: MakeStatus, stopped: list[UserTaskStatus], outcome: str, round_: int
) -> None:
    status = running(make_status)
    end: Action = partial(recording.succeeded, status.task_id)
    if outcome == "failed":
        end = partial(recording.failed, status.task_id, "bad row")

    shown, _ = race(partial(cancel, status), end)

    final = fresh(status)
    assert final.state == shown
    assert final.state in {State.CANCELED, State.SUCCEEDED if outcome == "succeeded" else State.FAILED}
    assert final.finished
    assert told(stopped) == {status.task_id: 1}
    assert final.artifacts.count() == (final.state == State.FAILED)


@pytest.mark.parametrize("ends", [("succeeded", "succeeded"), ("failed", "succeeded"), ("failed", "failed")])
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_the_last_two_members_of_a_group(
    make_status: MakeStatus,
    make_container: MakeStatus,
    stopped: list[UserTaskStatus],
    ends: tuple[str, str],
    round_: int,
) -> None:
    container = make_container(GROUP)
    members = [running(make_status, parent=fresh(container), total_steps=2) for _ in ends]

    def end(member: UserTaskStatus, outcome: str) -> None:
        if outcome == "failed":
            recording.failed(member.task_id, "bad row")
        else:
            recording.succeeded(member.task_id)

    race(*(partial(end, member, outcome) for member, outcome in zip(members, ends, strict=True)))

    final = fresh(container)
    assert (final.state, bool(final.finished)) == ("Failed" if "failed" in ends else "Succeeded", True)
    assert final.completed_steps == sum(fresh(member).completed_steps for member in members)
    assert final.total_steps == 4
    assert final.artifacts.count() == ends.count("failed")
    assert told(stopped) == dict.fromkeys([container.task_id, *(member.task_id for member in members)], 1)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_link_that_fails_against_the_cancelation_of_its_chain(
    make_status: MakeStatus, make_container: MakeStatus, stopped: list[UserTaskStatus], round_: int
) -> None:
    container = make_container(CHAIN)
    first = running(make_status, parent=fresh(container))
    second = make_status(parent=fresh(container), due=None)

    race(partial(recording.failed, first.task_id, "bad row"), partial(cancel, container))

    recording.ended(first.task_id)
    assert fresh(first).state in {State.FAILED, State.CANCELED}
    assert fresh(second).state == State.CANCELED
    assert all(fresh(status).finished for status in (container, first, second))
    assert told(stopped) == dict.fromkeys([container.task_id, first.task_id, second.task_id], 1)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_message_that_is_delivered_twice_at_once(
    make_status: MakeStatus, make_container: MakeStatus, stopped: list[UserTaskStatus], round_: int
) -> None:
    container = make_container(GROUP)
    status = make_status(parent=fresh(container), total_steps=3)

    def work() -> None:
        """Execute it as a worker's process does, which tries again what MariaDB calls a deadlock."""
        heart.take(status.pk)
        try:
            outages.survive(lambda: recording.started(status.task_id))
            recording.succeeded(status.task_id)
        finally:
            heart.leave(status.pk)

    race(work, work)

    final, outer = fresh(status), fresh(container)
    assert (final.state, outer.state) == ("Succeeded", "Succeeded")
    assert (final.completed_steps, final.total_steps) == (3, 3)
    assert (outer.completed_steps, outer.total_steps) == (3, 3)
    assert final.attempts in {1, 2}
    assert told(stopped) == {status.task_id: 1, container.task_id: 1}


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_message_that_is_published_twice_at_once_is_recorded_once(owner: User, round_: int) -> None:
    plan = [
        Node("outer", CHAIN, owner.pk, is_container=True),
        Node("one", "shop.export", owner.pk, "outer", describe=lambda: Description("One", 2)),
        Node("two", "shop.export", owner.pk, "outer", describe=lambda: Description("Two", 3)),
    ]

    race(partial(recording.enqueued, plan), partial(recording.enqueued, plan))

    assert sorted(UserTaskStatus.objects.values_list("task_id", "total_steps")) == [
        ("one", 2),
        ("outer", 5),
        ("two", 3),
    ]


@pytest.mark.parametrize("way", ["delete", "purge"])
@pytest.mark.parametrize("round_", range(5))
def test_a_row_that_is_deleted_while_its_task_takes_steps(
    make_status: MakeStatus, stopped: list[UserTaskStatus], way: str, round_: int
) -> None:
    status = running(make_status, total_steps=10**6)
    begun = Event()

    def work() -> None:
        found = fresh(status)
        begun.set()
        heart.take(status.pk)
        try:
            take_steps_until_halted(found)
            recording.ended(status.task_id)
        finally:
            heart.leave(status.pk)

    def delete() -> None:
        assert begun.wait(30)
        if way == "delete":
            removal.delete(fresh(status))
        else:
            UserTaskStatus.objects.filter(pk=status.pk).delete()

    race(work, delete)

    assert not UserTaskStatus.objects.exists()
    assert told(stopped)[status.task_id] <= 1


@pytest.mark.parametrize("round_", range(5))
def test_a_member_that_is_deleted_while_its_siblings_end(
    make_status: MakeStatus, make_container: MakeStatus, stopped: list[UserTaskStatus], round_: int
) -> None:
    container = make_container(GROUP)
    members = [running(make_status, parent=fresh(container), total_steps=4) for _ in range(3)]

    race(
        lambda: removal.delete(fresh(members[0])),
        *(partial(recording.succeeded, member.task_id) for member in members[1:]),
    )

    final = fresh(container)
    assert final.finished
    assert (final.completed_steps, final.total_steps) == (8, 8)
    assert told(stopped)[container.task_id] == 1


@pytest.mark.parametrize("ends", ["committed", "rolled back"])
def test_a_task_that_starts_before_its_publisher_has_committed(owner: User, ends: str) -> None:
    """Its row appears with the commit, or is made by the worker; there is one in either case."""
    recorded, done = Event(), Event()
    plan = [Node("early", racing.name, owner.pk, describe=lambda: Description("Early", 1))]

    def publish() -> None:
        with transaction.atomic():
            recording.enqueued(plan)
            recorded.set()
            done.wait(0.5)
            transaction.set_rollback(ends != "committed")

    def work() -> UserTaskStatus:
        assert recorded.wait(30)
        try:
            return executions.begin(racing, "early", (), {"user_id": owner.pk})
        finally:
            done.set()

    with ThreadPoolExecutor(2) as pool:
        futures: list[Future[Any]] = [pool.submit(closing, publish), pool.submit(closing, work)]
        status = futures[1].result(60)
        futures[0].result(60)

    assert fresh(status).state == State.IN_PROGRESS
    assert UserTaskStatus.objects.count() == 1
    assert fresh(status).name == ("Early" if ends == "committed" else "racing")


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_task_that_is_taken_for_lost_while_it_shows_life(
    make_status: MakeStatus, make_container: MakeStatus, stopped: list[UserTaskStatus], round_: int
) -> None:
    container = make_container(CHAIN)
    status = running(make_status, parent=fresh(container), total_steps=2)
    following = make_status(parent=fresh(container), due=None)
    silent = fresh(status)

    race(partial(transitions.lose, silent, "silent"), partial(recording.succeeded, status.task_id))

    recording.succeeded(status.task_id)
    assert (fresh(status).state, fresh(status).lost) == ("Succeeded", False)
    assert fresh(status).artifacts.count() == 0
    assert told(stopped)[status.task_id] in {1, 2}
    assert fresh(following).state in {State.PENDING, State.CANCELED}


def test_a_transaction_that_waits_does_not_keep_a_task_from_its_steps(make_status: MakeStatus) -> None:
    """Reading never waits for a publisher's transaction; on SQLite writing does, for as long as that takes."""
    status = running(make_status, total_steps=3)
    holding, release = Event(), Event()

    def hold() -> None:
        with transaction.atomic():
            list(UserTaskStatus.objects.all())
            holding.set()
            release.wait(30)

    with ThreadPoolExecutor(2) as pool:
        holder = pool.submit(closing, hold)
        assert holding.wait(30)
        step = pool.submit(closing, fresh(status).increment_completed_steps)
        try:
            step.result(1 if connection.vendor == "sqlite" else 30)
        except NotDone:
            assert connection.vendor == "sqlite"
        release.set()
        holder.result(60)
        step.result(60)

    assert fresh(status).completed_steps == 1
