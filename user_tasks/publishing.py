"""What leaves: a message, or a whole group before its first message.

Celery tells nobody how many members a group has, and publishes them one by one; a fast worker could finish the first
before the last is there, and the group would be taken for done. So the step of `celery.group` that publishes its
prepared members is instrumented. Where that is turned off, members are recorded as their messages leave, and a group
that was taken for done opens again when another member joins.

Where the project wants errors in the caller, groups and chords are checked as a whole too: when the message of a faulty
member is made, others have left.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

import celery
from celery import Celery, Task, chord, current_app, group, uuid

from . import executions, recording
from .canvas import Branch, Given, Planner
from .conf import settings
from .containers import CHAIN, CHORD, GROUP
from .tasks import has_row, tracked_task
from .utils import Message, call_message

logger = logging.getLogger(__name__)

Function = Callable[..., Any]

MEMBERS_STEP = "_apply_tasks"
"""What a group publishes its prepared members by: private, so a later Celery may not have it."""

_NOTHING: frozenset[str] = frozenset()
recorded: ContextVar[frozenset[str]] = ContextVar("user_tasks_recorded", default=_NOTHING)
_publish_chord = chord.run


@cache
def instrument() -> None:
    """Record groups as a whole from now on, and what could not be sent; check groups and chords where that is asked.

    Once in a process: Django makes its applications anew in tests that change ``INSTALLED_APPS``.
    """
    Celery.send_task = _telling(Celery.send_task)  # type: ignore[method-assign]  # that is instrumenting
    instrument_groups(_recording_first)
    if not hasattr(group, MEMBERS_STEP):
        logger.warning(
            "Celery %s has no group.%s: each member of a group is recorded when its own message leaves.",
            celery.__version__,
            MEMBERS_STEP,
        )
    chord.run = _checking_first  # type: ignore[method-assign]  # that is instrumenting
    Task.replace = _joining_last(Task.replace)  # type: ignore[method-assign]  # that is instrumenting


def instrument_groups(instrumented: Callable[[Function], Function]) -> None:
    """Let groups publish their members by an instrumented step, where this Celery has a step of its own for that."""
    publish = getattr(group, MEMBERS_STEP, None)
    if publish is not None:
        setattr(group, MEMBERS_STEP, instrumented(publish))


def _joining_last(replace: Function) -> Function:
    """Let a task be replaced by a chain that ends in a group, as Celery 5.7 does: before, nothing had its id then."""

    @wraps(replace)
    def replace_joined(self: Any, sig: Any) -> Any:
        links = sig.tasks if sig.task == CHAIN else ()
        if links and isinstance(links[-1], group) and has_row(self, self.request):
            sig.tasks = [*links[:-1], links[-1] | self.app.tasks["celery.accumulate"].s(index=0)]
        return replace(self, sig)

    return replace_joined


def record(message: Message) -> None:
    """Record a message that is about to leave, unless that has been done with its group."""
    if message.task_id in recorded.get():
        return
    request = _current_request()
    planner = _planner(request)
    branch = planner.message(message)
    own = next((node for node in branch.nodes if node.task_id == message.task_id), None)
    if own and message.retries and request is not None and request.id == own.task_id:
        # Before the message leaves: another worker may begin the next attempt at once.
        executions.end_loops(request)
        request.user_task_retried = recording.retrying(own.task_id, own.due)
        return
    may_be_known = message.retries or (request is not None and request.id != message.task_id)
    if own and own.due and may_be_known and recording.published([own.task_id], own.due):
        return
    if branch.nodes and not message.retries:
        parent_id = message.parent_id or (request.id if request else None)
        _record(planner, branch, parent_id, request, [(message.task, message.args, message.kwargs)])


def unsent(message: Message) -> None:
    """Record that a message could not be sent: its own task fails, and so does what it would have led to.

    A running task that could not publish its own retry or replacement reports that itself.
    """
    request = _current_request()
    if request is not None and request.id == message.task_id:
        return
    try:
        nodes = _planner(request).message(message).nodes
        leaving = [node.task_id for node in nodes if node.due]
        recording.unsent(leaving)
        if not leaving:
            recording.broken([node.task_id for node in nodes], str(recording.UNSENT))
    except Exception:
        logger.exception("That task %s could not be sent could not be recorded.", message.task_id)


@contextmanager
def recorded_already(task_ids: frozenset[str]) -> Iterator[None]:
    """Record no more what has these ids, when its message leaves."""
    token = recorded.set(recorded.get() | task_ids)
    try:
        yield
    finally:
        recorded.reset(token)


def _planner(request: Any) -> Planner:
    """Return a planner for what the running task publishes, which may be about to hand its place to it."""
    running = request is not None and has_row(current_app.tasks.get(request.task), request)
    return Planner(tracked_task, replaced=request.id if running else None)


def _record(
    planner: Planner, branch: Branch, parent_id: str | None, request: Any, calls: Sequence[tuple[Any, Any, Any]]
) -> None:
    if any(node.task_id == planner.replaced for node in branch.nodes):
        executions.end_loops(request)
        recording.replaced(request.id, branch.nodes)
        request.user_task_replaced = True
    elif parent_id is not None and _is_callback(parent_id, request, calls):
        recording.joined(parent_id, branch.nodes)
    else:
        recording.enqueued(planner.workflow(branch).nodes)


def _current_request() -> Any:
    """Return the request of the task that this worker executes, or None in any other process."""
    task = current_app.current_worker_task
    return task.request if task else None


def _is_callback(parent_id: str, request: Any, calls: Sequence[tuple[Any, Any, Any]]) -> bool:
    """Tell a callback of a task that has ended from what a task starts while it runs: Celery says the same of both.

    Callbacks are those that the running task's own message names, and whatever is published on another task's behalf.
    """
    if request is None or request.id != parent_id:
        return True
    callbacks = [*(request.callbacks or ()), *(request.errbacks or ())]
    return any(_calls_for(callback, *call) for callback in callbacks for call in calls)


def _calls_for(callback: Any, task: str, args: Sequence[Any], kwargs: Any) -> bool:
    if callback["task"] == CHAIN:
        return _calls_for(callback["kwargs"]["tasks"][0], task, args, kwargs)
    if callback["task"] in (GROUP, CHORD):
        inner = callback["kwargs"].get("tasks") or callback["kwargs"]["header"]
        return any(_calls_for(member, task, args, kwargs) for member in members(inner))
    own = list(callback["args"])
    return (
        callback["task"] == task
        and list(args)[len(args) - len(own) :] == own
        and dict(kwargs or {}) == dict(callback["kwargs"])
    )


def members(group_or_list: Any) -> Any:
    """Return the signatures in the header of a chord, which may be a group or a list."""
    return group_or_list["kwargs"]["tasks"] if isinstance(group_or_list, Mapping) else group_or_list


def _recording_first(publish: Function) -> Function:
    @wraps(publish)
    def publish_members(self: group, tasks: Any, *positional: Any, **options: Any) -> Iterator[Any]:
        prepared = list(tasks)
        _check([signature for signature, *_ in prepared], options, options.get("chord"))
        ids = _NOTHING
        if settings.USER_TASKS_RECORD_GROUPS and prepared:
            ids = _record_group(prepared, options)
        sent = 0
        with recorded_already(ids):
            try:
                for result in publish(self, iter(prepared), *positional, **options):
                    sent += 1
                    yield result
            except Exception:
                _give_up([signature for signature, *_ in prepared[sent:]], options)
                raise

    return publish_members


def _give_up(signatures: list[Any], options: Mapping[str, Any]) -> None:
    """Record that the rest of a group could not be sent."""
    try:
        given = Given(options.get("args") or (), options.get("kwargs") or {})
        nodes = _planner(_current_request()).group("unsent", signatures, given, None).nodes
        recording.unsent(node.task_id for node in nodes if node.due)
    except Exception:
        logger.exception("That %d members of a group could not be sent could not be recorded.", len(signatures))


def _telling(send: Function) -> Function:
    parameters = inspect.signature(send)
    place = list(parameters.parameters).index("task_id") - 2

    @wraps(send)
    def send_task(self: Any, name: str, *args: Any, **options: Any) -> Any:
        if len(args) <= place and not options.get("task_id"):
            options["task_id"] = uuid()
        try:
            return send(self, name, *args, **options)
        except Exception:
            call = parameters.bind(self, name, *args, **options).arguments
            call |= call.pop("options", {})
            unsent(call_message(name, call.get("args"), call.get("kwargs"), call))
            raise

    return send_task


def _record_group(prepared: list[Any], options: dict[str, Any]) -> frozenset[str]:
    """Record the members; an error is logged, and met again when the member's own message is published."""
    signatures = [signature for signature, _result, _group_id in prepared]
    group_id = prepared[0][2]
    chord = options.get("chord") or signatures[0].options.get("chord")
    request = _current_request()
    planner = _planner(request)
    try:
        given = Given(options.get("args") or (), options.get("kwargs") or {})
        branch = planner.group(group_id, signatures, given, chord)
        if branch.nodes:
            parent_id = options.get("parent_id") or (request.id if request else None)
            calls = [(signature.task, signature.args, signature.kwargs) for signature in signatures]
            _record(planner, branch, parent_id, request, calls)
    except Exception:
        if settings.USER_TASKS_STRICT_PUBLISH:
            raise
        logger.exception("Group %s could not be recorded as a whole.", group_id)
        return _NOTHING
    return frozenset(node.task_id for node in branch.nodes)


@wraps(_publish_chord)
def _checking_first(self: Any, header: Any, body: Any, partial_args: Any, *positional: Any, **options: Any) -> Any:
    _check(header.tasks, {"args": partial_args, "kwargs": options.get("kwargs")}, body)
    return _publish_chord(self, header, body, partial_args, *positional, **options)


def _check(signatures: Sequence[Any], call: Mapping[str, Any], chord: Any) -> None:
    """Raise `TypeError`, if the project asks for that, where a member does not say who triggers it."""
    if settings.USER_TASKS_STRICT_PUBLISH:
        given = Given(call.get("args") or (), call.get("kwargs") or {})
        branch = Planner(tracked_task, check=True).group("check", signatures, given, chord)
        recording.check_users({node.user_id for node in branch.nodes})
