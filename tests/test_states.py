from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from operator import methodcaller

import pytest
from django.utils.functional import lazystr
from django.utils.translation import override

from user_tasks import states
from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskStatus
from user_tasks.states import State

pytestmark = pytest.mark.embedded

CUSTOM = "Compressing"

VERBS: dict[str, tuple[Callable[[UserTaskStatus], None], str]] = {
    "start": (lambda status: status.start(), State.IN_PROGRESS.value),
    "set_state": (lambda status: status.set_state("Uploading"), "Uploading"),
    "retry": (lambda status: status.retry(), State.RETRYING.value),
    "succeed": (lambda status: status.succeed(), State.SUCCEEDED.value),
    "fail": (lambda status: status.fail("why"), State.FAILED.value),
    "cancel": (lambda status: status.cancel(), State.CANCELED.value),
    **{f"set_state {state}": (methodcaller("set_state", state), state) for state in State.values},
}
"""What each verb does, and the state that it leads to."""

HALTED = {verb for verb, (_, target) in VERBS.items() if target not in (*states.FINAL, State.RETRYING)} | {
    "set_state Retrying"
}
"""What a canceled task is stopped at."""

ALL_STATES = [*State.values, CUSTOM]
NOT_FINAL = [state for state in ALL_STATES if not states.is_final(state)]


def act(verb: str, status: UserTaskStatus) -> str:
    action, target = VERBS[verb]
    if status.state == State.CANCELED and verb in HALTED:
        with pytest.raises(TaskCanceledException):
            action(status)
    else:
        action(status)
    return target


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", NOT_FINAL)
def test_verb_moves_what_is_not_final(make_status: Callable[..., UserTaskStatus], state: str, verb: str) -> None:
    status = make_status(state=state)
    target = act(verb, status)
    assert (status.state, UserTaskStatus.objects.get().state) == (target, target)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", states.FINAL)
def test_final_state_is_left_by_nothing(
    make_status: Callable[..., UserTaskStatus], stopped: list[UserTaskStatus], state: str, verb: str
) -> None:
    status = make_status(state=state, attempts=2)
    act(verb, status)
    stored = UserTaskStatus.objects.get()
    assert (status.state, stored.state, stored.attempts, stopped) == (state, state, 2, [])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", NOT_FINAL)
def test_entry_into_a_final_state_is_told_once(
    make_status: Callable[..., UserTaskStatus], stopped: list[UserTaskStatus], state: str, verb: str
) -> None:
    status = make_status(state=state)
    target = act(verb, status)
    running = state in (State.IN_PROGRESS, CUSTOM)
    expected = [] if not states.is_final(target) or (target == State.CANCELED and running) else [(status, target)]
    assert [(told, told.state) for told in stopped] == expected


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", states.FINAL)
def test_stale_instance_does_not_undo_a_final_state(
    make_status: Callable[..., UserTaskStatus], state: str, verb: str
) -> None:
    stale = make_status()
    UserTaskStatus.objects.update(state=state)
    action, _target = VERBS[verb]
    if state == State.CANCELED and verb in HALTED:
        with pytest.raises(TaskCanceledException):
            action(stale)
    else:
        action(stale)
    assert (stale.state, UserTaskStatus.objects.get().state) == (state, state)


@pytest.mark.parametrize("state", ALL_STATES)
def test_state_is_final_or_not(state: str) -> None:
    assert states.is_final(state) == (state in ("Succeeded", "Failed", "Canceled"))


@pytest.mark.parametrize(
    ("members", "outcome"),
    [
        ([], "Succeeded"),
        (["Succeeded"], "Succeeded"),
        (["Succeeded", "Canceled"], "Canceled"),
        (["Canceled", "Failed", "Succeeded"], "Failed"),
        (["Failed"], "Failed"),
    ],
)
def test_fold(members: list[str], outcome: str) -> None:
    assert states.fold(members) == outcome


class Phase(Enum):
    PACKING = "Packing"


@pytest.mark.parametrize(
    ("state", "value"),
    [
        (Phase.PACKING, "Packing"),
        (State.FAILED, "Failed"),
        ("Packing", "Packing"),
        (lazystr("Packing"), "Packing"),
    ],
)
def test_value_of(state: object, value: str) -> None:
    assert states.value_of(state) == value
    assert type(states.value_of(state)) is str


def test_custom_state_is_shown_as_it_is() -> None:
    with override("de"):
        assert states.text_of(CUSTOM) == CUSTOM


@pytest.mark.parametrize("state", State.values)
def test_known_state_is_shown_in_english(state: str) -> None:
    with override("en"):
        assert states.text_of(state) == str(states.TRANSLATIONS[state]) == state
