"""Real workers, on a real broker, under both message protocols."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from celery import chain, chord, current_app, group
from celery.canvas import Signature
from django.contrib.auth.models import User
from django.db import transaction

import worker_tasks
from user_tasks.models import UserTaskStatus
from worker_tasks import notes, part
from workers import Worker, Workers, wait_for

pytestmark = pytest.mark.integration

TOO_LONG = "The task took longer than it is allowed to, and was stopped."

Start = Callable[..., Worker]


def executed(task_id: str, times: int = 1) -> UserTaskStatus:
    """Return a task's status after its execution."""
    wait_for(lambda: notes(task_id).count("ended") == times, f"The end of task {task_id}")
    return UserTaskStatus.objects.get(task_id=task_id)


def at_rest(task_id: str) -> UserTaskStatus:
    """Return a status that nothing will change any more."""
    statuses = UserTaskStatus.objects.filter(task_id=task_id, finished__isnull=False)
    wait_for(statuses.exists, f"The rest of task {task_id}")
    return statuses.get()


def running(task_id: str) -> UserTaskStatus:
    wait_for(lambda: "ran" in notes(task_id), f"The start of task {task_id}")
    return UserTaskStatus.objects.get(task_id=task_id)


def stops(status: UserTaskStatus) -> list[str]:
    return [text for text in notes(status.task_id) if text.startswith("stopped")]


def errors(status: UserTaskStatus) -> list[str]:
    return [artifact.text for artifact in status.artifacts.filter(name="Error").order_by("pk")]


CALLS: dict[str, tuple[Callable[[int], Any], str]] = {
    "bound": (worker_tasks.bound.delay, "bound"),
    "bound, by name": (lambda pk: worker_tasks.bound.delay(label="b", user_id=pk), "bound"),
    "unbound": (worker_tasks.unbound.delay, "unbound"),
    "renamed, user last": (lambda pk: worker_tasks.renamed.delay("a", [1, 2], pk), "renamed"),
    "decorated": (lambda pk: worker_tasks.decorated.delay("a", pk), "decorated"),
    "decorated, unbound": (lambda pk: worker_tasks.decorated_unbound.delay("a", pk), "decorated_unbound"),
    "keyword-only": (lambda pk: worker_tasks.keyword_only.delay(user_id=pk), "keyword_only"),
    "mixin first": (worker_tasks.mixin_first.delay, "MixinFirst"),
    "mixin last": (worker_tasks.mixin_last.delay, "MixinLast"),
    "by the task's name": (lambda pk: current_app.send_task("shop.renamed", ("a", [], pk)), "renamed"),
    "id chosen": (lambda pk: worker_tasks.bound.apply_async((pk,), task_id=f"chosen-{pk}"), "bound"),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_task_with_steps(worker: Worker, owner: User, kind: str) -> None:
    call, name = CALLS[kind]

    result = call(owner.pk)

    published = UserTaskStatus.objects.get(task_id=result.id)
    assert (published.user, published.name, published.total_steps) in ((owner, name, 1), (owner, name, 3))
    status = executed(result.id)
    assert (status.state, status.completed_steps, status.total_steps) == ("Succeeded", 3, 3)
    assert (status.attempts, status.user, status.parent) == (1, owner, None)
    assert status.started is not None
    assert status.finished is not None
    assert status.created <= status.started <= status.finished
    prepared = ["prepared"] if "mixin" in kind else []
    assert notes(result.id) == [*prepared, "ran", "stopped Succeeded", "ended"]


def test_tasks_side_by_side_in_the_threads_of_a_worker(
    workers: Workers, publish_to: Callable[[Any], None], owner: User
) -> None:
    publish_to(workers.shared(pool="threads", concurrency=4).route)

    results = [worker_tasks.bound.delay(owner.pk, label=str(number)) for number in range(12)]

    for result in results:
        status = executed(result.id)
        assert (status.state, status.completed_steps, status.total_steps) == ("Succeeded", 3, 3)
        assert notes(result.id) == ["ran", "stopped Succeeded", "ended"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("text", "bad row"),
        ("empty", "ValueError"),
        ("NUL", "badrow"),
        ("long", "ä" * 32_766 + "…"),
        ("unprintable", "Unprintable"),
        ("several", "two rows (2 sub-exceptions)"),
        ("soft limit", TOO_LONG),
    ],
)
def test_a_failure(worker: Worker, owner: User, error: str, text: str) -> None:
    status = executed(worker_tasks.failing.delay(owner.pk, error).id)

    assert (status.state, errors(status)) == ("Failed", [text])
    assert stops(status) == ["stopped Failed"]


def test_a_failure_in_the_words_of_the_project(worker: Worker, owner: User) -> None:
    status = executed(worker_tasks.polite.delay(owner.pk).id)

    assert (status.state, errors(status)) == ("Failed", ["Sorry: bad row"])


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_retries(worker: Worker, owner: User, failures: int) -> None:
    attempts = min(failures + 1, 3)

    status = executed(worker_tasks.retrying.delay(owner.pk, failures).id, attempts)

    state = "Succeeded" if failures < 3 else "Failed"
    assert (status.state, status.attempts, status.total_steps) == (state, attempts, 2)
    assert status.completed_steps == (2 if state == "Succeeded" else 1)
    assert errors(status) == ([] if state == "Succeeded" else ["not at 2"])
    # Another process may begin the next attempt before the last has ended.
    told = [text for text in notes(status.task_id) if text != "ended"]
    assert told == [*["In Progress 0 of 1"] * attempts, f"stopped {state}"]


@pytest.mark.parametrize("failures", [1, 3])
def test_automatic_retries(worker: Worker, owner: User, failures: int) -> None:
    attempts = min(failures + 1, 3)

    status = executed(worker_tasks.retrying_by_itself.delay(owner.pk, failures).id, attempts)

    assert (status.state, status.attempts) == ("Succeeded" if failures < 3 else "Failed", attempts)
    assert errors(status) == ([] if failures < 3 else ["not at 2"])
    assert len(stops(status)) == 1


@pytest.mark.parametrize("end", ["Succeeded", "Failed", "Canceled"])
def test_a_task_that_ends_itself_and_returns(worker: Worker, owner: User, end: str) -> None:
    status = executed(worker_tasks.ending_itself.delay(owner.pk, end).id)

    assert (status.state, errors(status)) == (end, ["not today"] if end == "Failed" else [])
    assert status.finished is not None
    assert stops(status) == [f"stopped {end}"]
    assert "returned" in notes(status.task_id)


def test_a_task_canceled_while_it_runs_stops_at_its_next_step(worker: Worker, owner: User) -> None:
    result = worker_tasks.waiting.delay(owner.pk)
    status = running(result.id)

    status.cancel()

    assert status.state == "Canceled"
    status = executed(result.id)
    assert (status.state, errors(status)) == ("Canceled", [])
    assert status.finished is not None
    assert notes(result.id) == ["ran", "stopped Canceled", "ended"]


@pytest.mark.parametrize("gone", ["status", "user"])
def test_a_task_whose_status_is_deleted_stops_at_its_next_step(worker: Worker, owner: User, gone: str) -> None:
    result = worker_tasks.waiting.delay(owner.pk)
    status = running(result.id)

    (status if gone == "status" else owner).delete()

    wait_for(lambda: "ended" in notes(result.id))
    assert not UserTaskStatus.objects.exists()
    assert notes(result.id) == ["ran", "ended"]


def test_a_task_canceled_before_a_worker_takes_it_never_runs(worker: Worker, owner: User) -> None:
    result = worker_tasks.bound.apply_async((owner.pk,), countdown=2)
    status = UserTaskStatus.objects.get(task_id=result.id)
    wait_for(lambda: f"[{result.id}] received" in worker.log(), "The receipt of the message")

    status.cancel()

    assert (status.state, stops(status)) == ("Canceled", ["stopped Canceled"])
    wait_for(lambda: f"Discarding revoked task: worker_tasks.bound[{result.id}]" in worker.log(), "The discarding")
    status.refresh_from_db()
    assert (status.state, status.completed_steps) == ("Canceled", 0)
    assert notes(result.id) == ["stopped Canceled"]


def test_tasks_canceled_before_there_is_a_worker_never_run(start_worker: Start, owner: User) -> None:
    def wait(label: str) -> Signature[Any]:
        return part.s(user_id=owner.pk, label=label)

    single = [call(owner.pk) for call, _name in CALLS.values()]
    chain(wait("first"), wait("second")).delay()
    group(wait("one"), wait("other")).delay()
    chord([wait("header"), wait("other header")], wait("body")).delay()
    roots = UserTaskStatus.objects.filter(parent=None)
    assert roots.count() == len(single) + 3

    for status in roots:
        status.cancel()
        assert status.state == "Canceled"
    last = worker_tasks.bound.delay(owner.pk)
    start_worker()

    canceled = UserTaskStatus.objects.exclude(task_id=last.id)
    executed(last.id)
    assert set(canceled.values_list("state", flat=True)) == {"Canceled"}
    assert [notes(status.task_id)[:1] for status in canceled] == [["stopped Canceled"]] * canceled.count()
    for status in canceled:
        assert set(notes(status.task_id)) <= {"stopped Canceled", "ended"}
        assert len(stops(status)) == 1


def told_all(status: UserTaskStatus) -> bool:
    """Tell whether the stop of a status has been noted, and the end of its execution, if there was one."""
    told = notes(status.task_id)
    return bool(stops(status)) and ("ran" not in told or "ended" in told)


def settled() -> dict[str, str]:
    """Return the states of all tasks by their names, and of containers by their kinds, when nothing runs any more."""
    wait_for(lambda: not UserTaskStatus.objects.filter(finished=None).exists(), "The rest of all tasks")
    statuses = list(UserTaskStatus.objects.all())
    for status in statuses:
        wait_for(partial(told_all, status), f"All notes of {status}")
        assert stops(status) == [f"stopped {status.state}"]
    return {status.task_class if status.is_container else status.name: status.state for status in statuses}


def container(kind: str) -> UserTaskStatus:
    return UserTaskStatus.objects.get(task_class=f"celery.{kind}")


CHAIN_ENDS = {
    "": ["Succeeded", "Succeeded", "Succeeded", "Succeeded"],
    "a": ["Failed", "Failed", "Canceled", "Canceled"],
    "b": ["Failed", "Succeeded", "Failed", "Canceled"],
    "c": ["Failed", "Succeeded", "Succeeded", "Failed"],
}


@pytest.mark.parametrize("failing", CHAIN_ENDS)
def test_a_flat_chain(worker: Worker, owner: User, failing: str) -> None:
    links = [
        part.s(user_id=owner.pk, label=label, end="fail" if label == failing else "", user_task_name="Shop")
        for label in "abc"
    ]

    chain(*links).delay()

    assert settled() == dict(zip(["celery.chain", "a", "b", "c"], CHAIN_ENDS[failing], strict=True))
    whole = container("chain")
    done = 3 if not failing else "abc".index(failing)
    assert (whole.name, whole.completed_steps, whole.total_steps) == ("Shop", done, 3)
    assert errors(whole) == ([f"{failing} failed"] if failing else [])


@pytest.mark.parametrize("failing", ["", "a", "ab"], ids=["none", "one", "all"])
def test_a_flat_group(worker: Worker, owner: User, failing: str) -> None:
    result = group(
        part.s(user_id=owner.pk, label=label, end="fail" if label in failing else "") for label in "abc"
    ).delay()

    ends = {label: "Failed" if label in failing else "Succeeded" for label in "abc"}
    assert settled() == {"celery.group": "Failed" if failing else "Succeeded", **ends}
    whole = container("group")
    assert (whole.task_id, whole.completed_steps, whole.total_steps) == (result.id, 3 - len(failing), 3)
    assert sorted(errors(whole)) == [f"{label} failed" for label in failing]


CHORD_ENDS = {
    "": ["Succeeded", "Succeeded", "Succeeded", "Succeeded", "Succeeded"],
    "a": ["Failed", "Failed", "Failed", "Succeeded", "Canceled"],
    "b": ["Failed", "Failed", "Succeeded", "Failed", "Canceled"],
    "c": ["Failed", "Succeeded", "Succeeded", "Succeeded", "Failed"],
}


@pytest.mark.parametrize("failing", CHORD_ENDS)
def test_a_flat_chord(worker: Worker, owner: User, failing: str) -> None:
    *headers, body = (part.s(user_id=owner.pk, label=label, end="fail" if label == failing else "") for label in "abc")

    chord(headers, body).delay()

    expected = dict(zip(["celery.chord", "celery.group", "a", "b", "c"], CHORD_ENDS[failing], strict=True))
    assert settled() == expected
    whole = container("chord")
    done = sum(expected[label] == "Succeeded" for label in "abc")
    assert (whole.completed_steps, whole.total_steps) == (done, 3)
    assert errors(whole) == ([f"{failing} failed"] if failing else [])
    assert UserTaskStatus.objects.get(name="c").parent == whole
    assert UserTaskStatus.objects.get(name="a").parent == container("group")


WORKFLOWS: dict[str, Callable[[list[Any]], Any]] = {
    "chain": lambda parts: chain(*parts),
    "group": group,
    "chord": lambda parts: chord(parts[:-1], parts[-1]),
}


@pytest.mark.parametrize("kind", WORKFLOWS)
def test_a_workflow_canceled_while_it_runs(worker: Worker, owner: User, kind: str) -> None:
    WORKFLOWS[kind]([part.s(user_id=owner.pk, label=label, end="wait") for label in "abc"]).delay()
    first = UserTaskStatus.objects.get(name="a")
    running(first.task_id)

    UserTaskStatus.objects.get(parent=None).cancel()

    assert set(settled().values()) == {"Canceled"}


@pytest.mark.parametrize("kind", WORKFLOWS)
def test_one_part_canceled_while_it_runs(worker: Worker, owner: User, kind: str) -> None:
    parts = [part.s(user_id=owner.pk, label=label, end="wait" if label == "a" else "") for label in "abc"]
    WORKFLOWS[kind](parts).delay()
    first = UserTaskStatus.objects.get(name="a")
    running(first.task_id)

    first.cancel()

    ends = settled()
    assert (ends["a"], ends[f"celery.{kind}"]) == ("Canceled", "Canceled")
    assert ends["b"] == ("Canceled" if kind == "chain" else "Succeeded")
    assert ends["c"] == ("Succeeded" if kind == "group" else "Canceled")


def test_a_part_shows_its_state_on_its_chain_but_not_on_its_group(worker: Worker, owner: User) -> None:
    chain(part.s(user_id=owner.pk, label="a", end="wait"), part.s(user_id=owner.pk, label="b")).delay()
    group([part.s(user_id=owner.pk, label="c", end="wait")]).delay()
    shown = UserTaskStatus.objects.filter(is_container=False)
    wait_for(shown.filter(state="Waiting in a").exists)
    wait_for(shown.filter(state="Waiting in c").exists)

    wait_for(lambda: container("chain").state == "Waiting in a", "The state of the chain, which is written next,")
    assert container("group").state == "In Progress"
    for status in UserTaskStatus.objects.filter(parent=None):
        status.cancel()
    settled()


def test_a_publisher_whose_transaction_ends_after_a_worker_has_the_message(worker: Worker, owner: User) -> None:
    with transaction.atomic():
        result = worker_tasks.bound.delay(owner.pk)
        mine = UserTaskStatus.objects.get(task_id=result.id)
        wait_for(lambda: f"[{result.id}] received" in worker.log(), "The receipt of the message")

    status = executed(result.id)
    assert (status.pk, status.state, status.completed_steps, status.total_steps) == (mine.pk, "Succeeded", 3, 3)
    assert stops(status) == ["stopped Succeeded"]


def test_a_publisher_whose_transaction_is_rolled_back_after_a_worker_has_the_message(
    worker: Worker, owner: User
) -> None:
    with transaction.atomic():
        result = worker_tasks.bound.delay(owner.pk)
        wait_for(lambda: f"[{result.id}] received" in worker.log(), "The receipt of the message")
        transaction.set_rollback(True)

    status = executed(result.id)
    assert (status.state, status.completed_steps, status.total_steps) == ("Succeeded", 3, 3)
    assert stops(status) == ["stopped Succeeded"]


def test_a_workflow_published_in_a_transaction_that_ends_late(worker: Worker, owner: User) -> None:
    with transaction.atomic():
        result: Any = group(part.s(user_id=owner.pk, label=label) for label in "ab").delay()
        wait_for(lambda: all(f"[{member.id}] received" in worker.log() for member in result.results))

    assert settled() == {"celery.group": "Succeeded", "a": "Succeeded", "b": "Succeeded"}


def test_a_task_published_with_its_transaction(worker: Worker, owner: User) -> None:
    with transaction.atomic():
        result = worker_tasks.bound.delay_on_commit(owner.pk)
        assert UserTaskStatus.objects.get(task_id=result.id).state == "Pending"
        with transaction.atomic():
            undone = worker_tasks.bound.delay_on_commit(owner.pk)
            transaction.set_rollback(True)

    assert executed(result.id).state == "Succeeded"
    assert UserTaskStatus.objects.get().task_id == result.id
    assert f"[{undone.id}] received" not in worker.log()


def test_a_call_that_names_no_user_runs_untracked(worker: Worker, owner: User) -> None:
    result = worker_tasks.failing.delay(owner.pk + 1000, "text")

    wait_for(lambda: "ended" in notes(result.id))
    assert notes(result.id) == ["ran", "ended"]
    assert not UserTaskStatus.objects.exists()
    assert f"Invalid user_id: {owner.pk + 1000}" in worker.log()


def test_a_task_past_its_time_limit(worker: Worker, owner: User) -> None:
    for result in [worker_tasks.bound.delay(owner.pk) for _ in range(6)]:
        executed(result.id)

    status = at_rest(worker_tasks.too_slow.delay(owner.pk).id)

    text = "The task took longer than the 1 second that it is allowed to, and was stopped."
    assert (status.state, errors(status)) == ("Failed", [text])
    wait_for(lambda: stops(status) == ["stopped Failed"])
    for result in [worker_tasks.bound.delay(owner.pk) for _ in range(6)]:
        assert executed(result.id).state == "Succeeded"


def test_a_task_past_its_soft_time_limit(worker: Worker, owner: User) -> None:
    status = executed(worker_tasks.rather_slow.delay(owner.pk).id)

    assert (status.state, errors(status)) == ("Failed", [TOO_LONG])
    assert stops(status) == ["stopped Failed"]


def test_a_task_whose_process_dies(worker: Worker, owner: User) -> None:
    status = at_rest(worker_tasks.crashing.delay(owner.pk).id)

    assert status.state == "Failed"
    assert errors(status) == ["The process that ran the task has died. The task was not finished."]
    wait_for(lambda: stops(status) == ["stopped Failed"])


def test_a_task_terminated_by_an_administrator(worker: Worker, owner: User) -> None:
    result = worker_tasks.waiting.delay(owner.pk)
    running(result.id)

    current_app.control.revoke(result.id, terminate=True)

    status = at_rest(result.id)
    assert (status.state, errors(status)) == ("Canceled", [])
    wait_for(lambda: stops(status) == ["stopped Canceled"])


def test_a_task_whose_message_expires(worker: Worker, owner: User) -> None:
    status = at_rest(worker_tasks.bound.apply_async((owner.pk,), expires=-1).id)

    assert status.state == "Failed"
    assert errors(status) == ["The task waited longer than it was allowed to, and was not started."]
    wait_for(lambda: notes(status.task_id) == ["stopped Failed"])


@pytest.mark.parametrize("reject", [True, False], ids=["rejected", "ignored"])
def test_a_task_that_leaves_without_a_result(worker: Worker, owner: User, reject: bool) -> None:
    status = executed(worker_tasks.leaving.delay(owner.pk, reject).id)

    executed(worker_tasks.bound.delay(owner.pk).id)
    assert (status.state, errors(status)) == ("Failed", ["The task ended without a result."])
    assert stops(status) == ["stopped Failed"]
