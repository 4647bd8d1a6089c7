"""Executions in the caller's process: eager calls and ``apply()``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group, shared_task
from django.contrib.auth.models import User
from django.test import override_settings
from testfixtures import LogCapture

from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskStatus
from user_tasks.tasks import UserTask

pytestmark = pytest.mark.django_db
eager = pytest.mark.usefixtures("_eager")


@pytest.fixture
def _eager(settings: Any) -> None:
    settings.CELERY_ALWAYS_EAGER = True


class Export(UserTask):
    """A project's base task."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        return f"Export of {arguments_dict['label']}"

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        return int(arguments_dict["steps"])


@shared_task(base=Export, bind=True)
def export(self: Export, user_id: int, label: str = "shop", steps: int = 3) -> tuple[str, int, int]:
    """Return what the status says on the way."""
    self.status.increment_completed_steps()
    self.status.set_state("Compressing")
    status = self.status
    return status.state, status.completed_steps, status.total_steps


@shared_task(base=UserTask)
def unbound(user_id: int) -> str:
    return str(UserTaskStatus.objects.get().state)


@shared_task(base=UserTask, bind=True)
def failing(self: UserTask, user_id: int, error: Any = "bad row") -> None:
    raise ValueError(error)


@shared_task(base=UserTask, bind=True, max_retries=3)
def retrying(self: UserTask, user_id: int, failures: int) -> int:
    status = self.status
    status.increment_completed_steps()
    if self.request.retries < failures:
        raise self.retry(exc=ValueError("not yet"), countdown=0)
    return status.attempts


@shared_task(base=UserTask, bind=True, autoretry_for=(ValueError,), default_retry_delay=0, max_retries=1)
def retrying_by_itself(self: UserTask, user_id: int) -> None:
    raise ValueError(f"attempt {self.request.retries + 1}")


ENDS: dict[str, Callable[[UserTaskStatus], None]] = {
    "Succeeded": lambda status: status.succeed(),
    "Failed": lambda status: status.fail("not today"),
    "Canceled": lambda status: status.cancel(),
}


@shared_task(base=UserTask, bind=True)
def ending_itself(self: UserTask, user_id: int, end: str) -> str:
    ENDS[end](self.status)
    return "done"


@shared_task(base=UserTask, bind=True)
def saving_a_state(self: UserTask, user_id: int, state: str, on: bool) -> None:
    status = self.status
    status.state = state
    status.save()
    if on:
        status.increment_completed_steps()


def ask_status(task: UserTask) -> None:
    task.status  # noqa: B018 - reading it is what is tested


NEXT: dict[str, Callable[[UserTask, UserTaskStatus], None]] = {
    "status": lambda task, status: ask_status(task),
    "step": lambda task, status: status.increment_completed_steps(),
    "more steps": lambda task, status: status.increment_total_steps(2),
    "state": lambda task, status: status.set_state("Compressing"),
    "start": lambda task, status: status.start(),
}


@shared_task(base=UserTask, bind=True)
def losing_its_status(self: UserTask, user_id: int, then: str) -> None:
    status = self.status
    UserTaskStatus.objects.get(pk=status.pk).delete()
    NEXT[then](self, status)


@shared_task(base=UserTask, bind=True)
def publishing(self: UserTask, user_id: int) -> str:
    inner = export.delay(user_id, label="part")
    self.status.set_name("Whole")
    return inner.id


def only_status() -> UserTaskStatus:
    return UserTaskStatus.objects.get()


@pytest.mark.parametrize("call", [export.delay, lambda pk: export.apply((pk,)), lambda pk: export.s(pk).apply()])
def test_a_task_is_recorded_and_done_when_the_call_returns(owner: User, call: Any, stopped: list[Any]) -> None:
    with override_settings(CELERY_ALWAYS_EAGER=True):
        result = call(owner.pk)

    assert list(result.get()) == ["Compressing", 1, 3]
    status = only_status()
    assert (status.task_id, status.user, status.task_class) == (result.id, owner, "test_eager.export")
    assert (status.name, status.state) == ("Export of shop", "Succeeded")
    assert (status.completed_steps, status.total_steps, status.attempts) == (3, 3, 1)
    assert status.started is not None
    assert status.finished is not None
    assert status.started <= status.finished
    assert stopped == [status]


@eager
def test_a_task_keeps_the_id_that_the_caller_chose(owner: User) -> None:
    export.apply_async((owner.pk,), task_id="mine")

    assert only_status().task_id == "mine"


@eager
def test_an_unbound_task(owner: User) -> None:
    assert unbound.delay(owner.pk).get() == "In Progress"
    assert only_status().state == "Succeeded"


@eager
@pytest.mark.parametrize("propagate", [False, True])
def test_a_failure(owner: User, settings: Any, stopped: list[Any], propagate: bool) -> None:
    settings.CELERY_EAGER_PROPAGATES_EXCEPTIONS = propagate

    if propagate:
        with pytest.raises(ValueError, match="bad row"):
            failing.delay(owner.pk)
    else:
        failing.delay(owner.pk)

    status = only_status()
    assert (status.state, status.completed_steps) == ("Failed", 0)
    assert [(artifact.name, artifact.text) for artifact in status.artifacts.all()] == [("Error", "bad row")]
    assert stopped == [status]


@eager
@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("a\0b", "ab"),
        ("", "ValueError"),
        ("\ud800", "?"),
        ("ä" * 40_000, "ä" * 32_766 + "…"),
        ("a" * 65_536, "a" * 65_536),
        ("a" * 65_537, "a" * 65_533 + "…"),
    ],
    ids=["NUL", "empty", "surrogate", "too long in bytes", "as long as allowed", "longer"],
)
def test_error_texts_are_made_to_fit(owner: User, settings: Any, error: str, text: str) -> None:
    settings.CELERY_TASK_SERIALIZER = "pickle"
    failing.delay(owner.pk, error)

    assert only_status().artifacts.get().text == text


@eager
@pytest.mark.parametrize(
    ("failures", "state", "attempts"), [(0, "Succeeded", 1), (2, "Succeeded", 3), (9, "Failed", 4)]
)
def test_retries(owner: User, stopped: list[Any], failures: int, state: str, attempts: int) -> None:
    retrying.delay(owner.pk, failures)

    status = only_status()
    assert (status.state, status.attempts, status.total_steps) == (state, attempts, 1)
    assert status.completed_steps == 1, "the steps begin again with each attempt"
    assert [artifact.text for artifact in status.artifacts.all()] == ["not yet"] * (state == "Failed")
    assert stopped == [status]


@eager
def test_automatic_retries(owner: User) -> None:
    retrying_by_itself.delay(owner.pk)

    status = only_status()
    assert (status.state, status.attempts) == ("Failed", 2)
    assert [artifact.text for artifact in status.artifacts.all()] == ["attempt 2"]


@eager
@pytest.mark.parametrize("end", ENDS)
def test_a_task_may_end_itself_and_return(owner: User, stopped: list[Any], end: str) -> None:
    result = ending_itself.delay(owner.pk, end)

    status = only_status()
    assert result.get() == "done"
    assert status.state == end
    assert [artifact.text for artifact in status.artifacts.all()] == (["not today"] if end == "Failed" else [])
    assert stopped == [status]
    assert status.finished is not None


@eager
@pytest.mark.parametrize("on", [False, True], ids=["returning", "going on"])
@pytest.mark.parametrize("state", ENDS)
def test_a_final_state_may_be_saved_as_a_field(owner: User, stopped: list[Any], state: str, on: bool) -> None:
    result = saving_a_state.delay(owner.pk, state, on)

    status = only_status()
    assert (status.state, status.completed_steps) == (state, int(on))
    assert isinstance(result.result, TaskCanceledException) == (on and state == "Canceled")
    assert stopped == [status]
    assert status.finished is not None


@eager
@pytest.mark.parametrize("then", NEXT)
def test_a_task_whose_status_was_deleted_is_halted(owner: User, stopped: list[Any], then: str) -> None:
    result = losing_its_status.delay(owner.pk, then)

    assert isinstance(result.result, TaskCanceledException)
    assert not UserTaskStatus.objects.exists()
    assert stopped == []


@eager
def test_a_canceled_task_does_not_run(
    owner: User, make_status: Callable[..., UserTaskStatus], stopped: list[Any]
) -> None:
    status = make_status(task_id="canceled")
    status.cancel()

    result = export.apply_async((owner.pk,), task_id="canceled")

    assert isinstance(result.result, TaskCanceledException)
    status.refresh_from_db()
    assert (status.state, status.completed_steps, status.artifacts.count()) == ("Canceled", 0, 0)
    assert stopped == [status]


@eager
@pytest.mark.parametrize("args", [(123456,), ("nobody",)])
def test_a_call_that_names_no_user_runs_untracked(db: None, args: tuple[Any, ...]) -> None:
    with LogCapture("celery.utils.dispatch.signal") as log:
        result = failing.delay(*args)

    assert str(result.result) == "bad row"
    assert f"Invalid user_id: {args[0]}" in str(log)
    assert not UserTaskStatus.objects.exists()


@eager
def test_a_call_that_names_no_user_has_no_status(db: None) -> None:
    result = export.delay(123456)

    assert isinstance(result.result, TypeError)
    assert str(result.result) == "Invalid user_id: 123456"


@eager
def test_strictly_a_call_that_names_no_user_does_not_run(db: None, settings: Any) -> None:
    settings.USER_TASKS_STRICT_PUBLISH = True

    with pytest.raises(TypeError, match="Invalid user_id: 123456"):
        failing.delay(123456)


@eager
def test_a_task_that_publishes_another(owner: User) -> None:
    inner = publishing.delay(owner.pk).get()

    assert UserTaskStatus.objects.get(task_id=inner).name == "Export of part"
    assert UserTaskStatus.objects.exclude(task_id=inner).get().name == "Whole"
    assert set(UserTaskStatus.objects.values_list("state", flat=True)) == {"Succeeded"}


@eager
def test_members_of_eager_workflows_have_a_status_each(owner: User) -> None:
    part = export.si(owner.pk)

    chain(part, part).delay()
    group(part, part).delay()
    chord([part, part], part).delay()

    assert UserTaskStatus.objects.filter(state="Succeeded", is_container=False).count() == 7


class Polite(UserTask):
    """A task with texts of its own."""

    abstract = True

    @classmethod
    def error_message(cls, exception: BaseException) -> str:
        return "The shop is closed." if isinstance(exception, KeyError) else super().error_message(exception)


@shared_task(base=Polite, bind=True)
def polite(self: Polite, user_id: int, known: bool) -> None:
    raise KeyError("shop") if known else ValueError("bad row")


@eager
@pytest.mark.parametrize(("known", "text"), [(True, "The shop is closed."), (False, "bad row")])
def test_a_project_chooses_the_texts_of_errors(owner: User, known: bool, text: str) -> None:
    polite.delay(owner.pk, known)

    assert only_status().artifacts.get().text == text


@eager
def test_what_an_execution_reads_is_fresh(owner: User) -> None:
    seen: list[bool] = []

    @shared_task(base=UserTask, bind=True)
    def reading(self: UserTask, user_id: int) -> None:
        first = self.status
        UserTaskStatus.objects.filter(pk=first.pk).update(name="Renamed")
        seen.append(self.status.name == "Renamed" and first.name == "reading")

    reading.delay(owner.pk)

    assert seen == [True]
