from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import pytest
from celery import chain, shared_task
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.base import ContentFile

from documents import ROOT, code_blocks, executed
from user_tasks import testing
from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.tasks import UserTask
from user_tasks.testing import Moment

MakeStatus = Callable[..., UserTaskStatus]
EVENTS: list[object] = []


@pytest.fixture(autouse=True)
def no_events() -> None:
    EVENTS.clear()


@shared_task(base=UserTask, bind=True, autoretry_for=(ConnectionError,), max_retries=2, default_retry_delay=600)
def shout(self: UserTask, words: list[str], *, user_id: int) -> str:
    EVENTS.append("begun")
    text = " ".join(word.upper() for word in self.track(words))
    self.status.set_state("Storing")
    UserTaskArtifact.objects.create(status=self.status, text=text)
    return text


@shared_task
def ordinary() -> None: ...


@shared_task(base=UserTask)
def failing(*, user_id: int) -> None:
    raise ValueError("The file has no header.")


WORDS = ["a", "b", "c"]


def test_a_task_is_executed_without_a_broker(owner: User) -> None:
    execution = testing.execute(shout.s(WORDS, user_id=owner.pk))

    assert (execution.returned, execution.raised) == ("A B C", None)
    assert execution.status == UserTaskStatus.objects.get()
    assert execution.states == ["In Progress", "Storing", "Succeeded"]
    assert execution.history[:3] == tuple(Moment("In Progress", *steps) for steps in [(0, 1), (0, 3), (1, 3)])
    assert execution.history[-1] == Moment("Succeeded", 3, 3)
    assert [artifact.text for artifact in execution.artifacts] == ["A B C"]
    testing.assert_succeeded(execution)
    testing.assert_progress(execution, 3, 3)
    testing.assert_artifact(execution, text="A B C")


def test_nothing_that_the_task_raises_is_raised(owner: User) -> None:
    execution = testing.execute(failing.s(user_id=owner.pk))

    assert isinstance(execution.raised, ValueError)
    assert execution.returned is None
    testing.assert_failed(execution, "no header")


@pytest.mark.parametrize(
    ("signature", "error"),
    [
        (lambda pk: shout.s([]), "must include the user_id"),
        (lambda pk: shout.s([], user_id=pk + 1), "Invalid user_id"),
        (lambda pk: ordinary.s(), "no task with the base UserTask"),
        (lambda pk: chain(shout.s([], user_id=pk), failing.si(user_id=pk)), "containers of tasks need a worker"),
    ],
)
def test_what_is_no_call_of_a_user_task_is_refused(owner: User, signature: Callable[[int], Any], error: str) -> None:
    with pytest.raises(TypeError, match=error):
        testing.execute(signature(owner.pk))


def test_a_user_cancels_while_the_task_runs(owner: User, user_task_stops: list[UserTaskStatus]) -> None:
    execution = testing.execute_canceled(shout.s(WORDS, user_id=owner.pk), after=2)

    assert isinstance(execution.raised, TaskCanceledException)
    assert execution.states == ["In Progress", "Canceled"]
    assert not execution.artifacts
    testing.assert_canceled(execution)
    testing.assert_progress(execution, 2, 3)
    assert user_task_stops == [execution.status]


def test_a_user_cancels_before_the_task_starts(owner: User) -> None:
    execution = testing.execute_canceled(shout.s(WORDS, user_id=owner.pk))

    assert not EVENTS
    testing.assert_canceled(execution)


def test_a_worker_dies_and_the_message_is_delivered_again(owner: User, user_task_stops: list[UserTaskStatus]) -> None:
    lost = testing.execute_lost(shout.s(WORDS, user_id=owner.pk), after=2)

    assert lost.status.lost
    testing.assert_failed(lost, "stopped reporting")
    testing.assert_progress(lost, 2, 3)

    found = testing.redeliver(lost)

    assert found.status == lost.status
    testing.assert_succeeded(found)
    testing.assert_progress(found, 3, 3)
    assert len(EVENTS) == 2
    assert len(user_task_stops) == 2


def test_an_error_is_raised_once_and_the_task_tries_again(owner: User) -> None:
    execution = testing.execute_with_error(shout.s(WORDS, user_id=owner.pk), ConnectionError("away"), after=2)

    assert execution.states == ["In Progress", "Retrying", "In Progress", "Storing", "Succeeded"]
    assert execution.status.attempts == 2
    testing.assert_progress(execution, 3, 3)


def test_an_error_without_a_retry_fails_the_task(owner: User) -> None:
    execution = testing.execute_with_error(shout.s(WORDS, user_id=owner.pk), ValueError("no header"))

    testing.assert_failed(execution, "no header")
    testing.assert_progress(execution, 1, 3)


@shared_task(base=UserTask, bind=True)
def by_hand(self: UserTask, *, user_id: int) -> None:
    for _ in range(3):
        self.status.increment_completed_steps()


def test_steps_that_are_counted_by_hand_are_seen_too(owner: User) -> None:
    execution = testing.execute_canceled(by_hand.s(user_id=owner.pk), after=2)

    testing.assert_canceled(execution)
    testing.assert_progress(execution, 2)


@pytest.mark.parametrize("run", [testing.execute_canceled, testing.execute_lost])
def test_an_interruption_that_never_comes_is_told(owner: User, run: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="never seen with 4 steps"):
        run(shout.s(WORDS, user_id=owner.pk), after=4)


def test_a_status_without_an_execution_is_lost(make_status: MakeStatus) -> None:
    status, other = make_status(state="In Progress"), make_status(state="In Progress")

    testing.lose(status)

    testing.assert_failed(status, "stopped reporting")
    assert UserTaskStatus.objects.get(pk=other.pk).state == "In Progress"


def test_failed_assertions_say_what_is_there(owner: User) -> None:
    succeeded = testing.execute(shout.s(["a"], user_id=owner.pk))
    failed = testing.execute(failing.s(user_id=owner.pk))
    running = UserTaskStatus.objects.create(user=owner, total_steps=1, state="Canceled", name="Running", started=None)
    UserTaskStatus.objects.filter(pk=running.pk).update(finished=None)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: testing.assert_succeeded(failed), r"is Failed, not Succeeded\. It says: The file has no header"),
        (lambda: testing.assert_failed(succeeded), "is Succeeded, not Failed"),
        (lambda: testing.assert_failed(failed, "nonsense"), "has failed with .*no header.*, not 'nonsense'"),
        (lambda: testing.assert_canceled(succeeded), "is Succeeded, not Canceled"),
        (lambda: testing.assert_canceled(running), "runs still"),
        (lambda: testing.assert_progress(succeeded, 2), "has 1 of 1 steps, not 2 of 1"),
        (lambda: testing.assert_progress(succeeded, 1, 2), "has 1 of 1 steps, not 1 of 2"),
        (lambda: testing.assert_artifact(succeeded, "Nonsense"), r"no output 'Nonsense', but \['Output'\]"),
        (lambda: testing.assert_artifact(succeeded, text="B"), "is 'A', not 'B'"),
        (lambda: testing.assert_artifact(succeeded, url="https://example.com"), "URL of .* is '', not"),
        (lambda: testing.assert_artifact(succeeded, content=b"x"), "holds None, not b'x'"),
    ]
    for call, message in calls:
        with pytest.raises(AssertionError, match=message):
            call()


def test_the_file_of_an_artifact_is_compared(make_status: MakeStatus) -> None:
    artifact = UserTaskArtifact(status=make_status())
    artifact.file.save("rows.csv", ContentFile(b"1;2"))

    assert testing.assert_artifact(artifact.status, content=b"1;2") == artifact


def test_the_setting_of_tracked_loops_is_left_as_it_was(owner: User) -> None:
    testing.execute(shout.s(WORDS, user_id=owner.pk))

    assert not hasattr(settings, "USER_TASKS_TRACK_SECONDS")


@pytest.fixture
def rules_seen_afterwards(rule_set: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rules of a project that has none; there are none when the other fixtures are done either."""
    rule_set.clear()
    yield rule_set
    assert not rule_set


def test_the_fixtures_bring_the_module_and_the_rules(
    rules_seen_afterwards: dict[str, Any], user_task_testing: ModuleType, user_task_rules: None
) -> None:
    assert user_task_testing is testing
    assert "user_tasks.cancel_usertaskstatus" in rules_seen_afterwards


def test_pytest_finds_the_fixtures_by_itself() -> None:
    names = {point.value for point in entry_points(group="pytest11")}

    assert "user_tasks.pytest_plugin" in names


PLUGIN = """
import sys
import user_tasks.pytest_plugin
assert not {"user_tasks.models", "rules", "celery"} & sys.modules.keys()
"""
HELPERS = """
import sys
sys.modules["pytest"] = None
import django
django.setup()
import user_tasks.testing
"""


@pytest.mark.embedded
@pytest.mark.parametrize("code", [PLUGIN, HELPERS], ids=["fixtures without Django", "helpers without pytest"])
def test_neither_module_needs_the_libraries_of_the_other(code: str) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "test_settings"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=60)


def test_the_documented_tests_pass(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = {block.caption: block for block in code_blocks(ROOT / "docs" / "testing.rst") if block.caption}
    monkeypatch.setitem(sys.modules, "sales", ModuleType("sales"))
    monkeypatch.setitem(sys.modules, "sales.tasks", executed(blocks["sales/tasks.py"], "documented_sales.tasks"))
    module = executed(blocks["tests/test_sales.py"], "test_sales")
    tests = [function for name, function in vars(module).items() if name.startswith("test_")]

    for test in tests:
        test(owner)

    assert len(tests) >= 4
