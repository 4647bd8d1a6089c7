from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from celery import current_app
from django.core.checks import run_checks
from django.core.management import call_command
from django.test import override_settings

from user_tasks.checks import FAIL_LOST, W001, check_lost_tasks_are_found

ENTRY = {"task": FAIL_LOST, "schedule": 60}


@pytest.fixture
def schedule() -> Any:
    """The function that sets the schedule of Celery's beat."""
    before = current_app.conf.beat_schedule
    yield lambda value: setattr(current_app.conf, "beat_schedule", value)
    current_app.conf.beat_schedule = before


@pytest.mark.parametrize("entries", [{}, {"other": {"task": "other", "schedule": 60}}, {"broken": None}])
def test_a_deployment_where_nobody_finds_lost_tasks_is_warned_about(schedule: Any, entries: dict[str, Any]) -> None:
    schedule(entries)

    assert check_lost_tasks_are_found() == [W001]
    assert W001 in run_checks(include_deployment_checks=True)
    assert W001 not in run_checks()


def test_a_schedule_in_the_settings_is_found(schedule: Any) -> None:
    schedule({"other": {"task": "other", "schedule": 60}, "lost": ENTRY})

    assert check_lost_tasks_are_found() == []


def test_the_warning_says_what_to_do_and_can_be_silenced(schedule: Any, capsys: pytest.CaptureFixture[str]) -> None:
    schedule({})
    call_command("check", deploy=True)
    assert "user_tasks.W001" in capsys.readouterr().err

    with override_settings(SILENCED_SYSTEM_CHECKS=["user_tasks.W001"]):
        call_command("check", deploy=True)
    assert "user_tasks.W001" not in capsys.readouterr().err


PROJECT = """
import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_celery_beat", "user_tasks"],
    USE_TZ=True,
)
django.setup()
from django.core.management import call_command
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from user_tasks.checks import FAIL_LOST, check_lost_tasks_are_found

print(len(check_lost_tasks_are_found()))
call_command("migrate", verbosity=0)
print(len(check_lost_tasks_are_found()))
minutely = IntervalSchedule.objects.create(every=1, period="minutes")
entry = PeriodicTask.objects.create(name="lost", task=FAIL_LOST, interval=minutely)
print(len(check_lost_tasks_are_found()))
PeriodicTask.objects.update(enabled=False)
print(len(check_lost_tasks_are_found()))
"""


@pytest.mark.faults
def test_a_schedule_in_the_database_is_found_where_it_is_enabled() -> None:
    done = subprocess.run([sys.executable, "-c", PROJECT], check=True, capture_output=True, text=True, timeout=60)

    assert done.stdout.split() == ["1", "1", "0", "1"]
