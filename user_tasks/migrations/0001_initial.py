from __future__ import annotations

import uuid

import django.db.models.deletion
import django.utils.timezone
import model_utils.fields
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.CreateModel(
            name="UserTaskStatus",
            fields=[
                (
                    "id",
                    models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "created",
                    model_utils.fields.AutoCreatedField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                (
                    "modified",
                    model_utils.fields.AutoLastModifiedField(
                        default=django.utils.timezone.now, editable=False, verbose_name="modified"
                    ),
                ),
                (
                    "uuid",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, help_text="Unique ID for use in APIs", unique=True
                    ),
                ),
                (
                    "task_id",
                    models.CharField(
                        db_index=True, help_text="ID of the task in its queue", max_length=128, unique=True
                    ),
                ),
                (
                    "is_container",
                    models.BooleanField(default=False, help_text="Whether this stands for other tasks"),
                ),
                (
                    "task_class",
                    models.CharField(help_text="Name of the task or kind of container", max_length=128),
                ),
                ("name", models.CharField(help_text="The name that the user reads", max_length=255)),
                (
                    "state",
                    models.CharField(default="Pending", help_text="What the task is doing", max_length=128),
                ),
                ("completed_steps", models.PositiveSmallIntegerField(default=0, help_text="Steps done")),
                ("total_steps", models.PositiveSmallIntegerField(help_text="Steps in all")),
                (
                    "attempts",
                    models.PositiveSmallIntegerField(default=1, help_text="How often it has been tried"),
                ),
                (
                    "parent",
                    models.ForeignKey(
                        default=None,
                        help_text="The container that the task belongs to",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="user_tasks.usertaskstatus",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        help_text="The user who triggered the task",
                        on_delete=django.db.models.deletion.CASCADE,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "user task status",
                "verbose_name_plural": "user task statuses",
            },
        ),
        migrations.CreateModel(
            name="UserTaskArtifact",
            fields=[
                (
                    "id",
                    models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "created",
                    model_utils.fields.AutoCreatedField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                (
                    "modified",
                    model_utils.fields.AutoLastModifiedField(
                        default=django.utils.timezone.now, editable=False, verbose_name="modified"
                    ),
                ),
                (
                    "uuid",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, help_text="Unique ID for use in APIs", unique=True
                    ),
                ),
                (
                    "name",
                    models.CharField(default="Output", help_text="The name that the user reads", max_length=255),
                ),
                ("file", models.FileField(blank=True, null=True, upload_to="user_tasks/%Y/%m/%d/")),
                ("url", models.URLField(blank=True)),
                ("text", models.TextField(blank=True)),
                (
                    "status",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="artifacts",
                        to="user_tasks.usertaskstatus",
                    ),
                ),
            ],
            options={
                "verbose_name": "user task artifact",
                "verbose_name_plural": "user task artifacts",
            },
        ),
    ]
