"""What users may start, on the page and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import chain, chord
from celery.result import AsyncResult
from django.core.files import File
from django.core.files.storage import default_storage
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from user_tasks.models import UserTaskStatus

from . import tasks, unicode_table

SAMPLE = Path(__file__).parent / "static" / "jobs" / "products.csv"


@dataclass(frozen=True)
class Job:
    """Something to start: one task, or a canvas of several."""

    slug: str
    title: str | Promise
    description: str | Promise
    publish: Callable[..., AsyncResult[Any]]
    takes_file: bool = False

    def start(self, user_id: Any, file: File[bytes] | None = None) -> UserTaskStatus:
        """Publish it, with a file if it takes one, or the sample; return the status that stands for the whole."""
        if not self.takes_file:
            return _whole(self.publish(user_id))
        if file is not None:
            return _whole(self.publish(user_id, file))
        with SAMPLE.open("rb") as sample:
            return _whole(self.publish(user_id, File(sample)))


def _whole(result: AsyncResult[Any]) -> UserTaskStatus:
    """Return the status of the outermost container of a task, or of the task itself."""
    status = UserTaskStatus.objects.get(task_id=result.id)
    while status.parent is not None:
        status = status.parent
    return status


def _import(user_id: Any, file: File[bytes]) -> AsyncResult[Any]:
    """Hand the file to the worker through the storage."""
    path = default_storage.save(f"uploads/{uuid4()}.csv", file)
    return tasks.import_products.delay(path, Path(str(file.name)).name, user_id)


def _export_chord(user_id: Any) -> AsyncResult[Any]:
    shared = {"user_id": user_id, "user_task_name": "Unicode characters, all planes at once"}
    headers = [tasks.export_plane.s(plane=plane, **shared) for plane in unicode_table.planes()]
    return chord(headers, tasks.zip_parts.s(**shared))()


def _export_chain(user_id: Any) -> AsyncResult[Any]:
    shared = {"user_id": user_id, "user_task_name": "Unicode characters, plane by plane"}
    first, *others = unicode_table.planes()
    links = [tasks.append_plane.s(plane=plane, **shared) for plane in others]
    result: AsyncResult[Any] = chain(
        tasks.append_plane.s([], plane=first, **shared), *links, tasks.zip_parts.s(**shared)
    )()
    return result


JOBS = {
    job.slug: job
    for job in (
        Job(
            "import-products",
            _("Import products"),
            _("Stores the rows of a CSV file; those that are wrong come back as a CSV file."),
            _import,
            takes_file=True,
        ),
        Job(
            "export-unicode",
            _("Export Unicode"),
            _("Writes all named characters to a CSV file; the state is the block being written."),
            tasks.export_unicode.delay,
        ),
        Job(
            "export-unicode-chord",
            _("Export Unicode as a chord"),
            _("Writes the planes side by side, and puts them into a ZIP file."),
            _export_chord,
        ),
        Job(
            "export-unicode-chain",
            _("Export Unicode as a chain"),
            _("Writes the planes one after the other, and puts them into a ZIP file."),
            _export_chain,
        ),
        Job("fail", _("Fail"), _("Asks a warehouse that is closed."), tasks.ask_closed_warehouse.delay),
        Job("retry", _("Retry"), _("Asks a warehouse that is busy twice."), tasks.ask_busy_warehouse.delay),
        Job(
            "find-primes",
            _("Find Mersenne primes"),
            _("Takes about a minute: time to cancel it."),
            tasks.find_mersenne_primes.delay,
        ),
    )
}
