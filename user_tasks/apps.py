"""The application's configuration."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class UserTasksConfig(AppConfig):
    """Connects the package to Celery."""

    name = "user_tasks"
    verbose_name = _("User Tasks")
    default_auto_field = "django.db.models.AutoField"

    def ready(self) -> None:
        """Connect the receivers of Celery's signals, and to how it publishes."""
        # Some of these register themselves when they are imported.
        from . import checks, deferral, publishing, signals, stored_files, task_checks  # noqa: F401 - see above

        publishing.instrument()
        deferral.instrument()
        stored_files.follow_users()
