"""What is told of a file.

PostgreSQL and MariaDB add the columns without touching a row. SQLite copies the table.
"""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("user_tasks", "0014_one_index_less")]

    operations = [
        migrations.AlterModelOptions(
            name="usertaskartifact",
            options={
                "base_manager_name": "objects",
                "verbose_name": "user task artifact",
                "verbose_name_plural": "user task artifacts",
            },
        ),
        migrations.AddField(
            model_name="usertaskartifact",
            name="file_name",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                help_text="The name that a download gets",
                max_length=255,
                verbose_name="file name",
            ),
        ),
        migrations.AddField(
            model_name="usertaskartifact",
            name="size",
            field=models.BigIntegerField(
                editable=False, help_text="Size of the file, in bytes", null=True, verbose_name="size"
            ),
        ),
        migrations.AddField(
            model_name="usertaskartifact",
            name="content_type",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                help_text="What the file, or else the text, is",
                max_length=128,
                verbose_name="content type",
            ),
        ),
        migrations.AddField(
            model_name="usertaskartifact",
            name="stored",
            field=models.DateTimeField(
                editable=False, help_text="When its file was stored", null=True, verbose_name="stored"
            ),
        ),
        migrations.AddField(
            model_name="usertaskartifact",
            name="expired",
            field=models.DateTimeField(
                editable=False, help_text="When its file was removed for its age", null=True, verbose_name="expired"
            ),
        ),
    ]
