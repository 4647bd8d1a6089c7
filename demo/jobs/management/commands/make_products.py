"""The command that made the sample."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date, timedelta
from random import Random
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from jobs.models import Product, gtin_check_digit
from jobs.product_rows import COLUMNS

FIRST_DAY = date(2024, 1, 1)
DAYS = 1000
QUALITIES = ("Compact", "Foldable", "Heavy-duty", "Rechargeable", "Rustproof", "Telescopic", "Wall-mounted")
ARTICLES = {
    Product.Category.GARDEN: ("hose reel", "hedge trimmer", "plant pot, 30 cm", "rain gauge", "wheelbarrow"),
    Product.Category.HOUSEHOLD: ("clothes airer", "flour sieve", 'frying pan, 11"', "kettle", "step stool"),
    Product.Category.LIGHTING: ("bedside lamp", "crème lampshade", "LED strip, 5 m", "lantern", "torch"),
    Product.Category.TOOLS: ("bench vice", "claw hammer", "folding rule", "socket set", "spirit level"),
}


class Command(BaseCommand):
    """Writes products: the same for the same number of rows."""

    help = "Write a CSV file of made-up products, a few of them wrong, to the standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the number of rows."""
        parser.add_argument("--rows", type=int, default=4000)

    def handle(self, *_args: Any, rows: int, **_options: Any) -> None:
        """Write the rows."""
        writer = csv.writer(self.stdout, lineterminator="\n")
        writer.writerow(COLUMNS)
        random = Random(rows)
        writer.writerows(products(rows, random))


def products(rows: int, random: Random) -> Iterator[list[str]]:
    """Yield rows for the CSV file, each mistake of `spoilt` once in a while."""
    every = max(rows // 12, 1)
    for number in range(rows):
        row = product(number, random)
        mistake, offset = divmod(number, every)
        yield spoilt(row, mistake) if offset == every // 2 else row


def product(number: int, random: Random) -> list[str]:
    """Return a product that there is nowhere: its GTIN is of the range for use within a shop, from 20."""
    category = random.choice(list(ARTICLES))
    digits = f"20{number:010}"
    return [
        digits + gtin_check_digit(digits),
        f"{random.choice(QUALITIES)} {random.choice(ARTICLES[category])}",
        category.value,
        f"{random.randint(99, 29999) / 100:.2f}",
        str(random.randint(0, 500)),
        str(FIRST_DAY + timedelta(days=random.randrange(DAYS))),
    ]


def spoilt(row: list[str], mistake: int) -> list[str]:
    """Return the row with one of twelve mistakes."""
    gtin, name, category, price, stock, available_from = row
    wrong_digit = str((int(gtin[12]) + 1) % 10)
    duplicate = "20" + "0" * 10
    return [
        [gtin[:12] + wrong_digit, name, category, price, stock, available_from],
        [gtin[:8], name, category, price, stock, available_from],
        [gtin, "", category, price, stock, available_from],
        [gtin, name, "furniture", price, stock, available_from],
        [gtin, name, category, price.replace(".", ","), stock, available_from],
        [gtin, name, category, f"-{price}", stock, available_from],
        [gtin, name, category, price, "-1", available_from],
        [gtin, name, category, price, "plenty", available_from],
        [gtin, name, category, price, stock, "2026-02-30"],
        [gtin, name, category, price, stock],
        [gtin, name, category, price, stock, available_from, "on request"],
        [duplicate + gtin_check_digit(duplicate), name, category, price, stock, available_from],
    ][mistake % 12]
