from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("user_tasks", "0008_cancel_permission"),
    ]

    operations = [
        migrations.AddField(
            model_name="usertaskstatus",
            name="due",
            field=models.DateTimeField(
                editable=False, help_text="When it may run at the earliest, once its message has left", null=True
            ),
        ),
    ]
