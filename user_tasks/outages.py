"""Databases that are away for a moment, as a running task's process sees them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connections

from .heartbeat import heart

Result = TypeVar("Result")

PATIENCE = 30.0
"""Seconds for which a process that executes tasks tries again."""

PAUSES = (0.05, 0.2, 1.0, 2.0)
"""Seconds between two tries; the last goes on."""


class _Executions(threading.local):
    depth = 0


_executions = _Executions()


def begin_execution() -> None:
    """Be patient in this thread from now on, even before the task's status is known."""
    _executions.depth += 1


def end_execution() -> None:
    """Be patient no longer for one execution."""
    _executions.depth = max(_executions.depth - 1, 0)


def _is_executing() -> bool:
    return heart.is_beating or _executions.depth > 0


def survive(operation: Callable[[], Result], using: str | None = None) -> Result:
    """Return what the operation returns, trying it again on a new connection while the database is away.

    Only for what may be done twice. Raises the database's error at once inside a transaction, whose work is lost, and
    where no task is executed; else after `PATIENCE`.
    """
    deadline = time.monotonic() + PATIENCE
    tries = 0
    while True:
        try:
            return operation()
        except (InterfaceError, OperationalError):
            connection = connections[using or DEFAULT_DB_ALIAS]
            if connection.in_atomic_block or not _is_executing() or time.monotonic() > deadline:
                raise
            connection.close()
            # Nobody tells when a database is back.
            time.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
