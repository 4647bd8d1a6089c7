from __future__ import annotations

from copy import deepcopy
from typing import Any
from unittest import mock

import pytest
from celery import signature

from user_tasks import utils
from user_tasks.utils import Message, call_message, read_message

pytestmark = pytest.mark.embedded

HEADERS: dict[str, Any] = {
    "id": "id1",
    "task": "shop.export",
    "retries": 2,
    "eta": None,
    "expires": None,
    "group": "id9",
    "timelimit": [None, None],
    "lang": "py",
    "root_id": "id1",
    "argsrepr": "(1,)",
    "ignore_result": True,
}
"""What Celery sends, and some more than the old shape has room for."""

PROTO1_HEADERS: dict[str, Any] = {
    "id": "id1",
    "task": "shop.export",
    "retries": 2,
    "eta": None,
    "expires": None,
    "utc": True,
    "taskset": "id9",
    "timelimit": [None, None],
}


def link(task_id: str | None, *links: Any) -> dict[str, Any]:
    """Return the signature of a task as it is in a message."""
    options = {"task_id": task_id} if task_id else {}
    return {**signature("shop.export", args=(1,)), "options": {**options, **({"link": list(links)} if links else {})}}


def test_headers_become_those_of_protocol_1() -> None:
    assert utils.extract_proto2_headers(**HEADERS) == PROTO1_HEADERS


def test_headers_are_taken_by_position_in_their_documented_order() -> None:
    found = utils.extract_proto2_headers("id1", 2, None, None, "id9", [None, None], "shop.export")

    assert found == PROTO1_HEADERS


def test_an_empty_embed_has_no_callbacks_chain_or_chord() -> None:
    assert utils.extract_proto2_embed() == {"callbacks": [], "errbacks": [], "chain": None, "chord": None}


def test_an_embed_is_taken_as_it_is_and_what_is_unknown_left_out() -> None:
    parts = {"callbacks": ["c"], "errbacks": ["e"], "task_chain": ["t"], "chord": "b"}

    found = utils.extract_proto2_embed(**parts, stamps={})

    assert found == {"callbacks": ["c"], "errbacks": ["e"], "chain": ["t"], "chord": "b"}


def test_a_message_without_canvas_in_the_shape_of_protocol_1() -> None:
    body: Any = ([1], {"steps": 2}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})

    found = utils.proto2_to_proto1(body, HEADERS)

    assert found == {
        **PROTO1_HEADERS,
        "args": [1],
        "kwargs": {"steps": 2},
        "callbacks": [],
        "errbacks": [],
        "chord": None,
    }


@pytest.mark.parametrize("embed", [{"task_chain": ["b", "c"]}, {"chain": ["c", "b"]}], ids=["in order", "as Celery's"])
def test_the_rest_of_a_chain_is_the_last_callback(embed: dict[str, Any]) -> None:
    links = {name: link(name) for name in "abc"}
    named = {key: [links[name] for name in names] for key, names in embed.items()}

    found = utils.proto2_to_proto1(((), {}, {"callbacks": [links["a"]], **named}), HEADERS)

    assert "chain" not in found
    first, rest = found["callbacks"]
    assert first == links["a"]
    assert (rest.task, [task.options["task_id"] for task in rest.tasks]) == ("celery.chain", ["b", "c"])


def test_the_chain_is_made_by_the_name_in_this_module() -> None:
    with mock.patch("user_tasks.utils.chain") as made:
        found = utils.proto2_to_proto1(((), {}, {"chain": ["last", "next"]}), HEADERS)

    made.assert_called_once_with(["next", "last"])
    assert found["callbacks"] == [made.return_value]


def test_the_message_itself_is_never_changed() -> None:
    body: Any = ([1], {}, {"callbacks": [link("a")], "chain": [link("c"), link("b")], "chord": link("d")})
    headers = dict(HEADERS)
    before = deepcopy((body, headers))

    utils.proto2_to_proto1(body, headers)
    read_message("shop.export", body, headers)

    assert (body, headers) == before


def test_a_message_of_protocol_2() -> None:
    body = ([1], {"steps": 2}, {"chain": [link("c"), link("b")], "chord": link("d")})

    message = read_message("other", body, HEADERS)

    assert message == Message(
        task_id="id1",
        task="shop.export",
        args=[1],
        kwargs={"steps": 2},
        retries=2,
        group="id9",
        links=(link("b"), link("c")),
        chord=link("d"),
    )


def test_the_sender_names_the_task_of_a_message_that_does_not() -> None:
    assert read_message("shop.export", ((), {}, {}), {"id": "id1"}).task == "shop.export"


def test_a_message_of_protocol_2_may_have_nothing_in_it() -> None:
    assert read_message("shop.export", (None, None, None), {"id": "id1"}) == Message("id1", "shop.export", (), {})


def test_a_message_of_protocol_1() -> None:
    body = {
        **PROTO1_HEADERS,
        "args": [1],
        "kwargs": {"steps": 2},
        "callbacks": [link(None), link("b", link("c", link(None), link("d")))],
        "chord": link("e"),
    }

    message = read_message("other", body, {})

    assert (message.task_id, message.task, message.retries, message.group) == ("id1", "shop.export", 2, "id9")
    assert (message.args, message.kwargs, message.chord) == ([1], {"steps": 2}, link("e"))
    assert [following["options"]["task_id"] for following in message.links] == ["b", "c", "d"]


def test_a_message_of_protocol_1_may_lack_all_but_its_id() -> None:
    assert read_message("shop.export", {"id": "id1"}, None) == Message("id1", "shop.export", (), {})


@pytest.mark.parametrize(
    "options",
    [{"chain": [link("c"), link("b")]}, {"link": link("b", link("c"))}, {"link": [link("b", link("c"))]}],
    ids=["protocol 2", "protocol 1", "protocol 1, list"],
)
def test_the_call_of_a_task_tells_what_its_message_will(options: dict[str, Any]) -> None:
    call = {"task_id": "id1", "group_id": "id9", "chord": link("d"), **options}

    message = call_message("shop.export", [1], None, call)

    assert (message.task_id, message.task, message.args, message.kwargs) == ("id1", "shop.export", [1], {})
    assert (message.group, message.chord) == ("id9", link("d"))
    assert [following["options"]["task_id"] for following in message.links] == ["b", "c"]


def test_the_call_of_a_task_may_leave_its_id_to_celery() -> None:
    assert call_message("shop.export", None, None, {}).task_id == "shop.export"
