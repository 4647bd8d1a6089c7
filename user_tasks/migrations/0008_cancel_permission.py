from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("user_tasks", "0007_started_finished_heartbeat")]

    operations = [
        migrations.AlterModelOptions(
            name="usertaskstatus",
            options={
                "permissions": [("cancel_usertaskstatus", "Can cancel user task status")],
                "verbose_name": "user task status",
                "verbose_name_plural": "user task statuses",
            },
        ),
    ]
