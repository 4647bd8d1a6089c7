"""Fixtures of our own tests, at the root: a suite dropped into ``tests/`` brings its own ``conftest.py``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from user_tasks import user_task_stopped, user_tasks_revoked
from user_tasks.models import UserTaskArtifact, UserTaskStatus

if TYPE_CHECKING:
    from pytest_django import Settings

    from workers import Route, Worker, Workers


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    """Return a factory of users, named one by one unless told otherwise."""
    numbers = count(1)

    def make(username: str | None = None, **fields: Any) -> User:
        return User.objects.create_user(username or f"user{next(numbers)}", **fields)

    return make


@pytest.fixture
def owner(make_user: Callable[..., User]) -> User:
    """The user whom statuses belong to unless they are given another."""
    return make_user("owner")


@pytest.fixture
def make_status(owner: User) -> Callable[..., UserTaskStatus]:
    """Return a factory of statuses; the steps of a task are added to its containers, as at its enqueuing."""

    def make(**fields: Any) -> UserTaskStatus:
        values = {"user": owner, "task_id": str(uuid4()), "task_class": "shop.export", "name": "Export"}
        status = UserTaskStatus.objects.create(**{**values, "total_steps": 1, "due": timezone.now(), **fields})
        container = status.parent
        while container is not None:
            container.total_steps += status.total_steps
            container.save()
            container = container.parent
        return status

    return make


@pytest.fixture
def make_container(make_status: Callable[..., UserTaskStatus]) -> Callable[..., UserTaskStatus]:
    """Return a factory of empty chains, groups and chords, by their task class."""

    def make(task_class: str, **fields: Any) -> UserTaskStatus:
        return make_status(**{"task_class": task_class, "is_container": True, "total_steps": 0, "due": None, **fields})

    return make


@pytest.fixture
def make_artifact() -> Callable[..., UserTaskArtifact]:
    """Return a factory of artifacts."""

    def make(status: UserTaskStatus, **fields: Any) -> UserTaskArtifact:
        return UserTaskArtifact.objects.create(status=status, **fields)

    return make


@pytest.fixture
def stopped() -> Iterator[list[UserTaskStatus]]:
    """The statuses that `user_task_stopped` was sent with, in order."""
    statuses: list[UserTaskStatus] = []

    def receive(sender: type[UserTaskStatus], status: UserTaskStatus, **_: Any) -> None:
        assert sender is UserTaskStatus
        statuses.append(status)

    user_task_stopped.connect(receive)
    yield statuses
    user_task_stopped.disconnect(receive)


@pytest.fixture
def revoked() -> Iterator[list[str]]:
    """The task ids that `user_tasks_revoked` was sent with, in order."""
    ids: list[str] = []

    def receive(task_ids: list[str], **_: Any) -> None:
        ids.extend(task_ids)

    user_tasks_revoked.connect(receive)
    yield ids
    user_tasks_revoked.disconnect(receive)


@pytest.fixture(scope="session", autouse=True)
def _queue() -> Iterator[None]:
    """Remove this process's queue from a real broker in the end, with what tests have published and nobody took."""
    yield
    if "CELERY_BROKER_URL" in os.environ:
        from workers import delete_queue

        delete_queue(settings.CELERY_DEFAULT_QUEUE, settings.BROKER_URL)


@pytest.fixture(scope="session")
def workers(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """The workers of the session, which use the test database."""
    from workers import Workers

    started = Workers(tmp_path_factory.mktemp("broker"))
    yield started
    started.stop()


@pytest.fixture(params=[2, 1], ids=["protocol2", "protocol1"])
def protocol(request: pytest.FixtureRequest) -> int:
    """The version of Celery's message protocol: what uses it, or a worker, is run with each."""
    version: int = request.param
    return version


@pytest.fixture
def publish_to(transactional_db: None, settings: Settings, workers: Workers) -> Iterator[Callable[[Route], None]]:
    """Return a function that makes this process publish where a worker listens, for the rest of the test."""
    from worker_tasks import note_stop
    from workers import forget_broker

    def publish(route: Route) -> None:
        for name, value in route.settings().items():
            setattr(settings, name, value)
        forget_broker()

    user_task_stopped.connect(note_stop)
    yield publish
    user_task_stopped.disconnect(note_stop)
    forget_broker()


@pytest.fixture
def worker(
    request: pytest.FixtureRequest, workers: Workers, protocol: int, publish_to: Callable[[Route], None]
) -> Iterator[Worker]:
    """A running worker, shared with other tests, to which this process publishes."""
    worker = workers.shared(protocol)
    publish_to(worker.route)
    start = len(worker.log())
    yield worker
    request.node.add_report_section("teardown", "worker", worker.log()[start:])


@pytest.fixture
def start_worker(
    request: pytest.FixtureRequest, workers: Workers, protocol: int, publish_to: Callable[[Route], None]
) -> Iterator[Callable[..., Worker]]:
    """Return a function that starts a worker; messages published before wait for it."""
    from workers import Route, Worker

    route = Route(workers.folder, protocol)
    publish_to(route)
    started: list[Worker] = []

    def start(**options: Any) -> Worker:
        started.append(Worker(route, **options))
        return started[-1].wait_until_ready()

    yield start
    for worker in started:
        worker.stop()
        request.node.add_report_section("teardown", "worker", worker.log())
