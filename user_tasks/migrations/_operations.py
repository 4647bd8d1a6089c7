"""What several migrations do."""

from __future__ import annotations

from typing import Any

from django.db import migrations


class AddIndex(migrations.AddIndex):
    """Builds an index without a lock on writes where Django can."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Create the index, unless an interrupted migration has; on PostgreSQL one may have left half of it."""
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        if not schema_editor.collect_sql and self.index.name in _constraints(schema_editor.connection, model):
            if schema_editor.connection.vendor != "postgresql":
                return
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


def _constraints(connection: Any, model: Any) -> Any:
    with connection.cursor() as cursor:
        return connection.introspection.get_constraints(cursor, model._meta.db_table)
