"""The sign of life that a process gives of the tasks that it executes."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable

from django.db import connections

from .conf import settings

logger = logging.getLogger(__name__)


class Heart:
    """Beats for the tasks that this process executes: one UPDATE per interval, in a thread of its own.

    Nothing beats, and no query is made, for what ends within ``USER_TASKS_HEARTBEAT_SECONDS``. The thread ends with
    the process, and holds no connection between two beats.
    """

    def __init__(self, write: Callable[[list[str]], object]) -> None:
        self._write = write
        self._executed: dict[str, int] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def take(self, task_id: str) -> None:
        """Beat for a task from now on."""
        with self._changed:
            self._executed[task_id] = self._executed.get(task_id, 0) + 1
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._beat, name="user_tasks-heartbeat", daemon=True)
                self._thread.start()
            self._changed.notify()

    def leave(self, task_id: str) -> None:
        """Beat no longer for one execution of a task."""
        with self._changed:
            executions = self._executed.pop(task_id, 0) - 1
            if executions > 0:
                self._executed[task_id] = executions

    def _beat(self) -> None:
        _leave_signals_to_the_main_thread()
        while True:
            executed = self._executed_for_an_interval()
            try:
                self._write(executed)
            except Exception:
                logger.warning("The heartbeat of %d tasks could not be written.", len(executed), exc_info=True)
            finally:
                connections.close_all()

    def _executed_for_an_interval(self) -> list[str]:
        """Return what is executed at the end of an interval at whose beginning something was; wait until then."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._executed)
            with self._changed:
                self._changed.wait_for(lambda: False, timeout=settings.USER_TASKS_HEARTBEAT_SECONDS)
                if self._executed:
                    return list(self._executed)


def _leave_signals_to_the_main_thread() -> None:
    """Block all signals in this thread, unless it is none of the system's, as under gevent.

    A process that Celery terminates blocks SIGTERM in its main thread while it holds the lock of the pool's results; a
    thread that takes the signal instead ends the process with that lock, and no other process of the pool gets it.
    """
    if hasattr(signal, "pthread_sigmask") and threading.get_native_id() != threading.main_thread().native_id:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _write(task_ids: list[str]) -> None:
    from .losses import beat

    beat(task_ids)


heart = Heart(_write)
