"""CSV files that are written row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import IO


class CsvWriter:
    """Writes rows below a header, and counts them."""

    def __init__(self, text: IO[str], header: Iterable[str]) -> None:
        self.writer = csv.writer(text, lineterminator="\n")
        self.writer.writerow(header)
        self.rows = 0

    def write(self, row: Iterable[object]) -> None:
        """Add a row."""
        self.writer.writerow(row)
        self.rows += 1
