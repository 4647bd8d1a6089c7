from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest
from celery import Task, current_app, shared_task
from celery.contrib.django.task import DjangoTask
from celery.signals import before_task_publish
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks
from testfixtures import LogCapture

from user_tasks import models, tasks
from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskStatus
from user_tasks.tasks import UserTask, UserTaskMixin, purge_old_user_tasks

if TYPE_CHECKING:
    CeleryTask = Task[Any, Any]
else:
    CeleryTask = Task


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@shared_task(base=UserTask, bind=True)
def bound(self: UserTask, user_id: int, label: str = "a") -> None: ...


@shared_task(base=UserTask)
def unbound(user_id: int, label: str = "a") -> None: ...


@shared_task(base=UserTask, bind=True, name="books.renamed")
def renamed(self: UserTask, label: str, user_id: int) -> None: ...


@shared_task(base=UserTask, bind=True)
@logged
def decorated(self: UserTask, user_id: int, label: str = "a") -> None: ...


@shared_task(base=UserTask)
@logged
def decorated_unbound(user_id: int, label: str = "a") -> None: ...


@shared_task(base=UserTask)
def flexible(user_id: int, *rows: int, **options: Any) -> None: ...


@shared_task(base=UserTask)
def keyword_only(*, user_id: int, label: str = "a") -> None: ...


class MixinFirst(UserTaskMixin, CeleryTask):
    """A project's task, with a hook of its own."""

    name = "test_tasks.MixinFirst"
    begun: list[str] = []

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.begun.append(task_id)

    def run(self, user_id: int, label: str = "a") -> str:
        return self.status.state


class MixinLast(CeleryTask, UserTaskMixin):
    """The same the other way round, where Celery's `Task` hides the mixin's hooks."""

    name = "test_tasks.MixinLast"
    begun: list[str] = []

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.begun.append(task_id)

    def run(self, user_id: int, label: str = "a") -> str:
        return self.status.state


current_app.register_task(MixinFirst())
current_app.register_task(MixinLast())

CLASSES = [MixinFirst, MixinLast]


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (bound, "bound"),
        (unbound, "unbound"),
        (renamed, "renamed"),
        (decorated, "decorated"),
        (MixinFirst, "MixinFirst"),
    ],
)
def test_the_name_is_that_of_the_function(task: Any, name: str) -> None:
    assert task.generate_name({}) == name


def test_a_task_takes_one_step_unless_it_says_more() -> None:
    assert UserTaskMixin.calculate_total_steps({"user_id": 1}) == 1


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "expected"),
    [
        (bound, (1,), {}, {"user_id": 1, "label": "a"}),
        (unbound, (1, "b"), {}, {"user_id": 1, "label": "b"}),
        (renamed, ("b",), {"user_id": 1}, {"label": "b", "user_id": 1}),
        (decorated, (), {"user_id": 1}, {"user_id": 1, "label": "a"}),
        (decorated_unbound, (1,), {}, {"user_id": 1, "label": "a"}),
        (keyword_only, (), {"user_id": 1}, {"user_id": 1, "label": "a"}),
        (MixinFirst, (1,), {}, {"user_id": 1, "label": "a"}),
        (MixinLast, (1,), {"label": "b"}, {"user_id": 1, "label": "b"}),
        (flexible, (1,), {}, {"user_id": 1, "rows": (), "options": {}}),
        (
            flexible,
            (1, 2, 3),
            {"user_task_name": "Shop"},
            {"user_id": 1, "rows": (2, 3), "options": {"user_task_name": "Shop"}},
        ),
    ],
)
def test_arguments_by_the_names_of_their_parameters(
    task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], expected: dict[str, Any]
) -> None:
    assert task.arguments_as_dict(*args, **kwargs) == expected


def test_arguments_are_asked_of_a_task_or_of_its_class() -> None:
    assert MixinLast.arguments_as_dict(1) == MixinLast().arguments_as_dict(1)


@pytest.mark.parametrize("args", [(), (1, "b", "c")], ids=["too few", "too many"])
def test_arguments_of_an_impossible_call(args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        bound.arguments_as_dict(*args)


def test_the_base_task_is_abstract_and_celery_s_for_django() -> None:
    assert UserTask.abstract is True
    assert issubclass(UserTask, UserTaskMixin)
    assert issubclass(UserTask, DjangoTask)


def test_existing_imports() -> None:
    assert tasks.UserTaskStatus is models.UserTaskStatus


@pytest.mark.parametrize("task_class", CLASSES)
def test_the_project_s_own_hook_runs_in_either_order_of_the_bases(task_class: type[Any], owner: User) -> None:
    result = task_class().apply((owner.pk,))

    assert result.get() == "In Progress"
    assert result.id in task_class.begun
    assert UserTaskStatus.objects.get(task_id=result.id).state == "Succeeded"


@pytest.mark.parametrize("task_class", CLASSES)
def test_a_canceled_task_does_not_run_nor_the_project_s_hook(
    task_class: type[Any], owner: User, make_status: Callable[..., UserTaskStatus], stopped: list[UserTaskStatus]
) -> None:
    make_status(task_id="canceled", state="Canceled")

    result = task_class().apply((owner.pk,), task_id="canceled")

    assert isinstance(result.result, TaskCanceledException)
    assert "canceled" not in task_class.begun
    assert UserTaskStatus.objects.get(task_id="canceled").state == "Canceled"


def test_a_hook_inherited_from_elsewhere_runs_once_and_after_the_check(owner: User) -> None:
    begun: list[str] = []

    class Elsewhere:
        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            begun.append(task_id)

    class Inheriting(Elsewhere, CeleryTask, UserTaskMixin):
        name = "test_tasks.Inheriting"

        def run(self, user_id: int) -> None: ...

    class Heir(Inheriting):
        name = "test_tasks.Heir"

        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            super().before_start(task_id, args, kwargs)

    for task in (Inheriting(), Heir()):
        current_app.register_task(task)
        task.apply((owner.pk,), task_id=task.name)

    assert begun == ["test_tasks.Inheriting", "test_tasks.Heir"]


def test_that_a_task_was_canceled_is_an_expected_end() -> None:
    class Throwing(UserTask):
        throws: tuple[type[Exception], ...] = (KeyError,)

    assert UserTask.throws == (TaskCanceledException,)
    assert Throwing.throws == (KeyError, TaskCanceledException)


class Named(UserTask):
    """A task that names its calls, and cannot name each."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        return f"Export {arguments_dict['label'].upper()}"


@shared_task(base=Named, bind=True)
def using_its_status(self: Named, user_id: int, label: Any = "a") -> UserTaskStatus:
    status = self.status
    status.start()
    status.set_name("other")
    status.increment_total_steps(2)
    status.increment_completed_steps()
    status.set_state("Compressing")
    status.retry()
    status.fail("bad row")
    status.succeed()
    status.set_state("Canceled")
    status.cancel()
    status.state = "Compressing"
    status.save()
    self.status.increment_completed_steps()
    return status


@pytest.mark.parametrize(
    ("args", "name"),
    [((1, "b"), "Export B"), ((1, 2), "using_its_status"), ((1, "b" * 300), f"Export {'B' * 247}…")],
    ids=["named", "without a name", "with a long name"],
)
def test_a_task_called_as_a_function_has_a_status_that_is_nowhere_stored(
    owner: User, stopped: list[UserTaskStatus], revoked: list[str], args: tuple[Any, ...], name: str
) -> None:
    with CaptureQueriesContext(connection) as queries, LogCapture() as log:
        status = using_its_status(*args)

    assert (status.name, status.task_class, status.pk) == (name, "test_tasks.using_its_status", None)
    assert not [query for query in queries if "usertask" in query["sql"]]
    assert not log.records
    assert not stopped
    assert not revoked


def test_the_status_of_a_function_is_in_progress() -> None:
    status = bound.status

    assert (status.state, status.name, status.total_steps) == ("In Progress", "bound", 1)


class Blank(Exception):
    def __str__(self) -> str:
        return ""


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("exception", "text"),
    [(ValueError("bad row"), "bad row"), (ValueError(), "ValueError"), (Blank(), "Blank"), (Broken(), "Broken")],
)
def test_the_text_that_users_read_for_an_exception(exception: Exception, text: str) -> None:
    assert UserTaskMixin.error_message(exception) == text


def test_tasks_offer_to_be_published_with_the_transaction(
    owner: User, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    sent: list[str] = []

    def note(headers: dict[str, Any], **_: Any) -> None:
        sent.append(headers["id"])

    before_task_publish.connect(note)
    with django_capture_on_commit_callbacks(execute=True):
        result = bound.delay_on_commit(owner.pk, label="b")
        bound.apply_async_on_commit((owner.pk,), task_id="mine")
        assert set(UserTaskStatus.objects.values_list("task_id", flat=True)) == {result.id, "mine"}
        assert sent == []
    before_task_publish.disconnect(note)

    assert sent == [result.id, "mine"]
    assert UserTaskStatus.objects.count() == 2


def test_the_purge_is_a_registered_task() -> None:
    assert current_app.tasks["user_tasks.tasks.purge_old_user_tasks"].name == purge_old_user_tasks.name


def test_the_purge_deletes_what_is_past_its_age_whatever_its_state(
    make_status: Callable[..., UserTaskStatus], settings: Any
) -> None:
    settings.USER_TASKS_MAX_AGE = timedelta(days=2)
    for state in ("Pending", "Succeeded", "Compressing"):
        make_status(task_id=f"old {state}", state=state)
    old = UserTaskStatus.objects.filter(task_id__startswith="old")
    old.update(created=timezone.now() - timedelta(days=3))
    old.get(task_id="old Pending").artifacts.create(text="gone too")
    make_status(task_id="young")

    assert purge_old_user_tasks() == 3

    assert list(UserTaskStatus.objects.values_list("task_id", flat=True)) == ["young"]
    assert not models.UserTaskArtifact.objects.exists()


class Forgetful(UserTask):
    """A task whose name and steps cannot be told."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        raise LookupError("gone")

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        raise LookupError("gone")


@shared_task(base=Forgetful, bind=True)
def forgetful(self: UserTask, user_id: int) -> str:
    return "ran"


def test_a_task_whose_hooks_fail_runs_all_the_same(owner: User, make_status: Callable[..., UserTaskStatus]) -> None:
    assert forgetful.apply(args=(owner.pk,)).get() == "ran"

    retried = make_status(state="Retrying", total_steps=4, started=timezone.now())
    assert forgetful.apply(args=(owner.pk,), task_id=retried.task_id).get() == "ran"
    assert UserTaskStatus.objects.get(pk=retried.pk).total_steps == 4


def test_a_message_that_is_delivered_again_after_the_end_counts_no_steps(
    owner: User, make_status: Callable[..., UserTaskStatus]
) -> None:
    done = make_status(task_class=stepping.name, state="Succeeded", completed_steps=3, total_steps=3)
    UserTaskStatus.objects.filter(pk=done.pk).update(started=timezone.now(), finished=timezone.now())

    stepping.apply(args=(owner.pk,), task_id=done.task_id)

    found = UserTaskStatus.objects.get(pk=done.pk)
    assert (found.state, found.completed_steps, found.total_steps) == ("Succeeded", 3, 3)


@shared_task(base=UserTask, bind=True)
def stepping(self: UserTask, user_id: int) -> None:
    self.status.increment_total_steps(2)
    for _ in range(3):
        self.status.increment_completed_steps()


def test_one_expected_exception_may_stand_alone() -> None:
    class Alone(UserTask):
        throws = KeyError  # type: ignore[assignment]  # Celery takes a single class too

    expected: Any = Alone.throws
    assert expected == (KeyError, TaskCanceledException)
