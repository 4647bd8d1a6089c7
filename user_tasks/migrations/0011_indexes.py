"""The indexes for the lists, for the members of a container, and for lost tasks; PostgreSQL goes on writing meanwhile."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations, models


class AddIndex(migrations.AddIndex):
    """Builds an index without a lock on writes where Django can."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Create the index; what an interrupted migration left of it goes first."""
        model = to_state.apps.get_model(app_label, self.model_name)
        with schema_editor.connection.cursor() as cursor:
            existing = schema_editor.connection.introspection.get_constraints(cursor, model._meta.db_table)
        if self.index.name in existing:
            schema_editor.remove_index(model, self.index)
        self._chosen(schema_editor).database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Remove the index."""
        self._chosen(schema_editor).database_backwards(app_label, schema_editor, from_state, to_state)

    def _chosen(self, schema_editor: Any) -> migrations.AddIndex:
        if schema_editor.connection.vendor != "postgresql":
            return migrations.AddIndex(self.model_name, self.index)
        from django.contrib.postgres.operations import AddIndexConcurrently

        return AddIndexConcurrently(self.model_name, self.index)


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
