"""The app of the demo's jobs."""

from __future__ import annotations

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Lets owners see, cancel and delete their own tasks."""

    name = "jobs"

    def ready(self) -> None:
        """Register the permission rules of the package."""
        from user_tasks.rules import add_rules

        add_rules()
