from __future__ import annotations

from typing import Any

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

COUNTERS = ("completed_steps", "total_steps", "attempts")
SMALLEST, LARGEST = 0, 32767


def fit(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Cut what the narrow columns cannot hold, so that the migration can be undone."""
    statuses = apps.get_model("user_tasks", "UserTaskStatus")._base_manager.using(
        schema_editor.connection.alias
    )
    for counter in COUNTERS:
        statuses.filter(**{f"{counter}__lt": SMALLEST}).update(**{counter: SMALLEST})
        statuses.filter(**{f"{counter}__gt": LARGEST}).update(**{counter: LARGEST})


class Migration(migrations.Migration):
    dependencies = [("user_tasks", "0005_mariadb_uuid_conversion")]

    operations = [
        migrations.AlterField(
            model_name="usertaskstatus",
            name="completed_steps",
            field=models.BigIntegerField(default=0, help_text="Steps done"),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="total_steps",
            field=models.BigIntegerField(help_text="Steps in all"),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="attempts",
            field=models.IntegerField(default=1, help_text="How often it has been tried"),
        ),
        migrations.RunPython(migrations.RunPython.noop, fit),
    ]
