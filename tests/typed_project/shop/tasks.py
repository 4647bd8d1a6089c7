"""Tasks in every form that a project writes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING, Any, assert_type

from celery import Task, shared_task
from celery.result import AsyncResult

from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.tasks import UserTask, UserTaskMixin

if TYPE_CHECKING:
    AnyTask = Task[..., Any]
else:
    AnyTask = Task


class ReportTask(UserTask):
    """A base of the project's own."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        """Return the name that users read."""
        return f"Report on {arguments_dict['table']}"

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        """Return the number of lines."""
        return len(arguments_dict["lines"])

    @classmethod
    def error_message(cls, exception: BaseException) -> str:
        """Return what users read."""
        return super().error_message(exception)


class MixinFirst(UserTaskMixin, AnyTask):
    """The mixin, as projects used it before there was a base class."""

    abstract = True


class MixinLast(AnyTask, UserTaskMixin):
    """The mixin in the other order."""

    abstract = True


@shared_task(base=ReportTask, bind=True)
def report(self: ReportTask, table: str, lines: list[str], *, user_id: int) -> int:
    """Read lines."""
    status = self.status
    assert_type(status, UserTaskStatus)
    length = 0
    rows = self.track(lines, label=lambda line: line.upper())
    assert_type(rows, Generator[str, None, None])
    for line in rows:
        length += len(line)
    with self.steps(10):
        for number in self.track(range(3), total=3, label="Counting"):
            length += number
    status.increment_total_steps(1)
    status.increment_completed_steps()
    status.set_state("Storing")
    UserTaskArtifact.objects.create(status=status, name=table, text=str(length))
    return length


@shared_task(base=UserTask)
def unbound(*, user_id: int) -> None:
    """Do nothing."""


@shared_task(base=MixinLast, bind=True)
def with_mixin(self: MixinLast, user_id: int) -> str:
    """Return the state."""
    return self.status.state


class Export(UserTask[[str, int], int]):
    """A task whose arguments and result a type checker knows."""

    name = "shop.export"

    def run(self, table: str, user_id: int) -> int:
        """Count the letters."""
        return sum(1 for _letter in self.track(table))


async def letters(table: str) -> AsyncIterator[str]:
    """Yield letters."""
    for letter in table:
        yield letter


@shared_task(base=UserTask, bind=True)
def in_coroutine(self: UserTask, table: str, *, user_id: int) -> None:
    """Loop over an asynchronous iterable."""

    async def work() -> None:
        async for letter in self.atrack(letters(table)):
            assert_type(letter, str)

    asyncio.run(work())


def trigger(user_id: int) -> str:
    """Start all of them."""
    export = Export()
    assert_type(export.delay("orders", user_id), AsyncResult[int])
    assert_type(export.delay_on_commit("orders", user_id), AsyncResult[int])
    report.apply_async(args=("orders", ["a"]), kwargs={"user_id": user_id}, countdown=10)
    with_mixin.delay(user_id=user_id)
    unbound.apply_async_on_commit(kwargs={"user_id": user_id})
    task_id: str = unbound.delay_on_commit(user_id=user_id).id
    return task_id


def wrong(user_id: int) -> None:
    """Do what a type checker must complain about."""
    Export().delay(user_id, "orders")  # type: ignore[arg-type]  # must be refused
    Export().delay_on_commit()  # type: ignore[call-arg]  # must be refused
    report.status.track("abc", label=len, total="3")  # type: ignore[arg-type]  # must be refused
