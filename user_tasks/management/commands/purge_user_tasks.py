"""``manage.py purge_user_tasks``, for where no beat runs, or to see what it would do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from user_tasks import orphans, removal
from user_tasks.conf import settings
from user_tasks.management import arguments


class Command(BaseCommand):
    """Deletes the statuses that are past their age."""

    help = "Delete the statuses created longer than USER_TASKS_MAX_AGE ago, with their artifacts."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take another age, and the wish to see first."""
        parser.add_argument("--dry-run", action="store_true", help="Only tell how many would go.")
        parser.add_argument(
            "--orphans", action="store_true", help="List stored files that no artifact names; delete no statuses."
        )
        parser.add_argument(
            "--delete",
            action="store_true",
            help="With --orphans, remove these files; give --older-than 1, a day, where requests may be storing some.",
        )
        parser.add_argument(
            "--older-than",
            type=arguments.age,
            metavar="AGE",
            help='Another age than that of the settings: a number of days, or such as "90 00:00:00" or "P90D".'
            " With --orphans, the least age of the files; any by default.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print how many statuses went, and how many stay since rows of other tables hold them."""
        if options["delete"] and not options["orphans"]:
            raise CommandError("--delete is for --orphans; without that, statuses are deleted anyway.")
        if options["orphans"]:
            least = orphans.ANY_AGE if options["older_than"] is None else options["older_than"]
            self._handle_orphans(least, delete=options["delete"] and not options["dry_run"])
            return
        age = settings.USER_TASKS_MAX_AGE if options["older_than"] is None else options["older_than"]
        if options["dry_run"]:
            self.stdout.write(f"{removal.count(age)} statuses would be deleted, unless rows of other tables hold them.")
            return
        purged = removal.purge_and_count(age)
        self.stdout.write(f"{purged.statuses} statuses deleted.")
        if purged.held:
            self.stdout.write(f"{purged.held} trees kept, since rows of other tables hold them.")
        if purged.expired:
            self.stdout.write(f"{purged.expired} artifacts expired.")
        self.stdout.write(f"{purged.files} files removed, {purged.size} bytes.")

    def _handle_orphans(self, least: timedelta, *, delete: bool) -> None:
        files = size = 0
        try:
            for name, bytes_ in orphans.remove(least) if delete else orphans.find(least):
                self.stdout.write(name)
                files += 1
                size += bytes_ or 0
        except NotImplementedError as error:
            raise CommandError("The storage of the artifacts cannot list its files.") from error
        self.stdout.write(f"{files} files {'removed' if delete else 'that no artifact names'}, {size} bytes.")
