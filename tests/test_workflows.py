from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User

from fault_tasks import open_gate
from user_tasks.models import UserTaskStatus
from user_tasks.states import State
from workers import Route, Workers
from workflows import Form, Trees, Workflow, documented_forms, draw, expected, form

ON_SERVICES = "CELERY_BROKER_URL" in os.environ
ON_REDIS = os.environ.get("CELERY_RESULT_BACKEND", "").startswith("redis")

FORMS = [
    *(documented for documented in documented_forms() if ON_REDIS or "adding" not in documented.code),
    form("chain(a)", "a"),
    form("group(a)", "group(a)"),
    form("group(x, y)", ""),
    form("x.set(link=a)", "", "a"),
    form("chord([a], b)", "chord(group(a), b)"),
    form("chord([a, b], chord([c, d], e))", "chord(group(a, b), chord(group(c, d), e))"),
    form("chord([a, b], chain(c, group(d, e)))", "chord(group(a, b), chain(c, group(d, e)))"),
    form("chord([chain(a, group(b, c)), d], e)", "chord(group(chain(a, group(b, c)), d), e)"),
    form("group(chain(group(a, b), c), d)", "group(chord(group(a, b), c), d)"),
    form("chain(group(a, b), c, d)", "chord(group(a, b), chain(c, d))"),
    form("chain(chord([a, b], c), d)", "chain(chord(group(a, b), c), d)"),
    form("chain(chord([a, b], c), group(d, e))", "chain(chord(group(a, b), c), group(d, e))"),
    form("group(chain(chord([a, b], c), d), e)", "group(chord(group(a, b), chain(c, d)), e)"),
    form("chord([chain(chord([a, b], x), d), e], f)", "chord(group(chord(group(a, b), chain(d)), e), f)"),
    form("chain(a, group(x, y), b)", "chain(a, chord(b))"),
    form("chain(a, b.set(link=c), d)", "group(chain(a, b, d))", "group(chain(a, b, d), c)"),
    form("chord([a.set(link=b), c], d)", "group(chord(group(a, c), d))", "group(chord(group(a, c), d), b)"),
    form("a.set(link=replacing(b, chain(c, d)))", "group(a)", "group(a, chain(c, b))"),
    form("replacing(a, b).set(link=c)", "group(a)", "group(a, c)"),
    form("replacing(a, replacing(b, chain(c, d)))", "a", "chain(c, a)"),
    form("chain(replacing(a, x), b)", "chain(a, b)"),
    form("chain(replacing(a, group(b, c)), x)", "chain(a)", "chain(chord(group(b, c), a))"),
    form("chain(replacing(a, chain(b, c)), x)", "chain(a)", "chain(b, a)"),
    form("chord([a], replacing(b, chain(c, d)))", "chord(group(a), b)", "chord(group(a), chain(c, b))"),
    form("chain(a, replacing(b, chain(c, group(d, e))), f)", "chain(a, b, f)", "chain(a, c, chord(group(d, e), b), f)"),
    form("chain(a, replacing(b, chord([c, d], e)), f)", "chain(a, b, f)", "chain(a, chord(group(c, d), b), f)"),
    form(
        "chord([a, b], replacing(c, group(d, e)))", "chord(group(a, b), c)", "chord(group(a, b), chord(group(d, e), c))"
    ),
    form("group(starting(a, group(b, c)), d)", "group(a, d)", "group(a, d), group(b, c)"),
]
"""Every form of the documentation, and what else has gone wrong once."""

CERTAIN = [form for form in FORMS if form.is_known_at_once and form.at_once]
"""Forms of which all is known at once."""

Start = Callable[..., Workflow]


@pytest.fixture
def runner(request: pytest.FixtureRequest, protocol: int, workers: Workers) -> None:
    """Workers: real ones where there is a broker, else one in this process."""
    request.getfixturevalue("team" if ON_SERVICES else "threads")


@pytest.fixture
def start(make_user: Callable[..., User], publish_to: Any) -> Start:
    """Return a function that publishes a workflow under a user of its own."""

    def publish(code: str, **fields: Any) -> Workflow:
        return Workflow(code, make_user(), **fields).publish()

    return publish


@pytest.fixture
def nobody(publish_to: Callable[[Route], None], workers: Workers, protocol: int) -> None:
    """A queue in memory that no worker takes messages from."""
    publish_to(type(workers.inner_route())(workers.folder, protocol))


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_tree_is_there_when_the_call_returns(start: Start, form: Form) -> None:
    for immutable in (False, True):
        workflow = start(form.code, immutable=immutable)

        assert workflow.drawn(in_order=True) == draw(form.at_once, in_order=True)
        assert not workflow.wrong_sums()
        assert set(workflow.rows.values_list("state", flat=True)) <= {State.PENDING.value}


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("form", CERTAIN, ids=str)
def test_a_name_found_in_any_member_is_that_of_the_containers_around_it(start: Start, form: Form) -> None:
    for label in form.labels:
        workflow = start(form.code, names={label: "Shop"})

        around = {row.pk for row in [*_ancestors(workflow.row(label))]}
        named = set(workflow.rows.filter(is_container=True).exclude(name="").values_list("pk", "name"))
        assert named == {(pk, "Shop") for pk in around}


def _ancestors(row: UserTaskStatus) -> list[UserTaskStatus]:
    return [] if row.parent is None else [row.parent, *_ancestors(row.parent)]


@pytest.fixture
def gate() -> Iterator[str]:
    """A gate for tasks to wait at, which is open in the end."""
    name = uuid4().hex
    yield name
    open_gate(name)


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_each_form_runs_to_its_end(start: Start, protocol: int, gate: str, form: Form) -> None:
    workflows = [start(form.code, gates={"*": gate}, immutable=immutable) for immutable in (False, True)]
    assert [workflow.drawn() for workflow in workflows] == [draw(form.at_once)] * 2

    open_gate(gate)

    repeated = protocol == 1 and form.runs_parts_twice
    for workflow in workflows:
        workflow.wait(expected(form.in_the_end, {}))
        assert not workflow.faults(more_steps=repeated)
        assert repeated or "replacing" in form.code or set(workflow.executed().values()) <= {1}


def wait_for_all(workflows: Mapping[str, Workflow], form: Form, state: str) -> None:
    """Wait for the end of one form, in which one task has ended in this state in each of the workflows."""
    for label, workflow in workflows.items():
        trees = expected(form.in_the_end, {label: state})
        workflow.wait(trees)
        assert not workflow.faults()
        assert set(workflow.executed()) == {label, *_labels(trees, State.SUCCEEDED)}


def _labels(trees: Trees, state: str) -> set[str]:
    return {leaf.name for part in trees for leaf in part.leaves() if leaf.state == state}


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("fate", ["fail", "fail_and_return"])
@pytest.mark.parametrize("form", CERTAIN, ids=str)
def test_a_task_fails_at_each_position(start: Start, form: Form, fate: str) -> None:
    workflows = {label: start(form.code, fates={label: fate}) for label in form.labels}

    wait_for_all(workflows, form, State.FAILED)
    for workflow in workflows.values():
        assert [artifact.text for artifact in workflow.root().artifacts.all()] == ["bad row"]


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("fate", ["cancel", "cancel_and_return"])
@pytest.mark.parametrize("form", CERTAIN, ids=str)
def test_a_running_task_is_canceled_at_each_position(start: Start, form: Form, fate: str) -> None:
    workflows = {label: start(form.code, fates={label: fate}) for label in form.labels}

    wait_for_all(workflows, form, State.CANCELED)
