"""``manage.py user_tasks``: look at tasks, and cancel them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from user_tasks import reports
from user_tasks.management import arguments
from user_tasks.models import UserTaskStatus
from user_tasks.states import State, is_final

NOTHING_TO_DO = 3
EXIT_CODES = {State.SUCCEEDED.value: 0, State.FAILED.value: 4, State.CANCELED.value: 5}
"""How ``show --exit-code`` ends; with `NOTHING_TO_DO` what may still change."""

EPILOG = (
    f"Exit codes: 0 done; 1 an error, such as an unknown id; 2 wrong arguments; {NOTHING_TO_DO} all that was to be"
    f" canceled had ended before. With show --exit-code: 0 succeeded, {NOTHING_TO_DO} unfinished, 4 failed, 5 canceled."
)


class Command(BaseCommand):
    """Lists, shows, cancels and counts tasks."""

    help = "Look at the tasks of users, and cancel them."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take a subcommand with its options."""
        parser.epilog = EPILOG
        commands = parser.add_subparsers(dest="subcommand", required=True, metavar="list|show|cancel|stats")
        listing = commands.add_parser("list", help="List tasks, the newest first.")
        listing.add_argument("--state", help='Only in this state; "In Progress" stands for custom ones too.')
        listing.add_argument("--user", help="Only of the user with this name or primary key.")
        listing.add_argument("--task-class", help="Only with this registered name.")
        listing.add_argument("--all", action="store_true", help="Also those that are part of others.")
        listing.add_argument("--limit", type=arguments.count, default=20, help="How many; 20 by default.")
        showing = commands.add_parser("show", help="Show a task with its outputs and all that is part of it.")
        showing.add_argument("id", help="The uuid of the status, or Celery's id.")
        showing.add_argument(
            "--members", type=arguments.count, default=100, help="How many of each container; 100 by default."
        )
        showing.add_argument("--exit-code", action="store_true", help="End with a code that tells the state.")
        canceling = commands.add_parser("cancel", help="Cancel tasks that have not ended.")
        canceling.add_argument("ids", nargs="+", metavar="id", help="The uuid of a status, or Celery's id.")
        canceling.add_argument("--terminate", action="store_true", help="End the processes that execute them.")
        counting = commands.add_parser("stats", help="Count tasks by class and state, and tell how long they took.")
        counting.add_argument(
            "--since",
            type=arguments.age,
            default=timedelta(days=1),
            metavar="AGE",
            help='Only those created since; a number of days, or such as "02:00:00" or "PT2H". One day by default.',
        )
        for command in (listing, showing, canceling, counting):
            command.add_argument("--json", action="store_true", help="Write JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand; raise `CommandError` where it cannot be done."""
        getattr(self, f"_{options['subcommand']}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        statuses = UserTaskStatus.objects.select_related("user").order_by("-created", "-pk")
        if not options["all"]:
            statuses = statuses.roots()
        if options["state"] is not None:
            statuses = statuses.in_state(options["state"])
        if options["task_class"] is not None:
            statuses = statuses.filter(task_class=options["task_class"])
        if options["user"] is not None:
            user = reports.user_named(options["user"])
            if user is None:
                raise CommandError(f"There is no user {options['user']!r}.")
            statuses = statuses.filter(user=user.pk)
        rows = [reports.row(status) for status in statuses[: options["limit"]]]
        if options["json"]:
            return self._write_json(rows)
        cells = [
            (str(row["uuid"]), row["state"], _steps(row), row["user"], f"{row['created']:%Y-%m-%d %H:%M}", row["name"])
            for row in rows
        ]
        return self._write_table(("uuid", "state", "steps", "user", "created", "name"), cells)

    def _show(self, options: dict[str, Any]) -> None:
        status = _found(options["id"])
        tree = reports.tree(status, options["members"])
        if options["json"]:
            self._write_json(tree)
        else:
            self._write_tree(tree)
        if options["exit_code"]:
            sys.exit(EXIT_CODES.get(status.state, NOTHING_TO_DO))

    def _cancel(self, options: dict[str, Any]) -> None:
        statuses = [_found(identifier) for identifier in options["ids"]]
        outcomes: list[dict[str, Any]] = []
        try:
            outcomes.extend(_canceled(status, options["terminate"]) for status in statuses)
        finally:
            self._write_outcomes(outcomes, as_json=options["json"])
        if all(outcome["ended_before"] for outcome in outcomes):
            sys.exit(NOTHING_TO_DO)

    def _stats(self, options: dict[str, Any]) -> None:
        statistics = reports.statistics(options["since"])
        if options["json"]:
            return self._write_json(statistics)
        head = ("task class", "state", "count", "wait average", "run average", "run longest")
        names = ("wait_average_seconds", "run_average_seconds", "run_longest_seconds")
        cells = [
            (line["task_class"], line["state"], str(line["count"]), *(_seconds(line[name]) for name in names))
            for line in statistics["tasks"]
        ]
        self._write_table(head, cells)
        longest = statistics["longest_waiting_seconds"]
        if longest is not None:
            self.stdout.write(f"The first of those that wait for a worker does so for {_seconds(longest)}.")
        return None

    def _write_outcomes(self, outcomes: list[dict[str, Any]], *, as_json: bool) -> None:
        if as_json:
            self._write_json(outcomes)
            return
        for outcome in outcomes:
            before = " before" if outcome["ended_before"] else ""
            self.stdout.write(f"{outcome['uuid']}  {self._styled(outcome['state'])}{before}")

    def _write_json(self, data: Any) -> None:
        self.stdout.write(json.dumps(data, cls=DjangoJSONEncoder, indent=2))

    def _write_table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write rows whose second cell is a state, in columns."""
        lines = [list(map(_printable, row)) for row in rows]
        widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
        self.stdout.write(self.style.MIGRATE_HEADING("  ".join(_padded(head, widths)).rstrip()))
        for line in lines:
            first, state, *others = _padded(line, widths)
            self.stdout.write("  ".join((first, self._styled(line[1], state), *others)).rstrip())

    def _write_tree(self, node: dict[str, Any], indent: str = "") -> None:
        state = self._styled(node["state"])
        name = _printable(node["name"] or node["task_class"])
        self.stdout.write(f"{indent}{name}  {state}  {_steps(node)}  {node['uuid']}")
        for artifact in node["artifacts"]:
            content = artifact["file"] or artifact["url"] or artifact["text"]
            self.stdout.write(f"{indent}  {_printable(artifact['name'])}: {_printable(content)[:200]}")
        self._write_left_out(node["artifacts_left_out"], indent)
        for member in node.get("members", ()):
            self._write_tree(member, f"{indent}  ")
        self._write_left_out(node.get("members_left_out", 0), indent)

    def _write_left_out(self, count: int, indent: str) -> None:
        if count:
            self.stdout.write(f"{indent}  and {count} more")

    def _styled(self, state: str, text: str | None = None) -> str:
        styles = {
            State.SUCCEEDED.value: self.style.SUCCESS,
            State.FAILED.value: self.style.ERROR,
            State.CANCELED.value: self.style.WARNING,
        }
        shown = _printable(state if text is None else text)
        return str(styles[state](shown)) if state in styles else shown


def _found(identifier: str) -> UserTaskStatus:
    status = reports.find(identifier)
    if status is None:
        raise CommandError(f"There is no task with the id {identifier!r}.")
    return status


def _canceled(status: UserTaskStatus, terminate: bool) -> dict[str, Any]:
    ended = is_final(status.state)
    status.cancel(terminate=terminate)
    # It may have ended since it was looked up.
    return {"uuid": status.uuid, "state": status.state, "ended_before": ended or status.state != State.CANCELED}


def _steps(row: dict[str, Any]) -> str:
    return f"{row['completed_steps']}/{row['total_steps']}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]


def _printable(text: str) -> str:
    """Return a text on one line, without what would steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
