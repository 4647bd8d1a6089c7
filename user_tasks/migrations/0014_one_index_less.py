"""Without the index on the user alone: other indexes begin with the user. PostgreSQL drops it at once."""

from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("user_tasks", "0013_more_indexes"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name="usertaskstatus",
            name="user",
            field=models.ForeignKey(
                db_index=False,
                help_text="The user who triggered the task",
                on_delete=django.db.models.deletion.CASCADE,
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
    ]
