"""Measure, print a table, and with ``--write`` put it into the documentation."""

from __future__ import annotations

import argparse
import os

import django
from django.test.utils import setup_databases, teardown_databases

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
os.environ.setdefault("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/user_tasks_benchmarks")
os.environ.setdefault("CELERY_BROKER_URL", "redis://127.0.0.1:6379/1")


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help="What to measure; everything by default.")
    parser.add_argument("--short", action="store_true", help="Measure little, to see that it runs.")
    parser.add_argument("--write", action="store_true", help="Write the documentation's table and pictures.")
    options = parser.parse_args()
    django.setup()
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        from . import report
        from .figures import SHORT, WHOLE

        report.run(options.parts, SHORT if options.short else WHOLE, write=options.write)
    finally:
        teardown_databases(databases, verbosity=0)


main()
