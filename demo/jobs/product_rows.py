"""Rows of an uploaded CSV file, made into products a batch at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.db import connection

from .models import Product

COLUMNS = ("gtin", "name", "category", "price", "stock", "available_from")
BATCH_SIZE = 500
T = TypeVar("T")


class UnreadableFileError(ValueError):
    """The file is not the CSV file that was asked for."""


@dataclass(frozen=True)
class Row:
    """A row of the file, with the lines of the file on which it begins and ends, from 1."""

    line: int
    last_line: int
    values: list[str]


@dataclass(frozen=True)
class Rejection:
    """A row that was not stored."""

    row: Row
    reason: str


@contextmanager
def stored_text(path: str) -> Iterator[io.TextIOWrapper]:
    """Open a stored file as text; bytes that are no UTF-8 become lone surrogates."""
    with default_storage.open(path) as file:
        yield io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def count_lines(path: str) -> int:
    """Return the lines of a stored file."""
    with stored_text(path) as text:
        return sum(1 for _ in text)


def read_rows(text: Iterable[str]) -> Iterator[Row]:
    """Yield the rows below the header, without empty lines.

    Raises `UnreadableFileError` if the header is wrong or the file is not CSV.
    """
    reader = csv.reader(text)
    try:
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise UnreadableFileError(f"The first line should be {','.join(COLUMNS)}, it is {','.join(header)!r}.")
        line = reader.line_num + 1
        for values in reader:
            if values:
                yield Row(line, reader.line_num, values)
            line = reader.line_num + 1
    except csv.Error as error:
        raise UnreadableFileError(f"Line {reader.line_num}: {error}.") from error


def batches(items: Iterable[T], size: int = BATCH_SIZE) -> Iterator[list[T]]:
    """Yield lists of at most `size` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def store(rows: list[Row], import_id: str) -> list[Rejection]:
    """Store the valid rows as products; return the others, in order.

    A product that is there already is overwritten, unless the same import brought it.
    """
    products: list[Product] = []
    rejections: list[Rejection] = []
    first_lines = _first_lines(rows, import_id)
    for row in rows:
        try:
            product = _product(row, import_id)
            _check_first(product, first_lines)
        except ValidationError as error:
            rejections.append(Rejection(row, _reason(error)))
        else:
            products.append(product)
    _upsert(products)
    return rejections


def _first_lines(rows: list[Row], import_id: str) -> dict[str, int]:
    """Return the lines that earlier batches of the import took these GTINs from."""
    gtins = {row.values[0] for row in rows if row.values[0].isdigit()}
    known = Product.objects.filter(import_id=import_id, gtin__in=gtins)
    return dict(known.values_list("gtin", "line"))


def _product(row: Row, import_id: str) -> Product:
    if len(row.values) != len(COLUMNS):
        raise ValidationError(f"{len(COLUMNS)} columns expected, {len(row.values)} found.")
    if not _is_unicode(row):
        raise ValidationError("Not in UTF-8.")
    product = Product(import_id=import_id, line=row.line, **dict(zip(COLUMNS, row.values, strict=True)))
    product.clean_fields()
    return product


def _is_unicode(row: Row) -> bool:
    try:
        "".join(row.values).encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_first(product: Product, first_lines: dict[str, int]) -> None:
    first = first_lines.setdefault(product.gtin, product.line)
    if first < product.line:
        raise ValidationError({"gtin": f"Line {first} has it already."})


def _reason(error: ValidationError) -> str:
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    return " ".join(f"{field}: {' '.join(messages)}" for field, messages in error.message_dict.items())


def _upsert(products: list[Product]) -> None:
    targets = ["gtin"] if connection.features.supports_update_conflicts_with_target else None
    Product.objects.bulk_create(
        products,
        update_conflicts=True,
        unique_fields=targets,
        update_fields=[*COLUMNS[1:], "import_id", "line"],
    )
