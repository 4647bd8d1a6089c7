from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import current_app
from django.contrib.auth.models import User
from django.db import connection
from hypothesis import HealthCheck, given, settings, strategies

import workflow_tasks
from fault_tasks import open_gate
from user_tasks.containers import ancestors
from user_tasks.models import UserTaskStatus
from user_tasks.states import State
from worker_tasks import notes
from workers import InnerRoute, Route, Workers, forget_broker, wait_for
from workflows import (
    Form,
    Trees,
    Workflow,
    canceled,
    canvases,
    documented_forms,
    draw,
    expected,
    of_this_celery,
    parse,
    written_form,
)

ON_SERVICES = "CELERY_BROKER_URL" in os.environ
ON_REDIS = os.environ.get("CELERY_RESULT_BACKEND", "").startswith("redis")

FORMS = [
    *(documented for documented in documented_forms() if ON_REDIS or "adding" not in documented.code),
    written_form("chain(a)", "a"),
    written_form("group(a)", "group(a)"),
    written_form("group(x, y)", ""),
    written_form("x.set(link=a)", "", "a"),
    written_form("chord([a], b)", "chord(group(a), b)"),
    written_form(
        "chain(chord([a], chord([b], c)), group(d, e))", "chain(chord(group(a), chord(group(b), c)), group(d, e))"
    ),
    written_form("chord([a, b], chord([c, d], e))", "chord(group(a, b), chord(group(c, d), e))"),
    written_form("chord([a, b], chain(c, group(d, e)))", "chord(group(a, b), chain(c, group(d, e)))"),
    written_form("group(chain(group(a, b), c), d)", "group(chord(group(a, b), c), d)"),
    written_form("chain(group(a, b), c, d)", "chord(group(a, b), chain(c, d))"),
    written_form("chain(chord([a, b], c), d)", "chain(chord(group(a, b), c), d)"),
    written_form("chain(chord([a, b], c), group(d, e))", "chain(chord(group(a, b), c), group(d, e))"),
    written_form("group(chain(chord([a, b], c), d), e)", "group(chord(group(a, b), chain(c, d)), e)"),
    written_form("chord([chain(chord([a, b], x), d), e], f)", "chord(group(chord(group(a, b), chain(d)), e), f)"),
    written_form("chain(a, group(x, y), b)", "chain(a, chord(b))"),
    written_form("chain(a, b.set(link=c), d)", "group(chain(a, b, d))", "group(chain(a, b, d), c)"),
    written_form("chord([a.set(link=b), c], d)", "group(chord(group(a, c), d))", "group(chord(group(a, c), d), b)"),
    written_form("a.set(link=replacing(b, chain(c, d)))", "group(a)", "group(a, chain(c, b))"),
    written_form("replacing(a, b).set(link=c)", "group(a)", "group(a, c)"),
    written_form("replacing(a, replacing(b, chain(c, d)))", "a", "chain(c, a)"),
    written_form("chain(replacing(a, x), b)", "chain(a, b)"),
    written_form("chain(replacing(a, group(b, c)), x)", "chain(a)", "chain(chord(group(b, c), a))"),
    written_form("chain(replacing(a, chain(b, c)), x)", "chain(a)", "chain(b, a)"),
    written_form("chord([a], replacing(b, chain(c, d)))", "chord(group(a), b)", "chord(group(a), chain(c, b))"),
    written_form(
        "chain(a, replacing(b, chain(c, group(d, e))), f)", "chain(a, b, f)", "chain(a, c, chord(group(d, e), b), f)"
    ),
    written_form("chain(a, replacing(b, chord([c, d], e)), f)", "chain(a, b, f)", "chain(a, chord(group(c, d), b), f)"),
    written_form(
        "chord([a, b], replacing(c, group(d, e)))", "chord(group(a, b), c)", "chord(group(a, b), chord(group(d, e), c))"
    ),
    written_form("group(starting(a, group(b, c)), d)", "group(a, d)", "group(a, d), group(b, c)"),
]
"""Every form of the documentation, and what else has gone wrong once."""

FORMS = of_this_celery(FORMS)

NEVER_ENDING = written_form("chord([chain(a, group(b, c)), d], e)", "chord(group(chain(a, group(b, c)), d), e)")
"""What Celery often leaves without its body, and a worker's process waiting for the group: see `canvases`."""

CERTAIN = [form for form in FORMS if form.is_known_at_once and form.at_once]
"""Forms of which all is known at once."""

SAMPLE = CERTAIN[:: 2 if ON_REDIS else 6]
"""Some of them, fewer without Redis, so that it takes seconds."""

FATES = ("", "", "", "", "fail", "fail_and_return", "cancel", "cancel_and_return", "retry", "grow")

MANY = 12
"""How many tasks one worker executes at once, where none of them ends by itself."""

Start = Callable[..., Workflow]


@pytest.fixture
def runner(request: pytest.FixtureRequest, protocol: int, publish_to: object) -> None:
    """Workers: of several processes where there is a broker, else of several threads in this one."""
    request.getfixturevalue("team" if ON_SERVICES else "threads")


@pytest.fixture
def start(make_user: Callable[..., User]) -> Start:
    """Return a function that publishes a workflow under a user of its own."""

    def publish(code: str, **fields: Any) -> Workflow:
        return Workflow(code, make_user(), **fields).publish()

    return publish


@pytest.fixture
def nobody(settings: Any, monkeypatch: pytest.MonkeyPatch, protocol: int, tmp_path: Path) -> Iterator[None]:
    """A queue in memory that no worker takes messages from."""
    # Celery takes it before the setting.
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    for name, value in InnerRoute(tmp_path, protocol).settings().items():
        setattr(settings, name, value)
    forget_broker()
    yield
    forget_broker()


@pytest.mark.django_db
@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("form", [*FORMS, NEVER_ENDING], ids=str)
def test_the_tree_is_there_when_the_call_returns(start: Start, form: Form) -> None:
    for immutable in (False, True):
        workflow = start(form.code, immutable=immutable)

        assert workflow.drawn(in_order=True) == draw(form.at_once, in_order=True)
        assert not workflow.wrong_sums()
        assert set(workflow.rows.values_list("state", flat=True)) <= {State.PENDING.value}


@pytest.mark.django_db
@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("form", CERTAIN, ids=str)
def test_a_name_found_in_any_member_is_that_of_the_containers_around_it(start: Start, form: Form) -> None:
    for label in form.labels:
        workflow = start(form.code, names={label: "Shop"})

        named = set(workflow.rows.filter(is_container=True).exclude(name="").values_list("pk", "name"))
        assert named == {(container.pk, "Shop") for container in ancestors(workflow.row(label))}


@pytest.fixture
def gate() -> Iterator[str]:
    """A gate for tasks to wait at, which is open in the end."""
    name = uuid4().hex
    yield name
    open_gate(name)


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("form", FORMS if ON_SERVICES and connection.vendor == "postgresql" else FORMS[::3], ids=str)
def test_each_form_runs_to_its_end(start: Start, protocol: int, gate: str, form: Form) -> None:
    workflows = [start(form.code, gates={"*": gate}, immutable=immutable) for immutable in (False, True)]
    assert [workflow.drawn() for workflow in workflows] == [draw(form.at_once)] * 2

    open_gate(gate)

    repeated = form.is_repeated(protocol)
    for workflow in workflows:
        workflow.wait(expected(form.in_the_end, {}), repeated)
        assert repeated or "replacing" in form.code or set(workflow.executed().values()) <= {1}


@pytest.mark.embedded
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("form", [form for form in FORMS if form.at_once][::4], ids=str)
def test_groups_recorded_member_by_member_end_well(start: Start, settings: Any, protocol: int, form: Form) -> None:
    settings.USER_TASKS_RECORD_GROUPS = False

    workflow = start(form.code)

    workflow.wait_until_at_rest()
    assert not (found := workflow.faults(form.is_repeated(protocol), reopened=True)), f"{workflow}: {found}"
    assert set(workflow.rows.values_list("state", flat=True)) <= {State.SUCCEEDED.value}
    assert set(workflow.executed()) == labels_of(expected(form.in_the_end, {}), State.SUCCEEDED)
    assert workflow.rows.filter(parent=None).count() == len(form.in_the_end)


def positions(protocol: int) -> list[tuple[Form, str]]:
    """Return tasks that something may happen to, each the one of a label in a form.

    All of them, or every third under the old protocol, where Celery says the same of each form.
    """
    return [(form, label) for form in SAMPLE for label in form.labels][:: 3 if protocol == 1 else 1]


def ending_by_turns(start: Start, protocol: int, *fates: str) -> dict[tuple[Form, str], Workflow]:
    """Publish, for each position, a workflow with one of the fates there; every form meets all of them."""
    turns = zip(positions(protocol), cycle(fates), strict=False)
    return {(form, label): start(form.code, fates={label: fate}) for (form, label), fate in turns}


def wait_for_all(cases: Mapping[tuple[Form, str], Workflow], state: str, protocol: int) -> None:
    """Wait for the ends of workflows in each of which one task, of a form and a label, has ended in this state."""
    for (form, label), workflow in cases.items():
        trees = expected(form.in_the_end, {label: state})
        workflow.wait(trees, repeated=form.is_repeated(protocol))
        assert set(workflow.executed()) == {label, *labels_of(trees, State.SUCCEEDED)}, str(workflow)


def labels_of(trees: Trees, state: str) -> set[str]:
    return {leaf.name for part in trees for leaf in part.leaves() if leaf.state == state}


@pytest.mark.usefixtures("runner")
def test_a_task_fails_at_each_position(start: Start, protocol: int) -> None:
    cases = ending_by_turns(start, protocol, "fail", "fail_and_return")

    wait_for_all(cases, State.FAILED, protocol)
    for workflow in cases.values():
        assert {artifact.text for artifact in workflow.root().artifacts.all()} == {"bad row"}, str(workflow)


@pytest.mark.usefixtures("runner")
def test_a_task_cancels_itself_at_each_position(start: Start, protocol: int) -> None:
    cases = ending_by_turns(start, protocol, "cancel", "cancel_and_return")

    wait_for_all(cases, State.CANCELED, protocol)


@pytest.fixture
def many(workers: Workers, protocol: int, publish_to: Callable[[Route], None]) -> None:
    """A worker that executes many tasks at once."""
    publish_to(workers.shared(protocol, "threads", concurrency=MANY + 1).route)


@pytest.mark.integration
@pytest.mark.usefixtures("many")
def test_what_has_not_run_is_canceled_half_done(start: Start, protocol: int) -> None:
    possible = [(form, label) for form, label in positions(protocol) if not form.is_repeated(protocol)]
    for first in range(0, len(possible), MANY):
        cases = possible[first : first + MANY]
        running = [start(form.code, gates={label: uuid4().hex}) for form, label in cases]
        for (form, label), workflow, whole in zip(cases, running, cycle([False, True]), strict=False):
            cancel_half_done(workflow, form, label, whole)


def cancel_half_done(workflow: Workflow, form: Form, label: str, whole: bool) -> None:
    """Cancel a task, or all, while that task is executed, and see what comes of it."""
    half_done = expected(form.in_the_end, {label: State.IN_PROGRESS})
    workflow.wait_until_drawn(half_done)
    wait_for(lambda: label in workflow.executed(), f"The execution of {label} in {workflow}")

    (workflow.root() if whole else workflow.row(label)).cancel()
    row, root = workflow.row(label), workflow.root()
    open_gate(workflow.gates[label])

    assert (row.state, row.finished, root.finished) == (State.CANCELED, None, None), str(workflow)
    ended = canceled(half_done) if whole else expected(form.in_the_end, {label: State.CANCELED})
    workflow.wait(ended)
    assert set(workflow.executed()) == {label, *labels_of(ended, State.SUCCEEDED)}, str(workflow)


@pytest.mark.integration
def test_what_waits_for_a_worker_is_canceled(start: Start, protocol: int, start_worker: Callable[..., object]) -> None:
    whole = {form: start(form.code) for form in SAMPLE}
    parts = {(form, label): start(form.code) for form, label in positions(protocol)}
    published = [row.task_id for workflow in whole.values() for row in workflow.rows.exclude(due=None)]
    for form, workflow in whole.items():
        workflow.root().cancel()
        workflow.wait_until_drawn(canceled(form.in_the_end))
    for (_form, label), workflow in parts.items():
        workflow.row(label).cancel()
        assert workflow.row(label).finished

    start_worker(name="first")
    start_worker(name="second")

    for (form, label), workflow in parts.items():
        ended = expected(form.in_the_end, {label: State.CANCELED})
        workflow.wait(ended, form.is_repeated(protocol))
        assert set(workflow.executed()) == labels_of(ended, State.SUCCEEDED), str(workflow)
    wait_for(lambda: all("ended" in notes(task_id) for task_id in published), "The end of all that was published")
    assert not any(workflow.executed() for workflow in whole.values())


OUTCOMES: dict[str, str] = {
    "fail(a).set(link=b)": """
        celery.group Failed
          a Failed
        """,
    "a.set(link=fail(b))": """
        celery.group Failed
          a Succeeded
          b Failed
        """,
    "cancel(a).set(link=b)": """
        celery.group Canceled
          a Canceled
        """,
    "a.set(link_error=b)": """
        celery.group Succeeded
          a Succeeded
        """,
    "fail(a).set(link_error=b)": """
        celery.group Failed
          a Failed
          celery.group Succeeded
            b Succeeded
        """,
    "cancel(a).set(link_error=b)": """
        celery.group Canceled
          a Canceled
          celery.group Succeeded
            b Succeeded
        """,
    "chain(fail(a).set(link=b), c)": """
        celery.group Failed
          celery.chain Failed
            a Failed
            c Canceled
        """,
    "chain(a.set(link=fail(b)), c)": """
        celery.group Failed
          celery.chain Succeeded
            a Succeeded
            c Succeeded
          b Failed
        """,
    "chain(fail(a).set(link_error=b), c)": """
        celery.group Failed
          celery.chain Failed
            a Failed
            c Canceled
          celery.group Succeeded
            b Succeeded
        """,
    "chord([fail(a), b], c.set(link_error=[d]))": """
        celery.group Failed
          celery.chord Failed
            celery.group Failed
              a Failed
              b Succeeded
            c Canceled
          celery.group Succeeded
            d Succeeded
        """,
    "chord([chain(fail(a), b).on_error(c), d], e)": """
        celery.chord Failed
          celery.group Failed
            celery.chain Failed
              a Failed
              b Canceled
            d Succeeded
          e Canceled
          celery.group Succeeded
            c Succeeded
        """,
    "chain(fail(x), a, b)": """
        celery.chain Failed
          a Canceled
          b Canceled
        """,
    "chain(a, fail(x), b)": """
        celery.chain Failed
          a Succeeded
          b Canceled
        """,
    "chain(a, fail(x))": """
        celery.chain Succeeded
          a Succeeded
        """,
    "chord([fail(x), a], b)": """
        celery.chord Failed
          celery.group Succeeded
            a Succeeded
          b Canceled
        """,
    "group(chain(fail(x), a), b)": """
        celery.group Failed
          celery.chain Failed
            a Canceled
          b Succeeded
        """,
    "chain(a, fail(x), chord([b, c], d))": """
        celery.chain Failed
          a Succeeded
          celery.chord Failed
            celery.group Failed
              b Canceled
              c Canceled
            d Canceled
        """,
    "replacing(a, fail(b))": """
        a Failed
        """,
    "replacing(a, cancel(b))": """
        a Canceled
        """,
    "replacing(a, fail(x))": """
        a Failed
        """,
    "replacing(a, chain(fail(b), c))": """
        celery.chain Failed
          b Failed
          a Canceled
        """,
    "replacing(a, chain(b, fail(c)))": """
        celery.chain Failed
          b Succeeded
          a Failed
        """,
    "replacing(a, chain(fail(x), b))": """
        a Failed
        """,
    "chain(replacing(a, chain(fail(x), b)), c)": """
        celery.chain Failed
          a Canceled
          c Canceled
        """,
    "replacing(a, group(fail(b), c))": """
        celery.chord Failed
          celery.group Failed
            b Failed
            c Succeeded
          a Canceled
        """,
    "replacing(a, chord([b, c], fail(d)))": """
        celery.chord Failed
          celery.group Succeeded
            b Succeeded
            c Succeeded
          a Failed
        """,
    "chain(replacing(a, chain(fail(b), c)), d)": """
        celery.chain Failed
          b Failed
          a Canceled
          d Canceled
        """,
    "chain(replacing(a, group(fail(b), c)), d)": """
        celery.chain Failed
          celery.chord Failed
            celery.group Failed
              b Failed
              c Succeeded
            a Canceled
          d Canceled
        """,
    "chord([replacing(a, group(fail(b), c)), d], e)": """
        celery.chord Failed
          celery.group Failed
            celery.chord Failed
              celery.group Failed
                b Failed
                c Succeeded
              a Canceled
            d Succeeded
          e Canceled
        """,
    "chord([a], replacing(b, group(fail(c), d)))": """
        celery.chord Failed
          celery.group Succeeded
            a Succeeded
          celery.chord Failed
            celery.group Failed
              c Failed
              d Succeeded
            b Canceled
        """,
    "group(replacing(a, chain(cancel(b), c)), d)": """
        celery.group Canceled
          celery.chain Canceled
            b Canceled
            a Canceled
          d Succeeded
        """,
    "starting(a, chain(fail(b), c))": """
        a Succeeded
        celery.chain Failed
          b Failed
          c Canceled
        """,
    "a.set(expires=-5)": """
        a Failed
        """,
    "chain(a, b.set(expires=-5), c)": """
        celery.chain Failed
          a Succeeded
          b Failed
          c Canceled
        """,
    "group(a.set(expires=-5), b)": """
        celery.group Failed
          a Failed
          b Succeeded
        """,
    "chord([a.set(expires=-5), b], c)": """
        celery.chord Failed
          celery.group Failed
            a Failed
            b Succeeded
          c Canceled
        """,
    "chain(x.set(expires=-5), a)": """
        celery.chain Failed
          a Canceled
        """,
}
if ON_REDIS:
    OUTCOMES["chord([adding(a, fail(b)), c], d)"] = """
        celery.chord Failed
          celery.group Failed
            a Succeeded
            c Succeeded
            b Failed
          d Canceled
        """


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("code", list(OUTCOMES) if ON_REDIS else list(OUTCOMES)[::3])
def test_how_it_ends(start: Start, protocol: int, code: str) -> None:
    workflow = start(code)

    workflow.wait(parse(OUTCOMES[code]), repeated=protocol == 1)

    begun = set(re.findall(r"(?:cancel|replacing)\((\w)", code))
    assert not (labels_of(parse(OUTCOMES[code]), State.CANCELED) - begun) & set(workflow.executed())


REVOKED = {
    "chain(a, b, c)": """
        celery.chain Canceled
          a Succeeded
          b Canceled
          c Canceled
        """,
    "chain(a, chord([b, c], d))": """
        celery.chain Canceled
          a Succeeded
          celery.chord Canceled
            celery.group Canceled
              b Canceled
              c Succeeded
            d Canceled
        """,
}


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("code", REVOKED)
def test_a_link_is_revoked(start: Start, gate: str, code: str) -> None:
    workflow = start(code, gates={"a": gate})
    task_id = workflow.row("b").task_id

    current_app.control.revoke(task_id)
    wait_for(lambda: all(task_id in known for known in revoked_in_workers()), "A task that all workers know as revoked")
    open_gate(gate)

    workflow.wait(parse(REVOKED[code]))


def revoked_in_workers() -> list[list[str]]:
    """Return what each worker knows as revoked; a list of nothing from one that does not answer."""
    workers = 2 if ON_SERVICES else 1
    answers = current_app.control.inspect(timeout=1, limit=workers).revoked() or {}
    return [*answers.values(), *([[]] * (workers - len(answers)))]


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize(("fate", "steps"), [("retry", 3), ("grow", 7)])
def test_steps_are_sums_whatever_the_tasks_do(start: Start, protocol: int, fate: str, steps: int) -> None:
    cases = {form: start(form.code, fates=dict.fromkeys(form.labels, fate)) for form in SAMPLE}

    for form, workflow in cases.items():
        repeated = form.is_repeated(protocol)
        workflow.wait(expected(form.in_the_end, {}), repeated)
        assert repeated or workflow.root().completed_steps == steps * len(form.labels), str(workflow)


# Always the same canvases: Celery itself does not bring each to its end, so others are for those who look for faults.
@pytest.mark.usefixtures("runner")
@settings(
    max_examples=25 if ON_REDIS else 10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(code=canvases(), data=strategies.data())
def test_whatever_is_composed_comes_to_rest(
    start: Start, protocol: int, code: str, data: strategies.DataObject
) -> None:
    labels = re.findall(r"\bt\d+", code)
    drawn = data.draw(strategies.lists(strategies.sampled_from(FATES), min_size=len(labels), max_size=len(labels)))
    fates = dict(zip(labels, drawn, strict=True))

    workflow = start(code, fates=fates)

    workflow.wait_until_at_rest()
    executed = workflow.executed()
    repeated = any(executed[label] > (2 if fates[label] == "retry" else 1) for label in labels)
    assert not (found := workflow.faults(repeated)), f"{workflow}: {found}"
    assert sorted(workflow.rows.leaves().values_list("name", flat=True)) == sorted(labels), str(workflow)
    assert workflow.rows.filter(parent=None).count() == (1 if labels else 0), str(workflow)


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("call", ["map", "starmap", "chunks"])
def test_a_task_that_is_called_for_each_of_many_items_has_no_row(start: Start, owner: User, call: str) -> None:
    label = uuid4().hex
    items = [(owner.pk, f"{label}{number}") for number in range(3)]
    calls: dict[str, Any] = {
        "map": workflow_tasks.called_with_one.map([name for _pk, name in items]),
        "starmap": workflow_tasks.called.starmap(items),
        "chunks": workflow_tasks.called.chunks(items, 2),
    }

    calls[call].apply_async()

    for _pk, name in items:
        wait_for(lambda name=name: notes(name), f"The call of {name}")  # type: ignore[misc]  # mypy infers no default of a lambda
        assert notes(name) == [f"called as {name}, In Progress"]
    assert not UserTaskStatus.objects.exists()
