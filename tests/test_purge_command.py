from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import models
from django.utils import timezone

from user_tasks.models import UserTaskStatus

MakeStatus = Callable[..., UserTaskStatus]

NO_AGES = ["soon", "", "-1", "nan", "inf", "1e300", "P", "P1", "999999", "P999999D", "P99999999999D"]


def purge(*arguments: str) -> str:
    output = StringIO()
    call_command("purge_user_tasks", *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def make_old(make_status: MakeStatus) -> MakeStatus:
    """Return a factory of statuses of a given age in days."""
    return lambda days, **fields: make_status(created=timezone.now() - timedelta(days=days), **fields)


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ((), 2),
        (("--older-than", "10"), 1),
        (("--older-than", "P10D"), 1),
        (("--older-than", "10 00:00:00"), 1),
        (("--older-than", "0.5"), 0),
        (("--older-than", "100"), 3),
    ],
)
def test_the_command_deletes_what_is_older_than_it_is_told(
    make_old: MakeStatus, arguments: tuple[str, ...], left: int
) -> None:
    for days in (1, 20, 40):
        make_old(days)

    assert purge(*arguments) == f"{3 - left} statuses deleted.\n0 files removed, 0 bytes.\n"
    assert UserTaskStatus.objects.count() == left


def test_a_dry_run_counts_and_deletes_nothing(make_old: MakeStatus) -> None:
    container = make_old(40, is_container=True, task_class="celery.group")
    make_old(40, parent=container)
    make_old(20)
    make_old(40, heartbeat=timezone.now())

    assert purge("--dry-run") == "2 statuses would be deleted, unless rows of other tables hold them.\n"
    assert UserTaskStatus.objects.count() == 4


def test_what_is_held_is_counted(make_old: MakeStatus, make_holder: Callable[[Any], type[models.Model]]) -> None:
    held, _other = make_old(40), make_old(40)
    make_holder(models.RESTRICT)._base_manager.create(status=held)
    assert purge().startswith("1 statuses deleted.\n1 trees kept, since rows of other tables hold them.\n")
    assert UserTaskStatus.objects.get() == held


@pytest.mark.parametrize("age", NO_AGES)
def test_what_is_no_age_is_refused(db: None, age: str) -> None:
    with pytest.raises(CommandError, match="is no age"):
        purge(f"--older-than={age}")
