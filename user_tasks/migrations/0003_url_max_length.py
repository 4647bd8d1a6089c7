from __future__ import annotations

from typing import Any

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models.functions import Left, Length

OLD_LENGTH = 200


def fit(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Cut what the shorter column cannot hold, so that the migration can be undone."""
    artifacts = apps.get_model("user_tasks", "UserTaskArtifact")._base_manager.using(schema_editor.connection.alias)
    artifacts.alias(length=Length("url")).filter(length__gt=OLD_LENGTH).update(url=Left("url", OLD_LENGTH))


class Migration(migrations.Migration):
    dependencies = [("user_tasks", "0002_artifact_file_storage")]

    operations = [
        migrations.AlterField(
            model_name="usertaskartifact",
            name="url",
            field=models.URLField(blank=True, max_length=512),
        ),
        migrations.RunPython(migrations.RunPython.noop, fit),
    ]
