from __future__ import annotations

from typing import Any

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import F, Q
from django.db.models.functions import Greatest, Least

COUNTERS = {
    "completed_steps": models.BigIntegerField(default=0, help_text="Steps done"),
    "total_steps": models.BigIntegerField(help_text="Steps in all"),
    "attempts": models.IntegerField(default=1, help_text="How often it has been tried"),
}

ALTERATIONS = {"postgresql": "ALTER COLUMN {} TYPE {}", "mysql": "MODIFY {} {} NOT NULL"}

SMALLEST, LARGEST = 0, 32767


def rewrite_once(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Widen all columns in one pass over a table that may be large; the alterations that follow find it done."""
    connection = schema_editor.connection
    alteration = ALTERATIONS.get(connection.vendor)
    if alteration is None:
        return
    quote = connection.ops.quote_name
    columns = [alteration.format(quote(name), field.db_type(connection)) for name, field in COUNTERS.items()]
    table = apps.get_model("user_tasks", "UserTaskStatus")._meta.db_table
    schema_editor.execute(f"ALTER TABLE {quote(table)} {', '.join(columns)}")


def fit(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Cut what the narrow columns cannot hold, so that the migration can be undone."""
    model = apps.get_model("user_tasks", "UserTaskStatus")
    outside = Q()
    for counter in COUNTERS:
        outside |= Q(**{f"{counter}__lt": SMALLEST}) | Q(**{f"{counter}__gt": LARGEST})
    model._base_manager.using(schema_editor.connection.alias).filter(outside).update(
        **{counter: Least(Greatest(F(counter), SMALLEST), LARGEST) for counter in COUNTERS}
    )


class Migration(migrations.Migration):
    dependencies = [("user_tasks", "0005_mariadb_uuid_conversion")]

    operations = [
        migrations.RunPython(rewrite_once, migrations.RunPython.noop, atomic=False),
        *(migrations.AlterField("usertaskstatus", name, field) for name, field in COUNTERS.items()),
        migrations.RunPython(migrations.RunPython.noop, fit),
    ]
