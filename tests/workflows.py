"""Workflows as data: an expression for the canvas, and the tree that it makes, drawn as in the documentation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from textwrap import dedent, indent
from typing import Any

import celery
from celery import chain, chord, group
from django.contrib.auth.models import User
from django.db.models import F, Sum
from hypothesis import strategies

import workflow_tasks
from documents import ROOT
from user_tasks.models import UserTaskStatus
from user_tasks.states import FINAL, State, fold
from worker_tasks import notes
from workers import wait_for

PAGE = ROOT / "docs" / "linked_tasks.rst"
ORDINARY = "xyz"
"""Labels of tasks that are not ours."""


@dataclass(frozen=True)
class Part:
    """One row of a tree: the label of a task, or the kind of a container; with its state where that matters."""

    name: str
    parts: tuple[Part, ...] = ()
    state: str = ""

    @property
    def is_container(self) -> bool:
        return self.name.startswith("celery.")

    def leaves(self) -> Iterator[Part]:
        if not self.is_container:
            yield self
        for part in self.parts:
            yield from part.leaves()


Trees = tuple[Part, ...]


def draw(trees: Iterable[Part], in_order: bool = False) -> str:
    """Return the trees as lines; what runs at the same time, or has joined later, is sorted unless it is `in_order`."""
    drawings = []
    for part in trees:
        inner = draw(part.parts, in_order and part.name != "celery.group")
        drawings.append(f"{part.name} {part.state}".strip() + "\n" + indent(inner, "  "))
    return "".join(drawings if in_order else sorted(drawings))


def parse(drawing: str) -> Trees:
    """Return the trees of a drawing."""
    parts: list[Part] = []
    lines = dedent(drawing).strip("\n").splitlines()
    while lines:
        name, _, state = lines.pop(0).partition(" ")
        inner = []
        while lines and lines[0].startswith(" "):
            inner.append(lines.pop(0))
        parts.append(Part(name, parse("\n".join(inner)), state))
    return tuple(parts)


@dataclass(frozen=True)
class Form:
    """A canvas, its trees as soon as it has been published, and those in the end if they differ."""

    code: str
    at_once: Trees
    in_the_end: Trees

    def __str__(self) -> str:
        return self.code

    @property
    def labels(self) -> list[str]:
        """The labels of the tasks that have a row in the end."""
        return [leaf.name for part in self.in_the_end for leaf in part.leaves()]

    @property
    def is_known_at_once(self) -> bool:
        """Whether Celery decides nothing later."""
        return not re.search(r"replacing|adding|starting|link", self.code)

    def is_repeated(self, protocol: int) -> bool:
        """Whether Celery sends some of its messages twice."""
        return protocol == 1 and self.code in REPEATED_UNDER_PROTOCOL_1


BEFORE_5_7 = {
    "chain(chord([a, b], c), d)": "chord(group(a, b), chain(c, d))",
    "chain(chord([a, b], c), group(d, e))": "chord(group(a, b), chain(c, group(d, e)))",
}
"""What earlier versions of Celery make of a form: there a chord's body takes in what follows the chord."""

NOT_BEFORE_5_7 = frozenset(
    [
        "chain(a, chord([b, c], d), e)",
        "chain(a, replacing(b, chain(c, group(d, e))), f)",
        "chain(chord([a], chord([b], c)), group(d, e))",
        "chord([a, b], chain(c, d))",
        "chord([chain(chord([a, b], x), d), e], f)",
    ]
)
"""What they get wrong: under message protocol 1 they send links after a chord twice, or cannot send them; under
protocol 2 they put an error of their own in the place of a header's where a chain is the body."""


def of_this_celery(forms: Iterable[Form]) -> list[Form]:
    """Return the forms that the installed Celery can send, with the trees that it makes of them."""
    if celery.VERSION >= (5, 7):
        return list(forms)
    possible = [form for form in forms if form.code not in NOT_BEFORE_5_7]
    return [written_form(form.code, BEFORE_5_7[form.code]) if form.code in BEFORE_5_7 else form for form in possible]


def written_form(code: str, at_once: str, in_the_end: str = "") -> Form:
    """Return a form whose trees are written as ``chain(a, group(b, c))``."""
    return Form(code, shape(at_once), shape(in_the_end or at_once))


def shape(code: str) -> Trees:
    """Return the trees that are written as ``chain(a, group(b, c))``."""
    return eval(f"({code},)", {}, Shapes()) if code else ()


class Shapes(dict[str, Any]):
    """What shapes are made of."""

    def __missing__(self, name: str) -> Any:
        if name in ("chain", "chord", "group"):
            return lambda *parts: Part(f"celery.{name}", parts)
        return Part(name)


def documented_forms() -> list[Form]:
    """Return the forms of the documentation's tables: code, followed by one drawing or two."""
    row = re.compile(r"^   \* - ``(.+)``\n((?:     - ::\n\n(?: {9}.*\n)+\n?)+)", re.MULTILINE)
    forms = []
    for code, cells in row.findall(PAGE.read_text(encoding="utf-8")):
        drawings = [parse(drawing) for drawing in cells.split("     - ::\n\n")[1:]]
        forms.append(Form(code, drawings[0], drawings[-1]))
    return forms


@strategies.composite
def canvases(draw: strategies.DrawFn, depth: int = 4) -> str:
    """Draw a canvas: tasks with a number each, and now and then an ordinary one, nested up to this depth.

    Left out is what Celery itself does not end, ordinary tasks neither. A chain has two links or more: of
    ``chord([chain(group(chord([a], b), c))], d)`` the body is never called. Nothing in a header ends in a group that
    follows something: a process that waits for the group of ``chord([chain(a, group(b, c))], d)`` often waits for ever.
    """
    numbers = count(1)

    def some(depth: int) -> str:
        return ", ".join(part(depth, inside=True) for _ in range(draw(strategies.integers(1, 3))))

    def links(depth: int, *, inside: bool) -> str:
        before = [part(depth, inside=inside) for _ in range(draw(strategies.integers(1, 2)))]
        return ", ".join([*before, part(depth, inside=inside, follows=True)])

    def part(depth: int, *, inside: bool, follows: bool = False) -> str:
        """Draw a task or a canvas; what is `inside` of any group may be inside of a header."""
        kinds = ["task", "task", "chain", "chord", *([] if inside and follows else ["group"])]
        kind = draw(strategies.sampled_from(kinds)) if depth else "task"
        if kind == "task":
            return draw(strategies.sampled_from([f"t{next(numbers)}"] * 5 + ["x"]))
        if kind == "chord":
            return f"chord([{some(depth - 1)}], {part(depth - 1, inside=inside, follows=True)})"
        return f"group({some(depth - 1)})" if kind == "group" else f"chain({links(depth - 1, inside=inside)})"

    return part(depth, inside=False)


class Names(dict[str, Any]):
    """What the expressions are made of: a letter stands for a task of ours, one of the last three for another."""

    def __init__(self, signature: Callable[..., Any]) -> None:
        def holding(task: Any) -> Callable[[Any, Any], Any]:
            return lambda own, canvas: signature(own.kwargs["label"], task, canvas=canvas)

        super().__init__(
            chain=chain,
            chord=chord,
            group=group,
            replacing=holding(workflow_tasks.replacing),
            adding=holding(workflow_tasks.adding),
            starting=holding(workflow_tasks.starting),
            fail=lambda own: own.clone(kwargs={"fate": "fail"}),
            cancel=lambda own: own.clone(kwargs={"fate": "cancel"}),
        )
        self._signature = signature

    def __missing__(self, label: str) -> Any:
        return self._signature(label)


@dataclass
class Workflow:
    """A workflow of a user of its own, and what has become of it."""

    code: str
    user: User
    fates: Mapping[str, str] = field(default_factory=dict)
    gates: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    immutable: bool = False
    result: Any = None

    def __str__(self) -> str:
        return " ".join([self.code, *(f"{label}:{fate}" for label, fate in self.fates.items())])

    def canvas(self) -> Any:
        """Return the canvas."""
        return eval(self.code, {}, Names(self._signature))

    def _signature(self, label: str, task: Any = workflow_tasks.leaf, **kwargs: Any) -> Any:
        given = {"fate": self.fates.get(label), "gate": self.gates.get(label, self.gates.get("*"))}
        if task is not workflow_tasks.leaf:
            del given["fate"]
        if label in ORDINARY:
            task = workflow_tasks.ordinary
        else:
            kwargs = {**kwargs, "user_id": self.user.pk, "label": label, "user_task_name": self.names.get(label)}
        kwargs |= {name: value for name, value in given.items() if value}
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        return task.si(**kwargs) if self.immutable else task.s(**kwargs)

    def publish(self, **options: Any) -> Workflow:
        """Publish the canvas."""
        self.result = self.canvas().apply_async(**options)
        return self

    @property
    def rows(self) -> Any:
        """The query for its statuses."""
        return UserTaskStatus.objects.filter(user=self.user)

    def row(self, label: str) -> UserTaskStatus:
        """Return the status of the task with this label."""
        status: UserTaskStatus = self.rows.get(name=label, is_container=False)
        return status

    def root(self) -> UserTaskStatus:
        """Return the one status without a parent."""
        status: UserTaskStatus = self.rows.get(parent=None)
        return status

    def drawn(self, *, states: bool = False, in_order: bool = False) -> str:
        """Return its trees as they are stored."""
        return draw(self._trees(states), in_order)

    def _trees(self, states: bool) -> Trees:
        members: dict[int | None, list[UserTaskStatus]] = {}
        for status in self.rows.order_by("created", "pk"):
            members.setdefault(status.parent_id, []).append(status)

        def below(parent: int | None) -> Trees:
            return tuple(
                Part(
                    status.task_class if status.is_container else status.name,
                    below(status.pk),
                    _state_of(status) if states else "",
                )
                for status in members.get(parent, ())
            )

        return below(None)

    def wait_until_at_rest(self) -> None:
        """Wait until nothing of it can run any more, whatever its trees are."""

        def unfinished() -> list[str]:
            return [f"{row.name or row.task_class} ({row.state})" for row in self.rows.unfinished()]

        wait_for(lambda: not (unfinished() or self.unheard()), f"{self}: the rest of what has been published")

    def wrong_sums(self) -> list[str]:
        """Return the containers whose steps are not those of their members, seen at one moment."""
        containers = self.rows.filter(is_container=True).annotate(
            completed=Sum("usertaskstatus__completed_steps"), total=Sum("usertaskstatus__total_steps")
        )
        wrong = containers.exclude(completed=F("completed_steps"), total=F("total_steps"))
        return [
            f"{row.task_class}: {row.completed_steps} of {row.total_steps}, members {row.completed} of {row.total}"
            for row in wrong
        ]

    def unheard(self) -> list[str]:
        """Return what has not yet reported its end: rows that have not said that they stopped, and executions."""
        return [
            row.name or row.task_class
            for row in self.rows
            if not any(text.startswith("stopped") for text in notes(row.task_id)) or _is_executed(row)
        ]

    def faults(self, repeated: bool = False, reopened: bool = False) -> list[str]:
        """Return what must not be, once it is at rest, save what comes of a part that is `repeated` by Celery.

        A container that is `reopened` has told of several ends.
        """
        found = self.wrong_sums()
        for row in self.rows:
            heard = notes(row.task_id)
            name = f"{row.name or row.task_class} ({row.state})"
            if row.state not in FINAL or row.finished is None:
                found.append(f"{name} is not at rest")
            if row.completed_steps > row.total_steps and not repeated:
                found.append(f"{name} has {row.completed_steps} of {row.total_steps} steps")
            if row.state == State.SUCCEEDED and row.completed_steps < row.total_steps and not repeated:
                found.append(f"{name} has only {row.completed_steps} of {row.total_steps} steps")
            told = [text for text in heard if text.startswith("stopped")]
            if (told[-1:] if reopened and row.is_container else told) != [f"stopped {row.state}"]:
                found.append(f"{name} has told {heard}")
            if row.state == State.SUCCEEDED and not row.is_container and "ran" not in heard:
                found.append(f"{name} has not run")
        return found

    def executed(self) -> Counter[str]:
        """Return how often the tasks have run, by their labels."""
        rows = self.rows.filter(is_container=False)
        return +Counter({row.name: notes(row.task_id).count("ran") for row in rows})

    def wait(self, trees: Trees, repeated: bool = False) -> None:
        """Wait until its trees are, and have been reported to be, as they should be; see that nothing is wrong then.

        That does not say of steps which a part that is `repeated` by Celery has done twice.
        """
        self.wait_until_drawn(trees)
        wait_for(lambda: not self.unheard(), f"{self}: the report of what {self.rows.count()} rows did")
        assert self.drawn(states=True) == draw(trees), str(self)
        assert not (found := self.faults(repeated)), f"{self}: {found}"

    def wait_until_drawn(self, trees: Trees) -> None:
        """Wait until its trees are as they should be; see that sums are always right."""
        wanted = draw(trees)

        def is_reached() -> bool:
            assert not (wrong := self.wrong_sums()), f"{self}: {wrong}"
            return self.drawn(states=True) == wanted

        try:
            wait_for(is_reached)
        except AssertionError as error:
            raise AssertionError(f"{self}: {error}\n{self.drawn(states=True)}instead of\n{wanted}") from None


def _is_executed(row: UserTaskStatus) -> bool:
    heard = notes(row.task_id)
    return heard.count("ran") > heard.count("ended")


def _state_of(row: UserTaskStatus) -> str:
    return row.state if row.finished or row.state not in FINAL else f"{row.state} (still executed)"


REPEATED_UNDER_PROTOCOL_1 = frozenset(
    [
        "a.set(link=replacing(b, chain(c, d)))",
        "replacing(a, replacing(b, chain(c, d)))",
        "chain(replacing(a, chain(b, c)), x)",
        "chord([a], replacing(b, chain(c, d)))",
        "chain(a, replacing(b, chain(c, group(d, e))), f)",
        "chord([a, b], chain(c, d))",
        "chain(group(a, b), c, d)",
        "chord([a, b], chain(c, group(d, e)))",
        "group(chain(chord([a, b], c), d), e)",
        "group(chain(a, chord([b, c], d)), e)",
        "replacing(a, chain(b, c))",
        "replacing(a, chain(b, group(c, d)))",
        "chain(replacing(a, chain(b, c)), d)",
        "group(replacing(a, chain(b, c)), d)",
    ]
)


def expected(trees: Trees, fates: Mapping[str, str]) -> Trees:
    """Return the trees with the states that they end with, if some tasks end otherwise than well.

    The `fates` are states by label; a task with the fate "" is the last that is executed: what would follow is Pending.
    """
    return tuple(_ended(part, fates, State.SUCCEEDED) for part in trees)


def _ended(part: Part, fates: Mapping[str, str], before: str) -> Part:
    """Return a part with its states, when what it follows has ended with the state `before`."""
    if not part.is_container:
        state = fates.get(part.name, State.SUCCEEDED.value)
        follows = before == State.SUCCEEDED
        waits = before in (State.PENDING, State.IN_PROGRESS)
        return replace(part, state=state if follows else State.PENDING.value if waits else State.CANCELED.value)
    ended: list[Part] = []
    for inner in part.parts:
        ended.append(_ended(inner, fates, before))
        if part.name != "celery.group":
            before = ended[-1].state
    return replace(part, parts=tuple(ended), state=_fold([inner.state for inner in ended]))


def canceled(trees: Trees) -> Trees:
    """Return the trees with the states that they have when what has not been done has been canceled."""
    return tuple(_canceled(part) for part in trees)


def _canceled(part: Part) -> Part:
    if not part.is_container:
        return replace(part, state=part.state if part.state in FINAL else State.CANCELED.value)
    parts = canceled(part.parts)
    return replace(part, parts=parts, state=_fold([inner.state for inner in parts]))


def _fold(states: Collection[str]) -> str:
    unfinished = [state for state in states if state not in FINAL]
    if State.FAILED in states or not unfinished:
        return fold(states)
    return State.PENDING.value if all(state == State.PENDING for state in states) else State.IN_PROGRESS.value
