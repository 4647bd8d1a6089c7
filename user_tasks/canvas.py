"""From a message to the tree of statuses that it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from .calls import Lookup, TrackedTask, arguments_of, describe, user_id_of
from .conf import settings
from .containers import CHAIN, CHORD, GROUP
from .recording import Description, Node
from .utils import Message, callbacks_of, last_task, links_after

CALLBACKS = "callbacks"

UNKNOWN_RESULT = None
"""Stands for the result of the previous link, which is the first argument of a mutable signature."""


@dataclass(frozen=True)
class Given:
    """Arguments that the members of a group get besides their own, the positional ones before those."""

    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Branch:
    """Nodes below one that is not named yet: the first of them, or several, have no parent."""

    nodes: tuple[Node, ...] = ()
    name: str = ""
    has_callbacks: bool = False
    """Whether tasks of ours will be published when some of these have ended."""

    def __add__(self, other: Branch) -> Branch:
        return Branch(self.nodes + other.nodes, self.name or other.name, self.has_callbacks or other.has_callbacks)


@dataclass(frozen=True)
class Planner:
    """Plans trees.

    `user_id` is used where a later member does not name its own. The task of the id `replaced` has a row, whatever
    its kind: it takes the place of the one that publishes these. For a `check` calls need no ids yet.
    """

    lookup: Lookup
    user_id: Any = None
    replaced: str | None = None
    check: bool = False
    now: datetime = field(default_factory=timezone.now)

    def message(self, message: Message) -> Branch:
        """Plan a message: itself, the rest of its chain, and all containers around it."""
        when = self._due(message.eta)
        first = self._leaf(message.task, message.task_id, [message.args], message.kwargs or {}, when)
        first = self._with_callbacks(first, message.callbacks)
        later = replace(self, user_id=first.nodes[0].user_id) if first.nodes else self
        return later._followed(first, message)

    def _followed(self, sequence: Branch, message: Message) -> Branch:
        for link in message.links:
            sequence += self._signature(link)
        if message.links:
            sequence = self._container(CHAIN, _derived(CHAIN, message.task_id), sequence)
            options = last_task(message.links[-1])["options"]
            return self._enclosed(sequence, options.get("group_id"), options.get("chord"))
        return self._enclosed(sequence, message.group, message.chord)

    def group(self, group_id: str, signatures: Sequence[Any], given: Given, chord: Any) -> Branch:
        """Plan a whole group about to be published, whose members get the `given` arguments too."""
        return self._enclosed(self._members(signatures, given), group_id, chord)

    def workflow(self, branch: Branch) -> Branch:
        """Put what a caller starts into a group, where callbacks will join it."""
        if not branch.has_callbacks or not branch.nodes or branch.nodes[0].task_class == GROUP:
            return branch
        return self._container(GROUP, _derived(CALLBACKS, branch.nodes[0].task_id), branch)

    def _with_callbacks(self, branch: Branch, callbacks: Sequence[Any]) -> Branch:
        return replace(branch, has_callbacks=branch.has_callbacks or any(map(self._is_tracked, callbacks)))

    def _is_tracked(self, signature: Any) -> bool:
        inner = [*signature["kwargs"].get("tasks", ())] if signature["task"] in (CHAIN, GROUP) else []
        return self.lookup(signature["task"]) is not None or any(map(self._is_tracked, inner))

    def _signature(self, signature: Any, given: Given | None = None) -> Branch:
        """Plan a signature whose ids are frozen.

        The `given` arguments are those of one whose message leaves now; None where a result still has to come.
        """
        kind, options, kwargs = signature["task"], signature["options"], signature["kwargs"]
        if kind == CHAIN:
            return self._chain(kwargs["tasks"], given)
        if kind == GROUP:
            return self._container(GROUP, options.get("task_id"), self._members(kwargs["tasks"], given))
        if kind == CHORD:
            return self._chord(signature, given)
        when = None if given is None else self._due(options.get("eta"), options.get("countdown"))
        leaf = self._leaf(
            kind, options.get("task_id"), _possible_args(signature, given), _kwargs(signature, given), when
        )
        return self._with_callbacks(leaf, callbacks_of(options, "link", "link_error"))

    def _chain(self, links: Sequence[Any], given: Given | None) -> Branch:
        if not links:
            return Branch()
        sequence = self._signature(links[0], given)
        if len(links) == 1:
            return sequence
        for link in links[1:]:
            sequence += self._signature(link)
        return self._container(CHAIN, _derived(CHAIN, _id_of(links[0])), sequence)

    def _chord(self, signature: Any, given: Given | None) -> Branch:
        header, body = signature["kwargs"]["header"], signature["kwargs"]["body"]
        grouped = isinstance(header, Mapping)
        group_id = header["options"].get("task_id") if grouped else signature["options"].get("task_id")
        members = self._members(header["kwargs"]["tasks"] if grouped else header, given)
        return self._chord_of(group_id, members, body)

    def _chord_of(self, group_id: str | None, headers: Branch, body: Any) -> Branch:
        parts = self._container(GROUP, group_id, headers) + self._signature(body)
        return self._container(CHORD, _derived(CHORD, group_id), parts)

    def _members(self, signatures: Sequence[Any], given: Given | None) -> Branch:
        members = Branch()
        for signature in signatures:
            members += self._signature(signature, given)
        return members

    def _enclosed(self, branch: Branch, group_id: str | None, chord: Any) -> Branch:
        """Put a branch into the group and chord that its last task names, and those into what encloses them.

        What holds the replaced task stays where that is.
        """
        if not group_id or any(node.task_id == self.replaced for node in branch.nodes):
            return branch
        if not chord:
            return self._container(GROUP, group_id, branch)
        body, *following = self._links_after(chord)
        sequence = self._chord_of(group_id, branch, body)
        rest = self._members(following, None)
        if rest.nodes:
            sequence = self._container(CHAIN, _derived(CHAIN, group_id), sequence + rest)
        options = last_task((following or [body])[-1])["options"]
        outer = options.get("group_id")
        return self._enclosed(sequence, None if outer == group_id else outer, options.get("chord"))

    def _links_after(self, body: Any) -> Sequence[Any]:
        """Tell the body of a chord from what follows it: of a task replaced in a chain, the rest of the chain does."""
        if body["task"] == CHAIN and _id_of(body["kwargs"]["tasks"][0]) == self.replaced is not None:
            links: Sequence[Any] = body["kwargs"]["tasks"]
            return links
        return [body, *links_after(body)]

    def _container(self, kind: str, task_id: str | None, members: Branch) -> Branch:
        if not members.nodes or task_id is None:
            return members
        name = Description(members.name)
        node = Node(task_id, kind, members.nodes[0].user_id, is_container=True, describe=lambda: name)
        apart = _apart_from(task_id, members.nodes)
        below = (member if member.parent else replace(member, parent=task_id) for member in apart)
        return replace(members, nodes=(node, *below))

    def _due(self, eta: str | datetime | None, countdown: float | None = None) -> datetime:
        """Return when a task may run: at the time in its message, `countdown` seconds from now, or now."""
        if isinstance(eta, str):
            eta = parse_datetime(eta)
        if eta is not None:
            eta = eta if timezone.is_aware(eta) else timezone.make_aware(eta, UTC)
            return eta if settings.USE_TZ else timezone.make_naive(eta, timezone.get_default_timezone())
        return self.now + timedelta(seconds=countdown or 0)

    def _leaf(
        self,
        task_name: str,
        task_id: str | None,
        possible_args: Sequence[Sequence[Any]],
        kwargs: Mapping[str, Any],
        when: datetime | None,
    ) -> Branch:
        task = self.lookup(task_name)
        if task_id is not None and task_id == self.replaced:
            return Branch((Node(task_id, task_name, self.user_id, due=when),))
        if task is None or (task_id is None and not self.check):
            return Branch()
        arguments, user_id = _arguments_and_user(task, possible_args, kwargs, self.user_id)
        node = Node(task_id or task_name, task_name, user_id, due=when, describe=partial(describe, task, arguments))
        return Branch((node,), str(kwargs.get("user_task_name") or ""))


def _apart_from(task_id: str, nodes: Sequence[Node]) -> Sequence[Node]:
    """Give what is in a container of this id another one: before Celery 5.7 a group that ends another has its id."""
    if all(node.task_id != task_id for node in nodes):
        return nodes
    own = _derived(GROUP, task_id) or task_id
    renamed = (replace(node, task_id=own) if node.task_id == task_id else node for node in nodes)
    return [replace(node, parent=own) if node.parent == task_id else node for node in renamed]


def _possible_args(signature: Any, given: Given | None) -> list[tuple[Any, ...]]:
    """Return what the positional arguments may be, the likeliest first: a result may or may not stand before them."""
    own = tuple(signature["args"])
    if signature.get("immutable"):
        return [own]
    return [(UNKNOWN_RESULT, *own), own] if given is None else [(*given.args, *own)]


def _kwargs(signature: Any, given: Given | None) -> dict[str, Any]:
    added = {} if given is None or signature.get("immutable") else given.kwargs
    return {**signature["kwargs"], **added}


def _arguments_and_user(
    task: TrackedTask, possible_args: Sequence[Sequence[Any]], kwargs: Mapping[str, Any], default: Any
) -> tuple[dict[str, Any], Any]:
    """Return the arguments by name, of the first way to call the task that says who triggered it."""
    for args in possible_args[:-1]:
        try:
            arguments = arguments_of(task, args, kwargs)
            user_id = user_id_of(arguments, default)
        except TypeError:
            continue
        if user_id is UNKNOWN_RESULT:
            user_id = default
        if user_id is not None:
            return arguments, user_id
    arguments = arguments_of(task, possible_args[-1], kwargs)
    return arguments, user_id_of(arguments, default)


def _id_of(signature: Any) -> str | None:
    task_id: str | None = signature["options"].get("task_id")
    return task_id


def _derived(kind: str, task_id: str | None) -> str | None:
    """Return the id of a container that Celery gives none: the same for each message that tells of it."""
    return str(uuid5(NAMESPACE_OID, f"{kind}:{task_id}")) if task_id else None
