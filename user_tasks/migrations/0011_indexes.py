"""The indexes for the lists, for the members of a container, and for lost tasks; PostgreSQL goes on writing meanwhile."""

from __future__ import annotations

from django.conf import settings
from django.db import migrations, models

from ._operations import AddIndex


class Migration(migrations.Migration):
    """Each index is a step of its own, since PostgreSQL builds none concurrently inside a transaction."""

    atomic = False

    dependencies = [
        ("user_tasks", "0010_lost"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndex(model_name=model_name, index=models.Index(fields=fields, name=name))
        for model_name, name, fields in [
            ("usertaskstatus", "user_tasks_status_of_user", ["user", "-created", "-id"]),
            ("usertaskstatus", "user_tasks_status_newest", ["-created", "-id"]),
            ("usertaskstatus", "user_tasks_status_members", ["finished", "parent"]),
            ("usertaskstatus", "user_tasks_status_silent", ["finished", "heartbeat"]),
            ("usertaskstatus", "user_tasks_status_overdue", ["state", "due"]),
            ("usertaskartifact", "user_tasks_artifact_newest", ["-created", "-id"]),
        ]
    ]
