"""``manage.py purge_user_tasks``, for where no beat runs, or to see what it would do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_duration

from user_tasks import removal
from user_tasks.conf import settings


class Command(BaseCommand):
    """Deletes the statuses that are past their age."""

    help = "Delete the statuses created longer than USER_TASKS_MAX_AGE ago, with their artifacts."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take another age, and the wish to see first."""
        parser.add_argument("--dry-run", action="store_true", help="Only tell how many would go.")
        parser.add_argument(
            "--older-than",
            metavar="AGE",
            help='Another age than that of the settings: a number of days, or such as "90 00:00:00" or "P90D".',
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print how many statuses went, and how many stay since rows of other tables hold them."""
        age = _age(options["older_than"])
        if options["dry_run"]:
            self.stdout.write(f"{removal.count(age)} statuses would be deleted, unless rows of other tables hold them.")
            return
        deleted, held = removal.purge_and_count(age)
        self.stdout.write(f"{deleted} statuses deleted.")
        if held:
            self.stdout.write(f"{held} trees kept, since rows of other tables hold them.")


def _age(text: str | None) -> timedelta:
    if text is None:
        age: timedelta = settings.USER_TASKS_MAX_AGE
        return age
    try:
        found = timedelta(days=float(text))
    except (ValueError, OverflowError):
        parsed = _duration(text)
        if parsed is None:
            raise CommandError(f"{text!r} is no age. Give a number of days, or a duration such as P90D.") from None
        found = parsed
    if found < timedelta(0):
        raise CommandError(f"{text!r} is no age, since it is negative.")
    return found


def _duration(text: str) -> timedelta | None:
    try:
        return parse_duration(text) if any(map(str.isdigit, text)) else None
    except (ValueError, OverflowError):
        return None
