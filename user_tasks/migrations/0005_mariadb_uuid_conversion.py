from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

MODELS = ("UserTaskStatus", "UserTaskArtifact")

MODIFY = "ALTER TABLE {} MODIFY uuid {} NOT NULL"


def tables(apps: Any, schema_editor: BaseDatabaseSchemaEditor, *, native: bool) -> Iterator[str]:
    """Yield the tables whose uuid column is native, or is not, where Django expects it to be."""
    connection = schema_editor.connection
    if connection.vendor != "mysql" or not connection.features.has_native_uuid_field:
        return
    for name in MODELS:
        table = apps.get_model("user_tasks", name)._meta.db_table
        if is_native(schema_editor, table) == native:
            yield connection.ops.quote_name(table)


def is_native(schema_editor: BaseDatabaseSchemaEditor, table: str) -> bool:
    """Tell whether the table's uuid column has the database's own type for it."""
    introspection = schema_editor.connection.introspection
    with schema_editor.connection.cursor() as cursor:
        columns = introspection.get_table_description(cursor, table)
    column = next(column for column in columns if column.name == "uuid")
    return bool(introspection.get_field_type(column.type_code, column) == "UUIDField")


def to_native(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Convert char(32) columns; MariaDB reads the 32 digits as a uuid."""
    for table in tables(apps, schema_editor, native=False):
        schema_editor.execute(MODIFY.format(table, "uuid"))


def to_char(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Convert native columns; MariaDB writes a uuid with hyphens, for which char(32) has no room."""
    for table in tables(apps, schema_editor, native=True):
        schema_editor.execute(MODIFY.format(table, "char(36)"))
        schema_editor.execute(f"UPDATE {table} SET uuid = REPLACE(uuid, '-', '')")  # noqa: S608 - the table name is the model's, quoted by Django
        schema_editor.execute(MODIFY.format(table, "char(32)"))


class Migration(migrations.Migration):
    dependencies = [("user_tasks", "0004_url_textfield")]

    operations = [migrations.RunPython(to_native, to_char, atomic=False)]
