from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from user_tasks import estimates

pytestmark = pytest.mark.embedded

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
STEPS = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("state", "completed", "total", "expected"),
    [
        ("In Progress", 0, 10, 0),
        ("In Progress", 3, 12, 0.25),
        ("In Progress", 12, 12, 1),
        ("In Progress", 13, 12, 1),
        ("In Progress", 1, 0, 0),
        ("In Progress", -1, 12, 0),
        ("In Progress", 1, -12, 0),
        ("Failed", 6, 12, 0.5),
        ("Succeeded", 0, 0, 1),
        ("Succeeded", 6, 12, 1),
    ],
)
def test_progress(state: str, completed: int, total: int, expected: float) -> None:
    assert estimates.progress(state, completed, total) == expected


@pytest.mark.parametrize(("completed", "total", "expected"), [(29, 100, 29), (999, 1000, 99), (2, 3, 66)])
def test_percent_is_rounded_down(completed: int, total: int, expected: int) -> None:
    assert estimates.percent("In Progress", completed, total) == expected


@given(st.sampled_from(["Pending", "Succeeded", "Compressing"]), STEPS, STEPS)
def test_progress_stays_in_its_range_whatever_the_numbers(state: str, completed: int, total: int) -> None:
    assert 0 <= estimates.progress(state, completed, total) <= 1
    assert 0 <= estimates.percent(state, completed, total) <= 100


@pytest.mark.parametrize(
    ("seconds", "completed", "total", "expected"),
    [
        (60, 3, 12, timedelta(seconds=180)),
        (60, 6, 12, timedelta(seconds=60)),
        (0, 1, 2, timedelta()),
        (-5, 1, 2, timedelta()),
        (60, 0, 12, None),
        (60, 12, 12, None),
        (60, 13, 12, None),
        (60, 1, 0, None),
        (3600, 1, 2**62, None),
    ],
)
def test_time_left(seconds: int, completed: int, total: int, expected: timedelta | None) -> None:
    started = NOW - timedelta(seconds=seconds)
    assert estimates.time_left(started, NOW, completed, total) == expected


def test_time_left_of_what_has_not_started_is_unknown() -> None:
    assert estimates.time_left(None, NOW, 1, 2) is None
