"""What has happened to a task, in words that its user understands, where Celery itself ended it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery.exceptions import Ignore, NotRegistered, Reject
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .texts import exception_text


def explain(exception: BaseException) -> str:
    """Return the text for an exception: our own words for those of Celery, else ``str(exception)`` or its class."""
    for kinds, explanation in _EXPLANATIONS:
        if isinstance(exception, kinds):
            return explanation(exception)
    return exception_text(exception)


def _time_limit(exception: BaseException) -> str:
    seconds: Any = exception.args[0] if exception.args else None
    if not isinstance(seconds, int | float):
        return _("The task took longer than it is allowed to, and was stopped.")
    return ngettext(
        "The task took longer than the %(seconds)d second that it is allowed to, and was stopped.",
        "The task took longer than the %(seconds)d seconds that it is allowed to, and was stopped.",
        int(seconds),
    ) % {"seconds": seconds}


def _worker_lost(_exception: BaseException) -> str:
    return _("The process that ran the task has died. The task was not finished.")


def _not_registered(_exception: BaseException) -> str:
    return _("The worker does not know this kind of task. It was not started.")


def _no_result(_exception: BaseException) -> str:
    return _("The task ended without a result.")


_EXPLANATIONS: list[tuple[tuple[type[BaseException], ...], Callable[[BaseException], str]]] = [
    ((SoftTimeLimitExceeded, TimeLimitExceeded), _time_limit),
    ((WorkerLostError,), _worker_lost),
    ((NotRegistered,), _not_registered),
    ((Ignore, Reject), _no_result),
]
