"""How long PostgreSQL's sessions wait for each other, and how often in a circle."""

from __future__ import annotations

import threading
from typing import Any

from django.db import connection

WAITING = """
    SELECT COALESCE(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND waitstart IS NOT NULL AND datname = current_database()
"""


DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def deadlocks() -> int:
    """Return how many deadlocks PostgreSQL has resolved in this database, as far as sessions have told yet."""
    with connection.cursor() as cursor:
        cursor.execute(DEADLOCKS)
        return int(cursor.fetchone()[0])


class LongestWait:
    """Looks, ten times a second, how long whoever waits for a lock has waited; `seconds` is the longest seen."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> LongestWait:
        self._thread.start()
        return self

    def __exit__(self, *_error: Any) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        with connection.cursor() as cursor:
            while not self._done.wait(0.1):
                cursor.execute(WAITING)
                self.seconds = max(self.seconds, float(cursor.fetchone()[0]))
        connection.close()
