"""Makes the database that 4.x has left, with an export that an invoice holds."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection

call_command("migrate", "user_tasks", "0005", verbosity=0)
for application in ("auth", "sessions", "shop"):
    call_command("migrate", application, verbosity=0)
owner = User.objects.create_user("ada", password="engine")
values = {
    "created": "2020-01-01 00:00:00",
    "modified": "2020-01-01 00:00:00",
    "uuid": UUID(int=4).hex,
    "user_id": owner.pk,
    "task_id": "made-by-4.x",
    "is_container": False,
    "task_class": "shop.tasks.export",
    "name": "Export of 2020",
    "state": "Succeeded",
    "completed_steps": 32767,
    "total_steps": 32767,
    "attempts": 1,
}
with connection.cursor() as cursor:
    places = ", ".join(["%s"] * len(values))
    statement = f"INSERT INTO user_tasks_usertaskstatus ({', '.join(values)}) VALUES ({places})"
    cursor.execute(statement, list(values.values()))
    cursor.execute("INSERT INTO shop_invoice (status_id) SELECT id FROM user_tasks_usertaskstatus")
