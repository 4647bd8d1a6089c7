"""Workers of the benchmarks, and how long they take for what waits in their queue."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import current_app
from django.conf import settings
from django.db import connection
from redis import Redis

from .tasks import NOTED

PATIENCE = 600
"""Seconds that a worker may take for a round."""

ROOT = Path(__file__).resolve().parent.parent


def broker() -> Any:
    """Return a connection to the broker."""
    return Redis.from_url(settings.BROKER_URL, socket_timeout=2 * PATIENCE)


class Worker:
    """A worker of two processes, which takes messages only while it is measured."""

    def __init__(self, **environment: str) -> None:
        self.queue = f"benchmarks_{uuid4().hex[:12]}"
        self._name = f"{self.queue}@localhost"
        celery = (sys.executable, "-W", "ignore", "-m", "celery", "--quiet", "-A", "test_settings", "worker")
        self._process = subprocess.Popen(
            [
                *(*celery, "--include", "benchmarks.tasks", "--loglevel", "ERROR"),
                *("--queues", f"{self.queue}_idle", "--hostname", self._name, "--concurrency", "2"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": database_url(), "QUEUE": self.queue, **environment},
            stdout=subprocess.DEVNULL,
        )
        self._tell("ping")

    def drain(self, count: int) -> float:
        """Return the seconds from the end of the first task to that of the last, of so many that wait in the queue."""
        with self.at_work(count) as seconds:
            pass
        return seconds[0]

    @contextmanager
    def at_work(self, count: int) -> Iterator[list[float]]:
        """Take so many messages, those that are published meanwhile among them; the list gets what `drain` returns."""
        broker().set(f"{self.queue}:left", count)
        self._tell("add_consumer", queue=self.queue)
        seconds: list[float] = []
        yield seconds
        first, last = self._noted(count), self._noted(count)
        self._tell("cancel_consumer", queue=self.queue)
        seconds.append(last - first)

    def _noted(self, count: int) -> float:
        noted = broker().blpop(NOTED.format(self.queue), timeout=PATIENCE)
        if noted is None:
            raise TimeoutError(f"A worker did not execute {count} tasks within {PATIENCE} seconds.")
        return float(noted[1])

    def stop(self) -> None:
        """Stop the worker, and leave nothing of it on the broker."""
        self._process.terminate()
        self._process.wait()
        if keys := broker().keys(f"*{self.queue}*"):
            broker().delete(*keys)

    def _tell(self, command: str, **arguments: str) -> None:
        deadline = time.monotonic() + PATIENCE
        tell = current_app.control.broadcast
        while not tell(command, arguments, destination=[self._name], reply=True, limit=1, timeout=5):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"A worker does not answer to {command}.")


@contextmanager
def worker(**environment: str) -> Iterator[Worker]:
    """Start a worker, and stop it in the end."""
    started = Worker(**environment)
    try:
        yield started
    finally:
        started.stop()


def database_url() -> str:
    """Return the address of the database of the benchmarks, for another process."""
    values = connection.settings_dict
    return f"postgres://{values['USER']}:{values['PASSWORD']}@{values['HOST']}:{values['PORT']}/{values['NAME']}"
