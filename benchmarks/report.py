"""The table of what was measured, on the screen and in the documentation."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

from django.db import connection

from . import download, drain, purge, steps, table, track, views
from .figures import Figure, Scale

DOCS = Path(__file__).resolve().parent.parent / "docs"

PARTS: dict[str, Callable[[Scale], Iterator[Figure]]] = {
    "drain": drain.figures,
    "steps": steps.figures,
    "views": views.figures,
    "table": table.figures,
    "purge": purge.figures,
    "track": track.figures,
    "download": download.figures,
}

PICTURES = {
    "drain": ("drain of", "times as long as plain Celery"),
    "table": ("admin", "milliseconds per page, at a million rows"),
}
"""Which figures are drawn, by how they begin, and what their axis says."""


def run(parts: Collection[str], scale: Scale, *, write: bool) -> None:
    """Measure the parts, or all of them, and print each figure when it is known."""
    found = []
    for name in parts or PARTS:
        started = time.monotonic()
        for figure in PARTS[name](scale):
            found.append(figure)
            print(line(figure), flush=True)
        print(f"  {name}: {time.monotonic() - started:.0f} s", flush=True)
    if write:
        (DOCS / "performance_figures.rst").write_text(restructured(found), encoding="utf-8")
        draw(found)


def line(figure: Figure) -> str:
    """Return a figure as a line of text."""
    missed = "" if figure.is_kept else "  MISSED"
    return f"{figure.operation:76} {amount(figure.measured, figure.unit):>10}  {limit(figure)}{missed}"


def amount(value: float, unit: str) -> str:
    """Return a number with its unit, as precise as it was measured."""
    return f"{value:.2f} {unit}".strip() if value < 10 else f"{value:.0f} {unit}".strip()


def limit(figure: Figure) -> str:
    """Return the most that a figure should be, if that was set."""
    return "" if figure.budget is None else f"at most {amount(figure.budget, figure.unit)}"


def restructured(figures: Iterable[Figure]) -> str:
    """Return the figures as a table of reStructuredText, with when and where they were measured."""
    rows = [
        f"   * - {figure.operation}\n"
        f"     - {amount(figure.measured, figure.unit)} {figure.compared_with and f'of {figure.compared_with}'}\n"
        f"     - {limit(figure)}{'' if figure.is_kept else ' (missed)'}\n"
        for figure in figures
    ]
    return (
        f".. Written by ``make bench``.\n\nMeasured on {date.today():%Y-%m-%d}, {surroundings()}.\n\n"  # noqa: DTZ011 - of who runs it
        ".. list-table::\n   :header-rows: 1\n   :widths: 60 20 20\n\n"
        "   * - Operation\n     - Measured\n     - Budget\n" + "".join(rows).replace(" \n", "\n")
    )


def surroundings() -> str:
    """Return what machine this is, and with what it was measured."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        database = str(cursor.fetchone()[0]).split()[0]
    versions = ", ".join(f"{name} {version(name)}" for name in ("Django", "celery", "djangorestframework", "psycopg"))
    return (
        f"on {os.cpu_count()} cores ({platform.machine()}) with Python {platform.python_version()}, {versions}, "
        f"PostgreSQL {database} and Redis on the same machine"
    )


def draw(figures: Iterable[Figure]) -> None:
    """Draw the figures that say more side by side."""
    from matplotlib import pyplot

    for name, (beginning, axis) in PICTURES.items():
        chosen = [figure for figure in figures if figure.operation.startswith(beginning)][::-1]
        labels = [figure.operation.split(", ", 1)[-1].removeprefix(f"{beginning}: ") for figure in chosen]
        picture, axes = pyplot.subplots(figsize=(8, 0.8 + 0.4 * len(chosen)), layout="constrained")
        axes.barh(labels, [figure.measured for figure in chosen], color="#2f6f9f")
        for place, figure in enumerate(chosen):
            if figure.budget is not None:
                axes.plot([figure.budget, figure.budget], [place - 0.4, place + 0.4], color="#a03030")
        axes.set_xlabel(f"{axis} (red: the budget)")
        axes.spines[["top", "right"]].set_visible(False)
        picture.savefig(DOCS / "images" / f"performance-{name}.svg", metadata={"Date": None})
        pyplot.close(picture)
