from __future__ import annotations

from enum import Enum
from functools import wraps
from io import BytesIO
from time import sleep

from celery import Task, shared_task
from django.core.files import File

from user_tasks.models import UserTaskArtifact
from user_tasks.tasks import UserTaskMixin


class Stage(Enum):
    """The states of an export that are the project's own."""

    READING = "Reading"
    COMPRESSING = "Compressing"


class ExportTask(Task, UserTaskMixin):
    """Exports a table."""

    @classmethod
    def generate_name(cls, arguments_dict):
        return f"Export of {arguments_dict['table']}"

    @staticmethod
    def calculate_total_steps(arguments_dict):
        return arguments_dict["rows"]


def without_empty_tables(function):
    @wraps(function)
    def guarded(self, table, user_id, rows=3):
        if not rows:
            self.status.fail({"empty": table})
            return
        function(self, table, user_id, rows)

    return guarded


@shared_task(base=ExportTask, bind=True)
@without_empty_tables
def export(self, table, user_id, rows=3):
    status = self.status
    status.set_state(Stage.READING)
    for _number in range(rows):
        sleep(0.05)  # what a row takes
        status.increment_completed_steps()
    artifact = UserTaskArtifact(status=status, name="Output")
    artifact.file.save(name=f"{table}.csv", content=File(BytesIO(b"number\n")))
    status.set_state(Stage.COMPRESSING)
    artifact.file.save(name=f"{table}.csv", content=File(BytesIO(b"number\n1\n2\n3\n")))
    artifact.url = f"https://shop.example.com/{type(artifact.file.storage).__name__}/"
    artifact.save()
