"""What a purge costs beside a raw DELETE of the same rows, in one transaction: statuses with an artifact each."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils.timezone import now

from user_tasks.models import UserTaskArtifact, UserTaskStatus

from .figures import Figure, Scale
from .growth import exponent
from .purging import Purge, in_own_process, seconds
from .workers import database_url

RATIO, TRANSACTION, GROWTH = 3.0, 0.5, 40.0
"""How many times as long as the DELETE, how many seconds in one transaction, and how many megabytes."""

EXPONENT = 1.1
"""The power of the number of rows that the time may grow with."""

OLDEST = timedelta(days=60)
"""How old the first row is; each of the others is a second younger."""

FILES = Path("user_tasks/2026/01/01")
"""Where the files of artifacts are, below `MEDIA_ROOT`."""

STATUSES = """
    INSERT INTO user_tasks_usertaskstatus (created, modified, uuid, user_id, task_id, is_container, task_class, name,
        state, completed_steps, total_steps, attempts, finished, lost)
    SELECT moment, moment, gen_random_uuid(), %s, gen_random_uuid()::text, FALSE, 'shop.export', 'Export',
        'Succeeded', 9, 9, 1, moment, FALSE
    FROM (SELECT %s::timestamptz + number * interval '1 second' AS moment
          FROM generate_series(1, %s) AS number) AS moments
"""

ARTIFACTS = """
    INSERT INTO user_tasks_usertaskartifact (created, modified, uuid, status_id, name, file, url, text)
    SELECT created, created, gen_random_uuid(), id, 'Output', '', '', 'done' FROM user_tasks_usertaskstatus
"""

NAMES = "UPDATE user_tasks_usertaskartifact SET file = %s || '/' || id || '.csv', size = 5"

VACUUM = "VACUUM ANALYZE user_tasks_usertaskstatus, user_tasks_usertaskartifact"


def figures(scale: Scale) -> Iterator[Figure]:
    """Measure both in turn; then many rows at once, and files."""
    user = User.objects.create_user("purges")
    raw, purges = [], []
    for _ in range(scale.rounds):
        fill(user, scale.purged)
        raw.append(seconds(delete_raw))
        fill(user, scale.purged)
        purges.append(in_own_process(database_url()))
    taken = statistics.median(purge.seconds for purge in purges)
    what = f"purge of {scale.purged:,} statuses with artifacts"
    yield Figure(what, taken / statistics.median(raw), "x", RATIO, "a raw DELETE")
    yield from limited(what, *purges)
    yield from _many(user, scale, taken)
    yield from _files(user, scale.purged // 5)


def _many(user: User, scale: Scale, taken: float) -> Iterator[Figure]:
    """Purge ten times as many rows."""
    fill(user, scale.purged_at_most)
    purge = in_own_process(database_url())
    what = f"purge of {scale.purged_at_most:,} statuses with artifacts"
    yield Figure(f"{what}: time in all", purge.seconds, "s")
    yield from limited(what, purge)
    grown = exponent({scale.purged: taken, scale.purged_at_most: purge.seconds})
    yield Figure("exponent with which the time of a purge grows", grown, "", EXPONENT)


def _files(user: User, count: int) -> Iterator[Figure]:
    """Purge rows with files, and take the files away from rows that stay."""
    fill(user, count)
    make_files()
    raw = seconds(delete_raw_with_files)
    fill(user, count)
    make_files()
    purge = in_own_process(database_url())
    what = f"purge of {count:,} statuses with files"
    yield Figure(what, purge.seconds / raw, "x", RATIO, "a raw DELETE and unlink")
    yield from limited(what, purge)
    fill(user, count)
    make_files()
    half = OLDEST - timedelta(seconds=count // 2)
    what = f"expiry of the files of {count // 2:,} in {count:,} artifacts"
    yield Figure(what, in_own_process(database_url(), half).seconds, "s")
    vacuum()
    yield Figure(f"{what}, again, where none is left", in_own_process(database_url(), half).seconds, "s")


def limited(what: str, *purges: Purge) -> Iterator[Figure]:
    """Yield the worst of what purges held on to."""
    yield Figure(f"{what}: longest transaction", max(purge.longest for purge in purges), "s", TRANSACTION)
    yield Figure(f"{what}: growth of memory", max(purge.growth for purge in purges), "MB", GROWTH)


def fill(user: User, count: int) -> None:
    """Make so many rows past their age, and nothing else."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE user_tasks_usertaskstatus CASCADE")
        cursor.execute(STATUSES, [user.pk, now() - OLDEST, count])
        cursor.execute(ARTIFACTS)
    vacuum()


def vacuum() -> None:
    """Bring the tables into the state in which PostgreSQL keeps them."""
    with connection.cursor() as cursor:
        cursor.execute(VACUUM)


def make_files() -> None:
    """Give each artifact a file."""
    with connection.cursor() as cursor:
        cursor.execute(NAMES, [str(FILES)])
    vacuum()
    (Path(settings.MEDIA_ROOT) / FILES).mkdir(parents=True, exist_ok=True)
    for name in names():
        (Path(settings.MEDIA_ROOT) / name).write_bytes(b"done\n")


def names() -> list[str]:
    """Return the names of all files."""
    return [str(name) for name in UserTaskArtifact.objects.values_list("file", flat=True)]


def delete_raw() -> None:
    """Delete all rows as somebody would by hand."""
    with connection.cursor() as cursor, transaction.atomic():
        for model in (UserTaskArtifact, UserTaskStatus):
            cursor.execute(f"DELETE FROM {model._meta.db_table}")


def delete_raw_with_files() -> None:
    """Delete all rows, and remove their files."""
    gone = names()
    delete_raw()
    for name in gone:
        (Path(settings.MEDIA_ROOT) / name).unlink()
