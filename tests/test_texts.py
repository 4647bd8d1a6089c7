from __future__ import annotations

import json
from enum import Enum
from typing import Any

import pytest
from django.utils.functional import lazystr
from hypothesis import given
from hypothesis import strategies as st

from user_tasks import texts

pytestmark = pytest.mark.embedded


class Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class UnreadableThing:
    def __str__(self) -> str:
        raise ValueError("no text")


class Colour(Enum):
    RED = 1


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        (lazystr("later"), "later"),
        (ValueError("why"), "why"),
        (KeyError("key"), "'key'"),
        (ValueError(), "ValueError"),
        (Unreadable(), "Unreadable"),
        ({"reason": "why", "line": 3}, '{"reason": "why", "line": 3}'),
        (["a", None, True], '["a", null, true]'),
        (7, "7"),
        (None, "null"),
        (Colour.RED, "Colour.RED"),
        ({1}, "{1}"),
        (b"bytes", "b'bytes'"),
        (UnreadableThing(), "UnreadableThing"),
        (nested(100_000), "list"),
        ("before\0after", "beforeafter"),
        ("\ud800 alone", "? alone"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_text(value: Any, text: str) -> None:
    assert texts.error_text(value) == text


@pytest.mark.parametrize("character", ["x", "ü", "€", "😀"])
def test_error_text_is_capped_in_bytes_between_characters(character: str) -> None:
    text = texts.error_text(character * 100_000)
    assert texts.ERROR_BYTES - 4 < len(text.encode()) <= texts.ERROR_BYTES
    assert text == character * (len(text) - 1) + "…"


def test_error_text_of_just_the_limit_is_kept() -> None:
    assert texts.error_text("x" * texts.ERROR_BYTES) == "x" * texts.ERROR_BYTES


@pytest.mark.parametrize(
    ("value", "shortened"),
    [("12345", "12345"), ("123456", "1234…"), ("1234\0005", "12345"), (lazystr("123456"), "1234…"), (17, "17")],
)
def test_shorten(value: object, shortened: str) -> None:
    assert texts.shorten(value, 5) == shortened


ANY_TEXT = st.text(st.characters(codec=None, categories=None))


@given(ANY_TEXT)
def test_clean_text_is_what_every_database_takes(value: str) -> None:
    text = texts.clean(value)
    assert "\0" not in text
    assert text.encode().decode() == text


@given(st.recursive(st.none() | st.booleans() | st.floats() | ANY_TEXT, st.lists))
def test_error_text_of_data_is_json(value: Any) -> None:
    if not isinstance(value, str):
        assert texts.error_text(value) == json.dumps(value)
