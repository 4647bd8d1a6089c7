"""What two processes do to a row at the same moment, each on a database connection of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest
from celery import shared_task
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings

from user_tasks import executions, outages, recording, removal, transitions
from user_tasks.containers import CHAIN, GROUP
from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskArtifact, UserTaskStatus
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


@contextmanager
def executing() -> Iterator[None]:
    """Be a process that executes a task, which is patient with the database."""
    outages.executions.begin()
    try:
        yield
    finally:
        outages.executions.end()


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


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_two_files_that_take_the_place_of_one(
    make_status: MakeStatus, settings: Settings, tmp_path: Path, round_: int
) -> None:
    settings.MEDIA_ROOT = str(tmp_path)
    artifact = make_status().add_artifact(file=b"old", file_name="table.csv")

    def replace(name: str) -> None:
        UserTaskArtifact.objects.get(pk=artifact.pk).file.save(name, ContentFile(b"new"))

    race(partial(replace, "first.csv"), partial(replace, "second.csv"))

    artifact.refresh_from_db()
    assert [path.name for path in tmp_path.rglob("*.csv")] == [Path(str(artifact.file.name)).name]


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


@pytest.mark.parametrize("group_is", ["canceled", "canceled, and then not"])
def test_a_member_that_joins_a_group_whose_cancelation_is_not_committed_yet(
    owner: User, make_container: MakeStatus, make_status: MakeStatus, group_is: str
) -> None:
    group = make_container(GROUP, task_id="group", state="In Progress")
    make_status(parent=group)
    plan = [
        Node("group", GROUP, owner.pk, is_container=True),
        Node("late", racing.name, owner.pk, "group", describe=lambda: Description("Late", 1)),
    ]
    canceled, joined = Event(), Event()

    def cancel_group() -> None:
        with transaction.atomic():
            cancel(group)
            canceled.set()
            joined.wait(0.5)
            transaction.set_rollback(group_is != "canceled")

    def join() -> None:
        assert canceled.wait(30)
        try:
            recording.enqueued(plan)
        finally:
            joined.set()

    race(cancel_group, join)

    late = UserTaskStatus.objects.get(task_id="late")
    expected = State.CANCELED if group_is == "canceled" else "Pending"
    assert (late.state, fresh(group).total_steps) == (expected, 2)


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
        with executing():
            outages.survive(lambda: recording.started(status.task_id))
            recording.succeeded(status.task_id)

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
        with executing():
            take_steps_until_halted(found)
            recording.ended(status.task_id)

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

    def work() -> None:
        assert recorded.wait(30)
        try:
            executions.begin(racing, "early", (), {"user_id": owner.pk})
        finally:
            done.set()

    with ThreadPoolExecutor(2) as pool:
        futures: list[Future[Any]] = [pool.submit(closing, publish), pool.submit(closing, work)]
        for future in futures:
            future.result(60)

    status = UserTaskStatus.objects.get()
    assert status.state == State.IN_PROGRESS
    assert status.name == ("Early" if ends == "committed" else "racing")


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


@pytest.fixture
def snapshot(db: None) -> Iterator[None]:
    """A connection whose transactions read what there was when they first read, where InnoDB does so by default."""
    connection.close()
    if connection.vendor == "mysql":
        # Elsewhere what is read so cannot be written over.
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    yield
    connection.close()


@pytest.mark.services
def test_a_cancelation_that_still_sees_as_waiting_what_has_ended(
    make_status: MakeStatus, make_container: MakeStatus, stopped: list[UserTaskStatus], snapshot: None
) -> None:
    container = make_container(GROUP)
    ended, waiting = (make_status(parent=fresh(container)) for _ in range(2))

    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        found = fresh(container)
        for end in (recording.started, recording.succeeded):
            pool.submit(closing, partial(end, ended.task_id)).result(60)
        found.cancel()

    assert (fresh(ended).state, fresh(waiting).state) == ("Succeeded", "Canceled")
    assert told(stopped)[ended.task_id] == told(stopped)[waiting.task_id] == 1


def test_a_cancelation_between_the_look_and_the_start_leaves_the_steps(make_status: MakeStatus) -> None:
    status = make_status(state="Retrying", total_steps=10, completed_steps=4, started=timezone.now())
    read_before = fresh(status)
    fresh(status).cancel()

    assert not transitions.execute(read_before, lambda: 10)

    assert (fresh(status).state, fresh(status).completed_steps) == ("Canceled", 4)
