"""The receivers, called as the suites of existing projects call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from celery import shared_task
from celery.app.task import Context
from celery.exceptions import Ignore, Reject
from celery.signals import before_task_publish
from django.contrib.auth.models import User
from django.db import InterfaceError, connection, transaction
from django.db.models import F
from django.utils import timezone
from testfixtures import LogCapture

import user_tasks
from user_tasks import recording, signals
from user_tasks.heartbeat import heart
from user_tasks.models import UserTaskStatus
from user_tasks.signals import create_user_task, start_user_task
from user_tasks.tasks import UserTask

DISPATCH_LOGGER = "celery.utils.dispatch.signal"
MISSING = "Each invocation of a UserTaskMixin subclass must include the user_id"


class SampleTask(UserTask):
    """A project's base task."""

    abstract = True
    named: list[dict[str, Any]] = []

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        cls.named.append(arguments_dict)
        return f"SampleTask: {arguments_dict['argument']}"

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        return int(arguments_dict["argument"])


@shared_task(base=SampleTask, bind=True)
def sample_task(self: SampleTask, user_id: int, argument: str = "3", user_task_name: str = "") -> str:
    """Return what the status says meanwhile."""
    self.status.increment_completed_steps()
    return self.status.name


@shared_task
def normal_task(argument: str) -> str:
    return argument


@pytest.fixture(params=[2, 1], ids=["protocol2", "protocol1"])
def publish(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Return a function that tells the receiver of a message, in either protocol, with the least in it."""

    def tell(*args: Any, task: str = "test_signals.sample_task", group: str | None = None, **kwargs: Any) -> str:
        task_id = str(uuid4())
        common = {"id": task_id, "task": task, "retries": 0, "eta": None, "expires": None, "timelimit": (None, None)}
        if request.param == 1:
            signatures: dict[str, Any] = {"callbacks": [], "errbacks": [], "chord": None}
            body: Any = {**common, "args": args, "kwargs": kwargs, "taskset": group, "utc": True, **signatures}
            create_user_task(task, body)
        else:
            embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
            create_user_task(task, (args, kwargs, embed), {**common, "group": group})
        return task_id

    return tell


def test_a_published_task_gets_a_status(publish: Callable[..., str], owner: User) -> None:
    status = UserTaskStatus.objects.get(task_id=publish(owner.pk, argument="6"))

    assert (status.user, status.parent, status.is_container) == (owner, None, False)
    assert (status.task_class, status.name) == ("test_signals.sample_task", "SampleTask: 6")
    assert (status.state, status.completed_steps, status.total_steps, status.attempts) == ("Pending", 0, 6, 1)


def test_a_member_of_a_group_gets_one_in_its_container(publish: Callable[..., str], owner: User) -> None:
    first = UserTaskStatus.objects.get(task_id=publish(owner.pk, group="group1", user_task_name="Samples"))
    second = UserTaskStatus.objects.get(task_id=publish(owner.pk, group="group1"))

    container = UserTaskStatus.objects.get(task_id="group1")
    assert first.parent == second.parent == container
    assert (container.task_class, container.name, container.total_steps) == ("celery.group", "Samples", 6)


def test_other_tasks_get_none(publish: Callable[..., str], db: None) -> None:
    publish("a", task="test_signals.normal_task")
    publish("a", task="never.registered")

    assert not UserTaskStatus.objects.exists()


def test_the_same_message_is_recorded_once(publish: Callable[..., str], owner: User) -> None:
    body: Any = ((owner.pk,), {}, {})
    headers = {"id": "id1", "task": "test_signals.sample_task", "retries": 0, "group": None}

    for _ in range(2):
        create_user_task("test_signals.sample_task", body, headers)

    assert UserTaskStatus.objects.count() == 1


def test_a_message_sent_again_for_a_retry_is_not_recorded(owner: User) -> None:
    headers = {"id": "id1", "task": "test_signals.sample_task", "retries": 1, "group": None}

    create_user_task("test_signals.sample_task", ((owner.pk,), {}, {}), headers)

    assert not UserTaskStatus.objects.exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [((), MISSING), ((123456,), "Invalid user_id: 123456"), (("nobody",), "Invalid user_id: nobody")],
    ids=["missing", "unknown", "malformed"],
)
def test_a_message_without_a_user_is_an_error(
    publish: Callable[..., str], args: tuple[Any, ...], message: str, db: None
) -> None:
    SampleTask.named.clear()

    with pytest.raises(TypeError) as error:
        publish(*args)

    assert str(error.value) == message
    assert not UserTaskStatus.objects.exists()
    assert not SampleTask.named, "the name is asked for only when the user is known"


@pytest.mark.parametrize(
    ("args", "message"), [((), MISSING), ((123456,), "Invalid user_id: 123456")], ids=["missing", "unknown"]
)
def test_a_publication_without_a_user_is_logged_and_goes_on(args: tuple[Any, ...], message: str, db: None) -> None:
    with LogCapture(DISPATCH_LOGGER) as log:
        result = sample_task.apply_async(args, kwargs={"argument": "6"}) if args else send_without_user()

    assert result.id
    assert [record.levelname for record in log.records] == ["ERROR"]
    assert message in str(log)
    assert not UserTaskStatus.objects.exists()


def send_without_user() -> Any:
    from celery import current_app

    return current_app.send_task("test_signals.sample_task", kwargs={"argument": "6"})


def test_the_receiver_of_publications_can_be_disconnected_and_connected_again(owner: User) -> None:
    assert before_task_publish.disconnect(create_user_task)
    try:
        sample_task.delay(owner.pk)
        assert not UserTaskStatus.objects.exists()
    finally:
        before_task_publish.connect(create_user_task)

    sample_task.delay(owner.pk)
    assert UserTaskStatus.objects.count() == 1


def test_names_that_existing_projects_import() -> None:
    assert signals.user_task_stopped is user_tasks.user_task_stopped
    assert signals.celery_app.main == "user_tasks_tests"


def end_interrupted(task_id: str) -> None:
    """End the execution of a task as Celery does where a signal has ended it."""
    try:
        raise SystemExit
    finally:
        signals.end_user_task(sender=sample_task, task_id=task_id, state=None)


class TestConnections:
    """What the start of any task, ours or not, does to the database connections."""

    @pytest.fixture(autouse=True)
    def _closing(self) -> Iterator[None]:
        with mock.patch("user_tasks.signals.close_old_connections") as self.close:
            yield

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("sender", [normal_task, sample_task, SampleTask, object, None])
    def test_obsolete_ones_are_closed(self, sender: Any) -> None:
        start_user_task(sender=sender)

        self.close.assert_called_once_with()

    @pytest.mark.django_db(transaction=True)
    def test_none_is_closed_in_a_transaction(self) -> None:
        with transaction.atomic():
            start_user_task(sender=SampleTask)

        self.close.assert_not_called()

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("unusable", [False, True])
    def test_none_that_works_is_closed_where_celery_keeps_them(
        self, monkeypatch: pytest.MonkeyPatch, unusable: bool
    ) -> None:
        monkeypatch.setitem(signals.celery_app.conf, "CELERY_DB_REUSE_MAX", 100)
        connection.ensure_connection()
        kept = connection.connection
        connection.errors_occurred = unusable

        start_user_task(sender=SampleTask)

        self.close.assert_not_called()
        assert (connection.connection is kept) is not unusable

    @pytest.mark.django_db(transaction=True)
    def test_new_ones_are_opened_when_the_process_is_told_to_end(
        self, make_status: Callable[..., UserTaskStatus]
    ) -> None:
        status = make_status(task_id="id1", state="Canceled", started=timezone.now())
        interrupted = connection.connection

        with pytest.raises(SystemExit):
            end_interrupted("id1")

        status.refresh_from_db()
        assert status.finished is not None
        assert connection.connection is not interrupted

    @pytest.mark.parametrize("error", [InterfaceError("closed"), RuntimeError("not set up")])
    def test_none_is_closed_when_there_is_no_telling(self, error: Exception) -> None:
        with mock.patch("user_tasks.signals.transaction.get_connection", side_effect=error):
            start_user_task(sender=SampleTask)

        self.close.assert_not_called()


def test_the_start_of_a_task_that_is_not_recorded_yet_records_it(owner: User) -> None:
    start_user_task(sender=sample_task, task_id="id1", args=(owner.pk,), kwargs={"argument": "6"})

    status = UserTaskStatus.objects.get(task_id="id1")
    assert (status.state, status.total_steps) == ("In Progress", 6)


def test_the_start_of_a_recorded_task(owner: User, make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status(task_id="id1", total_steps=6)

    start_user_task(sender=sample_task, task_id="id1", args=(owner.pk,), kwargs={"argument": "6"})

    status.refresh_from_db()
    assert (status.state, status.total_steps) == ("In Progress", 6)
    assert status.started is not None


@pytest.mark.parametrize(
    "given", [{"total_steps": 2.5}, {"total_steps": "10"}, {"completed_steps": F("completed_steps") + 1}]
)
def test_a_task_succeeds_whatever_its_project_has_counted_with(
    make_status: Callable[..., UserTaskStatus], given: dict[str, Any]
) -> None:
    status = make_status(task_id="id1", state="In Progress", started=timezone.now(), total_steps=3)
    vars(status).update(given)
    status.save()

    recording.succeeded("id1", status)

    stored = UserTaskStatus.objects.get(task_id="id1")
    assert (stored.state, stored.completed_steps) == ("Succeeded", stored.total_steps)


def test_the_start_of_another_task_records_nothing(db: None) -> None:
    start_user_task(sender=normal_task, task_id="id1", args=("a",), kwargs={})

    assert not UserTaskStatus.objects.exists()


def test_a_failure_reported_from_the_worker_s_main_process(
    make_status: Callable[..., UserTaskStatus], stopped: list[UserTaskStatus]
) -> None:
    status = make_status(task_id="id1", state="In Progress")

    signals.task_failed(sender=sample_task, task_id="id1", exception=MemoryError("too many rows"))

    status.refresh_from_db()
    assert status.state == "Failed"
    assert [artifact.text for artifact in status.artifacts.filter(name="Error")] == ["too many rows"]
    assert stopped == [status]


def test_failures_and_ends_of_other_tasks_are_nothing_to_us(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status(task_id="id1", state="In Progress")
    request = Context(id="id1", task="test_signals.normal_task")

    signals.task_failed(sender=normal_task, task_id="id1", exception=ValueError())
    signals.task_succeeded(sender=normal_task)
    signals.retrying_task(sender=normal_task, request=request)
    signals.task_is_revoked(sender=normal_task, request=request)
    signals.end_user_task(sender=normal_task, task_id="id1")

    status.refresh_from_db()
    assert status.state == "In Progress"


def test_a_report_about_a_task_without_a_status_is_nothing(db: None) -> None:
    request = Context(id="unknown", task="test_signals.sample_task")

    signals.task_failed(sender=sample_task, task_id="unknown", exception=ValueError())
    signals.retrying_task(sender=sample_task, request=request)
    signals.task_is_revoked(sender=sample_task, request=request)
    signals.task_is_revoked(sender=sample_task, request=request, expired=True)
    signals.end_user_task(sender=sample_task, task_id="unknown")

    assert not UserTaskStatus.objects.exists()


def test_a_retry(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status(task_id="id1", state="In Progress")

    signals.retrying_task(sender=sample_task, request=Context(id="id1", task="test_signals.normal_task"))

    status.refresh_from_db()
    assert (status.state, status.attempts) == ("Retrying", 2)


@pytest.mark.parametrize(
    ("expired", "state", "texts"),
    [
        (False, "Canceled", []),
        (True, "Failed", ["The task waited longer than it was allowed to, and was not started."]),
    ],
)
def test_a_task_that_its_worker_does_not_start(
    make_status: Callable[..., UserTaskStatus],
    stopped: list[UserTaskStatus],
    expired: bool,
    state: str,
    texts: list[str],
) -> None:
    status = make_status(task_id="id1")

    signals.task_is_revoked(
        sender=sample_task, request=Context(id="id1", task="test_signals.normal_task"), expired=expired
    )

    status.refresh_from_db()
    assert status.state == state
    assert [artifact.text for artifact in status.artifacts.all()] == texts
    assert stopped == [status]


class Misnaming(SampleTask):
    """A task whose own hook fails."""

    abstract = True

    @classmethod
    def error_message(cls, exception: BaseException) -> str:
        raise KeyError("no text for this")


@shared_task(base=Misnaming, bind=True)
def misnaming(self: Misnaming, user_id: int, argument: str = "1") -> None:
    raise ValueError("bad row")


def test_a_hook_for_error_texts_that_fails_does_not_hide_the_failure(owner: User) -> None:
    result = misnaming.apply((owner.pk,))

    status = UserTaskStatus.objects.get(task_id=result.id)
    assert status.state == "Failed"
    assert [artifact.text for artifact in status.artifacts.all()] == ["bad row"]


@shared_task(base=SampleTask, bind=True, acks_late=True)
def leaving(self: SampleTask, user_id: int, argument: str = "2", requeue: bool | None = None) -> None:
    raise Ignore("not now") if requeue is None else Reject("not here", requeue=requeue)


@pytest.mark.parametrize(
    ("requeue", "state"),
    [(None, "Failed"), (False, "Failed"), (True, "Pending")],
    ids=["ignored", "rejected", "sent back"],
)
def test_a_task_that_leaves_without_a_result(owner: User, requeue: bool | None, state: str) -> None:
    result = leaving.apply((owner.pk,), {"requeue": requeue})

    assert UserTaskStatus.objects.get(task_id=result.id).state == state


def test_second_delivery_of_a_canceled_task_leaves_the_heartbeat_of_the_first(
    owner: User, make_status: Callable[..., UserTaskStatus]
) -> None:
    status = make_status(task_id="id1")
    call: dict[str, Any] = {"task_id": "id1", "args": (owner.pk,), "kwargs": {"argument": "6"}}

    sample_task.push_request(id="id1", is_eager=False)
    start_user_task(sender=sample_task, **call)
    UserTaskStatus.objects.get(pk=status.pk).cancel()
    sample_task.push_request(id="id1", is_eager=False)
    start_user_task(sender=sample_task, **call)
    signals.end_user_task(sender=sample_task, task_id="id1", state="IGNORED")
    sample_task.pop_request()

    assert vars(heart)["_executed"] == {"id1": 1}
    signals.end_user_task(sender=sample_task, task_id="id1", state="IGNORED")
    sample_task.pop_request()
    assert not vars(heart)["_executed"]
