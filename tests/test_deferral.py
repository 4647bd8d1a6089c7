"""Messages that are sent with the transaction in which they were published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import chain, chord, current_app, group, shared_task
from celery.result import AsyncResult
from celery.signals import after_task_publish
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError
from testfixtures import LogCapture

from user_tasks.models import UserTaskStatus
from user_tasks.tasks import UserTask
from workers import forget_broker

pytestmark = pytest.mark.django_db(transaction=True)

UNSENT = "The task could not be handed over to a worker."


@shared_task(base=UserTask, bind=True, ignore_result=False)
def deferred(self: Any, *_results: Any, user_id: Any) -> None:
    """Be published only."""


class Refusing(UserTask):
    """A project's own way of publishing, which fails."""

    abstract = True

    def apply_async(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("The tenant is not known.")


@shared_task(base=Refusing)
def refused(user_id: Any) -> None:
    """Be published only."""


@shared_task(ignore_result=False)
def other(*_results: Any) -> None:
    """Be none of ours."""


@pytest.fixture
def sent() -> Iterator[list[str]]:
    """The ids of the tasks whose messages have left."""
    ids: list[str] = []

    def note(sender: str, headers: dict[str, Any], **_: Any) -> None:
        if sender != "celery.chord_unlock":
            ids.append(headers["id"])

    after_task_publish.connect(note)
    # Celery 5.4 goes on with the receivers that there were when it first published.
    forget_broker()
    yield ids
    after_task_publish.disconnect(note)


@pytest.fixture(autouse=True)
def _on_commit(settings: Any) -> None:
    settings.USER_TASKS_PUBLISH_ON_COMMIT = True


def canvases(pk: int) -> dict[str, Callable[[], Any]]:
    ours = deferred.s(user_id=pk)
    return {
        "task": lambda: deferred.delay(user_id=pk),
        "task with options": lambda: deferred.apply_async(kwargs={"user_id": pk}, countdown=3, task_id="chosen"),
        "by name": lambda: current_app.send_task(deferred.name, kwargs={"user_id": pk}),
        "chain": lambda: chain(ours, other.s(), ours).delay(),
        "chain that begins with another": lambda: chain(other.s(), ours).delay(),
        "group": lambda: group(ours, other.s(), ours).delay(),
        "group of chains": lambda: group(chain(ours, ours), chain(other.s(), other.s())).delay(),
        "chord": lambda: chord([ours, other.s(), ours], ours).delay(),
        "chord whose body alone is ours": lambda: chord([other.s(), other.s()], ours).delay(),
        "chord in a chain": lambda: chain(ours, group(ours, ours), ours).delay(),
        "callback": lambda: other.apply_async(link=ours),
    }


@pytest.mark.parametrize("kind", canvases(0))
def test_what_is_published_in_a_transaction_is_recorded_at_once_and_sent_after_it(
    owner: User, sent: list[str], kind: str
) -> None:
    publish = canvases(owner.pk)[kind]
    with transaction.atomic():
        publish()
        recorded = set(UserTaskStatus.objects.values_list("task_id", flat=True))
        assert sent == []
    sent_later, rows = len(sent), UserTaskStatus.objects.count()

    assert recorded == set(UserTaskStatus.objects.values_list("task_id", flat=True))
    assert recorded or kind == "callback"
    sent.clear()
    UserTaskStatus.objects.all().delete()
    if "options" not in kind:
        publish()
        assert (len(sent), UserTaskStatus.objects.count()) == (sent_later, rows)


@pytest.mark.parametrize("kind", canvases(0))
def test_a_rollback_leaves_neither_row_nor_message(owner: User, sent: list[str], kind: str) -> None:
    with transaction.atomic():
        canvases(owner.pk)[kind]()
        transaction.set_rollback(True)

    assert sent == []
    assert not UserTaskStatus.objects.exists()


def test_a_savepoint_that_is_rolled_back_takes_its_own_with_it(owner: User, sent: list[str]) -> None:
    with transaction.atomic():
        kept = deferred.delay(user_id=owner.pk)
        with transaction.atomic():
            group(deferred.s(user_id=owner.pk), deferred.s(user_id=owner.pk)).delay()
            transaction.set_rollback(True)

    assert sent == [kept.id]
    assert [status.task_id for status in UserTaskStatus.objects.all()] == [kept.id]


def test_the_results_are_those_of_the_messages(owner: User, sent: list[str]) -> None:
    ours = deferred.s(user_id=owner.pk)
    with transaction.atomic():
        single = deferred.delay(user_id=owner.pk)
        members: Any = group(ours, ours).delay()
        links: Any = chain(ours, ours).delay()

    assert sent == [single.id, *(child.id for child in members.children), links.parent.id]
    assert isinstance(single, AsyncResult)
    assert isinstance(links, AsyncResult)
    group_row = UserTaskStatus.objects.get(task_class="celery.group")
    assert group_row.task_id == members.id
    assert UserTaskStatus.objects.filter(task_id=links.id, due=None).exists()


def test_a_delay_counts_as_the_time_at_which_it_is_due(owner: User) -> None:
    before = timezone.now()
    with transaction.atomic():
        plain = deferred.apply_async(kwargs={"user_id": owner.pk}, countdown=600)
        by_method = deferred.apply_async_on_commit(kwargs={"user_id": owner.pk}, eta=before + timedelta(seconds=600))

    for result in (plain, by_method):
        due = UserTaskStatus.objects.get(task_id=result.id).due
        assert due is not None
        assert timedelta(seconds=600) <= due - before < timedelta(seconds=620)


def test_outside_a_transaction_nothing_waits(owner: User, sent: list[str]) -> None:
    result = deferred.delay(user_id=owner.pk)

    assert sent == [result.id]


def test_tasks_of_others_do_not_wait(sent: list[str]) -> None:
    with transaction.atomic():
        chain(other.s(), other.s()).delay()
        chord([other.s(), other.s()], other.s()).delay()
        group(other.s()).delay()
        assert len(sent) == 4


def test_where_the_project_does_not_want_it_nothing_waits(owner: User, sent: list[str], settings: Any) -> None:
    settings.USER_TASKS_PUBLISH_ON_COMMIT = False

    with transaction.atomic():
        deferred.delay(user_id=owner.pk)
        assert len(sent) == 1


def test_eager_tasks_do_not_wait(owner: User, settings: Any) -> None:
    settings.CELERY_ALWAYS_EAGER = True

    with transaction.atomic():
        result = deferred.delay(user_id=owner.pk)
        assert UserTaskStatus.objects.get(task_id=result.id).state == "Succeeded"


@pytest.mark.parametrize("whole_groups", [True, False])
def test_strictly_a_faulty_call_is_an_error_at_once(
    owner: User, sent: list[str], settings: Any, whole_groups: bool
) -> None:
    settings.USER_TASKS_STRICT_PUBLISH = True
    settings.USER_TASKS_RECORD_GROUPS = whole_groups

    with transaction.atomic():
        with pytest.raises(TypeError, match="Invalid user_id"):
            group(deferred.s(user_id=owner.pk), deferred.s(user_id=123456)).delay()
        with pytest.raises(TypeError, match="Invalid user_id"):
            current_app.send_task(deferred.name, kwargs={"user_id": 123456})

    assert sent == []
    assert not UserTaskStatus.objects.exists()


@pytest.fixture
def broker_away(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No broker where the settings say that there is one."""
    # Celery takes it before the setting.
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    broker, options = settings.BROKER_URL, settings.BROKER_TRANSPORT_OPTIONS
    settings.BROKER_URL = "redis://127.0.0.1:1/0"
    settings.BROKER_TRANSPORT_OPTIONS = {"max_retries": 0, "socket_connect_timeout": 1}
    settings.CELERY_PUBLISH_RETRY = False
    forget_broker()
    yield
    settings.BROKER_URL, settings.BROKER_TRANSPORT_OPTIONS = broker, options
    forget_broker()


@pytest.mark.usefixtures("broker_away")
def test_a_broker_that_is_away_at_the_commit_fails_the_tasks_and_nothing_else(owner: User) -> None:
    done: list[str] = []
    with LogCapture("django.db.backends.base") as log, transaction.atomic():
        results = [deferred.delay(user_id=owner.pk), deferred.delay_on_commit(user_id=owner.pk)]
        transaction.on_commit(lambda: done.append("other"))

    assert done == ["other"]
    assert len(log.records) == 2
    for result in results:
        status = UserTaskStatus.objects.get(task_id=result.id)
        assert (status.state, status.artifacts.get().text) == ("Failed", UNSENT)


@pytest.mark.usefixtures("broker_away")
def test_without_a_transaction_the_caller_is_told_that_the_broker_is_away(owner: User) -> None:
    with pytest.raises(OperationalError):
        deferred.delay_on_commit(user_id=owner.pk)

    status = UserTaskStatus.objects.get()
    assert (status.state, status.artifacts.get().text) == ("Failed", UNSENT)


def test_publishing_of_the_projects_own_that_fails_at_the_commit_fails_the_task(owner: User) -> None:
    with LogCapture("django.db.backends.base"), transaction.atomic():
        result = refused.delay_on_commit(user_id=owner.pk)

    status = UserTaskStatus.objects.get(task_id=result.id)
    assert (status.state, status.artifacts.get().text) == ("Failed", UNSENT)
