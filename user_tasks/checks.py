"""Checks for deployments: ``manage.py check --deploy``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from celery import current_app
from django.apps import apps
from django.core.checks import CheckMessage, Warning, register  # noqa: A004 - Django's name for it
from django.db import DatabaseError

FAIL_LOST = "user_tasks.tasks.fail_lost_user_tasks"

W001 = Warning(
    "No beat schedule finds lost tasks: the status of a task whose worker was killed stays In Progress.",
    hint=f'Let Celery\'s beat run "{FAIL_LOST}" every minute, or silence this where another scheduler calls '
    '"manage.py fail_lost_user_tasks".',
    id="user_tasks.W001",
)


@register(deploy=True)
def check_lost_tasks_are_found(**_kwargs: Any) -> list[CheckMessage]:
    """Warn where neither the settings' beat schedule nor that of django-celery-beat finds lost tasks."""
    return [] if FAIL_LOST in {*_scheduled_in_settings(), *_scheduled_in_database()} else [W001]


def _scheduled_in_settings() -> Iterator[str | None]:
    schedule = current_app.conf.beat_schedule
    for entry in schedule.values() if isinstance(schedule, Mapping) else ():
        yield entry.get("task") if isinstance(entry, Mapping) else getattr(entry, "task", None)


def _scheduled_in_database() -> list[str]:
    if not apps.is_installed("django_celery_beat"):
        return []
    try:
        tasks: Any = apps.get_app_config("django_celery_beat").get_model("PeriodicTask")._base_manager
        return list(tasks.filter(task=FAIL_LOST, enabled=True).values_list("task", flat=True))
    except DatabaseError:
        return []
