"""Workers and servers that tests kill, freeze and cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from workers import PATIENCE, Route, Worker, broker_options, delete_queue

HEARTBEAT = 0.3
"""Seconds between two signs of life of the workers here."""

LOST_AFTER = 2.0
"""Seconds of silence after which the tests take a task for lost."""


@dataclass(frozen=True)
class FragileRoute(Route):
    """A queue whose workers have settings of their own, and may use another broker and another database."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    broker: str = ""
    database: str = ""

    @property
    def broker_url(self) -> str:
        """The broker's address."""
        return self.broker or super().broker_url

    def settings(self) -> dict[str, Any]:
        """Return what a publisher's settings must say."""
        return {**super().settings(), **self.overrides}

    def environment(self) -> dict[str, str]:
        """Return the environment of a worker."""
        environment = super().environment()
        overrides = {
            "CELERY_IMPORTS": ["fault_tasks"],
            "USER_TASKS_HEARTBEAT_SECONDS": HEARTBEAT,
            "BROKER_TRANSPORT_OPTIONS": broker_options(self.broker_url),
            **self.overrides,
        }
        environment["SETTINGS_OVERRIDES"] = json.dumps(overrides)
        if self.database:
            environment["DATABASE_URL"] = self.database
        return environment


class FragileWorker(Worker):
    """A worker to do harm to."""

    def __init__(self, route: FragileRoute, **options: Any) -> None:
        super().__init__(route, **options)
        self.fragile_route = route

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the worker, the main one first."""
        try:
            main = psutil.Process(self._process.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill_children(self) -> None:
        """Kill the processes that execute tasks; the main one starts others."""
        for process in self.processes()[1:]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    def kill(self) -> None:
        """Kill the whole process group, as the kernel does that is out of memory."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)

    def freeze(self) -> None:
        """Stop all processes, as a machine does that is suspended."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def is_running(self) -> bool:
        """Tell whether the main process is there."""
        return self._process.poll() is None

    def discard(self) -> None:
        """End the worker, whatever it executes."""
        self.kill()
        with suppress(Exception):
            delete_queue(self.route.queue, self.route.broker_url)
