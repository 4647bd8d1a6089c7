from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task, chain, chord, current_app, group, shared_task
from celery.signals import after_task_publish
from django.contrib.auth.models import User
from django.db import transaction
from kombu.exceptions import EncodeError
from testfixtures import LogCapture

from user_tasks import publishing
from user_tasks.containers import GROUP
from user_tasks.models import UserTaskStatus
from user_tasks.recording import Node, enqueued, status_of
from user_tasks.tasks import UserTask
from workers import forget_broker

DISPATCH_LOGGER = "celery.utils.dispatch.signal"
MISSING = "Each invocation of a UserTaskMixin subclass must include the user_id"
INVALID = "Invalid user_id: 123456"

pytestmark = pytest.mark.django_db


@shared_task(base=UserTask, bind=True)
def step(self: UserTask, previous: Any = None, label: str = "a", *, user_id: int, user_task_name: str = "") -> str:
    return label


@shared_task
def other(previous: Any = None) -> str:
    return "other"


@shared_task(base=UserTask, bind=True)
def first_user(self: UserTask, user_id: int, label: str = "a") -> None: ...


@shared_task(base=UserTask, bind=True)
def last_user(self: UserTask, label: str, rows: list[int], user_id: int) -> None: ...


class Named(UserTask):
    """A task whose name and steps are what its caller says."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        return str(arguments_dict["label"])

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        return int(arguments_dict["steps"])


@shared_task(base=Named, bind=True)
def named(self: Named, user_id: int, label: str = "a", steps: int | str = 1) -> None: ...


@pytest.fixture(autouse=True, params=[2, 1], ids=["protocol2", "protocol1"])
def _protocol(request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    settings.CELERY_TASK_PROTOCOL = request.param
    forget_broker()
    yield
    forget_broker()


@pytest.fixture
def sent() -> Iterator[list[str]]:
    """The names of the tasks whose messages have left."""
    names: list[str] = []

    def receive(sender: str, **_: Any) -> None:
        names.append(sender)

    after_task_publish.connect(receive)
    yield names
    after_task_publish.disconnect(receive)


def tree(parent: UserTaskStatus | None = None) -> list[Any]:
    """Return what is stored: names of tasks, nested in lists that begin with the kind of their container."""
    members = UserTaskStatus.objects.filter(parent=parent).order_by("created", "pk")
    return [
        [member.task_class.removeprefix("celery."), *tree(member)] if member.is_container else member.task_class
        for member in members
    ]


STEP = "test_publishing.step"


@pytest.mark.parametrize(
    "call",
    [
        first_user.delay,
        lambda pk: first_user.delay(user_id=pk),
        lambda pk: last_user.delay("a", [1], pk),
        lambda pk: last_user.apply_async(("a",), {"rows": [1], "user_id": pk}),
        lambda pk: step.delay(user_id=pk),
        lambda pk: step.s(user_id=pk).delay(),
        lambda pk: current_app.send_task("test_publishing.step", kwargs={"user_id": pk}),
    ],
    ids=["first", "by name", "last", "mixed", "keyword-only", "signature", "by the task's name"],
)
def test_the_row_is_there_when_the_call_returns(owner: User, call: Callable[[int], Any]) -> None:
    result = call(owner.pk)

    status = UserTaskStatus.objects.get(task_id=result.id)
    assert (status.user, status.state, status.attempts, status.parent) == (owner, "Pending", 1, None)


@pytest.mark.usefixtures("replica")
def test_a_user_of_whom_a_replica_knows_nothing_yet_may_call(owner: User) -> None:
    result = first_user.delay(owner.pk)
    assert UserTaskStatus.objects.using("default").get(task_id=result.id).user_id == owner.pk


def test_the_row_is_there_under_the_id_that_the_caller_chose(owner: User) -> None:
    first_user.apply_async((owner.pk,), task_id="mine")

    assert UserTaskStatus.objects.get().task_id == "mine"


@pytest.mark.parametrize(
    ("label", "stored"),
    [("a" * 255, "a" * 255), ("a" * 256, "a" * 254 + "…"), ("ä" * 300, "ä" * 254 + "…"), ("a\0b", "ab")],
    ids=["as long as the column", "longer", "longer in bytes", "NUL"],
)
def test_names_that_do_not_fit_are_made_to(owner: User, label: str, stored: str) -> None:
    result = named.delay(owner.pk, label=label)

    assert UserTaskStatus.objects.get(task_id=result.id).name == stored


def test_very_many_steps_and_none(owner: User) -> None:
    many, none = named.delay(owner.pk, steps=3_000_000_000), named.delay(owner.pk, steps=0)

    assert UserTaskStatus.objects.get(task_id=many.id).total_steps == 3_000_000_000
    assert UserTaskStatus.objects.get(task_id=none.id).total_steps == 0


@pytest.mark.parametrize("strict", [False, True])
def test_a_task_that_cannot_say_its_steps_is_logged_and_sent(owner: User, settings: Any, strict: bool) -> None:
    settings.USER_TASKS_STRICT_PUBLISH = strict

    with LogCapture(DISPATCH_LOGGER) as log:
        assert named.delay(owner.pk, steps="many").id

    assert "invalid literal for int" in str(log)
    assert not UserTaskStatus.objects.exists()


def test_a_flat_chain(owner: User) -> None:
    result: Any = chain(step.s(user_id=owner.pk), step.s(user_id=owner.pk, user_task_name="Shop"), other.s()).delay()

    assert tree() == [["chain", STEP, STEP]]
    container = UserTaskStatus.objects.get(parent=None)
    assert (container.name, container.total_steps, container.user) == ("Shop", 2, owner)
    assert status_of(result.parent.id) is not None


def test_a_flat_group(owner: User) -> None:
    result = group(step.s(user_id=owner.pk), other.s(), step.s(user_id=owner.pk)).delay()

    assert tree() == [["group", STEP, STEP]]
    container = UserTaskStatus.objects.get(parent=None)
    assert (container.task_id, container.name, container.total_steps) == (result.id, "", 2)


def test_a_flat_chord(owner: User) -> None:
    result: Any = chord([step.s(user_id=owner.pk), step.s(user_id=owner.pk)], step.s(user_id=owner.pk)).delay()

    assert tree() == [["chord", ["group", STEP, STEP], STEP]]
    assert UserTaskStatus.objects.get(task_class="celery.group").task_id == result.parent.id
    assert UserTaskStatus.objects.get(parent=None).total_steps == 3


def test_a_chord_whose_body_is_not_ours(owner: User) -> None:
    chord([step.s(user_id=owner.pk), step.s(user_id=owner.pk)], other.s()).delay()

    assert tree() == [["chord", ["group", STEP, STEP]]]


@pytest.mark.parametrize("canvas", [group([other.s()]), chain(other.s(), other.s()), chord([other.s()], other.s())])
def test_what_holds_no_task_of_ours_is_not_recorded(canvas: Any) -> None:
    canvas.delay()

    assert not UserTaskStatus.objects.exists()


def test_a_group_s_own_arguments_are_its_members(owner: User) -> None:
    group(named.s(label="b"), named.s(label="c")).apply_async(args=(owner.pk,))

    assert list(UserTaskStatus.objects.filter(is_container=False).values_list("name", flat=True)) == ["b", "c"]


def test_a_group_s_own_keywords_are_its_members(owner: User) -> None:
    with LogCapture(publishing.logger.name) as log:
        group(named.s(label="b"), named.s(label="c")).delay(user_id=owner.pk)

    assert not log.records
    assert list(UserTaskStatus.objects.filter(is_container=False).values_list("name", flat=True)) == ["b", "c"]


def test_a_group_that_is_generated(owner: User) -> None:
    group(named.s(owner.pk, label=label) for label in "abc").delay()

    assert tree() == [["group", *["test_publishing.named"] * 3]]


def test_a_group_is_published_twice(owner: User) -> None:
    signature = group(step.s(user_id=owner.pk), step.s(user_id=owner.pk))

    signature.delay()
    signature.delay()

    assert tree() == [["group", STEP, STEP], ["group", STEP, STEP]]


def test_a_group_is_recorded_before_its_first_message_leaves(owner: User) -> None:
    rows: list[int] = []

    def receive(**_: Any) -> None:
        rows.append(UserTaskStatus.objects.count())

    after_task_publish.connect(receive)
    try:
        group(step.s(user_id=owner.pk) for _ in range(3)).delay()
    finally:
        after_task_publish.disconnect(receive)

    assert rows == [4, 4, 4]


def test_members_are_recorded_one_by_one_where_the_project_wants_that(owner: User, settings: Any) -> None:
    settings.USER_TASKS_RECORD_GROUPS = False
    rows: list[int] = []

    def receive(**_: Any) -> None:
        rows.append(UserTaskStatus.objects.count())

    after_task_publish.connect(receive)
    try:
        group(step.s(user_id=owner.pk) for _ in range(3)).delay()
    finally:
        after_task_publish.disconnect(receive)

    assert rows == [2, 3, 4]
    assert tree() == [["group", STEP, STEP, STEP]]
    assert UserTaskStatus.objects.get(parent=None).total_steps == 3


def test_where_celery_publishes_groups_in_another_way_members_are_recorded_one_by_one(
    owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_of_celery = inspect.unwrap(getattr(group, publishing.MEMBERS_STEP))
    monkeypatch.setattr(group, publishing.MEMBERS_STEP, step_of_celery)

    group(step.s(user_id=owner.pk) for _ in range(3)).delay()

    assert tree() == [["group", STEP, STEP, STEP]]
    assert UserTaskStatus.objects.get(parent=None).total_steps == 3


def instrumented() -> list[Any]:
    return [Celery.send_task, getattr(group, publishing.MEMBERS_STEP), chord.run, Task.retry, Task.replace]


def test_applications_that_are_made_anew_instrument_nothing_twice(settings: Any) -> None:
    before = instrumented()
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.humanize"]
    assert instrumented() == before


WITHOUT_STEP = """
from celery import group
del group._apply_tasks
import django
django.setup()
"""


def test_a_celery_without_the_step_that_publishes_members_is_told_of_and_does_no_harm() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_STEP],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "test_settings"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("each member of a group is recorded when its own message leaves") == 1


def test_a_group_of_which_one_member_has_no_user(owner: User) -> None:
    with LogCapture((publishing.logger.name, DISPATCH_LOGGER)) as log:
        group(step.s(user_id=owner.pk), step.s(user_id=123456), step.s(user_id=owner.pk)).delay()

    assert tree() == [["group", STEP, STEP]]
    assert str(log).count(INVALID) >= 1


def broken_canvases(pk: int) -> dict[str, Callable[[], Any]]:
    good, bad, unknown = step.s(user_id=pk), step.s(label="b"), step.s(user_id=123456)
    return {
        "task": lambda: step.apply_async(kwargs={"user_id": 123456}),
        "first of a chain": lambda: chain(unknown, good).delay(),
        "last of a chain": lambda: chain(good, good, unknown).delay(),
        "member of a group": lambda: group(good, unknown).delay(),
        "header of a chord": lambda: chord([good, unknown], good).delay(),
        "body of a chord": lambda: chord([good, good], unknown).delay(),
        "body of a chord without a user": lambda: chord([good, good], bad).delay(),
    }


@pytest.mark.parametrize("whole_groups", [True, False], ids=["whole groups", "one by one"])
@pytest.mark.parametrize("place", broken_canvases(0))
def test_strictly_the_caller_gets_the_error_and_nothing_is_sent(
    owner: User, settings: Any, sent: list[str], place: str, whole_groups: bool
) -> None:
    settings.USER_TASKS_STRICT_PUBLISH = True
    settings.USER_TASKS_RECORD_GROUPS = whole_groups

    with pytest.raises(TypeError, match=INVALID if "without" not in place else MISSING):
        broken_canvases(owner.pk)[place]()

    assert sent == []
    assert not UserTaskStatus.objects.exists()


@pytest.mark.parametrize("place", broken_canvases(0))
def test_else_the_error_is_logged_and_all_is_sent(owner: User, sent: list[str], place: str) -> None:
    with LogCapture((publishing.logger.name, DISPATCH_LOGGER)) as log:
        broken_canvases(owner.pk)[place]()

    assert (INVALID if "without" not in place else MISSING) in str(log)
    assert sent


def test_strictly_good_calls_are_as_ever(owner: User, settings: Any) -> None:
    settings.USER_TASKS_STRICT_PUBLISH = True
    good = step.s(user_id=owner.pk)

    chain(good, other.s(), good).delay()
    group(named.s(label="b"), named.s(label="c")).apply_async((owner.pk,))
    group(named.s(label="b"), other.si()).delay(user_id=owner.pk)
    chord([good, other.s()], good).delay()
    chord([named.s(label="b")], other.s()).delay(owner.pk)
    chord([other.s()], group(good, chain(good, good))).delay()

    assert UserTaskStatus.objects.filter(is_container=False).count() == 2 + 3 + 2 + 1 + 3


def test_strictly_a_call_without_user_is_refused_by_celery_or_by_us(settings: Any, sent: list[str]) -> None:
    settings.USER_TASKS_STRICT_PUBLISH = True

    with pytest.raises(TypeError, match="user_id"):
        step.delay()

    assert sent == []


def test_containers_that_are_in_each_other_are_refused(owner: User) -> None:
    first = Node("first", GROUP, owner.pk, parent="second", is_container=True)
    second = Node("second", GROUP, owner.pk, parent="first", is_container=True)
    with pytest.raises(ValueError, match="is in itself"):
        enqueued([first, second, Node("task", step.name, owner.pk, parent="second")])
    assert not UserTaskStatus.objects.exists()


def test_a_publisher_s_transaction_that_is_rolled_back_leaves_nothing(owner: User) -> None:
    with transaction.atomic():
        first_user.delay(owner.pk)
        assert UserTaskStatus.objects.count() == 1
        transaction.set_rollback(True)

    assert not UserTaskStatus.objects.exists()


def test_an_error_in_a_receiver_leaves_the_publisher_s_transaction_usable(owner: User) -> None:
    with transaction.atomic(), LogCapture(DISPATCH_LOGGER):
        first_user.delay(123456)
        first_user.delay("nobody")
        named.delay(owner.pk, label="a", steps=10**30)
        first_user.delay(10**30)
        first_user.delay("1\0")
        first_user.apply_async((owner.pk,), task_id="x" * 200)
        last = first_user.delay(owner.pk)

    assert UserTaskStatus.objects.filter(task_id=last.id).exists()


@shared_task(base=UserTask, bind=True)
def with_thing(self: UserTask, user_id: int, thing: Any = None) -> None: ...


@shared_task
def ordinary_with_thing(thing: Any = None) -> None: ...


UNSENT = "The task could not be handed over to a worker."
UNWRITABLE = object()
"""Nothing that a message can hold."""


def test_a_task_whose_message_cannot_be_written_fails(owner: User, stopped: list[UserTaskStatus]) -> None:
    with pytest.raises(EncodeError):
        with_thing.delay(owner.pk, UNWRITABLE)

    status = UserTaskStatus.objects.get()
    assert (status.state, status.artifacts.get().text, stopped) == ("Failed", UNSENT, [status])


@pytest.mark.parametrize(
    "canvas", [group, lambda members: chord(members, ordinary_with_thing.si())], ids=["group", "chord"]
)
def test_the_rest_of_a_group_fails_where_a_member_cannot_be_sent(owner: User, canvas: Callable[..., Any]) -> None:
    things = (None, None, UNWRITABLE, None)
    members = [with_thing.s(owner.pk, thing=thing) for thing in things]

    with pytest.raises(EncodeError):
        canvas(members).delay()

    leaves = UserTaskStatus.objects.leaves().exclude(due=None).order_by("created", "pk")
    assert [status.state for status in leaves] == ["Pending", "Pending", "Failed", "Failed"]
    assert UserTaskStatus.objects.get(task_class="celery.group").state == "Failed"
    for status in leaves[:2]:
        status.succeed()
    assert not UserTaskStatus.objects.unfinished().exists()


def test_what_follows_an_ordinary_task_that_cannot_be_sent_is_canceled(owner: User) -> None:
    with pytest.raises(EncodeError):
        chain(ordinary_with_thing.si(UNWRITABLE), with_thing.si(owner.pk)).delay()

    assert UserTaskStatus.objects.roots().get().state == "Failed"
    assert UserTaskStatus.objects.leaves().get().state == "Canceled"
    assert not UserTaskStatus.objects.unfinished().exists()
