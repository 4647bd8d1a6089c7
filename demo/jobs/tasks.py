"""The jobs themselves."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import PurePath
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile

from celery import shared_task
from django.core.files.storage import default_storage

from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.tasks import UserTask

from . import mersenne, product_rows, unicode_table
from .outputs import CsvWriter
from .progress import Progress

BUSY_TIMES = 2
RETRY_DELAY = 1


class ImportTask(UserTask):
    """Counts in lines of the uploaded file."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        """Name the uploaded file."""
        return f"Import of {arguments_dict.get('file_name', 'a file')}"

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        """Return the lines of the file."""
        return product_rows.count_lines(arguments_dict["path"])


@shared_task(base=ImportTask, bind=True)
def import_products(self: UserTask, path: str, file_name: str, user_id: Any) -> None:
    """Store the products of the CSV file at `path` in the default storage; rows that are none become an artifact."""
    status = self.status
    with _upload(path) as text:
        stored, rejected = _import(text, status, f"rejected-{PurePath(file_name).stem}.csv")
    status.add_artifact("Summary", text=f"{stored:,} rows stored, {rejected:,} rejected.")


def _import(text: IO[str], status: UserTaskStatus, rejected_name: str) -> tuple[int, int]:
    """Store rows; return how many were stored, and how many are in the artifact of those that were not."""
    progress = Progress(status)
    stored = lines = 0
    with ExitStack() as stack:
        rejected: CsvWriter | None = None
        for rows in product_rows.batches(product_rows.read_rows(text)):
            rejections = product_rows.store(rows, status.task_id)
            if rejections and rejected is None:
                # What was no UTF-8 in the upload stands here as escapes such as ``\\udce9``.
                writing = status.open_artifact(rejected_name, name="Rejected rows", errors="backslashreplace")
                rejected = CsvWriter(stack.enter_context(writing), ("line", "reason", *product_rows.COLUMNS))
            for rejection in rejections:
                if rejected is not None:
                    rejected.write((rejection.row.line, rejection.reason, *rejection.row.values))
            stored += len(rows) - len(rejections)
            progress.advance(rows[-1].last_line - lines)
            lines = rows[-1].last_line
        progress.finish()
    return stored, rejected.rows if rejected else 0


@contextmanager
def _upload(path: str) -> Iterator[IO[str]]:
    """Open an uploaded file, and delete it in the end; a worker that is made to stop leaves it to the next one."""
    try:
        with product_rows.stored_text(path) as text:
            yield text
    except Exception:
        default_storage.delete(path)
        raise
    default_storage.delete(path)


class UnicodeTask(UserTask):
    """Counts in characters: those of one plane, or all."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        """Name the plane, if it is about one."""
        plane = arguments_dict.get("plane")
        return "Unicode characters" if plane is None else f"Unicode plane {plane}"

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        """Return how many characters there are to write."""
        plane = arguments_dict.get("plane")
        return sum(map(unicode_table.count, unicode_table.planes() if plane is None else [plane]))


@shared_task(base=UnicodeTask, bind=True)
def export_unicode(self: UserTask, user_id: Any) -> None:
    """Write all named characters to a CSV file; the state is the block being written."""
    _export(self.status, unicode_table.planes(), "Unicode characters", "unicode.csv")


@shared_task(base=UnicodeTask, bind=True, ignore_result=False)
def export_plane(self: UserTask, plane: int, user_id: Any, user_task_name: str = "") -> str:
    """Write the named characters of a plane to a CSV file; return the artifact's uuid."""
    artifact = _export_plane(self.status, plane)
    return str(artifact.uuid)


@shared_task(base=UnicodeTask, bind=True)
def append_plane(self: UserTask, parts: list[str], plane: int, user_id: Any, user_task_name: str = "") -> list[str]:
    """Do as `export_plane`, as a link of a chain: return the uuids of the earlier parts too."""
    artifact = _export_plane(self.status, plane)
    return [*parts, str(artifact.uuid)]


def _export_plane(status: UserTaskStatus, plane: int) -> UserTaskArtifact:
    return _export(status, [plane], f"Plane {plane}", f"unicode-plane-{plane}.csv")


def _export(status: UserTaskStatus, planes: Iterable[int], name: str, file_name: str) -> UserTaskArtifact:
    progress = Progress(status)
    writing = status.open_artifact(file_name, name=name)
    with writing as text:
        output = CsvWriter(text, unicode_table.HEADER)
        for block, characters in unicode_table.by_block(unicode_table.named_characters(planes)):
            for character in characters:
                output.write(unicode_table.properties(character))
                progress.advance(1, block)
        progress.finish()
    return writing.artifact


class ZipTask(UserTask):
    """Counts in files; how many there are, it learns when it runs."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        """Say what it does."""
        return "ZIP file of the parts"


@shared_task(base=ZipTask, bind=True)
def zip_parts(self: UserTask, parts: list[str], user_id: Any, user_task_name: str = "") -> None:
    """Put the files of the artifacts with these uuids into a ZIP file."""
    status = self.status
    status.increment_total_steps(len(parts) - 1)
    writing = status.open_artifact("unicode.zip", "wb", name="All planes")
    with writing as content, ZipFile(content, "w", ZIP_DEFLATED) as archive:
        for part in UserTaskArtifact.objects.filter(uuid__in=parts).order_by("name"):
            with part.file.open() as source, archive.open(f"{part.name}.csv", "w") as target:
                shutil.copyfileobj(source, target)
            status.increment_completed_steps()


class MersenneTask(UserTask):
    """Counts in exponents."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        """Say what it looks for."""
        return "Search for Mersenne primes"

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        """Return how many exponents there are to test."""
        return len(mersenne.exponents())


@shared_task(base=MersenneTask, bind=True)
def find_mersenne_primes(self: UserTask, user_id: Any) -> None:
    """Search for Mersenne primes, for about a minute."""
    status = self.status
    progress = Progress(status)
    found = []
    for exponent in mersenne.exponents():
        if mersenne.is_mersenne_prime(exponent):
            found.append(f"2^{exponent} - 1")
        progress.advance(1, f"Tested 2^{exponent} - 1")
    progress.finish()
    status.add_artifact("Mersenne primes", text="\n".join(found))


class StockTask(UserTask):
    """Asks a warehouse that is closed, or busy for a while."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        """Say what it asks for."""
        return "Look-up of the stock"


@shared_task(base=StockTask, bind=True, throws=(ConnectionError,))
def ask_closed_warehouse(self: UserTask, user_id: Any) -> None:
    """Fail."""
    raise ConnectionError("The warehouse is closed.")


@shared_task(base=StockTask, bind=True, autoretry_for=(ConnectionError,), default_retry_delay=RETRY_DELAY)
def ask_busy_warehouse(self: UserTask, user_id: Any) -> None:
    """Fail as often as the warehouse is said to be busy, and succeed at last."""
    if self.request.retries < BUSY_TIMES:
        raise ConnectionError("The warehouse is busy.")
    self.status.add_artifact("Answer", text="All shelves are full.")
