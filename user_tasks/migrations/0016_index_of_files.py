"""The index that tells whether any row names a file; PostgreSQL goes on writing meanwhile."""

from __future__ import annotations

from django.db import migrations, models

from ._operations import AddIndex


class Migration(migrations.Migration):
    """Not atomic, since PostgreSQL builds no index concurrently inside a transaction."""

    atomic = False

    dependencies = [("user_tasks", "0015_artifact_files")]

    operations = [AddIndex("usertaskartifact", models.Index(fields=["file"], name="user_tasks_artifact_file"))]
