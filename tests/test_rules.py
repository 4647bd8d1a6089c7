from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from pytest_django import DjangoAssertNumQueries

from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.rules import (
    ARTIFACT_PERMISSION,
    STATUS_PERMISSION,
    add_rules,
    is_artifact_creator,
    is_status_creator,
)

OWNERS_MAY = {"view_usertaskstatus", "cancel_usertaskstatus", "delete_usertaskstatus", "view_usertaskartifact"}
ONLY_SUPERUSERS_MAY = {"change_usertaskstatus", "change_usertaskartifact", "delete_usertaskartifact"}


@pytest.fixture(autouse=True)
def no_rules(rule_set: dict[str, Any]) -> None:
    """No rules in force."""
    rule_set.clear()


@pytest.fixture
def subjects(
    make_status: Callable[..., UserTaskStatus], make_artifact: Callable[..., UserTaskArtifact]
) -> dict[str, Any]:
    """A status of the owner and its artifact, by model name."""
    status = make_status()
    return {"usertaskstatus": status, "usertaskartifact": make_artifact(status)}


def granted(user: User | AnonymousUser, subjects: dict[str, Any] | None = None) -> set[str]:
    """Return the permissions that a user has on the models, or on these objects."""
    names = OWNERS_MAY | ONLY_SUPERUSERS_MAY
    objects = {name: (subjects or {}).get(name.split("_")[1]) for name in names}
    return {name for name in names if user.has_perm(f"user_tasks.{name}", objects[name])}


def test_no_rule_is_in_force_until_the_project_adds_them(owner: User, subjects: dict[str, Any]) -> None:
    assert granted(owner) == granted(owner, subjects) == set()


def test_owners_may_view_cancel_and_delete_what_they_triggered(owner: User, subjects: dict[str, Any]) -> None:
    add_rules()
    assert granted(owner) == granted(owner, subjects) == OWNERS_MAY


def test_others_may_so_in_general_but_not_with_this_one(make_user: Callable[..., User], subjects: Any) -> None:
    add_rules()
    other = make_user()
    assert (granted(other), granted(other, subjects)) == (OWNERS_MAY, set())


def test_superusers_may_do_everything(make_user: Callable[..., User], subjects: dict[str, Any]) -> None:
    add_rules()
    superuser = make_user(is_superuser=True)
    assert granted(superuser) == granted(superuser, subjects) == OWNERS_MAY | ONLY_SUPERUSERS_MAY


def test_anonymous_users_may_do_nothing_with_this_one(subjects: dict[str, Any]) -> None:
    add_rules()
    assert granted(AnonymousUser(), subjects) == set()


def test_rules_may_be_added_again(owner: User) -> None:
    add_rules()
    add_rules()
    assert granted(owner) == OWNERS_MAY


def test_predicates_hold_without_an_object(owner: User) -> None:
    for predicate in (is_status_creator, is_artifact_creator, STATUS_PERMISSION, ARTIFACT_PERMISSION):
        assert predicate.test(owner)
    assert is_status_creator(owner)
    assert is_artifact_creator(owner, None)


def test_asking_about_a_status_takes_no_query(
    owner: User, subjects: dict[str, Any], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    add_rules()
    with django_assert_num_queries(0):
        assert owner.has_perms(["user_tasks.view_usertaskstatus"], subjects["usertaskstatus"])
