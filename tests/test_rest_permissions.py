from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.test import Client, RequestFactory
from rules.permissions import permissions

from user_tasks.access import allows, visible_artifacts, visible_statuses
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.rules import add_rules

ACTORS = ("anonymous", "owner", "other", "superuser", "granted")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
FORMS: dict[str, Callable[[UUID], str]] = {
    "plain": str,
    "hex": lambda uuid: uuid.hex,
    "unknown": lambda _: str(uuid4()),
    "malformed": lambda uuid: f"{uuid}0",
}


@dataclass(frozen=True)
class Route:
    url: str
    codes: dict[str, int]

    @property
    def forms(self) -> list[str]:
        return list(FORMS) if "{uuid}" in self.url else ["plain"]


ROUTES = {
    "statuses": Route("/tasks/", {"GET": 200}),
    "status": Route("/tasks/{uuid}/", {"GET": 200, "DELETE": 204}),
    "cancel": Route("/tasks/{uuid}/cancel/", {"POST": 201}),
    "artifacts": Route("/artifacts/", {"GET": 200}),
    "artifact": Route("/artifacts/{uuid}/", {"GET": 200}),
}


def expected_code(actor: str, by_ownership: bool, route: Route, method: str, form: str) -> int:
    codes = {**route.codes, "HEAD": route.codes.get("GET", 405), "OPTIONS": 200}
    if actor == "anonymous":
        return 403
    if method not in codes or codes[method] == 405 or method == "OPTIONS":
        return codes.get(method, 405)
    if not by_ownership and actor not in ("superuser", "granted"):
        return 403
    if "{uuid}" not in route.url:
        return codes[method]
    visible = actor == "superuser" or (by_ownership and actor == "owner")
    return codes[method] if visible and form in ("plain", "hex") else 404


@pytest.fixture(params=["default", "by ownership"])
def by_ownership(request: pytest.FixtureRequest, rule_set: dict[str, Any]) -> bool:
    """Whether the project has called `add_rules`."""
    if request.param == "by ownership":
        add_rules()
    return bool(request.param == "by ownership")


@pytest.fixture(params=ACTORS)
def actor(request: pytest.FixtureRequest) -> str:
    """Who asks."""
    return str(request.param)


@pytest.fixture
def user(actor: str, owner: User, make_user: Callable[..., User]) -> User | AnonymousUser:
    """The user who asks."""
    if actor == "anonymous":
        return AnonymousUser()
    if actor == "owner":
        return owner
    asking = make_user(actor, is_superuser=actor == "superuser")
    if actor == "granted":
        asking.user_permissions.set(Permission.objects.filter(content_type__app_label="user_tasks"))
    return User.objects.get(pk=asking.pk)


@pytest.fixture
def asking(user: User | AnonymousUser, client: Client) -> Client:
    """The client of the user who asks."""
    if isinstance(user, User):
        client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def make_subject(make_status: Callable[..., UserTaskStatus], make_artifact: Callable[..., UserTaskArtifact]) -> Any:
    """Return a factory of what the URLs of a route name."""

    def make(route: Route) -> UserTaskStatus | UserTaskArtifact:
        status = make_status()
        return make_artifact(status) if "artifacts" in route.url else status

    return make


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_each_answer_is_as_the_contract_says(
    route: Route, actor: str, by_ownership: bool, asking: Client, make_subject: Callable[[Route], Any]
) -> None:
    cases = [(method, form) for method in METHODS for form in route.forms]
    answers = {}
    for method, form in cases:
        url = route.url.format(uuid=FORMS[form](make_subject(route).uuid))
        answers[method, form] = asking.generic(method, url).status_code
    assert answers == {case: expected_code(actor, by_ownership, route, *case) for case in cases}


@pytest.mark.usefixtures("by_ownership")
def test_pages_and_api_allow_the_same(
    asking: Client,
    user: User | AnonymousUser,
    make_status: Callable[..., UserTaskStatus],
    make_artifact: Callable[..., UserTaskArtifact],
) -> None:
    request = RequestFactory().get("/")
    request.user = user
    status = make_status()
    artifact = make_artifact(status)
    shown = status in visible_statuses(request, UserTaskStatus.objects.all())
    output_shown = artifact in visible_artifacts(request, UserTaskArtifact.objects.all())

    allowed = {
        "list": allows(user, "view", UserTaskStatus),
        "view": shown and allows(user, "view", status),
        "view artifact": output_shown and allows(user, "view", artifact),
        "cancel": shown and allows(user, "cancel", status),
        "delete": shown and allows(user, "delete", status),
    }
    answers = {
        "list": asking.get("/tasks/"),
        "view": asking.get(f"/tasks/{status.uuid}/"),
        "view artifact": asking.get(f"/artifacts/{artifact.uuid}/"),
        "cancel": asking.post(f"/tasks/{status.uuid}/cancel/"),
        "delete": asking.delete(f"/tasks/{status.uuid}/"),
    }
    assert allowed == {name: answer.status_code < 300 for name, answer in answers.items()}


@pytest.fixture
def mine_and_theirs(
    package_rules: None, client: Client, owner: User, make_status: Callable[..., UserTaskStatus], make_user: Any
) -> tuple[UserTaskStatus, UserTaskStatus]:
    """A status of the user who is logged in, and one of somebody else."""
    client.force_login(owner, "django.contrib.auth.backends.ModelBackend")
    return make_status(), make_status(user=make_user())


def any_but_none_in_particular(user: User, status: UserTaskStatus | None = None) -> bool:
    return status is None


@pytest.mark.parametrize(("method", "path", "action"), [("DELETE", "", "delete"), ("POST", "cancel/", "cancel")])
def test_what_is_visible_but_not_allowed_is_forbidden_and_what_is_not_visible_is_not_found(
    client: Client, mine_and_theirs: tuple[UserTaskStatus, UserTaskStatus], method: str, path: str, action: str
) -> None:
    permissions[f"user_tasks.{action}_usertaskstatus"] = any_but_none_in_particular
    answers = [client.generic(method, f"/tasks/{status.uuid}/{path}").status_code for status in mine_and_theirs]
    assert answers == [403, 404]


def test_what_the_filters_show_is_still_not_found_without_the_permission_to_view_it(
    client: Client, mine_and_theirs: tuple[UserTaskStatus, UserTaskStatus]
) -> None:
    permissions["user_tasks.view_usertaskstatus"] = any_but_none_in_particular
    mine, _ = mine_and_theirs
    assert [client.generic(method, f"/tasks/{mine.uuid}/").status_code for method in ("GET", "HEAD")] == [404, 404]


def test_permissions_are_asked_by_position_on_the_model_and_then_on_the_object(
    client: Client, mine_and_theirs: tuple[UserTaskStatus, UserTaskStatus], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def has_perms(user: User, perms: list[str], *objects: Any) -> bool:
        asked.append((*perms, *(asked_about.uuid for asked_about in objects)))
        return True

    monkeypatch.setattr(User, "has_perms", has_perms)
    mine, _ = mine_and_theirs
    client.get(f"/tasks/{mine.uuid}/")
    client.post(f"/tasks/{mine.uuid}/cancel/")
    client.delete(f"/tasks/{mine.uuid}/")
    names = [f"user_tasks.{action}_usertaskstatus" for action in ("view", "cancel", "delete")]
    assert asked == [question for name in names for question in ((name,), (name, mine.uuid))]


def test_a_session_needs_its_csrf_token(owner: User, make_status: Callable[..., UserTaskStatus]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner, "django.contrib.auth.backends.ModelBackend")
    assert client.post(f"/tasks/{make_status().uuid}/cancel/").status_code == 403


def test_a_browser_is_shown_pages_of_the_api(
    client: Client, mine_and_theirs: tuple[UserTaskStatus, UserTaskStatus], make_artifact: Callable[..., Any]
) -> None:
    mine, _ = mine_and_theirs
    artifact = make_artifact(mine)
    for url in ("/tasks/", f"/tasks/{mine.uuid}/", "/artifacts/", f"/artifacts/{artifact.uuid}/"):
        response = client.get(url, headers={"Accept": "text/html"})
        assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
