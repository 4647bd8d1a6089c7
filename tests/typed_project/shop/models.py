"""A table that refers to statuses."""

from __future__ import annotations

from django.db import models

from user_tasks.models import UserTaskStatus


class Report(models.Model):
    """A report, and the task that made it."""

    title = models.CharField(max_length=100)
    status = models.ForeignKey(UserTaskStatus, on_delete=models.PROTECT)

    def __str__(self) -> str:
        return f"{self.title}: {self.status.state_text}"

    def progress(self) -> tuple[int, int]:
        """Return the steps that are done, and all."""
        return self.status.completed_steps, self.status.total_steps
