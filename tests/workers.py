"""Real Celery workers, for the tests that need them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from django.conf import settings
from django.db import connection
from kombu import Connection

from test_settings import BASE_DIR, app, broker_options

PATIENCE = 120
"""Seconds that a worker may take for what a test waits for."""

Result = TypeVar("Result")


def wait_for(condition: Callable[[], Result], what: str = "The condition") -> Result:
    """Return the first true value of the condition; raise `AssertionError` if none comes in time."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what} was not met within {PATIENCE} seconds."
        time.sleep(0.02)  # between two looks; what is waited for is in other processes
    return result


@dataclass(frozen=True)
class Route:
    """A queue of its own on the broker: the tests' own, or one in a folder."""

    folder: Path
    protocol: int = 2
    queue: str = field(default_factory=lambda: f"user_tasks_{uuid4().hex[:12]}")

    @property
    def broker_url(self) -> str:
        """The broker's address."""
        return os.environ.get("CELERY_BROKER_URL", f"filesystem://{self.folder}")

    def settings(self) -> dict[str, Any]:
        """Return what a publisher's settings must say."""
        return {
            "BROKER_URL": self.broker_url,
            "BROKER_TRANSPORT_OPTIONS": broker_options(self.broker_url),
            "CELERY_DEFAULT_QUEUE": self.queue,
            "CELERY_TASK_PROTOCOL": self.protocol,
        }

    def environment(self) -> dict[str, str]:
        """Return the environment of a worker that shares database, files and results with this process."""
        return {
            **os.environ,
            "CELERY_BROKER_URL": self.broker_url,
            "CELERY_DEFAULT_QUEUE": self.queue,
            "CELERY_RESULT_BACKEND": settings.CELERY_RESULT_BACKEND,
            "CELERY_TASK_PROTOCOL": str(self.protocol),
            "DATABASE_URL": database_url(),
            "MEDIA_ROOT": settings.MEDIA_ROOT,
            "PYTHONPATH": os.pathsep.join([str(BASE_DIR / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }


class InnerRoute(Route):
    """A queue in this process's memory."""

    def settings(self) -> dict[str, Any]:
        """Return what this process's settings must say."""
        return {
            **super().settings(),
            "BROKER_URL": "memory://",
            "BROKER_TRANSPORT_OPTIONS": {"polling_interval": 0.01},
            "CELERY_RESULT_BACKEND": "cache+memory://",
        }


class Worker:
    """A worker process that takes the messages of a route."""

    def __init__(self, route: Route, pool: str = "prefork", concurrency: int = 2, name: str = "worker") -> None:
        self.route = route
        self.name = name
        self.log_file = route.folder / f"{route.queue}.{name}.log"
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "test_settings", "worker"),
                    *("--include", "worker_tasks,browser_tasks,workflow_tasks"),
                    *("--queues", route.queue, "--hostname", self.node),
                    *("--pool", pool, "--concurrency", str(concurrency), "--loglevel", "INFO"),
                    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
                ],
                cwd=BASE_DIR,
                env=route.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> Worker:
        """Return the worker once it takes messages."""
        wait_for(self._is_ready, "A worker that is ready")
        return self

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, f"The worker has ended:\n{self.log()}"
        return f"{self.node} ready." in self.log()

    @property
    def node(self) -> str:
        """What Celery calls the worker."""
        return f"{self.name}@{self.route.queue}"

    def log(self) -> str:
        """Return what the worker has logged."""
        return self.log_file.read_text(errors="replace")

    def tell_to_stop(self) -> None:
        """Make the worker stop as soon as it can."""
        self._process.terminate()

    def stop(self) -> None:
        """Stop the worker, after the tasks that it executes."""
        self.tell_to_stop()
        self.wait_until_stopped()

    def wait_until_stopped(self) -> None:
        """Return once the worker has ended."""
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise AssertionError(f"The worker did not stop; it logged:\n{self.log()[-4000:]}") from None
        finally:
            delete_queue(self.route.queue, self.route.broker_url)


def wait_until_idle(workers: Sequence[Worker]) -> None:
    """Return once workers that share a queue have executed, or discarded, all that is in it."""
    inspect = app.control.inspect([worker.node for worker in workers], timeout=PATIENCE, limit=len(workers))

    def are_idle() -> bool:
        with app.connection_for_write() as broker:
            queue: Any = app.amqp.queues[workers[0].route.queue](broker.default_channel)
            waiting = queue.queue_declare().message_count
        if waiting:
            return False
        answers = [answer for ask in (inspect.reserved, inspect.active) for answer in (ask() or {}).values()]
        return len(answers) == 2 * len(workers) and not any(answers)

    wait_for(are_idle, "That nothing is left for the workers")


@dataclass
class Workers:
    """The workers of a test session, each started when first asked for."""

    folder: Path
    _shared: dict[tuple[int, str, int], Worker] = field(default_factory=dict)
    _inner: ExitStack = field(default_factory=ExitStack)
    _inner_queue: str = field(default_factory=lambda: f"user_tasks_{uuid4().hex[:12]}")
    _inner_runs: bool = False

    def __post_init__(self) -> None:
        for name in ("control", "messages"):
            (self.folder / name).mkdir()
        # Kombu makes this file in two steps; a worker that starts at the same moment would read half of it.
        (self.folder / "control" / "celery.pidbox.exchange").write_text("[]")

    def shared(self, protocol: int = 2, pool: str = "prefork", concurrency: int = 2) -> Worker:
        """Return the one worker of this kind."""
        kind = (protocol, pool, concurrency)
        if kind not in self._shared:
            self._shared[kind] = Worker(Route(self.folder, protocol), pool, concurrency).wait_until_ready()
        return self._shared[kind]

    def team(self, protocol: int = 2) -> list[Worker]:
        """Return two workers that share a queue."""
        names = ("first", "second")
        if (protocol, names[0], 2) not in self._shared:
            route = Route(self.folder, protocol)
            for name in names:
                self._shared[protocol, name, 2] = Worker(route, name=name)
        return [self._shared[protocol, name, 2].wait_until_ready() for name in names]

    def inner_route(self, protocol: int = 2) -> InnerRoute:
        """Return the route to the worker in this process."""
        return InnerRoute(self.folder, protocol, self._inner_queue)

    def start_inner(self) -> None:
        """Start a worker in this process, unless it runs: four threads that execute what the settings' queue holds."""
        if not self._inner_runs:
            self._inner_runs = True
            self._inner.enter_context(_logging_left_alone())
            worker = start_worker(
                app,
                pool="threads",
                concurrency=4,
                queues=[self._inner_queue],
                perform_ping_check=False,
                shutdown_timeout=PATIENCE,
            )
            self._inner.enter_context(worker)

    def stop(self) -> None:
        """Stop all workers."""
        with ExitStack() as stack:
            for worker in self._shared.values():
                worker.tell_to_stop()
                stack.callback(worker.wait_until_stopped)
            self._inner.close()


@contextmanager
def _logging_left_alone() -> Iterator[None]:
    """Keep a worker in this process from taking the log handlers of the tests away."""

    def receive(**_: Any) -> None: ...

    setup_logging.connect(receive)
    yield
    setup_logging.disconnect(receive)


def delete_queue(name: str, broker_url: str) -> None:
    """Remove a queue, and Celery's exchange for it, from the broker."""
    with Connection(broker_url, transport_options=broker_options(broker_url)) as broker:
        channel: Any = broker.default_channel
        channel.queue_delete(name)
        channel.exchange_delete(name)


def forget_broker() -> None:
    """Make Celery read anew which broker, queue, protocol and result backend the settings name."""
    vars(app)["_pool"] = None
    vars(app).pop("amqp", None)
    vars(app).pop("control", None)
    vars(app)["_backend_cache"] = None
    vars(vars(app)["_local"]).pop("backend", None)


@cache
def _backend_at(address: str, thread: int) -> Any:
    return type(app)._get_backend(app)  # type: ignore[attr-defined]  # not in the stubs


def _backend() -> Any:
    """Return the one backend of an address: a result unsubscribes from its own when it is collected, after the test."""
    return _backend_at(app.conf.result_backend, threading.get_ident())


vars(app)["_get_backend"] = _backend


def database_url() -> str:
    """Return the address of the database that this process uses at the moment."""
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    scheme = {"postgresql": "postgres", "mysql": "mysql"}[connection.vendor]
    user, password, host = (quote(str(values[key]), safe="") for key in ("USER", "PASSWORD", "HOST"))
    return f"{scheme}://{user}:{password}@{host}:{values['PORT']}/{quote(str(values['NAME']), safe='')}"
