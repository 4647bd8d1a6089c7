"""Databases that are away for a moment, as a running task's process sees them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from django.apps import apps
from django.db import InterfaceError, OperationalError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

Result = TypeVar("Result")

TRIES = 4
"""How often a transaction is tried whose rows others write at the same moment, which MariaDB may call a deadlock."""

HASTE = 5.0
"""Seconds after which a process that executes no task tries no more: somebody waits for it."""

PATIENCE = 30.0
"""Seconds for which a process that executes tasks tries again."""

PAUSES = (0.05, 0.2, 1.0, 2.0)
"""Seconds between two tries; the last goes on."""


class Executions:
    """How many tasks this process executes, from before their first query to after their last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def begin(self) -> None:
        """Count one more."""
        with self._lock:
            self.count += 1

    def end(self) -> None:
        """Count one less."""
        with self._lock:
            self.count = max(self.count - 1, 0)


executions = Executions()


def home() -> str:
    """Return which database the project's routers name for new statuses."""
    return router.db_for_write(apps.get_model("user_tasks", "UserTaskStatus"))


def insist(transact: Callable[[], Result], using: str) -> Result:
    """Return what the function returns, which is one transaction, trying it again where others' writes undo it.

    Raises the database's error at once inside another transaction, whose work is lost, and after `TRIES`.
    """
    for _try in range(TRIES - 1):
        try:
            return transact()
        except OperationalError:
            if connections[using].in_atomic_block:
                raise
    return transact()


def survive(operation: Callable[[], Result], using: str | None = None, tries: int = 1) -> Result:
    """Return what the operation returns, trying it again on a new connection while the database is away.

    Only for what may be done twice: a database may go away after it has done a thing, and before it says so. Raises the
    database's error at once inside a transaction, whose work is lost; in a process that executes no task after so many
    `tries` without a pause, or `HASTE`; else after `PATIENCE`.
    """
    started = time.monotonic()
    tried = 0
    while True:
        try:
            return operation()
        except (InterfaceError, OperationalError):
            tried += 1
            taken = time.monotonic() - started
            is_patient = bool(executions.count)
            is_over = taken > PATIENCE if is_patient else tried >= tries or taken > HASTE
            connection = connections[using or home()]
            if is_over or _is_in_transaction(connection):
                raise
            connection.close()
            if is_patient:
                time.sleep(PAUSES[min(tried, len(PAUSES)) - 1])  # nobody tells when a database is back


def survive_once(
    operation: Callable[[], bool], is_done: Callable[[], bool], using: str | None = None, tries: int = 1
) -> bool:
    """Do as `survive` does with what must not be done twice: ask `is_done` before it is tried again."""
    tried = False

    def operate_unless_done() -> bool:
        nonlocal tried
        if tried and is_done():
            return True
        tried = True
        return operation()

    return survive(operate_unless_done, using, tries)


def _is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a connection has work that is not committed: of ``atomic``, or of a project without autocommit."""
    return connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)
