"""Tasks that nobody reports on: found, failed, and put back when they prove to be alive."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from user_tasks import losses, recording, transitions
from user_tasks.containers import CHAIN, CHORD, GROUP
from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskStatus
from user_tasks.states import State
from user_tasks.tasks import fail_lost_user_tasks

MakeStatus = Callable[..., UserTaskStatus]

SILENT = "The worker that ran the task has stopped reporting. The task was given up."
OVERDUE = "The task has waited too long for a worker, and was given up."
LONG_AGO = timedelta(minutes=6)


@pytest.fixture
def make_silent(make_status: MakeStatus) -> MakeStatus:
    """Return a factory of tasks whose worker was last heard of long ago."""

    def make(state: str = State.IN_PROGRESS, **fields: Any) -> UserTaskStatus:
        then = timezone.now() - LONG_AGO
        return make_status(**{"state": state, "started": then, "heartbeat": then, **fields})

    return make


def fresh(status: UserTaskStatus) -> UserTaskStatus:
    return UserTaskStatus.objects.get(pk=status.pk)


def errors(status: UserTaskStatus) -> list[str]:
    return list(status.artifacts.values_list("text", flat=True))


@pytest.mark.parametrize("state", ["In Progress", "Compressing"])
def test_a_silent_task_is_failed_once(make_silent: MakeStatus, stopped: list[UserTaskStatus], state: str) -> None:
    status = make_silent(state)

    assert (losses.fail_lost(), losses.fail_lost()) == (1, 0)

    found = fresh(status)
    assert (found.state, found.lost, bool(found.finished), errors(found)) == ("Failed", True, True, [SILENT])
    assert [told.pk for told in stopped] == [status.pk]


@pytest.mark.parametrize("state", ["Pending", "Retrying", "Succeeded", "Failed"])
def test_what_waits_or_has_ended_is_not_silent(make_silent: MakeStatus, state: str) -> None:
    status = make_silent(state, finished=timezone.now() if state in {"Succeeded", "Failed"} else None)

    assert losses.fail_lost() == 0
    assert fresh(status).state == state


def test_a_task_that_has_beaten_lately_is_left(make_silent: MakeStatus, settings: Any) -> None:
    make_silent(heartbeat=timezone.now() - timedelta(minutes=4))
    assert losses.fail_lost() == 0

    settings.USER_TASKS_LOST_AFTER = timedelta(minutes=3)
    assert losses.fail_lost() == 1


def test_a_canceled_task_comes_to_rest(make_silent: MakeStatus, stopped: list[UserTaskStatus]) -> None:
    status = make_silent(State.CANCELED)

    assert losses.fail_lost() == 1

    assert (fresh(status).state, bool(fresh(status).finished), errors(status)) == ("Canceled", True, [])
    assert [told.pk for told in stopped] == [status.pk]


@pytest.mark.parametrize("state", ["In Progress", "Canceled"])
def test_a_task_that_shows_life_after_it_was_found_is_left(make_silent: MakeStatus, state: str) -> None:
    status = make_silent(state)
    found = fresh(status)
    losses.beat([status.task_id])

    assert not transitions.lose(found, SILENT)

    assert (fresh(status).state, fresh(status).finished, errors(status)) == (state, None, [])


def test_containers_follow_and_go_back(
    make_silent: MakeStatus, make_status: MakeStatus, make_container: MakeStatus
) -> None:
    chain = make_container(CHAIN, state="In Progress", started=timezone.now())
    first = make_silent(parent=fresh(chain), completed_steps=0)
    second = make_status(parent=fresh(chain), due=None)
    group = make_container(GROUP, parent=fresh(chain))
    third = make_status(parent=fresh(group), due=None)
    every = (chain, first, second, group, third)

    losses.fail_lost()
    assert [fresh(status).state for status in every] == ["Failed", "Failed", "Canceled", "Canceled", "Canceled"]
    assert errors(chain) == [SILENT]

    losses.beat([first.task_id])
    states = [fresh(status).state for status in every]
    assert states == ["In Progress", "In Progress", "Pending", "Pending", "Pending"]
    assert errors(chain) == errors(first) == []
    assert not any(fresh(status).finished for status in every)


def test_what_a_killed_process_was_publishing_is_canceled_until_its_message_arrives(
    make_status: MakeStatus, make_container: MakeStatus, stopped: list[UserTaskStatus], revoked: list[str]
) -> None:
    then = timezone.now() - LONG_AGO
    began = then - timedelta(minutes=1)
    chain = make_container(CHAIN, state="In Progress", started=then)
    first = make_status(state="In Progress", parent=fresh(chain), due=then, started=began, heartbeat=then)
    group = make_container(GROUP, parent=fresh(chain), state="In Progress", started=then)
    running = make_status(state="In Progress", parent=fresh(group), due=then, started=then, heartbeat=timezone.now())
    waiting = make_status(parent=fresh(group), due=timezone.now())
    last = make_status(parent=fresh(chain), due=None)
    every = (chain, group, running, waiting, last)

    def states() -> list[str]:
        return [fresh(status).state for status in every]

    recording.failed(first.task_id, "The process has died.")
    losses.fail_lost()
    assert states() == ["Failed", "In Progress", "In Progress", "Pending", "Canceled"]

    UserTaskStatus.objects.filter(pk=waiting.pk).update(due=then)
    losses.fail_lost()
    assert states() == ["Failed", "In Progress", "In Progress", "Canceled", "Canceled"]
    recording.succeeded(running.task_id)
    assert states() == ["Failed", "Canceled", "Succeeded", "Canceled", "Canceled"]
    assert all(fresh(status).finished for status in every)
    assert sorted(status.pk for status in stopped) == sorted(status.pk for status in (first, *every))
    assert revoked == []  # a worker would discard what the first task may publish again

    recording.started(waiting.task_id)
    assert fresh(waiting).state == "In Progress"
    recording.succeeded(waiting.task_id)
    assert (fresh(waiting).state, bool(fresh(waiting).finished), fresh(waiting).lost) == ("Succeeded", True, False)


def test_what_a_lost_process_was_publishing_waits_again_when_its_task_proves_to_be_alive(
    make_silent: MakeStatus, make_status: MakeStatus, make_container: MakeStatus
) -> None:
    then = timezone.now() - LONG_AGO
    chain = make_container(CHAIN, state="In Progress", started=then)
    first = make_silent(parent=fresh(chain), completed_steps=0, due=then, started=then - timedelta(minutes=1))
    second = make_status(parent=fresh(chain), due=then)
    third = make_status(parent=fresh(chain), due=None)

    losses.fail_lost()
    assert [fresh(status).state for status in (chain, first, second, third)] == ["Failed", "Failed", *["Canceled"] * 2]

    recording.started(first.task_id)
    for status in (first, second, third):
        recording.started(status.task_id)
        recording.succeeded(status.task_id)
    assert [fresh(status).state for status in (chain, first, second, third)] == ["Succeeded"] * 4
    assert not any(fresh(status).lost for status in (first, second, third))


def test_what_is_put_back_by_its_message_holds_up_nothing_else(
    make_status: MakeStatus, make_container: MakeStatus
) -> None:
    then = timezone.now() - LONG_AGO
    began = then - timedelta(minutes=1)
    chain = make_container(CHAIN, state="In Progress", started=then)
    first = make_status(state="In Progress", parent=fresh(chain), due=then, started=began, heartbeat=timezone.now())
    chord = make_container(CHORD, parent=fresh(chain))
    group = make_container(GROUP, parent=fresh(chord))
    headers = [make_status(parent=fresh(group), due=then) for _ in range(2)]
    body = make_status(parent=fresh(chord), due=None)
    every = (chain, chord, group, *headers, body)
    recording.failed(first.task_id, "The process has died.")

    assert losses.fail_lost() == 2
    assert [fresh(status).state for status in every] == ["Failed", *["Canceled"] * 5]

    recording.started(headers[0].task_id)
    assert [fresh(status).state for status in (group, body)] == ["In Progress", "Canceled"]
    recording.succeeded(headers[0].task_id)
    states = [fresh(status).state for status in every]
    assert states == ["Failed", "Canceled", "Canceled", "Succeeded", "Canceled", "Canceled"]
    assert all(fresh(status).finished for status in every)


def test_what_something_else_keeps_from_running_is_not_put_back_with_a_lost_task(
    make_silent: MakeStatus, make_status: MakeStatus, make_container: MakeStatus
) -> None:
    chain = make_container(CHAIN, state="In Progress", started=timezone.now())
    group = make_container(GROUP, parent=fresh(chain), state="In Progress", started=timezone.now())
    lost = make_silent(parent=fresh(group))
    canceled = make_status(parent=fresh(group))
    last = make_status(parent=fresh(chain), due=None)
    losses.fail_lost()
    fresh(canceled).cancel()

    losses.beat([lost.task_id])
    recording.succeeded(lost.task_id)

    states = [fresh(status).state for status in (chain, group, lost, last)]
    assert states == ["Canceled", "Canceled", "Succeeded", "Canceled"]
    assert fresh(chain).finished


@pytest.mark.parametrize("only_one", [True, False])
def test_what_a_user_cancels_is_not_put_back_by_its_message(
    make_silent: MakeStatus, make_status: MakeStatus, make_container: MakeStatus, only_one: bool
) -> None:
    now, then = timezone.now(), timezone.now() - LONG_AGO
    chain = make_container(CHAIN, state="In Progress", started=then)
    lost = make_silent(parent=fresh(chain), started=then - timedelta(minutes=1))
    group = make_container(GROUP, parent=fresh(chain), state="In Progress", started=then)
    make_status(state="In Progress", parent=fresh(group), due=then, started=then, heartbeat=now)
    waiting = make_status(parent=fresh(group), due=then)

    assert losses.fail_lost() == 2
    fresh(waiting if only_one else group).cancel()
    losses.beat([lost.task_id])
    recording.started(waiting.task_id)

    assert [fresh(status).state for status in (lost, waiting)] == ["In Progress", "Canceled"]


def test_what_has_been_given_up_since_its_worker_read_it_runs_all_the_same(
    make_silent: MakeStatus, make_status: MakeStatus, make_container: MakeStatus
) -> None:
    then = timezone.now() - LONG_AGO
    chain = make_container(CHAIN, state="In Progress", started=then)
    make_silent(parent=fresh(chain), started=then - timedelta(minutes=1))
    waiting = make_status(parent=fresh(chain), due=then)
    known = fresh(waiting)
    losses.fail_lost()

    assert transitions.execute(known, lambda: None)

    assert (fresh(waiting).state, known.state) == ("In Progress", "In Progress")
    assert fresh(waiting).started


def test_what_waits_in_the_header_of_a_chord_that_has_failed_may_wait(
    make_status: MakeStatus, make_container: MakeStatus
) -> None:
    then = timezone.now() - LONG_AGO
    chord = make_container(CHORD, state="In Progress", started=then)
    group = make_container(GROUP, parent=fresh(chord), state="In Progress", started=then)
    failing, waiting = (make_status(parent=fresh(group), due=then) for _ in range(2))
    body = make_status(parent=fresh(chord), due=None)

    recording.started(failing.task_id)
    recording.failed(failing.task_id, "bad row")

    assert losses.fail_lost() == 0
    assert [fresh(status).state for status in (waiting, body)] == ["Pending", "Canceled"]


def test_what_waits_beside_a_failed_member_of_a_group_may_wait(
    make_status: MakeStatus, make_container: MakeStatus
) -> None:
    then = timezone.now() - LONG_AGO
    chain = make_container(CHAIN, state="In Progress", started=then)
    group = make_container(GROUP, parent=fresh(chain), state="In Progress", started=then)
    failing, waiting = (make_status(parent=fresh(group), due=then) for _ in range(2))

    recording.failed(failing.task_id, "bad row")

    losses.fail_lost()

    assert fresh(waiting).state == "Pending"


def test_what_a_user_has_canceled_beside_a_lost_task_stays_so(
    make_silent: MakeStatus, make_status: MakeStatus, make_container: MakeStatus
) -> None:
    group = make_container(GROUP, state="In Progress", started=timezone.now())
    lost = make_silent(parent=fresh(group))
    inner = make_container(CHAIN, parent=fresh(group), state="In Progress", started=timezone.now())
    make_status(state="In Progress", parent=fresh(inner), started=timezone.now(), heartbeat=timezone.now())
    planned = make_status(parent=fresh(inner), due=None)

    losses.fail_lost()
    fresh(planned).cancel()
    losses.beat([lost.task_id])

    assert (fresh(lost).state, fresh(planned).state) == ("In Progress", "Canceled")


def test_a_container_stays_failed_where_something_else_has_failed(
    make_silent: MakeStatus, make_status: MakeStatus, make_container: MakeStatus
) -> None:
    group = make_container(GROUP)
    lost, failing = make_silent(parent=fresh(group)), make_status(parent=fresh(group))
    fresh(failing).fail("bad row")
    losses.fail_lost()

    losses.beat([lost.task_id])

    assert fresh(lost).state == State.IN_PROGRESS
    assert fresh(group).state == State.FAILED
    assert "bad row" in errors(group)


REPORTS: dict[str, tuple[Callable[[UserTaskStatus], object], str]] = {
    "beat": (lambda status: losses.beat([status.task_id]), "In Progress"),
    "step": (lambda status: status.increment_completed_steps(), "In Progress"),
    "custom state": (lambda status: status.set_state("Compressing"), "Compressing"),
    "start of a redelivery": (lambda status: recording.started(status.task_id), "In Progress"),
    "success": (lambda status: recording.succeeded(status.task_id), "Succeeded"),
    "failure": (lambda status: recording.failed(status.task_id, "bad row"), "Failed"),
    "retry": (lambda status: recording.retrying(status.task_id), "Retrying"),
    "revocation": (lambda status: recording.revoked(status.task_id), "Canceled"),
}


@pytest.mark.parametrize("report", REPORTS)
def test_a_lost_task_that_reports_shows_what_is_true(make_silent: MakeStatus, report: str) -> None:
    status = make_silent(total_steps=2)
    losses.fail_lost()
    action, state = REPORTS[report]

    action(fresh(status))

    found = fresh(status)
    assert (found.state, found.lost) == (state, False)
    assert errors(found) == (["bad row"] if state == "Failed" else [])


def test_a_canceled_task_that_reports_stays_canceled(make_silent: MakeStatus) -> None:
    status = make_silent(State.CANCELED)
    losses.fail_lost()

    with pytest.raises(TaskCanceledException):
        fresh(status).increment_completed_steps()
    losses.beat([status.task_id])

    assert fresh(status).state == State.CANCELED


def test_a_redelivered_task_counts_its_steps_anew(make_silent: MakeStatus, make_container: MakeStatus) -> None:
    group = make_container(GROUP)
    status = make_silent(parent=fresh(group), total_steps=4)
    fresh(status).increment_completed_steps(3)
    UserTaskStatus.objects.filter(pk=status.pk).update(heartbeat=timezone.now() - LONG_AGO)
    losses.fail_lost()

    recording.started(status.task_id)

    found = fresh(status)
    assert (found.state, found.completed_steps, found.total_steps, found.attempts) == ("In Progress", 0, 4, 2)
    assert (fresh(group).completed_steps, fresh(group).total_steps) == (0, 4)


def test_what_has_waited_too_long_is_given_up_where_the_project_says_when(
    make_status: MakeStatus, settings: Any
) -> None:
    now = timezone.now()
    overdue = make_status(due=now - timedelta(hours=2))
    retrying = make_status(due=now - timedelta(hours=2), state="Retrying")
    later = make_status(due=now + timedelta(hours=2), created=now - timedelta(days=9))
    planned = make_status(due=None, created=now - timedelta(days=9))
    assert losses.fail_lost() == 0

    settings.USER_TASKS_PENDING_LIMIT = timedelta(hours=1)
    assert losses.fail_lost() == 2

    assert (fresh(overdue).state, errors(overdue)) == ("Failed", [OVERDUE])
    assert fresh(retrying).state == State.FAILED
    assert (fresh(later).state, fresh(planned).state) == ("Pending", "Pending")


def test_what_follows_a_task_that_says_nothing_is_given_up_too(
    make_status: MakeStatus, make_container: MakeStatus, settings: Any
) -> None:
    chain = make_container(CHAIN, state="In Progress")
    before = make_status(parent=fresh(chain), state="Succeeded", finished=timezone.now())
    planned = [make_status(parent=fresh(chain), due=None) for _ in range(2)]
    others = make_container(CHAIN)
    waited_for, waiting = make_status(parent=fresh(others)), make_status(parent=fresh(others), due=None)
    UserTaskStatus.objects.update(modified=timezone.now() - timedelta(hours=2))
    assert losses.fail_lost() == 0

    settings.USER_TASKS_PENDING_LIMIT = timedelta(hours=1)
    assert (losses.fail_lost(), losses.fail_lost()) == (1, 0)

    states = [fresh(status).state for status in (chain, before, *planned)]
    assert states == ["Failed", "Succeeded", "Failed", "Canceled"]
    assert errors(chain) == errors(planned[0]) == [OVERDUE]
    assert {fresh(status).state for status in (others, waited_for, waiting)} == {"Pending"}

    recording.started(planned[0].task_id)
    assert [fresh(status).state for status in (chain, *planned)] == ["In Progress", "In Progress", "Pending"]


def test_task_and_command_find_them_too(make_silent: MakeStatus) -> None:
    make_silent()
    assert fail_lost_user_tasks.apply().get() == 1

    make_silent()
    output = StringIO()
    call_command("fail_lost_user_tasks", stdout=output)
    assert output.getvalue() == "1 lost tasks given up.\n"


def test_a_look_that_finds_nothing_costs_three_queries(make_status: MakeStatus) -> None:
    for _ in range(20):
        make_status(state="In Progress", heartbeat=timezone.now())

    with CaptureQueriesContext(connection) as queries:
        losses.fail_lost()

    assert len(queries) == 3


def test_the_explanation_can_be_translated(make_silent: MakeStatus) -> None:
    status = make_silent()

    with translation.override("de"):
        losses.fail_lost()
        expected = translation.gettext(SILENT)

    assert errors(status) == [expected]


@pytest.fixture
def stranded(make_status: MakeStatus, make_container: MakeStatus) -> tuple[UserTaskStatus, ...]:
    """A group in a chain, its last member stored as Failed by a process that was killed right then, and the rest."""
    chain = make_container(CHAIN, state="In Progress", started=timezone.now())
    group = make_container(GROUP, state="In Progress", started=timezone.now(), parent=fresh(chain))
    failed = make_status(parent=fresh(group), state="Failed", started=timezone.now(), finished=timezone.now())
    failed.artifacts.create(name="Error", text="bad row")
    following = make_status(parent=fresh(chain), due=None)
    return chain, group, failed, following


def test_containers_that_were_never_told_are_found(
    stranded: tuple[UserTaskStatus, ...], stopped: list[UserTaskStatus]
) -> None:
    losses.fail_lost()
    assert fresh(stranded[0]).state == State.IN_PROGRESS

    UserTaskStatus.objects.update(modified=timezone.now() - LONG_AGO)
    losses.fail_lost()

    assert [fresh(status).state for status in stranded] == ["Failed", "Failed", "Failed", "Canceled"]
    assert all(fresh(status).finished for status in stranded)
    assert errors(stranded[0]) == errors(stranded[1]) == ["bad row"]
    assert sorted(told.pk for told in stopped) == sorted(status.pk for status in stranded if status != stranded[2])


def test_a_second_report_tells_the_containers_too(stranded: tuple[UserTaskStatus, ...]) -> None:
    recording.failed(stranded[2].task_id, "The process has died.")

    assert [fresh(status).state for status in stranded] == ["Failed", "Failed", "Failed", "Canceled"]


def test_a_chain_whose_next_message_is_on_its_way_is_not_stranded(
    make_status: MakeStatus, make_container: MakeStatus
) -> None:
    chain = make_container(CHAIN, state="In Progress", started=timezone.now())
    first = make_status(parent=fresh(chain), state="Succeeded", started=timezone.now(), finished=timezone.now())
    following = make_status(parent=fresh(chain), due=None)
    UserTaskStatus.objects.update(modified=timezone.now() - LONG_AGO)

    losses.fail_lost()

    assert [fresh(status).state for status in (chain, first, following)] == ["In Progress", "Succeeded", "Pending"]


@pytest.mark.parametrize("state", ["Failed", "Succeeded"])
def test_what_a_project_has_ended_comes_to_rest_with_its_silent_worker(
    make_silent: MakeStatus, make_container: MakeStatus, stopped: list[UserTaskStatus], state: str
) -> None:
    group = make_container(GROUP)
    status = make_silent(state, parent=fresh(group))

    losses.fail_lost()

    assert (fresh(status).state, bool(fresh(status).finished), errors(status)) == (state, True, [])
    assert [told.pk for told in stopped] == [status.pk, group.pk]


@pytest.mark.usefixtures("replica")
def test_what_is_lost_is_read_where_it_is_written(
    make_silent: MakeStatus, make_status: MakeStatus, make_container: MakeStatus, settings: Any
) -> None:
    settings.USER_TASKS_PENDING_LIMIT = timedelta(hours=1)
    silent = make_silent()
    make_status(due=timezone.now() - timedelta(hours=2))
    make_container(CHAIN, state="In Progress", started=timezone.now())

    assert losses.fail_lost() == 2

    silent = UserTaskStatus.objects.using("default").get(pk=silent.pk)
    assert (silent.state, silent.lost) == ("Failed", True)


@pytest.mark.usefixtures("replica")
def test_what_an_administrator_gives_up_is_read_where_it_is_written(make_silent: MakeStatus) -> None:
    status = make_silent()
    assert losses.give_up(UserTaskStatus.objects.filter(pk=status.pk)) == 1


@pytest.mark.usefixtures("replica")
def test_a_beat_asks_no_replica_whether_a_task_was_taken_for_lost(make_silent: MakeStatus) -> None:
    canceled = make_silent(State.CANCELED, finished=timezone.now(), lost=False)
    losses.beat([canceled.task_id, "no row yet"])
    assert UserTaskStatus.objects.using("default").exclude(heartbeat=canceled.heartbeat).exists()
