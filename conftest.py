"""Fixtures of our own tests, at the root: a suite dropped into ``tests/`` brings its own ``conftest.py``."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections, models
from django.utils import timezone, translation
from rules.permissions import permissions

from user_tasks import outages, user_task_stopped, user_tasks_revoked
from user_tasks.heartbeat import heart
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.rules import add_rules

if TYPE_CHECKING:
    from pytest_django import Settings
    from pytest_django.live_server_helper import LiveServer

    from browsers import Browser
    from faults import FragileRoute, FragileWorker, RedisServer
    from workers import Route, Worker, Workers


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what a test printed fit for pytest-xdist, which sends UTF-8: lone surrogates have no place in that."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def default_language() -> Iterator[None]:
    """Undo what `LocaleMiddleware` leaves behind: the language of a request stays that of its thread."""
    yield
    translation.deactivate()


@pytest.fixture(autouse=True)
def calm_heart() -> Iterator[None]:
    """End the executions that a test has only begun, or their rows would be kept alive in a database that is gone."""
    yield
    vars(heart)["_executed"].clear()
    outages.executions.count = 0


@pytest.fixture
def rule_set() -> Iterator[dict[str, Any]]:
    """The rules in force, put back afterwards."""
    before = dict(permissions)
    yield permissions
    permissions.clear()
    permissions.update(before)


@pytest.fixture
def package_rules(rule_set: dict[str, Any]) -> None:
    """The rules of the package in force, for one test."""
    add_rules()


class ReplicaRouter:
    """Reads from a replica, as the documentation shows it."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, obj1: Any, obj2: Any, **hints: Any) -> bool:
        return True


@pytest.fixture
def replica(db: None, settings: Settings) -> Iterator[None]:
    """A replica to read from, so far behind that it has no tables yet: whoever asks it anything gets an error."""
    databases = connections.settings
    databases["replica"] = {**databases["default"], "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    databases["replica"]["OPTIONS"] = {}
    settings.DATABASE_ROUTERS = [ReplicaRouter()]
    yield
    settings.DATABASE_ROUTERS = []
    connections["replica"].close()
    del connections["replica"], databases["replica"]


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
def make_holder(transactional_db: None) -> Iterator[Callable[[Any], type[models.Model]]]:
    """Return a factory of tables whose rows refer to statuses, by what happens to them when a status is deleted."""
    made: list[Any] = []

    def make(on_delete: Any) -> type[models.Model]:
        class Invoice(models.Model):
            status = models.ForeignKey(UserTaskStatus, on_delete=on_delete, related_name="+")

            class Meta:
                app_label = "user_tasks"

            def __str__(self) -> str:
                return "Invoice of the month"

        made.append(Invoice)
        with connection.schema_editor() as editor:
            editor.create_model(Invoice)
        return Invoice

    yield make
    for model in made:
        with connection.schema_editor() as editor:
            editor.delete_model(model)
        del apps.all_models["user_tasks"][model._meta.model_name]
    apps.clear_cache()


@pytest.fixture
def lose_commit(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes the answer to one of the next commits be lost, counted from 1."""

    def lose(number: int) -> None:
        commit = connection._commit  # type: ignore[attr-defined]  # not in the stubs
        commits = count(1)

        def committed() -> None:
            commit()
            if next(commits) == number:
                raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(connection, "_commit", committed)

    return lose


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
def team(
    request: pytest.FixtureRequest, workers: Workers, protocol: int, publish_to: Callable[[Route], None]
) -> Iterator[None]:
    """Two workers with several processes each, to which this process publishes."""
    from workers import wait_until_idle

    members = workers.team(protocol)
    publish_to(members[0].route)
    starts = [len(worker.log()) for worker in members]
    yield
    wait_until_idle(members)  # while they write, the tables cannot be emptied
    for worker, start in zip(members, starts, strict=True):
        request.node.add_report_section("teardown", "worker", worker.log()[start:])


@pytest.fixture
def threads(workers: Workers, protocol: int, publish_to: Callable[[Route], None]) -> None:
    """A worker with several threads in this process, to which it publishes."""
    publish_to(workers.inner_route(protocol))
    workers.start_inner()


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


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running Redis that nobody else uses."""
    from faults import RedisServer

    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def start_fragile(
    request: pytest.FixtureRequest, workers: Workers, publish_to: Callable[[Route], None], redis_server: RedisServer
) -> Iterator[Callable[..., FragileWorker]]:
    """Return a function that starts a worker to do harm to, by default on the first one's queue."""
    from faults import FragileRoute, FragileWorker

    started: list[FragileWorker] = []

    def start(route: FragileRoute | None = None, **options: Any) -> FragileWorker:
        if started and route is None:
            route = started[0].fragile_route
        elif route is None:
            route = FragileRoute(workers.folder, broker=redis_server.url, overrides=options.pop("overrides", {}))
        publish_to(route)
        started.append(FragileWorker(route, name=f"worker{len(started)}", **options))
        started[-1].wait_until_ready()
        return started[-1]

    yield start
    for worker in started:
        worker.discard()
        request.node.add_report_section("teardown", "worker", worker.log())


@pytest.fixture(scope="session")
def open_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Browser]]:
    """Return a function that opens another browser."""
    from browsers import Browser

    opened: list[Browser] = []

    def open_(**options: Any) -> Browser:
        opened.append(Browser(tmp_path_factory.mktemp("profile"), **options))
        return opened[-1]

    yield open_
    for browser in opened:
        browser.quit()


@pytest.fixture(scope="session")
def shared_browser(open_browser: Callable[..., Browser]) -> Browser:
    """One browser for all tests that can share it."""
    return open_browser()


@pytest.fixture
def site(transactional_db: None, settings: Settings, package_rules: None) -> Iterator[LiveServer]:
    """A running site, under a strict policy."""
    from pytest_django.live_server_helper import LiveServer

    import browser_settings

    for name in ("ALLOWED_HOSTS", "MIDDLEWARE", "ROOT_URLCONF"):
        setattr(settings, name, getattr(browser_settings, name))
    server = LiveServer("localhost")
    yield server
    server.stop()


@pytest.fixture
def browser(shared_browser: Browser, site: LiveServer, owner: User) -> Iterator[Browser]:
    """A browser in which the owner is logged in, which has nothing to complain about."""
    shared_browser.show_as()
    shared_browser.driver.get(f"{site.url}/static/user_tasks/user_tasks.css")
    shared_browser.driver.delete_all_cookies()
    shared_browser.log_in(site.url, owner)
    shared_browser.complaints()
    yield shared_browser
    complaints = [text for text in shared_browser.complaints() if "favicon" not in text]
    shared_browser.driver.get("about:blank")
    assert not complaints
