from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("user_tasks", "0006_wide_counters")]

    operations = [
        migrations.AddField(
            model_name="usertaskstatus",
            name="started",
            field=models.DateTimeField(editable=False, help_text="When the current attempt began", null=True),
        ),
        migrations.AddField(
            model_name="usertaskstatus",
            name="finished",
            field=models.DateTimeField(editable=False, help_text="When it came to rest", null=True),
        ),
        migrations.AddField(
            model_name="usertaskstatus",
            name="heartbeat",
            field=models.DateTimeField(editable=False, help_text="When its worker last showed life", null=True),
        ),
    ]
