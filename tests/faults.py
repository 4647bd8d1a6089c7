"""Workers and servers that tests kill, freeze and cut off."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ports import HOST, accepts, free_port
from workers import PATIENCE, Route, Worker, delete_queue, wait_for

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
        return {**super().settings(), "BROKER_TRANSPORT_OPTIONS": {}}

    def environment(self) -> dict[str, str]:
        """Return the environment of a worker."""
        environment = super().environment()
        overrides = {
            "CELERY_IMPORTS": ["fault_tasks"],
            "USER_TASKS_HEARTBEAT_SECONDS": HEARTBEAT,
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


class Server:
    """A server of the test's own, which it may stop, start again, freeze and kill."""

    user: str | None = None
    """Whose process it is; None for that of the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """Return what starts the server in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server, with the data that it had."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, start_new_session=True, user=self.user, group=self.user
            )
        wait_for(self._has_started, f"A server on port {self.port}")

    def _has_started(self) -> bool:
        assert self.runs, f"The server on port {self.port} has ended:\n{(self.folder / 'server.log').read_text()}"
        return self.is_ready()

    @property
    def runs(self) -> bool:
        """Whether the server has been started, and has not ended."""
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """Tell whether the server answers."""
        return accepts(self.port)

    def stop(self) -> None:
        """Stop the server, at once and in order; clients lose their connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
            self._process = None


class RedisServer(Server):
    """A Redis that keeps its data when it is stopped."""

    @property
    def url(self) -> str:
        """The address as a broker."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        """Return what starts the server in the foreground."""
        options = ("--bind", "127.0.0.1", "--dir", str(self.folder), "--appendonly", "yes", "--save", "")
        return (str(shutil.which("redis-server")), "--port", str(self.port), *options)


class PostgreSQLServer(Server):
    """A PostgreSQL of its own; it refuses to run as root, so it is given to the user postgres there.

    Its folder must not be below pytest's: each session that starts takes that from all other users.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._data = folder / "data"
        if os.getuid() == 0:
            self.user = "postgres"
            shutil.chown(folder, "postgres")
        subprocess.run(
            [
                self._program("initdb"),
                "--auth=trust",
                "--username=postgres",
                "--no-sync",
                str(self._data),
            ],
            check=True,
            capture_output=True,
            user=self.user,
            group=self.user,
        )

    @property
    def url(self) -> str:
        """The address of the server's database."""
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def command(self) -> Sequence[str]:
        """Return what starts the server in the foreground."""
        options = {"fsync": "off", "listen_addresses": HOST, "unix_socket_directories": self._data}
        settings = [f"--{name}={value}" for name, value in options.items()]
        return (self._program("postgres"), "-D", str(self._data), "-p", str(self.port), *settings)

    def is_ready(self) -> bool:
        """Tell whether the server has started up."""
        ask = (self._program("pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self.port}")
        return subprocess.run(ask, check=False).returncode == 0

    @staticmethod
    def _program(name: str) -> str:
        """Return the newest program of this name; Debian keeps the server's own outside the search path."""
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        return str(found[-1]) if found else name
