from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("user_tasks", "0009_due"),
    ]

    operations = [
        migrations.AddField(
            model_name="usertaskstatus",
            name="lost",
            field=models.BooleanField(
                db_default=False,
                default=False,
                editable=False,
                help_text="Whether it was given up because nobody reported on it",
            ),
        ),
    ]
