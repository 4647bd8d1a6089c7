from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.paginator import Paginator
from django.db import connection, models
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from user_tasks.admin import (
    CONTENT_SHOWN,
    OUTPUTS_SHOWN,
    SELECTED_SHOWN,
    TEXT_SHOWN,
    ReadOnlyAdmin,
    UserTaskStatusAdmin,
)
from user_tasks.containers import GROUP
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.paginators import CappedPaginator

MakeStatus = Callable[..., UserTaskStatus]
MakeArtifact = Callable[..., UserTaskArtifact]

STATUSES = "admin:user_tasks_usertaskstatus"
ARTIFACTS = "admin:user_tasks_usertaskartifact"

LARGE = "x" * 200_000


def page(name: str, instance: models.Model | None = None) -> str:
    return reverse(name, args=[instance.pk] if instance else [])


def queries_of(client: Client, address: str) -> list[str]:
    ContentType.objects.get_for_models(UserTaskStatus, UserTaskArtifact)
    with CaptureQueriesContext(connection) as queries:
        response = client.get(address)
    assert response.status_code == 200
    return [query["sql"] for query in queries]


def text_of(client: Client, address: str, **query: Any) -> str:
    response = client.get(address, query)
    assert response.status_code == 200
    return response.content.decode()


def act(client: Client, action: str, *statuses: UserTaskStatus, **data: str) -> str:
    selected = {"action": action, "_selected_action": [status.pk for status in statuses], **data}
    response = client.post(page(f"{STATUSES}_changelist"), selected, follow=True)
    return response.content.decode()


@pytest.fixture
def staff(make_user: Callable[..., User], client: Client) -> Callable[..., User]:
    """Return a function that logs a member of the staff in, with the permissions of these codenames."""

    def log_in(*codenames: str) -> User:
        user = make_user(is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return user

    return log_in


@pytest.fixture
def make_tree(make_status: MakeStatus, make_artifact: MakeArtifact) -> Callable[[int], UserTaskStatus]:
    """Return a factory of groups with so many members, each with an artifact as large as its own."""

    def make(members: int) -> UserTaskStatus:
        group = make_status(task_class=GROUP, is_container=True)
        for row in [group, *(make_status(parent=group) for _ in range(members))]:
            make_artifact(row, text=LARGE)
        return group

    return make


@pytest.mark.parametrize("address", [f"{STATUSES}_changelist", f"{ARTIFACTS}_changelist"])
def test_queries_of_a_list_are_fixed(
    admin_client: Client, make_tree: Callable[[int], UserTaskStatus], address: str
) -> None:
    counts = []
    for members in (1, 30):
        make_tree(members)
        counts.append(len(queries_of(admin_client, page(address))))
    assert counts == [4, 4]


@pytest.mark.parametrize("name", ["change", "delete", "history"])
def test_queries_of_a_status_are_fixed(
    admin_client: Client, make_tree: Callable[[int], UserTaskStatus], name: str
) -> None:
    counts = [len(queries_of(admin_client, page(f"{STATUSES}_{name}", make_tree(members)))) for members in (1, 30)]
    assert counts[0] == counts[1] <= 9


@pytest.mark.parametrize("name", ["change", "delete", "history"])
def test_queries_of_an_artifact_are_fixed(
    admin_client: Client, make_tree: Callable[[int], UserTaskStatus], name: str
) -> None:
    counts = [
        len(queries_of(admin_client, page(f"{ARTIFACTS}_{name}", make_tree(members).artifacts.get())))
        for members in (1, 30)
    ]
    assert counts[0] == counts[1] <= 7


@pytest.mark.parametrize(
    "address",
    [
        lambda group: page(f"{STATUSES}_changelist"),
        lambda group: page(f"{STATUSES}_change", group),
        lambda group: page(f"{STATUSES}_delete", group),
        lambda group: page(f"{ARTIFACTS}_changelist"),
        lambda group: page(f"{ARTIFACTS}_change", group.artifacts.defer("text").get()),
        lambda group: page(f"{ARTIFACTS}_delete", group.artifacts.defer("text").get()),
    ],
    ids=["statuses", "status", "status to delete", "artifacts", "artifact", "artifact to delete"],
)
def test_no_large_text_is_read(
    admin_client: Client,
    make_tree: Callable[[int], UserTaskStatus],
    address: Callable[[UserTaskStatus], str],
) -> None:
    queries = queries_of(admin_client, address(make_tree(3)))
    column = connection.ops.quote_name("user_tasks_usertaskartifact") + "." + connection.ops.quote_name("text")
    assert not [sql for sql in queries if f" {column}" in sql]


def test_large_text_is_shown_in_part(
    admin_client: Client, make_status: MakeStatus, make_artifact: MakeArtifact
) -> None:
    artifact = make_artifact(make_status(), text="y" * TEXT_SHOWN + " and the rest")
    text = text_of(admin_client, page(f"{ARTIFACTS}_change", artifact))
    assert "y" * TEXT_SHOWN + "…" in text
    assert "and the rest" not in text
    assert "y" * 79 + "…" in text_of(admin_client, page(f"{ARTIFACTS}_changelist"))


def test_small_text_is_shown_whole(admin_client: Client, make_status: MakeStatus, make_artifact: MakeArtifact) -> None:
    artifact = make_artifact(make_status(), text="all & whole")
    assert "all &amp; whole<" in text_of(admin_client, page(f"{ARTIFACTS}_change", artifact))


@pytest.mark.parametrize("name", [f"{STATUSES}_change", f"{ARTIFACTS}_change"])
def test_nothing_can_be_edited(admin_client: Client, make_tree: Callable[[int], UserTaskStatus], name: str) -> None:
    group = make_tree(1)
    instance = group if name.startswith(STATUSES) else group.artifacts.get()
    text = text_of(admin_client, page(name, instance))
    assert '<input type="text"' not in text
    assert "<select" not in text
    assert "<textarea" not in text
    response = admin_client.post(page(name, instance), {"state": "Succeeded", "name": "changed"})
    assert response.status_code == 403
    group.refresh_from_db()
    assert (group.state, group.name) == ("Pending", "Export")


@pytest.mark.parametrize("name", [f"{STATUSES}_add", f"{ARTIFACTS}_add"])
def test_nothing_can_be_added(admin_client: Client, name: str) -> None:
    assert admin_client.get(page(name)).status_code == 403


@pytest.mark.parametrize("model", [UserTaskStatus, UserTaskArtifact])
def test_form_of_a_project_that_allows_editing_loads_no_table(model: type[models.Model]) -> None:
    model_admin = admin.site.get_model_admin(model)
    keys = {field.name for field in model._meta.fields if isinstance(field, models.ForeignKey)}
    assert set(model_admin.raw_id_fields) == keys


def test_status_leads_to_its_members_and_artifacts(
    admin_client: Client, make_status: MakeStatus, make_artifact: MakeArtifact
) -> None:
    group = make_status(task_class=GROUP, is_container=True, name="Group")
    member = make_status(parent=group, name="Member")
    make_artifact(member, name="Report")
    make_artifact(group, name="Summary")
    members = f"{page(f'{STATUSES}_changelist')}?parent__id__exact={group.pk}"
    artifacts = f"{page(f'{ARTIFACTS}_changelist')}?status__id__exact={member.pk}"
    assert f'href="{members}"' in text_of(admin_client, page(f"{STATUSES}_change", group))
    text = text_of(admin_client, page(f"{STATUSES}_change", member))
    assert f'href="{artifacts}"' in text
    assert "?parent__id__exact=" not in text
    assert ">Member<" in text_of(admin_client, members)
    assert ">Group<" not in text_of(admin_client, members)
    assert ">Report<" in text_of(admin_client, artifacts)
    assert ">Summary<" not in text_of(admin_client, artifacts)


def test_row_without_a_name_can_be_opened(
    admin_client: Client, make_status: MakeStatus, make_artifact: MakeArtifact
) -> None:
    status = make_status(name="", task_class="shop.nameless")
    artifact = make_artifact(status, name="")
    assert ">shop.nameless</a>" in text_of(admin_client, page(f"{STATUSES}_changelist"))
    assert f">{artifact.uuid}</a>" in text_of(admin_client, page(f"{ARTIFACTS}_changelist"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [("Pending", {"Pending"}), ("Failed", {"Failed"}), ("custom", {"Compressing", "Uploading"})],
)
def test_list_is_filtered_by_state(admin_client: Client, make_status: MakeStatus, value: str, shown: set[str]) -> None:
    states = ("Pending", "Failed", "Compressing", "Uploading")
    for state in states:
        make_status(state=state, name=f"name-{state}")
    text = text_of(admin_client, page(f"{STATUSES}_changelist"), state=value)
    assert {state for state in states if f">name-{state}<" in text} == shown


def test_list_is_filtered_by_class(admin_client: Client, make_status: MakeStatus) -> None:
    make_status(task_class=GROUP, name="a group")
    make_status(task_class="shop.export", name="an export")
    text = text_of(admin_client, page(f"{STATUSES}_changelist"), task_class=GROUP)
    assert ">a group<" in text
    assert ">an export<" not in text
    assert "user_tasks.tasks.purge_old_user_tasks" not in text


@pytest.mark.parametrize(("most", "said"), [(1, True), (2, False)])
def test_list_says_that_it_has_not_counted_all(
    admin_client: Client, make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch, most: int, said: bool
) -> None:
    monkeypatch.setattr(CappedPaginator, "most", most)
    for _ in range(2):
        make_status()
    assert ("There are more than these." in text_of(admin_client, page(f"{STATUSES}_changelist"))) is said


@pytest.mark.parametrize(("most", "offered"), [(3, False), (4, True)])
def test_all_of_a_list_is_offered_only_where_all_has_been_counted(
    admin_client: Client, make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch, most: int, offered: bool
) -> None:
    monkeypatch.setattr(CappedPaginator, "most", most)
    monkeypatch.setattr(ReadOnlyAdmin, "list_per_page", 2)
    for _ in range(4):
        make_status()
    text = text_of(admin_client, page(f"{STATUSES}_changelist"))
    assert (f"Select all {most}" in text) is offered
    assert "0 of 2 selected" in text


@pytest.mark.parametrize("most", [3, 4])
@pytest.mark.parametrize(
    "data",
    [
        {"action": "cancel_selected", "select_across": "1"},
        {"action": "cancel_selected", "select_across": "on"},
        {"action": "fail_selected", "select_across": "1"},
        {"action": "delete_selected", "select_across": "1"},
        {"action": "delete_selected", "select_across": "1", "post": "yes"},
    ],
)
def test_all_of_a_list_is_taken_only_where_all_has_been_counted(
    admin_client: Client,
    make_status: MakeStatus,
    monkeypatch: pytest.MonkeyPatch,
    data: dict[str, str],
    most: int,
) -> None:
    monkeypatch.setattr(CappedPaginator, "most", most)
    running = [make_status(state="In Progress") for _ in range(4)]
    action, options = data["action"], {name: value for name, value in data.items() if name != "action"}
    text = act(admin_client, action, running[0], **options)
    is_refused = "There are more than these." in text and "No items have been changed." in text
    asks_first = action == "delete_selected" and "post" not in data
    assert is_refused is (most == 3)
    assert ("Are you sure" in text) is (asks_first and most == 4)
    assert UserTaskStatus.objects.filter(state="In Progress").count() == (4 if is_refused or asks_first else 0)


def test_all_of_a_list_is_what_a_search_leaves(
    admin_client: Client, make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CappedPaginator, "most", 2)
    kept, *others = [make_status(), make_status(state="In Progress"), make_status(state="In Progress")]
    selected = {"action": "fail_selected", "_selected_action": others[0].pk, "select_across": "1"}
    admin_client.post(f"{page(f'{STATUSES}_changelist')}?state=In+Progress", selected)
    assert set(UserTaskStatus.objects.filter(state="Failed")) == set(others)
    kept.refresh_from_db()
    assert kept.state == "Pending"


def test_all_of_a_list_is_up_to_django_with_its_own_paginator(
    admin_client: Client, make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReadOnlyAdmin, "paginator", Paginator)
    monkeypatch.setattr(ReadOnlyAdmin, "list_per_page", 1)
    first, _second = make_status(), make_status()
    assert "Select all 2" in text_of(admin_client, page(f"{STATUSES}_changelist"))
    act(admin_client, "cancel_selected", first, select_across="1")
    assert UserTaskStatus.objects.filter(state="Canceled").count() == 2


def test_list_looks_for_no_values_to_filter_by(
    admin_client: Client, make_tree: Callable[[int], UserTaskStatus]
) -> None:
    make_tree(2)
    queries = queries_of(admin_client, page(f"{STATUSES}_changelist"))
    assert not [sql for sql in queries if "DISTINCT" in sql]


@pytest.mark.parametrize("field", ["task_id", "beginning of task_id", "uuid", "uuid without hyphens", "username"])
def test_statuses_are_found(
    admin_client: Client, make_status: MakeStatus, make_user: Callable[..., User], field: str
) -> None:
    make_status(name="other")
    status = make_status(name="wanted", user=make_user("searched"))
    terms = {
        "task_id": status.task_id,
        "beginning of task_id": status.task_id[:9],
        "uuid": str(status.uuid),
        "uuid without hyphens": status.uuid.hex,
        "username": "searched",
    }
    text = text_of(admin_client, page(f"{STATUSES}_changelist"), q=terms[field])
    assert ">wanted<" in text
    assert ">other<" not in text


def test_artifacts_are_found(admin_client: Client, make_status: MakeStatus, make_artifact: MakeArtifact) -> None:
    make_artifact(make_status(), name="other")
    artifact = make_artifact(make_status(), name="wanted")
    for term in (str(artifact.uuid), artifact.status.task_id):
        text = text_of(admin_client, page(f"{ARTIFACTS}_changelist"), q=term)
        assert ">wanted<" in text
        assert ">other<" not in text


def test_newest_come_first(admin_client: Client, make_status: MakeStatus) -> None:
    for place in range(3):
        make_status(name=f"number {place}")
    text = text_of(admin_client, page(f"{STATUSES}_changelist"))
    assert text.index(">number 2<") < text.index(">number 1<") < text.index(">number 0<")


def test_selected_statuses_are_canceled(
    admin_client: Client, make_status: MakeStatus, stopped: list[UserTaskStatus]
) -> None:
    waiting, done, running = make_status(), make_status(state="Succeeded"), make_status()
    running.start()
    text = act(admin_client, "cancel_selected", waiting, done, running)
    for status in (waiting, done, running):
        status.refresh_from_db()
    assert (waiting.state, done.state, running.state) == ("Canceled", "Succeeded", "Canceled")
    assert stopped == [waiting]
    assert "2 tasks canceled." in text


def test_selected_statuses_of_any_kind_are_canceled(
    admin_client: Client,
    make_status: MakeStatus,
    make_container: MakeStatus,
    stopped: list[UserTaskStatus],
    revoked: list[str],
) -> None:
    group, other = make_container(GROUP), make_container(GROUP)
    member, _stays = make_status(parent=group), make_status(parent=group)
    inner = make_status(parent=other)
    selected = [make_status(), make_status(due=None), make_status(state="Retrying"), member, other]
    text = act(admin_client, "cancel_selected", *selected)
    assert "5 tasks canceled." in text
    assert {status.pk for status in UserTaskStatus.objects.filter(state="Canceled")} == {
        inner.pk,
        *(status.pk for status in selected),
    }
    assert sorted(status.pk for status in stopped) == sorted([inner.pk, *(status.pk for status in selected)])
    assert sorted(revoked) == sorted([inner.task_id, *(status.task_id for status in selected[:4])])


@pytest.mark.parametrize("action", ["cancel_selected", "delete_selected"])
def test_queries_of_an_action_do_not_grow_with_the_tasks_that_wait(
    admin_client: Client, make_status: MakeStatus, make_artifact: MakeArtifact, action: str
) -> None:
    counts = []
    # What the first request looks up once for all is not counted.
    for number in (1, 2, 40):
        statuses = [make_status() for _ in range(number)]
        for status in statuses:
            make_artifact(status)
        with CaptureQueriesContext(connection) as queries:
            act(admin_client, action, *statuses, post="yes")
        assert not UserTaskStatus.objects.exclude(state="Canceled").exists()
        counts.append(len(queries))
        UserTaskStatus.objects.all().delete()
    assert counts[1] == counts[2]


def test_the_first_of_many_are_named_before_they_are_deleted(
    admin_client: Client, make_status: MakeStatus, make_artifact: MakeArtifact
) -> None:
    statuses = [make_status(name=f"name-{number:02}") for number in range(SELECTED_SHOWN + 1)]
    make_artifact(statuses[0])
    text = act(admin_client, "delete_selected", *statuses)
    assert len(re.findall(r"<li>&lt;UserTaskStatus: name-\d\d&gt;</li>", text)) == SELECTED_SHOWN
    assert "<li>…</li>" in text
    assert f"User task statuses: {SELECTED_SHOWN + 1}" in text
    assert "User task artifacts: 1" in text
    assert text.count('name="_selected_action"') == SELECTED_SHOWN + 1
    assert "<li>…</li>" not in act(admin_client, "delete_selected", *statuses[1:])


def test_deletion_is_told_before_and_cancels(
    admin_client: Client, make_tree: Callable[[int], UserTaskStatus], stopped: list[UserTaskStatus]
) -> None:
    group = make_tree(2)
    text = text_of(admin_client, page(f"{STATUSES}_delete", group))
    assert "User task statuses: 3" in text
    assert "User task artifacts: 3" in text
    response = admin_client.post(page(f"{STATUSES}_delete", group), {"post": "yes"})
    assert response.status_code == 302
    assert {told.state for told in stopped} == {"Canceled"}
    assert not UserTaskStatus.objects.exists()
    assert not UserTaskArtifact.objects.exists()


def test_selected_statuses_are_deleted_with_their_members(
    admin_client: Client, make_tree: Callable[[int], UserTaskStatus], make_status: MakeStatus
) -> None:
    group, kept = make_tree(2), make_status()
    selected = [group, *UserTaskStatus.objects.filter(parent=group)]
    assert "User task statuses: 3" in act(admin_client, "delete_selected", *selected)
    act(admin_client, "delete_selected", *selected, post="yes")
    assert UserTaskStatus.objects.get() == kept


def test_what_keeps_a_status_is_named(
    make_holder: Callable[[Any], type[models.Model]], admin_client: Client, make_status: MakeStatus
) -> None:
    status = make_status()
    make_holder(models.RESTRICT)._base_manager.create(status=status)
    assert "Invoice of the month" in text_of(admin_client, page(f"{STATUSES}_delete", status))
    admin_client.post(page(f"{STATUSES}_delete", status), {"post": "yes"})
    act(admin_client, "delete_selected", status, post="yes")
    assert UserTaskStatus.objects.get() == status


def test_artifact_is_deleted_alone(admin_client: Client, make_status: MakeStatus, make_artifact: MakeArtifact) -> None:
    artifact = make_artifact(make_status(), text="text")
    admin_client.post(page(f"{ARTIFACTS}_delete", artifact), {"post": "yes"})
    assert not UserTaskArtifact.objects.exists()
    assert UserTaskStatus.objects.exists()


def test_selected_tasks_are_given_up_as_lost(
    admin_client: Client, make_status: MakeStatus, make_container: MakeStatus, stopped: list[UserTaskStatus]
) -> None:
    container = make_container(GROUP, state="In Progress")
    running, done = make_status(parent=container, state="In Progress"), make_status(state="Succeeded")
    text = act(admin_client, "fail_selected", running, done, container)
    for status in (running, done, container):
        status.refresh_from_db()
    assert (running.state, running.lost, done.state, container.state) == ("Failed", True, "Succeeded", "Failed")
    assert running.artifacts.get().text == "The task was given up by an administrator."
    assert "1 task was given up." in text


def test_state_and_progress_are_seen_at_a_glance(admin_client: Client, make_status: MakeStatus) -> None:
    make_status(name="<Export>", state="Compressing", completed_steps=3, total_steps=4)
    text = text_of(admin_client, page(f"{STATUSES}_changelist"))
    assert '<span class="ut-label" data-state="Compressing">Compressing</span>' in text
    assert 'max="100" value="75" aria-label="Progress of &lt;Export&gt;"></progress> 75 %' in text


def test_first_artifacts_stand_on_the_page_of_their_status(
    admin_client: Client, make_status: MakeStatus, make_artifact: MakeArtifact
) -> None:
    status = make_status()
    for number in range(OUTPUTS_SHOWN + 1):
        make_artifact(status, name=f"Output {number}", text=f"{number} " + "x" * 1000)
    text = text_of(admin_client, page(f"{STATUSES}_change", status))
    assert ">Output 0</a>: 0 xxx" in text
    assert "x" * CONTENT_SHOWN not in text
    assert f">Output {OUTPUTS_SHOWN - 1}</a>" in text
    assert f">Output {OUTPUTS_SHOWN}</a>" not in text


@pytest.mark.parametrize("action", ["view", "change", "delete"])
def test_artifacts_are_shown_to_those_only_who_may_open_their_list(
    staff: Callable[..., User],
    client: Client,
    make_status: MakeStatus,
    make_artifact: MakeArtifact,
    action: str,
) -> None:
    staff("view_usertaskstatus", f"{action}_usertaskartifact")
    shown = action != "delete"
    status = make_status()
    make_artifact(status, name="Salaries", text="All of them")
    text = text_of(client, page(f"{STATUSES}_change", status))
    assert ("Salaries" in text) is ("All of them" in text) is ("field-artifacts" in text) is shown
    assert "Salaries" not in text_of(client, page(f"{STATUSES}_changelist"))
    assert client.get(page(f"{ARTIFACTS}_changelist")).status_code == (200 if shown else 403)


def test_site_without_artifacts_shows_statuses(
    rf: RequestFactory, admin_user: User, make_status: MakeStatus, make_artifact: MakeArtifact
) -> None:
    artifact = make_artifact(make_status())
    site = admin.AdminSite()
    site.register(UserTaskStatus, UserTaskStatusAdmin)
    request: Any = rf.get("/")
    request.user = admin_user
    assert "artifacts" not in site.get_model_admin(UserTaskStatus).get_fields(request, artifact.status)


@pytest.mark.parametrize(
    ("method", "code"), [("get", 200), ("head", 200), ("post", 405), ("put", 405), ("delete", 405), ("options", 405)]
)
def test_downloads_are_only_read(
    admin_client: Client, make_status: MakeStatus, make_artifact: MakeArtifact, method: str, code: int
) -> None:
    artifact = make_artifact(make_status(), text="text")
    address = page(f"{ARTIFACTS}_download", artifact)
    assert getattr(admin_client, method)(address).status_code == code


@pytest.mark.parametrize(
    ("codenames", "allowed"),
    [
        ((), set()),
        (("view_usertaskstatus",), {"view"}),
        (("change_usertaskstatus",), {"view", "fail"}),
        (("view_usertaskstatus", "cancel_usertaskstatus"), {"view", "cancel"}),
        (("view_usertaskstatus", "delete_usertaskstatus"), {"view", "delete"}),
    ],
)
def test_staff_may_do_what_is_granted(
    staff: Callable[..., User],
    client: Client,
    make_status: MakeStatus,
    codenames: tuple[str, ...],
    allowed: set[str],
) -> None:
    staff(*codenames)
    status = make_status()
    for address in (page(f"{STATUSES}_changelist"), page(f"{STATUSES}_change", status)):
        assert client.get(address).status_code == (200 if "view" in allowed else 403)
    act(client, "cancel_selected", status)
    status.refresh_from_db()
    assert (status.state == "Canceled") == ("cancel" in allowed)
    lost = make_status(state="In Progress")
    act(client, "fail_selected", lost)
    lost.refresh_from_db()
    assert (lost.state == "Failed") == ("fail" in allowed)
    lost.delete()
    act(client, "delete_selected", status, post="yes")
    assert UserTaskStatus.objects.exists() == ("delete" not in allowed)


class SingleSignOn(BaseBackend):
    """Lists no permissions."""

    def get_user(self, user_id: int) -> User | None:
        return User.objects.filter(pk=user_id).first()


def test_superusers_may_do_all_whoever_lists_permissions(client: Client, admin_user: User, settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.SingleSignOn"]
    client.force_login(admin_user, backend=f"{__name__}.SingleSignOn")
    assert client.get(page(f"{STATUSES}_changelist")).status_code == 200


def test_users_without_lists_of_permissions_are_asked_for_each() -> None:
    request: Any = RequestFactory().get("/")
    request.user = SimpleNamespace(is_active=True, has_perm=lambda name: name == "user_tasks.view_usertaskstatus")
    admins = admin.site.get_model_admin(UserTaskStatus)
    assert admins.has_view_permission(request)
    assert not admins.has_delete_permission(request)


def test_a_file_without_a_url_is_named(
    admin_client: Client, make_status: MakeStatus, make_artifact: MakeArtifact, settings: Settings
) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "user_task_artifacts": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"base_url": None},
        },
    }
    settings.MEDIA_URL = None
    artifact = make_artifact(make_status(), file="rows.csv")
    assert "rows.csv" in text_of(admin_client, page(f"{ARTIFACTS}_change", artifact))


@pytest.mark.usefixtures("package_rules")
def test_ownership_grants_nothing_here(
    staff: Callable[..., User], client: Client, make_status: MakeStatus, make_artifact: MakeArtifact
) -> None:
    status = make_status(user=staff())
    artifact = make_artifact(status)
    for address in (
        page(f"{STATUSES}_changelist"),
        page(f"{STATUSES}_change", status),
        page(f"{STATUSES}_delete", status),
        page(f"{ARTIFACTS}_changelist"),
        page(f"{ARTIFACTS}_change", artifact),
        page(f"{ARTIFACTS}_delete", artifact),
    ):
        assert client.get(address).status_code == 403
