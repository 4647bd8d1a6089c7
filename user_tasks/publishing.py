"""Records a whole group before its first message leaves.

Celery tells nobody how many members a group has, and publishes them one by one; a fast worker could finish the first
before the last is there, and the group would be taken for done. So the step of `celery.group` that publishes its
prepared members is instrumented. Where that is turned off, members are recorded as their messages leave, and a group
that was taken for done opens again when another member joins.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextvars import ContextVar
from functools import wraps
from typing import Any

from celery import group

from . import canvas, recording
from .conf import settings
from .tasks import tracked_task

logger = logging.getLogger(__name__)

_NOTHING: frozenset[str] = frozenset()
_recorded: ContextVar[frozenset[str]] = ContextVar("user_tasks_recorded", default=_NOTHING)
_publish_members = group._apply_tasks  # type: ignore[attr-defined]  # not in the stubs


def recorded() -> frozenset[str]:
    """Return the ids of the tasks whose group is being published and has been recorded."""
    return _recorded.get()


def instrument() -> None:
    """Record groups as a whole from now on."""
    group._apply_tasks = _recording_first  # type: ignore[attr-defined]  # not in the stubs


@wraps(_publish_members)
def _recording_first(self: group, tasks: Any, *positional: Any, **options: Any) -> Iterator[Any]:
    prepared = list(tasks)
    ids = _NOTHING
    if settings.USER_TASKS_RECORD_GROUPS and prepared:
        ids = _record(prepared, options)
    token = _recorded.set(_recorded.get() | ids)
    try:
        yield from _publish_members(self, iter(prepared), *positional, **options)
    finally:
        _recorded.reset(token)


def _record(prepared: list[Any], options: dict[str, Any]) -> frozenset[str]:
    """Record the members; an error is logged, and met again when the member's own message is published."""
    signatures = [signature for signature, _result, _group_id in prepared]
    group_id = prepared[0][2]
    chord = options.get("chord") or signatures[0].options.get("chord")
    try:
        plan = canvas.Planner(tracked_task).group(group_id, signatures, options.get("args") or (), chord)
        recording.enqueued(plan.nodes)
    except Exception:
        if settings.USER_TASKS_STRICT_PUBLISH:
            raise
        logger.exception("Group %s could not be recorded as a whole.", group_id)
        return _NOTHING
    return frozenset(node.task_id for node in plan.nodes)
