"""A table as it is after a year: a million statuses of a thousand users, one of whom has a hundred thousand."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import connection

USERS = 1000
"""Users in all, the first of whom has a tenth of the rows."""

STATUSES = """
    INSERT INTO user_tasks_usertaskstatus (created, modified, uuid, user_id, task_id, parent_id, is_container,
        task_class, name, state, completed_steps, total_steps, attempts, due, started, finished, heartbeat, lost)
    SELECT moment, moment + interval '9 seconds', gen_random_uuid(),
        %(user)s + CASE WHEN number %% 10 = 0 THEN 0 ELSE number %% %(users)s END,
        'task-' || number, NULL, FALSE, 'shop.export_' || number %% 50, 'Export ' || number,
        CASE WHEN number > %(count)s - 1000 THEN (ARRAY['Pending', 'In Progress', 'Compressing'])[1 + number %% 3]
             WHEN number %% 50 = 0 THEN 'Failed' WHEN number %% 70 = 0 THEN 'Canceled' ELSE 'Succeeded' END,
        9, 9, 1, moment, moment + interval '1 second',
        CASE WHEN number <= %(count)s - 1000 THEN moment + interval '9 seconds' END,
        moment + interval '1 second', FALSE
    FROM (SELECT number, now() - (%(count)s - number) * interval '31 seconds' AS moment
          FROM generate_series(1, %(count)s) AS number) AS numbers
"""

ARTIFACTS = """
    INSERT INTO user_tasks_usertaskartifact (created, modified, uuid, status_id, name, file, url, text)
    SELECT finished, finished, gen_random_uuid(), id, 'Output',
        CASE WHEN id %% 1000 = 0 THEN 'user_tasks/2026/01/01/' || id || '.csv' ELSE '' END, '', 'done'
    FROM user_tasks_usertaskstatus WHERE finished IS NOT NULL AND id %% %(every)s = 0
"""


def fill(count: int, artifacts_every: int = 10) -> User:
    """Make so many statuses with their users, and for some artifacts, few with files; return the user who has most."""
    User.objects.bulk_create(User(username=f"user{number}") for number in range(USERS))
    first = User.objects.order_by("pk").get(username="user0")
    with connection.cursor() as cursor:
        cursor.execute(STATUSES, {"user": first.pk, "users": USERS, "count": count})
        cursor.execute(ARTIFACTS, {"every": artifacts_every})
        cursor.execute("VACUUM ANALYZE")
    return first
