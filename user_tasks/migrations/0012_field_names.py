"""Names of the fields that can be translated; no database is touched."""

from __future__ import annotations

import uuid

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import user_tasks.conf


class Migration(migrations.Migration):
    dependencies = [
        ("user_tasks", "0011_indexes"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name="usertaskartifact",
            name="file",
            field=models.FileField(
                blank=True,
                null=True,
                storage=user_tasks.conf.artifact_storage,
                upload_to="user_tasks/%Y/%m/%d/",
                verbose_name="file",
            ),
        ),
        migrations.AlterField(
            model_name="usertaskartifact",
            name="name",
            field=models.CharField(
                default="Output", help_text="The name that the user reads", max_length=255, verbose_name="name"
            ),
        ),
        migrations.AlterField(
            model_name="usertaskartifact",
            name="status",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="artifacts",
                to="user_tasks.usertaskstatus",
                verbose_name="status",
            ),
        ),
        migrations.AlterField(
            model_name="usertaskartifact",
            name="text",
            field=models.TextField(blank=True, verbose_name="text"),
        ),
        migrations.AlterField(
            model_name="usertaskartifact",
            name="url",
            field=models.TextField(blank=True, validators=[django.core.validators.URLValidator()], verbose_name="URL"),
        ),
        migrations.AlterField(
            model_name="usertaskartifact",
            name="uuid",
            field=models.UUIDField(
                default=uuid.uuid4,
                editable=False,
                help_text="Unique ID for use in APIs",
                unique=True,
                verbose_name="UUID",
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="attempts",
            field=models.IntegerField(default=1, help_text="How often it has been tried", verbose_name="attempts"),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="completed_steps",
            field=models.BigIntegerField(default=0, help_text="Steps done", verbose_name="completed steps"),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="due",
            field=models.DateTimeField(
                editable=False,
                help_text="When it may run at the earliest, once its message has left",
                null=True,
                verbose_name="due",
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="finished",
            field=models.DateTimeField(
                editable=False, help_text="When it came to rest", null=True, verbose_name="finished"
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="heartbeat",
            field=models.DateTimeField(
                editable=False, help_text="When its worker last showed life", null=True, verbose_name="heartbeat"
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="is_container",
            field=models.BooleanField(
                default=False, help_text="Whether this stands for other tasks", verbose_name="is container"
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="lost",
            field=models.BooleanField(
                db_default=False,
                default=False,
                editable=False,
                help_text="Whether it was given up because nobody reported on it",
                verbose_name="lost",
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="name",
            field=models.CharField(help_text="The name that the user reads", max_length=255, verbose_name="name"),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="parent",
            field=models.ForeignKey(
                default=None,
                help_text="The container that the task belongs to",
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                to="user_tasks.usertaskstatus",
                verbose_name="parent",
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="started",
            field=models.DateTimeField(
                editable=False, help_text="When the current attempt began", null=True, verbose_name="started"
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="state",
            field=models.CharField(
                default="Pending", help_text="What the task is doing", max_length=128, verbose_name="state"
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="task_class",
            field=models.CharField(
                help_text="Name of the task or kind of container", max_length=128, verbose_name="task class"
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="task_id",
            field=models.CharField(
                db_index=True,
                help_text="ID of the task in its queue",
                max_length=128,
                unique=True,
                verbose_name="task ID",
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="total_steps",
            field=models.BigIntegerField(help_text="Steps in all", verbose_name="total steps"),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="user",
            field=models.ForeignKey(
                help_text="The user who triggered the task",
                on_delete=django.db.models.deletion.CASCADE,
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
        migrations.AlterField(
            model_name="usertaskstatus",
            name="uuid",
            field=models.UUIDField(
                default=uuid.uuid4,
                editable=False,
                help_text="Unique ID for use in APIs",
                unique=True,
                verbose_name="UUID",
            ),
        ),
    ]
