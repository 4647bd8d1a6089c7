"""Databases, brokers, result backends and disks that fail while tasks run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError as DatabaseAway
from django.db import connection, transaction
from kombu.exceptions import OperationalError as BrokerAway
from testfixtures import LogCapture

import fault_tasks
from fault_tasks import open_gate
from faults import FragileRoute, FragileWorker, PostgreSQLServer, RedisServer
from test_reliability import at_rest, errors, numbers, row, seen, stops
from user_tasks import outages
from user_tasks.models import UserTaskStatus
from user_tasks.states import State
from worker_tasks import notes
from workers import Workers, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.faults]

UNSENT = "The task could not be handed over to a worker."

StartFragile = Callable[..., FragileWorker]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQLServer]:
    """A running PostgreSQL that nobody else uses."""
    with TemporaryDirectory() as folder:
        server = PostgreSQLServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def own_database(
    transactional_db: None, postgresql: PostgreSQLServer, make_user: Callable[..., User]
) -> Iterator[PostgreSQLServer]:
    """The server that this process, and the workers that it starts, use during the test."""
    assert connection.vendor == "postgresql", "Run these tests with a DATABASE_URL of PostgreSQL."
    before = dict(connection.settings_dict)
    connection.close()
    place = {"HOST": "127.0.0.1", "PORT": str(postgresql.port), "NAME": "postgres", "USER": "postgres", "PASSWORD": ""}
    connection.settings_dict.update(place)
    call_command("migrate", verbosity=0)
    yield postgresql
    if not postgresql.runs:
        postgresql.start()  # the test has failed, and others need it
    UserTaskStatus.objects.all().delete()
    User.objects.all().delete()
    connection.close()
    connection.settings_dict.update(before)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RedisServer]:
    """A broker that the test may stop."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


def restart(server: PostgreSQLServer) -> None:
    server.stop()
    connection.close()
    server.start()


def test_a_database_that_restarts_between_two_steps(
    own_database: PostgreSQLServer, start_fragile: StartFragile
) -> None:
    user = User.objects.create_user("walker")
    start_fragile(concurrency=1)
    result = fault_tasks.walking.delay(user.pk, ["restart 1", "restart 2"])
    seen(result.id, "at restart 1")

    restart(own_database)
    open_gate("restart 1")
    seen(result.id, "at restart 2")
    restart(own_database)
    open_gate("restart 2")

    assert numbers(at_rest(result.id)) == ("Succeeded", 3, 3, 1)
    assert stops(result.id) == ["stopped Succeeded"]


@pytest.mark.parametrize("moment", ["step", "end"])
def test_a_database_that_is_away_when_a_task_reports(
    own_database: PostgreSQLServer, start_fragile: StartFragile, moment: str
) -> None:
    user = User.objects.create_user("walker")
    worker = start_fragile(concurrency=1)
    task = fault_tasks.walking if moment == "step" else fault_tasks.busy
    result = task.delay(user.pk, [f"away {moment}"] if moment == "step" else f"away {moment}")
    seen(result.id, "at away step" if moment == "step" else "ran")

    own_database.stop()
    connection.close()
    open_gate(f"away {moment}")
    wait_for(lambda: "heartbeat of 1 tasks could not be written" in worker.log(), "A failed beat")
    own_database.start()

    steps = 2 if moment == "step" else 1
    assert numbers(at_rest(result.id)) == ("Succeeded", steps, steps, 1)
    assert stops(result.id) == ["stopped Succeeded"]


@pytest.fixture
def executing() -> Iterator[None]:
    """A process that executes a task, of which nothing is known yet."""
    outages.executions.begin()
    yield
    outages.executions.end()


class Away:
    """A database that is away for so many tries."""

    def __init__(self, times: float) -> None:
        self.times = times
        self.tries = 0

    def __call__(self) -> str:
        self.tries += 1
        if self.tries <= self.times:
            raise DatabaseAway("away")
        return "there"


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.parametrize("tries", [1, 4])
def test_a_process_that_executes_nothing_tries_without_a_pause(monkeypatch: pytest.MonkeyPatch, tries: int) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("user_tasks.outages.time.sleep", pauses.append)
    database = Away(inf)

    with pytest.raises(DatabaseAway):
        outages.survive(database, tries=tries)

    assert (database.tries, pauses) == (tries, [])


@pytest.mark.usefixtures("transactional_db")
def test_a_process_that_executes_nothing_does_not_wait_twice_for_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "HASTE", -1.0)
    database = Away(inf)

    with pytest.raises(DatabaseAway):
        outages.survive(database, tries=4)

    assert database.tries == 1


@pytest.mark.usefixtures("transactional_db", "executing")
def test_the_work_of_a_project_without_autocommit_is_not_tried_again() -> None:
    database = Away(inf)
    transaction.set_autocommit(False)

    try:
        with pytest.raises(DatabaseAway):
            outages.survive(database, tries=4)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)

    assert database.tries == 1


@pytest.mark.usefixtures("transactional_db", "executing")
def test_the_beginning_of_a_task_is_tried_again() -> None:
    database = Away(1)

    assert outages.survive(database) == "there"
    assert database.tries == 2


@pytest.mark.usefixtures("transactional_db", "executing")
def test_the_work_of_a_transaction_is_not_tried_again() -> None:
    database = Away(inf)

    with pytest.raises(DatabaseAway), transaction.atomic():
        outages.survive(database)

    assert database.tries == 1


@pytest.mark.usefixtures("transactional_db", "executing")
def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.3)
    database = Away(inf)

    with pytest.raises(DatabaseAway):
        outages.survive(database)

    assert 2 <= database.tries <= 5


def test_a_broker_that_restarts_while_a_task_runs(
    start_fragile: StartFragile, workers: Workers, broker: RedisServer, owner: User
) -> None:
    start_fragile(FragileRoute(workers.folder, broker=broker.url), concurrency=1)
    running = fault_tasks.walking.delay(owner.pk, ["broker restarts"])
    seen(running.id, "at broker restarts")

    broker.stop()
    broker.start()
    open_gate("broker restarts")
    following = fault_tasks.walking.delay(owner.pk, [])

    assert numbers(at_rest(running.id)) == ("Succeeded", 2, 2, 1)
    assert numbers(at_rest(following.id)) == ("Succeeded", 1, 1, 1)


def test_a_broker_that_is_down_does_not_stop_a_cancel(
    publish_to: Callable[[FragileRoute], None],
    start_fragile: StartFragile,
    workers: Workers,
    broker: RedisServer,
    owner: User,
) -> None:
    route = FragileRoute(workers.folder, broker=broker.url)
    publish_to(route)
    result = fault_tasks.walking.delay(owner.pk, [])
    broker.stop()

    with LogCapture("user_tasks.signals") as log:
        row(result.id).cancel()
    assert numbers(at_rest(result.id)) == ("Canceled", 0, 1, 1)
    assert "could not be told" in str(log)
    broker.start()
    start_fragile(route, concurrency=1)

    seen(result.id, "ended")
    assert "ran" not in notes(result.id)
    assert numbers(row(result.id)) == ("Canceled", 0, 1, 1)
    assert stops(result.id) == ["stopped Canceled"]


def test_a_task_that_cannot_be_handed_over_fails_and_the_caller_is_told(
    publish_to: Callable[[FragileRoute], None], workers: Workers, broker: RedisServer, owner: User, settings: Any
) -> None:
    publish_to(FragileRoute(workers.folder, broker=broker.url))
    settings.CELERY_PUBLISH_RETRY = False
    settings.CELERY_TASK_PUBLISH_RETRY = False
    broker.stop()

    with pytest.raises(BrokerAway):
        fault_tasks.walking.apply_async((owner.pk, []), retry=False)

    status = UserTaskStatus.objects.get()
    assert (status.state, errors(status), bool(status.finished)) == ("Failed", [UNSENT], True)


def test_a_result_backend_that_is_gone(start_fragile: StartFragile, broker: RedisServer, owner: User) -> None:
    policy = {"retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}}
    overrides = {"CELERY_RESULT_BACKEND": broker.url, "CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS": policy}
    start_fragile(concurrency=1, overrides=overrides)
    broker.stop()

    result = fault_tasks.walking.delay(owner.pk, [])

    status = at_rest(result.id)
    assert status.state in {State.SUCCEEDED, State.FAILED}
    assert len(stops(result.id)) == 1
    assert bool(errors(status)) == (status.state == State.FAILED)


def test_a_disk_that_is_full(start_fragile: StartFragile, owner: User) -> None:
    start_fragile(concurrency=1, overrides={"USER_TASKS_ARTIFACT_STORAGE": "fault_storage.FullStorage"})

    result = fault_tasks.storing.delay(owner.pk, 10**6)

    status = at_rest(result.id)
    assert status.state == State.FAILED
    wait_for(partial(errors, status))
    assert "No space left on device" in errors(status)[0]
    assert not status.artifacts.exclude(name="Error").exists()
