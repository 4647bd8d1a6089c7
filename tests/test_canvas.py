from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from user_tasks.canvas import Branch, Given, Planner
from user_tasks.recording import Description, Node
from user_tasks.tasks import UserTaskMixin
from user_tasks.utils import Message, read_message

pytestmark = pytest.mark.embedded

USER = 7
Json = dict[str, Any]


class Labeled(UserTaskMixin):
    """A task whose name shows its label and whose steps are two."""

    @classmethod
    def generate_name(cls, arguments_dict: Json) -> str:
        return f"Step {arguments_dict['label']}"

    @staticmethod
    def calculate_total_steps(arguments_dict: Json) -> int:
        return 2


class Step(Labeled):
    name = "shop.step"

    def run(self, label: Any, user_id: int, **kwargs: Any) -> None: ...


def lookup(name: str) -> Any:
    return Step() if name == Step.name else None


def a(label: int, task_id: str | None = None, **options: Any) -> Json:
    """Return the signature of a step as it stands in a message."""
    given = {"task_id": task_id} if task_id else {}
    return signature(Step.name, {"label": label, "user_id": USER}, {**given, **options})


def signature(task: str, kwargs: Json, options: Json, args: Sequence[Any] = ()) -> Json:
    return {"task": task, "args": args, "kwargs": kwargs, "options": options, "subtask_type": None, "immutable": True}


def group(task_id: str, *tasks: Json, **options: Any) -> Json:
    return signature("celery.group", {"tasks": list(tasks)}, {"task_id": task_id, **options})


def chord(task_id: str, header: Json, body: Json) -> Json:
    return signature("celery.chord", {"header": header, "body": body, "kwargs": {}}, {"task_id": task_id})


def chain(task_id: str, *tasks: Json) -> Json:
    return signature("celery.chain", {"tasks": list(tasks)}, {"task_id": task_id})


def protocol2(label: int, task_id: str, task: str = Step.name, **parts: Any) -> Message:
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    embed.update({name: parts[name] for name in embed if name in parts})
    headers = {"id": task_id, "task": task, "retries": 0, "group": parts.get("group")}
    return read_message(task, ((), {"label": label, "user_id": USER}, embed), headers)


def protocol1(label: int, task_id: str, task: str = Step.name, **parts: Any) -> Message:
    body = {"id": task_id, "task": task, "args": (), "kwargs": {"label": label, "user_id": USER}, "retries": 0, **parts}
    return read_message(task, body, {})


def tree(nodes: Iterable[Node]) -> list[Any]:
    """Return the ids of tasks, nested in lists that begin with the kind of their container."""
    plan = {node.task_id: node for node in nodes}

    def below(parent: str | None) -> list[Any]:
        return [
            [node.task_class.removeprefix("celery."), *below(node.task_id)] if node.is_container else node.task_id
            for node in plan.values()
            if node.parent == parent
        ]

    return below(None)


def planned(*messages: Message) -> list[Node]:
    return [node for message in messages for node in Planner(lookup).message(message).nodes]


CANVASES: dict[str, tuple[list[Message], list[Message], list[Any]]] = {
    "a task": ([protocol2(1, "id1")], [protocol1(1, "id1", taskset=None)], ["id1"]),
    "chain(a1, a2, a3)": (
        [protocol2(1, "id3", chain=[a(3, "id1"), a(2, "id2")])],
        [protocol1(1, "id3", callbacks=[a(2, "id2", link=[a(3, "id1")])])],
        [["chain", "id3", "id2", "id1"]],
    ),
    "group(a1, a2)": (
        [protocol2(1, "id1", group="id2"), protocol2(2, "id3", group="id2")],
        [protocol1(1, "id1", taskset="id2"), protocol1(2, "id3", taskset="id2")],
        [["group", "id1", "id3"]],
    ),
    "chord([a1, a2], a3)": (
        [
            protocol2(1, "id3", group="id2", chord=a(3, "id1", group_id="id2")),
            protocol2(2, "id4", group="id2", chord=a(3, "id1", group_id="id2")),
        ],
        [
            protocol1(1, "id3", taskset="id2", chord=a(3, "id1", group_id="id2")),
            protocol1(2, "id4", taskset="id2", chord=a(3, "id1", group_id="id2")),
        ],
        [["chord", ["group", "id3", "id4"], "id1"]],
    ),
    "chain(a1, group(a2, a3))": (
        [protocol2(1, "id4", chain=[group("id3", a(2, "id1"), a(3, "id2"))])],
        [protocol1(1, "id4", callbacks=[group("id3", a(2, "id1"), a(3, "id2"))])],
        [["chain", "id4", ["group", "id1", "id2"]]],
    ),
    "chain(a1, group(a2, a3), a4)": (
        [protocol2(1, "id5", chain=[chord("id3", group("id3", a(2, "id1"), a(3, "id2")), a(4, "id4"))])],
        [protocol1(1, "id5", callbacks=[chord("id3", group("id3", a(2, "id1"), a(3, "id2")), a(4, "id4"))])],
        [["chain", "id5", ["chord", ["group", "id1", "id2"], "id4"]]],
    ),
    "group(chain(a1, a2), chain(a3, a4))": (
        [
            protocol2(1, "id3", chain=[a(2, "id1", group_id="id2")]),
            protocol2(3, "id5", chain=[a(4, "id4", group_id="id2")]),
        ],
        [
            protocol1(1, "id3", callbacks=[a(2, "id1", group_id="id2")]),
            protocol1(3, "id5", callbacks=[a(4, "id4", group_id="id2")]),
        ],
        [["group", ["chain", "id3", "id1"], ["chain", "id5", "id4"]]],
    ),
    "chord([chain(a1, a2), chain(a3, a4)], a5)": (
        [
            protocol2(1, "id4", chain=[a(2, "id1", group_id="id2", chord=a(5, "id3", group_id="id2"))]),
            protocol2(3, "id6", chain=[a(4, "id5", group_id="id2", chord=a(5, "id3", group_id="id2"))]),
        ],
        [
            protocol1(1, "id4", callbacks=[a(2, "id1", group_id="id2", chord=a(5, "id3", group_id="id2"))]),
            protocol1(3, "id6", callbacks=[a(4, "id5", group_id="id2", chord=a(5, "id3", group_id="id2"))]),
        ],
        [["chord", ["group", ["chain", "id4", "id1"], ["chain", "id6", "id5"]], "id3"]],
    ),
    "chord([a1, a2], chain(a3, a4))": (
        [
            protocol2(1, "id4", group="id3", chord=chain("id2", a(3, "id1"), a(4, "id2", group_id="id3"))),
            protocol2(2, "id5", group="id3", chord=chain("id2", a(3, "id1"), a(4, "id2", group_id="id3"))),
        ],
        [
            protocol1(1, "id4", taskset="id3", chord=chain("id2", a(3, "id1"), a(4, "id2", group_id="id3"))),
            protocol1(2, "id5", taskset="id3", chord=chain("id2", a(3, "id1"), a(4, "id2", group_id="id3"))),
        ],
        [["chord", ["group", "id4", "id5"], ["chain", "id1", "id2"]]],
    ),
    "chord([a1, a2], group(a3, a4))": (
        [
            protocol2(
                1, "id5", group="id2", chord=group("id4", a(3, "id1", group_id="id2"), a(4, "id3", group_id="id2"))
            ),
            protocol2(
                2, "id6", group="id2", chord=group("id4", a(3, "id1", group_id="id2"), a(4, "id3", group_id="id2"))
            ),
        ],
        [
            protocol1(1, "id5", taskset="id2", chord=group("id4", a(3, "id1"), a(4, "id3"), group_id="id2")),
            protocol1(2, "id6", taskset="id2", chord=group("id4", a(3, "id1"), a(4, "id3"), group_id="id2")),
        ],
        [["chord", ["group", "id5", "id6"], ["group", "id1", "id3"]]],
    ),
    "group(chord([a1, a2], a3), a4)": (
        [
            protocol2(1, "id3", group="id4", chord=a(3, "id1", group_id="id2")),
            protocol2(2, "id5", group="id4", chord=a(3, "id1", group_id="id2")),
            protocol2(4, "id6", group="id2"),
        ],
        [
            protocol1(1, "id3", taskset="id4", chord=a(3, "id1", group_id="id2")),
            protocol1(2, "id5", taskset="id4", chord=a(3, "id1", group_id="id2")),
            protocol1(4, "id6", taskset="id2"),
        ],
        [["group", ["chord", ["group", "id3", "id5"], "id1"], "id6"]],
    ),
    "a1 with link=a2": ([protocol2(1, "id1", callbacks=[a(2)])], [protocol1(1, "id1", callbacks=[a(2)])], ["id1"]),
    "a1 with link_error=a2": ([protocol2(1, "id1", errbacks=[a(2)])], [protocol1(1, "id1", errbacks=[a(2)])], ["id1"]),
    "a.map([..])": ([protocol2(1, "id1", "celery.map")], [protocol1(1, "id1", "celery.map")], []),
    "a.chunks([..], 1)": (
        [protocol2(1, "id1", "celery.starmap", group="id2"), protocol2(1, "id3", "celery.starmap", group="id2")],
        [protocol1(1, "id1", "celery.starmap", taskset="id2"), protocol1(1, "id3", "celery.starmap", taskset="id2")],
        [],
    ),
}
"""What is published at first for a canvas, in protocol 2 and in 1, and the tree that it tells of."""


@pytest.mark.parametrize("canvas", CANVASES)
def test_messages_of_both_protocols_tell_of_the_whole_tree(canvas: str) -> None:
    second, first, expected = CANVASES[canvas]

    assert tree(planned(*second)) == expected
    assert tree(planned(*first)) == expected


@pytest.mark.parametrize("canvas", CANVASES)
def test_containers_stand_before_their_members(canvas: str) -> None:
    for messages in CANVASES[canvas][:2]:
        seen: set[str | None] = {None}
        for node in planned(*messages):
            assert node.parent in seen
            seen.add(node.task_id)


def test_the_container_of_a_group_has_celery_s_id() -> None:
    for messages in CANVASES["chord([a1, a2], a3)"][:2]:
        assert [node.task_id for node in planned(messages[0]) if node.task_class == "celery.group"] == ["id2"]


@pytest.mark.parametrize("protocol", [protocol2, protocol1], ids=["protocol 2", "protocol 1"])
def test_a_group_at_the_end_of_another_may_have_its_id(protocol: Any) -> None:
    last = group("id2", a(2, "id3"), a(3, "id4"), group_id="id2")
    message = protocol2(1, "id1", chain=[last]) if protocol is protocol2 else protocol1(1, "id1", callbacks=[last])

    assert tree(planned(message)) == [["group", ["chain", "id1", ["group", "id3", "id4"]]]]


def test_members_that_are_not_ours_are_left_out() -> None:
    foreign = signature("shop.other", {}, {"task_id": "id2"})

    assert tree(planned(protocol2(1, "id1", chain=[a(3, "id3"), foreign]))) == [["chain", "id1", "id3"]]
    assert tree(planned(protocol2(1, "id1", "shop.other", chain=[a(3, "id3"), foreign]))) == [["chain", "id3"]]


def test_a_chord_whose_body_is_not_ours_has_no_body() -> None:
    body = signature("shop.other", {}, {"task_id": "id3", "group_id": "id2"})

    assert tree(planned(protocol2(1, "id1", group="id2", chord=body))) == [["chord", ["group", "id1"]]]


def test_a_chord_whose_headers_are_not_ours_has_only_its_body() -> None:
    message = protocol2(1, "id1", "shop.other", group="id2", chord=a(3, "id3", group_id="id2"))

    assert tree(planned(message)) == [["chord", "id3"]]


def test_the_call_describes_its_node_when_asked() -> None:
    (node,) = planned(protocol2(5, "id1"))

    assert (node.task_class, node.user_id, node.is_container) == ("shop.step", USER, False)
    assert node.describe() == Description("Step 5", 2)


@pytest.mark.parametrize("names", [(None, None), ("Shop", None), (None, "Shop"), ("Shop", "Other")])
def test_the_first_name_among_the_members_names_their_containers(names: Sequence[str | None]) -> None:
    kwargs: list[Json] = [{"label": 1, "user_id": USER} | ({"user_task_name": name} if name else {}) for name in names]
    link = signature(Step.name, kwargs[1], {"task_id": "id2"})
    message = Message("id1", Step.name, (), kwargs[0], group="id9", links=(link,))
    in_group = replace_options(link, group_id="id9")

    for links in ((link,), (in_group,)):
        nodes = Planner(lookup).message(Message(**{**vars(message), "links": links})).nodes
        containers = [node.describe() for node in nodes if node.is_container]
        assert set(containers) == {Description("Shop" if any(names) else "")}


def replace_options(link: Json, **options: Any) -> Json:
    return {**link, "options": {**link["options"], **options}}


def mutable(args: Sequence[Any], kwargs: Json) -> Json:
    return {**signature(Step.name, kwargs, {"task_id": "id2"}, args), "immutable": False}


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (mutable([USER], {}), (Description("Step None", 2), USER)),
        (mutable([], {"user_id": USER}), (Description("Step None", 2), USER)),
        (mutable([3, USER], {}), (Description("Step 3", 2), USER)),
        (mutable([], {"label": 3, "user_id": USER}), (Description("Step 3", 2), USER)),
        ({**mutable([3, USER], {}), "immutable": True}, (Description("Step 3", 2), USER)),
    ],
    ids=["result and user", "result, named user", "result ignored", "all named", "immutable"],
)
def test_a_later_member_may_get_the_result_of_the_one_before(link: Json, expected: tuple[Description, int]) -> None:
    *_, node = planned(protocol2(1, "id1", chain=[link]))

    assert (node.describe(), node.user_id) == expected


class ToldByResult(Labeled):
    def run(self, user_id: int, label: Any = None) -> None: ...


class ToldByNobody(Labeled):
    def run(self, label: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize("later", [ToldByResult, ToldByNobody])
def test_who_triggers_a_later_member_without_saying_is_taken_from_the_first(later: type[Labeled]) -> None:
    link = {**mutable([], {}), "task": "shop.later"}
    tasks: dict[str, Labeled] = {"shop.step": Step(), "shop.later": later()}
    message = Message("id1", "shop.step", (), {"label": 1, "user_id": USER}, links=(link,))

    *_, node = Planner(tasks.get).message(message).nodes

    assert (node.task_class, node.user_id, node.describe().name) == ("shop.later", USER, "Step None")


@pytest.mark.parametrize("kwargs", [{}, {"label": 1}, {"nonsense": 1}], ids=["nothing", "only the label", "nonsense"])
def test_a_call_that_does_not_say_who_triggers_it_is_refused(kwargs: Json) -> None:
    with pytest.raises(TypeError, match=r"^Each invocation of a UserTaskMixin subclass must include the user_id$"):
        Planner(lookup).message(Message("id1", Step.name, (), kwargs))


def test_members_of_a_group_get_its_arguments_before_their_own() -> None:
    member = {**mutable([], {}), "args": [USER]}

    members = [member, {**member, "args": [8], "options": {"task_id": "id3"}}]

    branch = Planner(lookup).group("id9", members, Given([3]), None)

    assert tree(branch.nodes) == [["group", "id2", "id3"]]
    assert [(node.describe().name, node.user_id) for node in branch.nodes[1:]] == [("Step 3", USER), ("Step 3", 8)]


def test_a_group_whose_members_are_not_ours_is_nothing() -> None:
    foreign = signature("shop.other", {}, {"task_id": "id2"})

    assert Planner(lookup).group("id9", [foreign], Given(), None) == Branch()
