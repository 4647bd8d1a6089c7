"""``manage.py fail_lost_user_tasks``, for where no beat runs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from user_tasks import losses


class Command(BaseCommand):
    """Gives up the tasks that nobody reports on."""

    help = "Give up the tasks that have been silent for USER_TASKS_LOST_AFTER, or waiting for USER_TASKS_PENDING_LIMIT."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print how many tasks were given up."""
        self.stdout.write(f"{losses.fail_lost()} lost tasks given up.")
