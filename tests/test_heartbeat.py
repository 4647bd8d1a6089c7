"""The sign of life that a process gives of the tasks that it executes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from testfixtures import LogCapture

from user_tasks import heartbeat, losses
from user_tasks.heartbeat import Heart
from user_tasks.models import UserTaskStatus
from workers import wait_for

MakeStatus = Callable[..., UserTaskStatus]


@pytest.fixture
def beats(settings: Any) -> list[list[str]]:
    """What the heart has written, every tenth of a second."""
    settings.USER_TASKS_HEARTBEAT_SECONDS = 0.1
    return []


def test_all_tasks_of_a_process_share_a_beat(beats: list[list[str]]) -> None:
    heart = Heart(beats.append)
    heart.take("1")
    heart.take("2")
    wait_for(lambda: len(beats) >= 3)
    heart.leave("1")
    heart.leave("2")

    assert all(beat in (["1"], ["1", "2"]) for beat in beats)
    assert ["1", "2"] in beats
    assert not vars(heart)["_executed"]


def test_what_ends_within_the_interval_costs_nothing(beats: list[list[str]]) -> None:
    heart = Heart(beats.append)
    for task_id in map(str, range(1000)):
        heart.take(task_id)
        heart.leave(task_id)
    heart.take("1000")
    wait_for(lambda: beats)
    heart.leave("1000")

    assert set(map(tuple, beats)) == {("1000",)}


def test_one_thread_serves_the_process_from_its_first_task_on(beats: list[list[str]]) -> None:
    def threads() -> int:
        return sum(thread.name == "user_tasks-heartbeat" for thread in threading.enumerate())

    before = threads()
    heart = Heart(beats.append)
    assert threads() == before
    for task_id in map(str, range(20)):
        heart.take(task_id)
    assert threads() == before + 1
    for task_id in map(str, range(20)):
        heart.leave(task_id)


def test_a_task_executed_twice_beats_until_both_have_ended(beats: list[list[str]]) -> None:
    heart = Heart(beats.append)
    heart.take("1")
    heart.take("1")
    heart.leave("1")
    assert vars(heart)["_executed"]
    heart.leave("1")
    heart.leave("1")
    assert not vars(heart)["_executed"]


def test_a_beat_that_fails_is_logged_and_the_next_is_tried(settings: Any) -> None:
    settings.USER_TASKS_HEARTBEAT_SECONDS = 0.1
    tries: list[list[str]] = []

    def fail(task_ids: list[str]) -> None:
        tries.append(task_ids)
        raise ConnectionError("away")

    heart = Heart(fail)
    with LogCapture(heartbeat.logger.name) as log:
        heart.take("1")
        wait_for(lambda: len(tries) >= 2)
        heart.leave("1")

    assert "The heartbeat of 1 tasks could not be written." in str(log)


def test_a_beat_is_one_update_whatever_the_number_of_tasks(make_status: MakeStatus) -> None:
    running = [make_status(state="In Progress", heartbeat=None) for _ in range(50)]

    with CaptureQueriesContext(connection) as queries:
        losses.beat([status.task_id for status in running])

    assert len(queries) == 1
    assert not UserTaskStatus.objects.filter(heartbeat=None).exists()


def test_a_beat_of_what_was_deleted_makes_nothing_anew(make_status: MakeStatus) -> None:
    status = make_status(state="In Progress", heartbeat=timezone.now())
    status.delete()

    losses.beat([status.task_id])

    assert not UserTaskStatus.objects.exists()
