from __future__ import annotations

from typing import Any

import django.core.validators
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models.functions import Left, Length

OLD_LENGTH = 512


def fit(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Cut what the shorter column cannot hold, so that the migration can be undone."""
    artifacts = apps.get_model("user_tasks", "UserTaskArtifact")._base_manager.using(schema_editor.connection.alias)
    artifacts.alias(length=Length("url")).filter(length__gt=OLD_LENGTH).update(url=Left("url", OLD_LENGTH))


class Migration(migrations.Migration):
    dependencies = [("user_tasks", "0003_url_max_length")]

    operations = [
        migrations.AlterField(
            model_name="usertaskartifact",
            name="url",
            field=models.TextField(blank=True, validators=[django.core.validators.URLValidator()]),
        ),
        migrations.RunPython(migrations.RunPython.noop, fit),
    ]
