from __future__ import annotations

from django.db import models

from user_tasks.models import UserTaskStatus


class Invoice(models.Model):
    """Must not lose the export that it was made by."""

    status = models.ForeignKey(UserTaskStatus, on_delete=models.RESTRICT)

    def __str__(self):
        return f"Invoice by {self.status.name}"


class Notice(models.Model):
    """What a user has been told."""

    text = models.CharField(max_length=255)

    def __str__(self):
        return self.text
