"""Checks of the project's tasks: ``manage.py check``, and those that it has not loaded ``manage.py check --deploy``."""

from __future__ import annotations

from inspect import Parameter
from typing import Any

from celery import current_app
from django.core.checks import CheckMessage, Warning, register  # noqa: A004 - Django's name for it

from .calls import signature_of
from .documentation import see_check
from .tasks import UserTaskMixin


@register()
def check_tasks_take_user_id(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of each task that is loaded, and that nobody could tell who triggered it."""
    return list(map(_warning, sorted(_tasks_without_user_id())))


@register(deploy=True)
def check_all_tasks_take_user_id(**_kwargs: Any) -> list[CheckMessage]:
    """Do the same for the tasks that a worker would load."""
    before = _tasks_without_user_id()
    current_app.loader.import_default_modules()
    return list(map(_warning, sorted(_tasks_without_user_id() - before)))


def _tasks_without_user_id() -> set[str]:
    tasks = {name: task for name, task in current_app.tasks.items() if isinstance(task, UserTaskMixin)}
    return {name for name, task in tasks.items() if not _may_take_user_id(task)}


def _may_take_user_id(task: UserTaskMixin) -> bool:
    try:
        parameters = signature_of(type(task)).parameters
    except (TypeError, ValueError):
        return True  # what cannot be read may be anything
    kinds = {parameter.kind for parameter in parameters.values()}
    return "user_id" in parameters or bool(kinds & {Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL})


def _warning(name: str) -> Warning:
    return Warning(
        f"The task {name} takes no user_id, so nobody could be shown its status.",
        hint="Add a parameter user_id, the primary key of the user who triggers it: def task(self, ..., *, user_id)."
        f" {see_check('W002')}",
        obj=name,
        id="user_tasks.W002",
    )
