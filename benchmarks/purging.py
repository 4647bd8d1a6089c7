"""One purge in a process of its own, of whose memory nothing else has used any: ``python -m benchmarks.purging``.

It prints, as JSON, what `Purge` has. With a number it takes no statuses, only the files of artifacts older than so many
seconds.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from unittest import mock

import django

ROOT = Path(__file__).resolve().parent.parent

AGE = timedelta(days=30)
"""How old the rows are at most that stay."""

NOTHING = timedelta(days=36_500)
"""An age that no row has."""

RESET_PEAK = "5"
"""What Linux is told to forget the most memory that a process has held."""


@dataclass(frozen=True)
class Purge:
    """What a purge took: seconds in all and in its longest transaction, and the megabytes that its process grew by."""

    seconds: float
    longest: float
    growth: float


def in_own_process(database_url: str, file_age: timedelta | None = None) -> Purge:
    """Purge a database of statuses, or only of files past an age; they are where those of this process are."""
    from django.conf import settings

    environment = {**os.environ, "DATABASE_URL": database_url, "MEDIA_ROOT": settings.MEDIA_ROOT}
    arguments = [] if file_age is None else [str(file_age.total_seconds())]
    command = [sys.executable, "-W", "ignore", "-m", __name__, *arguments]
    return Purge(**json.loads(subprocess.check_output(command, cwd=ROOT, env=environment)))


def main(file_age: timedelta | None) -> None:
    """Purge once in vain, so that all is loaded, and once in earnest."""
    django.setup()
    from django.test import override_settings

    from user_tasks import lifetimes, removal

    def work(age: timedelta) -> object:
        with override_settings(USER_TASKS_ARTIFACT_MAX_AGE=age):
            return removal.purge(age) if file_age is None else lifetimes.expire()

    work(NOTHING)
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before = peak()
    with transactions() as times:
        taken = seconds(lambda: work(AGE if file_age is None else file_age))
    json.dump(asdict(Purge(taken, max(times), peak() - before)), sys.stdout)


def seconds(action: Callable[[], object]) -> float:
    """Return how long it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


@contextmanager
def transactions() -> Iterator[list[float]]:
    """Collect how long each batch takes, from its first statement to its commit; files are removed after that."""
    from user_tasks import removal, stored_files

    times, removing = [0.0], list[float]()
    delete, remove = removal._delete_at_once, stored_files.remove_unnamed

    def timed_remove(sizes: Mapping[str, int | None], using: str) -> None:
        removing.append(seconds(lambda: remove(sizes, using)))

    def timed_delete(parts: list[list[int]]) -> int:
        deleted: list[int] = []
        removing.clear()
        taken = seconds(lambda: deleted.append(delete(parts)))
        times.append(taken - sum(removing))
        return deleted[0]

    with (
        mock.patch.object(removal, "_delete_at_once", timed_delete),
        mock.patch.object(stored_files, "remove_unnamed", timed_remove),
    ):
        yield times


def peak() -> float:
    """Return the most memory that this process has held since that was forgotten, in megabytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main(timedelta(seconds=float(sys.argv[1])) if sys.argv[1:] else None)
