"""Files that become artifacts, of any size in little memory."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from django.core.files import File

from user_tasks.models import UserTaskArtifact

if TYPE_CHECKING:
    from user_tasks.models import UserTaskStatus


class CsvOutput:
    """A CSV file, in UTF-8, that may be attached to a status once it is written.

    What was no UTF-8 in an input stands in it as escapes such as ``\\udce9``.
    """

    def __init__(self, content: IO[bytes], header: Iterable[str]) -> None:
        self.content = content
        self.text = TextIOWrapper(content, encoding="utf-8", errors="backslashreplace", newline="")
        self.writer = csv.writer(self.text, lineterminator="\n")
        self.writer.writerow(header)
        self.rows = 0

    def write(self, row: Iterable[object]) -> None:
        """Add a row."""
        self.writer.writerow(row)
        self.rows += 1

    def attach(self, status: UserTaskStatus, name: str, file_name: str) -> UserTaskArtifact:
        """Make it an artifact of the status."""
        self.text.flush()
        self.content.seek(0)
        return attach(status, name, file_name, self.content)


@contextmanager
def csv_output(header: Iterable[str]) -> Iterator[CsvOutput]:
    """Open a temporary CSV file."""
    with TemporaryFile() as content:
        yield CsvOutput(content, header)


def attach(status: UserTaskStatus, name: str, file_name: str, content: IO[bytes]) -> UserTaskArtifact:
    """Store the content as an artifact of the status."""
    artifact = UserTaskArtifact(status=status, name=name)
    artifact.file.save(file_name, File(content))
    return artifact
