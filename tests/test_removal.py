from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from user_tasks import removal
from user_tasks.containers import CHAIN, GROUP
from user_tasks.models import UserTaskArtifact, UserTaskStatus

MakeStatus = Callable[..., UserTaskStatus]

MAX_AGE = timedelta(days=30)


def pks() -> set[int]:
    return set(UserTaskStatus.objects.values_list("pk", flat=True))


@pytest.fixture
def make_old(make_status: MakeStatus) -> MakeStatus:
    """Return a factory of statuses that are past their age."""

    def make(**fields: Any) -> UserTaskStatus:
        return make_status(created=timezone.now() - timedelta(days=31), **fields)

    return make


@pytest.fixture
def make_tree(make_old: MakeStatus) -> Callable[[], tuple[UserTaskStatus, UserTaskStatus, UserTaskStatus]]:
    """Return a factory of trees past their age: a chain, a group in it, and a task in that."""

    def make() -> tuple[UserTaskStatus, UserTaskStatus, UserTaskStatus]:
        chain = make_old(task_class=CHAIN, is_container=True)
        group = make_old(task_class=GROUP, is_container=True, parent=chain)
        return chain, group, make_old(parent=group)

    return make


@pytest.mark.parametrize("state", ["Pending", "In Progress", "Compressing", "Retrying", "Succeeded", "Failed"])
def test_purge_deletes_what_is_past_its_age_in_any_state(
    make_old: MakeStatus, make_status: MakeStatus, state: str
) -> None:
    make_old(state=state, started=timezone.now() - MAX_AGE)
    young = make_status(created=timezone.now() - timedelta(days=29), state=state)
    assert removal.purge(MAX_AGE) == 1
    assert pks() == {young.pk}


def test_purge_deletes_artifacts_too(
    make_old: MakeStatus, make_status: MakeStatus, make_artifact: Callable[..., UserTaskArtifact]
) -> None:
    make_artifact(make_old())
    kept = make_artifact(make_status())
    assert removal.purge(MAX_AGE) == 1
    assert UserTaskArtifact.objects.get() == kept


def test_purge_deletes_whole_trees(make_tree: Callable[[], Any], make_status: MakeStatus) -> None:
    chain, *_ = make_tree()
    make_status(parent=chain)
    assert removal.purge(MAX_AGE) == 4
    assert pks() == set()


def test_purge_leaves_trees_that_are_young(make_old: MakeStatus, make_status: MakeStatus) -> None:
    container = make_status(is_container=True)
    member = make_old(parent=container)
    assert removal.purge(MAX_AGE) == 0
    assert pks() == {container.pk, member.pk}


@pytest.mark.parametrize("minutes", [0, 4])
def test_purge_keeps_the_tree_of_a_task_that_lives(make_tree: Callable[[], Any], minutes: int) -> None:
    make_tree()
    kept = make_tree()
    kept[-1].heartbeat = timezone.now() - timedelta(minutes=minutes)
    kept[-1].save()
    assert removal.purge(MAX_AGE) == 3
    assert pks() == {row.pk for row in kept}


def test_purge_keeps_a_task_that_lives(make_old: MakeStatus) -> None:
    make_old()
    kept = make_old(heartbeat=timezone.now())
    assert removal.purge(MAX_AGE) == 1
    assert pks() == {kept.pk}


def test_purge_deletes_what_has_been_silent(make_tree: Callable[[], Any]) -> None:
    make_tree()
    UserTaskStatus.objects.update(heartbeat=timezone.now() - timedelta(minutes=6))
    assert removal.purge(MAX_AGE) == 3


def test_purge_asks_the_settings_how_long_silence_may_last(make_old: MakeStatus, settings: Settings) -> None:
    kept = make_old(heartbeat=timezone.now() - timedelta(minutes=6))
    settings.USER_TASKS_LOST_AFTER = timedelta(minutes=7)
    assert removal.purge(MAX_AGE) == 0
    assert pks() == {kept.pk}


def test_purge_of_nothing(make_status: MakeStatus) -> None:
    make_status()
    assert removal.purge(MAX_AGE) == 0


@pytest.mark.parametrize("on_delete", [models.RESTRICT, models.PROTECT, models.DO_NOTHING])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_purge_leaves_what_other_tables_hold(
    make_holder: Callable[[Any], type[models.Model]],
    make_tree: Callable[[], Any],
    on_delete: Any,
    depth: int,
) -> None:
    trees = [make_tree() for _ in range(5)]
    make_holder(on_delete)._base_manager.create(status=trees[1][depth])
    assert removal.purge(MAX_AGE) == 12
    assert pks() == {row.pk for row in trees[1]}


def test_purge_takes_along_rows_that_do_not_hold(
    make_holder: Callable[[Any], type[models.Model]], make_old: MakeStatus
) -> None:
    holder = make_holder(models.CASCADE)
    holder._base_manager.create(status=make_old())
    assert removal.purge(MAX_AGE) == 1
    assert not holder._base_manager.exists()


def test_purge_goes_on_after_batches_that_are_kept(
    make_holder: Callable[[Any], type[models.Model]], make_old: MakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "BATCH", 2)
    statuses = [make_old() for _ in range(9)]
    holder = make_holder(models.RESTRICT)
    kept = [*statuses[:4], statuses[6]]
    for status in kept:
        holder._base_manager.create(status=status)
    assert removal.purge(MAX_AGE) == 4
    assert pks() == {status.pk for status in kept}


def test_queries_of_a_purge_depend_on_batches_alone(make_tree: Callable[[], Any]) -> None:
    counts = []
    for trees in (2, 20):
        for _ in range(trees):
            make_tree()
        with CaptureQueriesContext(connection) as queries:
            assert removal.purge(MAX_AGE) == 3 * trees
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_deletion_cancels_first(
    make_status: MakeStatus,
    make_artifact: Callable[..., UserTaskArtifact],
    stopped: list[UserTaskStatus],
    revoked: list[str],
) -> None:
    status = make_status()
    make_artifact(status)
    removal.delete(status)
    assert [told.state for told in stopped] == ["Canceled"]
    assert revoked == [status.task_id]
    assert not UserTaskStatus.objects.exists()
    assert not UserTaskArtifact.objects.exists()


def test_deletion_of_what_has_ended_tells_nobody(make_status: MakeStatus, stopped: list[UserTaskStatus]) -> None:
    removal.delete(make_status(state="Succeeded"))
    assert (pks(), stopped) == (set(), [])


def test_deletion_of_a_container_takes_its_members(make_tree: Callable[[], Any], stopped: list[UserTaskStatus]) -> None:
    chain, _group, task = make_tree()
    other = make_tree()
    removal.delete(chain)
    assert pks() == {row.pk for row in other}
    assert task.task_id in {told.task_id for told in stopped}


@pytest.mark.parametrize("on_delete", [models.RESTRICT, models.PROTECT, models.DO_NOTHING])
def test_deletion_of_what_other_tables_hold_is_refused(
    make_holder: Callable[[Any], type[models.Model]], make_status: MakeStatus, on_delete: Any
) -> None:
    container = make_status(is_container=True)
    status = make_status(parent=container, total_steps=5)
    make_holder(on_delete)._base_manager.create(status=status)
    with pytest.raises(removal.HELD):
        removal.delete(status)
    assert pks() == {container.pk, status.pk}
    container.refresh_from_db()
    assert container.total_steps == 6


def test_container_does_not_wait_for_a_member_deleted_while_it_ran(
    make_status: MakeStatus, stopped: list[UserTaskStatus]
) -> None:
    outer = make_status(task_class=GROUP, is_container=True, total_steps=0)
    group = make_status(task_class=GROUP, is_container=True, total_steps=0, parent=outer)
    done, running = (make_status(parent=group, total_steps=5) for _ in range(2))
    running.start()
    running.increment_completed_steps(2)
    done.succeed()
    removal.delete(UserTaskStatus.objects.get(pk=running.pk))
    for container in (group, outer):
        container.refresh_from_db()
        assert (container.state, container.completed_steps, container.total_steps) == ("Succeeded", 5, 5)
    assert [told.pk for told in stopped] == [done.pk, group.pk, outer.pk]


def test_container_goes_on_when_a_member_is_deleted(make_status: MakeStatus, stopped: list[UserTaskStatus]) -> None:
    group = make_status(task_class=GROUP, is_container=True, total_steps=0)
    first, second = (make_status(parent=group, total_steps=5) for _ in range(2))
    second.start()
    removal.delete(UserTaskStatus.objects.get(pk=first.pk))
    group.refresh_from_db()
    assert (group.state, group.total_steps) == ("In Progress", 5)
    second.succeed()
    group.refresh_from_db()
    assert (group.state, group.completed_steps) == ("Succeeded", 5)


def test_container_that_has_ended_is_not_told_again(make_status: MakeStatus, stopped: list[UserTaskStatus]) -> None:
    group = make_status(task_class=GROUP, is_container=True, total_steps=0)
    members = [make_status(parent=group) for _ in range(2)]
    for member in members:
        UserTaskStatus.objects.get(pk=member.pk).succeed()
    stopped.clear()
    removal.delete(UserTaskStatus.objects.get(pk=members[0].pk))
    group.refresh_from_db()
    assert (group.state, group.completed_steps, group.total_steps, stopped) == ("Succeeded", 1, 1, [])
