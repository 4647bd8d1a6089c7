"""The command that starts a job and follows it."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from django.contrib.auth import get_user_model
from django.core.files import File
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from jobs.catalogue import JOBS
from user_tasks.models import UserTaskArtifact, UserTaskStatus

FINAL_STATES = (UserTaskStatus.SUCCEEDED, UserTaskStatus.FAILED, UserTaskStatus.CANCELED)
POLLING_INTERVAL = 0.2
PATIENCE = 5
INTERRUPTED = 130


class Command(BaseCommand):
    """Starts a job on the worker that ``run.py`` started, as the web page does, and draws its progress."""

    help = "Start a job and show its progress; Ctrl-C cancels it."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the name of a job, and whose it is to be."""
        parser.add_argument("--user", default="demo", help="who starts it (default: %(default)s)")
        commands = parser.add_subparsers(dest="slug", metavar="JOB", required=True)
        for job in JOBS.values():
            command = commands.add_parser(job.slug, help=str(job.description))
            if job.takes_file:
                command.add_argument("--file", type=Path, help="CSV file (default: the sample)")

    def handle(self, *_args: Any, slug: str, user: str, file: Path | None = None, **_options: Any) -> None:
        """Start the job, follow it, and tell how it ended."""
        users = get_user_model()
        try:
            user_id = users._default_manager.get_by_natural_key(user).pk
        except users.DoesNotExist as error:
            raise CommandError(f"There is no user {user!r}. Has the demo been started?") from error
        if file is None:
            status = JOBS[slug].start(user_id)
        else:
            with file.open("rb") as content:
                status = JOBS[slug].start(user_id, File(content))
        interrupted = self.follow(status)
        if status.state != UserTaskStatus.SUCCEEDED:
            raise CommandError(reason(status), returncode=INTERRUPTED if interrupted else 1)
        for artifact in artifacts(status):
            self.stdout.write(f"{artifact.name}: {artifact.file.path if artifact.file else artifact.text}")

    def follow(self, status: UserTaskStatus) -> bool:
        """Draw the progress to the end; return whether the user pressed Ctrl-C."""
        with tqdm(desc=status.name, total=status.total_steps, unit=" steps", disable=None) as bar:
            try:
                self.watch(status, bar)
            except KeyboardInterrupt:
                status.cancel()
                self.watch(status, bar)
                return True
        return False

    def watch(self, status: UserTaskStatus, bar: tqdm[Any]) -> None:
        """Read the status again and again until it is final."""
        impatient_at = monotonic() + PATIENCE
        while True:
            status.refresh_from_db()
            draw(status, bar)
            if status.state in FINAL_STATES:
                return
            if status.state == UserTaskStatus.PENDING and monotonic() > impatient_at:
                self.stderr.write("No worker has begun it yet: is the demo running?")
                impatient_at = inf
            sleep(POLLING_INTERVAL)  # the worker is another process


def draw(status: UserTaskStatus, bar: tqdm[Any]) -> None:
    """Show the steps and the state."""
    bar.total = status.total_steps
    bar.n = status.completed_steps
    bar.set_postfix_str(status.state_text)


def reason(status: UserTaskStatus) -> str:
    """Return the state, and the error if there is one."""
    error = status.artifacts.filter(name="Error").first()
    return f"{status.state_text}: {error.text}" if error else f"{status.state_text}."


def artifacts(status: UserTaskStatus) -> Iterable[UserTaskArtifact]:
    """Return the outputs of the task, or of all tasks in the container."""
    members = UserTaskStatus.objects.under([status.pk])
    return UserTaskArtifact.objects.filter(status__in=[status, *members]).order_by("pk")
