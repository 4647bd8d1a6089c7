"""The indexes for a user's running tasks, and for the tasks of one class; PostgreSQL goes on writing meanwhile."""

from __future__ import annotations

from django.db import migrations, models

from ._operations import AddIndex


class Migration(migrations.Migration):
    """Each index is a step of its own, since PostgreSQL builds none concurrently inside a transaction."""

    atomic = False

    dependencies = [("user_tasks", "0012_field_names")]

    operations = [
        AddIndex("usertaskstatus", models.Index(fields=["user", "finished"], name="user_tasks_status_running")),
        AddIndex("usertaskstatus", models.Index(fields=["task_class", "-id"], name="user_tasks_status_class")),
    ]
