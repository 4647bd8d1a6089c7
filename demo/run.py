"""Serve the demo, with a worker, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic, sleep

DEMO = Path(__file__).resolve().parent
HOST = "127.0.0.1"
FIRST_PORT = 8000
PASSWORDS = {"demo": "demo", "admin": "admin"}
READY = """
The demo is at http://{host}:{port}/
Users: demo, password {demo}; admin, password {admin} (a superuser)
On the command line: {command} job --help
Ctrl-C ends it.
"""
# Seconds: for the processes to be ready, between two looks at them, and for them to end.
STARTING = 60
INTERVAL = 0.2
ENDING = 30

Process = subprocess.Popen[bytes]


class Stop:
    """Whether a signal has come; a handler that took an `Event`'s lock might interrupt whoever holds it, for ever."""

    def __init__(self) -> None:
        self._has_come = False

    def set(self) -> None:
        """Take note of a signal."""
        self._has_come = True

    def is_set(self) -> bool:
        """Tell whether one has come."""
        return self._has_come

    def wait(self, seconds: float) -> bool:
        """Tell the same, after some seconds unless one has come already."""
        if not self._has_come:
            sleep(seconds)  # between two looks at the processes
        return self._has_come


def main() -> int:
    """Serve until a signal comes or a process ends by itself; return the exit code."""
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    prepare()
    port = free_port(int(os.environ.get("DEMO_PORT", FIRST_PORT)))
    node = f"demo-{os.getpid()}@{socket.gethostname()}"
    processes: list[Process] = []
    try:
        processes.append(start_worker(node))
        processes.append(start_beat())
        processes.append(start_web_server(port))
        waiting = partial(wait, stop, processes)
        if waiting(lambda: answers(port) and works(node), STARTING):
            say(READY.format(host=HOST, port=port, command=command(), **PASSWORDS))
            waiting(stop.is_set)
    finally:
        say("Ending the web server and the worker.")
        end(processes)
    if not stop.is_set():
        say("The demo ended because a process did, or was not ready in time.")
    return 0 if stop.is_set() else 1


def prepare() -> None:
    """Migrate the database, and make the users."""
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", interactive=False)
    for name, password in PASSWORDS.items():
        make_user(name, password, is_superuser=name == "admin")
    connections.close_all()


def make_user(name: str, password: str, *, is_superuser: bool) -> None:
    """Make a user, or give back the password; a password that fits is left, and so are the sessions that hang on it."""
    from django.contrib.auth.models import User

    user, _ = User.objects.get_or_create(
        username=name, defaults={"is_superuser": is_superuser, "is_staff": is_superuser}
    )
    if not user.check_password(password):
        user.set_password(password)
        user.save()


def free_port(first: int) -> int:
    """Return the first port from this one on that nobody listens on."""
    for port in range(first, first + 100):
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, port))
            return port
    raise SystemExit(f"No port from {first} to {first + 99} is free. Set DEMO_PORT to another.")


def start_web_server(port: int) -> Process:
    """Start Django's development server."""
    return spawn("manage.py", "runserver", "--noreload", f"{HOST}:{port}")


def start_worker(node: str) -> Process:
    """Start a Celery worker, which SIGTERM ends after seconds, not after its tasks.

    It does not debug: Django would keep its queries in memory.
    """
    options = ["--hostname", node, "--concurrency", "2", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    return spawn("-m", "celery", "--quiet", "-A", "config", "worker", *options, DEMO_DEBUG="0", REMAP_SIGTERM="SIGQUIT")


def start_beat() -> Process:
    """Start what asks the worker, once in a while, to look for lost and old tasks."""
    return spawn("-m", "celery", "--quiet", "-A", "config", "beat", "--loglevel", "WARNING")


def spawn(*arguments: str, **environment: str) -> Process:
    """Start Python in a session of its own, so that Ctrl-C does not reach it before `end` does."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=DEMO,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait(stop: Stop, processes: list[Process], ready: Callable[[], bool], seconds: float = float("inf")) -> bool:
    """Wait until `ready`; return False if a process ends, a signal comes or the time is up before."""
    deadline = monotonic() + seconds
    while not stop.wait(INTERVAL) and monotonic() < deadline:
        if any(process.poll() is not None for process in processes):
            return False
        if ready():
            return True
    return False


def answers(port: int) -> bool:
    """Tell whether the web server listens."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def works(node: str) -> bool:
    """Tell whether the worker listens."""
    from config.celery import app

    return bool(app.control.ping(destination=[node], timeout=1))


def end(processes: list[Process]) -> None:
    """End processes with their children; a worker gets some seconds for the tasks that it is at."""
    for process in processes:
        process.terminate()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def command() -> str:
    """Return what to type for the commands of the demo, here."""
    return f"{os.path.relpath(sys.executable)} {os.path.relpath(DEMO / 'manage.py')}"


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
