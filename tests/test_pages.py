from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import pytest
import rules.permissions
from bs4 import BeautifulSoup, Tag
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template import Context, Template
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from pytest_django import DjangoAssertNumQueries, Settings

from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.pages import selection
from user_tasks.pages.views import StatusView, TaskListView

MakeStatus = Callable[..., UserTaskStatus]
MakeArtifact = Callable[..., UserTaskArtifact]

AUTHENTICATION = 2
"""Queries for the session and its user."""

pytestmark = pytest.mark.usefixtures("package_rules")


@pytest.fixture
def as_owner(client: Client, owner: User) -> Client:
    """A client that is logged in as the owner of the statuses."""
    client.force_login(owner)
    return client


def page(name: str, status: Any = None, **query: Any) -> str:
    """Return the URL of a page."""
    return reverse(f"user_tasks:{name}", args=[status.uuid] if status else [], query=query)


def read(response: Any) -> BeautifulSoup:
    """Return the document of a successful answer."""
    assert response.status_code == HTTPStatus.OK
    return BeautifulSoup(response.content.decode(), "html5lib")


def text_of(element: Any) -> str:
    """Return an element's text, white space collapsed."""
    assert isinstance(element, Tag)
    return " ".join(element.get_text().split())


def names(document: BeautifulSoup) -> list[str]:
    """Return the names of the tasks in a list."""
    return [text_of(name) for name in document.select(".ut-tasks > li .ut-name")]


def forbid(action: str) -> None:
    """Leave an action to superusers."""
    permissions: Any = rules.permissions
    permissions.remove_perm(f"user_tasks.{action}_usertaskstatus")


def finish(status: UserTaskStatus, state: str = "Succeeded", **values: Any) -> UserTaskStatus:
    """Give a status a final state."""
    now = timezone.now()
    UserTaskStatus.objects.filter(pk=status.pk).update(
        **{"state": state, "started": now - timedelta(seconds=42), "finished": now, "modified": now, **values}
    )
    status.refresh_from_db()
    return status


@pytest.mark.parametrize("name", ["list", "status", "parts", "cancel", "delete"])
def test_pages_ask_anonymous_visitors_to_log_in(client: Client, make_status: MakeStatus, name: str) -> None:
    url = page(name, make_status() if name != "list" else None)
    response = client.get(url)
    assert response.status_code == HTTPStatus.FOUND
    assert response.headers["Location"] == f"/accounts/login/?next={url}"


@pytest.mark.parametrize(("name", "fragment"), [("list", "list"), ("list", "tray"), ("status", "status")])
def test_fragments_are_refused_to_anonymous_visitors(
    client: Client, make_status: MakeStatus, name: str, fragment: str
) -> None:
    url = page(name, make_status() if name != "list" else None, fragment=fragment)
    assert client.get(url).status_code == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("name", ["status", "parts", "cancel", "delete"])
def test_tasks_of_others_are_not_found(
    client: Client, make_user: Callable[..., User], make_status: MakeStatus, name: str
) -> None:
    client.force_login(make_user())
    assert client.get(page(name, make_status())).status_code == HTTPStatus.NOT_FOUND
    assert client.post(page(name, make_status())).status_code in {
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
    }


@pytest.mark.parametrize("name", ["status", "parts", "cancel"])
def test_superusers_see_the_tasks_of_others(
    client: Client, make_user: Callable[..., User], make_status: MakeStatus, name: str
) -> None:
    client.force_login(make_user(is_superuser=True))
    read(client.get(page(name, make_status())))


def test_unknown_tasks_are_not_found(as_owner: Client) -> None:
    assert as_owner.get(f"{page('list')}{uuid4()}/").status_code == HTTPStatus.NOT_FOUND


def test_without_the_permission_to_view_there_is_no_page(as_owner: Client, make_status: MakeStatus) -> None:
    rules.permissions.permissions.clear()
    assert as_owner.get(page("list")).status_code == HTTPStatus.FORBIDDEN
    assert as_owner.get(page("status", make_status())).status_code == HTTPStatus.NOT_FOUND


class NothingNamedSecret:
    """A project's own filter."""

    def filter_queryset(self, request: Any, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        return queryset.exclude(name="Secret")


def test_filters_of_the_project_decide_what_is_shown(
    as_owner: Client, make_status: MakeStatus, settings: Settings
) -> None:
    settings.USER_TASKS_STATUS_FILTERS = (NothingNamedSecret,)
    make_status(name="Open")
    secret = make_status(name="Secret")
    assert names(read(as_owner.get(page("list")))) == ["Open"]
    assert as_owner.get(page("status", secret)).status_code == HTTPStatus.NOT_FOUND


def test_list_shows_running_tasks_before_finished_ones(as_owner: Client, make_status: MakeStatus) -> None:
    make_status(name="First", state="In Progress")
    make_status(name="Second", state="Succeeded")
    make_status(name="Third", state="Compressing")
    make_status(name="Fourth", state="Failed")
    assert names(read(as_owner.get(page("list")))) == ["Third", "First", "Fourth", "Second"]


def test_list_shows_whole_workflows_and_not_their_parts(
    as_owner: Client, make_status: MakeStatus, make_container: MakeStatus
) -> None:
    container = make_container("celery.chain", name="Whole")
    make_status(name="Part", parent=container)
    assert names(read(as_owner.get(page("list")))) == ["Whole"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"q": "EXP"}, ["Export", "Second export"]),
        ({"state": "In Progress"}, ["Second export", "Import"]),
        ({"state": "Failed"}, ["Export"]),
        ({"q": "export", "state": "Failed"}, ["Export"]),
        ({"q": "nothing"}, []),
        ({"state": "No such state"}, ["Export", "Second export", "Import"]),
    ],
)
def test_list_is_searched(
    as_owner: Client, make_status: MakeStatus, query: dict[str, str], expected: list[str]
) -> None:
    make_status(name="Import", state="In Progress")
    make_status(name="Second export", state="Compressing")
    make_status(name="Export", state="Failed")
    assert sorted(names(read(as_owner.get(page("list", **query))))) == sorted(expected)


def test_list_is_paged(as_owner: Client, make_status: MakeStatus) -> None:
    for number in range(TaskListView.paginate_by + 1):
        make_status(name=f"Task {number}")
    first = read(as_owner.get(page("list", q="task")))
    assert len(names(first)) == TaskListView.paginate_by
    following = first.select_one("a[rel=next]")
    assert isinstance(following, Tag)
    second = read(as_owner.get(str(following["href"])))
    assert names(second) == ["Task 0"]
    assert second.select_one("a[rel=prev]")
    assert not second.select_one("a[rel=next]")


@pytest.mark.parametrize("number", ["0", "-1", "x", "99", "9" * 30])
def test_pages_that_are_not_there_are_not_found(as_owner: Client, make_status: MakeStatus, number: str) -> None:
    make_status()
    assert as_owner.get(page("list", page=number)).status_code == HTTPStatus.NOT_FOUND


def test_superusers_see_their_own_tasks_until_they_ask_for_all(
    client: Client, make_user: Callable[..., User], make_status: MakeStatus
) -> None:
    superuser = make_user("root", is_superuser=True)
    client.force_login(superuser)
    make_status(name="Another's")
    make_status(name="Mine", user=superuser)
    own = read(client.get(page("list")))
    assert names(own) == ["Mine"]
    assert own.select_one("input[name=everyone]")
    everyones = read(client.get(page("list", everyone="on")))
    assert names(everyones) == ["Mine", "Another's"]
    assert "owner" in text_of(everyones.select_one(".ut-tasks > li:last-child"))


def test_users_who_see_only_their_own_tasks_are_not_asked_whose(as_owner: Client, make_status: MakeStatus) -> None:
    make_status()
    assert not read(as_owner.get(page("list"))).select_one("input[name=everyone]")


def test_status_page_tells_how_far_a_task_is(as_owner: Client, make_status: MakeStatus) -> None:
    started = timezone.now() - timedelta(minutes=3, seconds=1)
    status = make_status(
        name="Export", state="In Progress", started=started, completed_steps=3, total_steps=12, attempts=2
    )
    document = read(as_owner.get(page("status", status)))
    assert text_of(document.h1) == "Export"
    assert text_of(document.select_one(".ut-state")) == "In Progress"
    bar = document.progress
    assert bar is not None
    assert (bar["value"], bar["max"], bar["aria-valuetext"]) == ("25", "100", "25%, 3 of 12 steps")
    meta = text_of(document.select_one(".ut-large"))
    assert meta == "25% 3 of 12 steps about 9\xa0minutes left".replace("\xa0", " ")
    facts = {text_of(term): text_of(term.find_next_sibling("dd")) for term in document.select("dt")}
    assert (facts["Running for"], facts["Attempts"]) == ("3 minutes", "2")


@pytest.mark.parametrize(
    ("values", "percent", "steps"),
    [
        ({"state": "In Progress", "total_steps": 0}, None, ""),
        ({"state": "In Progress", "total_steps": 1}, None, ""),
        ({"state": "Pending", "total_steps": 0}, "0", ""),
        ({"state": "In Progress", "total_steps": 10, "completed_steps": 12}, "100", "12 of 10 steps"),
        ({"state": "In Progress", "total_steps": 0, "completed_steps": 1}, "0", ""),
        ({"state": "In Progress", "total_steps": 100000, "completed_steps": 99999}, "99", "99,999 of 100,000 steps"),
        ({"state": "In Progress", "total_steps": -5, "completed_steps": 2}, "0", ""),
        ({"state": "Succeeded", "total_steps": 0}, "100", ""),
    ],
)
def test_progress_is_shown_whatever_the_numbers(
    as_owner: Client, make_status: MakeStatus, values: dict[str, Any], percent: str | None, steps: str
) -> None:
    document = read(as_owner.get(page("status", make_status(**values))))
    assert document.progress is not None
    assert document.progress.get("value") == percent
    assert steps in text_of(document.select_one(".ut-large"))
    assert bool(steps) == ("steps" in text_of(document.select_one(".ut-large")))


def test_hostile_and_long_texts_are_only_texts(
    as_owner: Client, make_status: MakeStatus, make_artifact: MakeArtifact
) -> None:
    script = "<script>alert(1)</script>"
    status = make_status(name=f"{script}{'n' * 200}", state=f"{script}{'م' * 100}", total_steps=3)
    make_artifact(status, name=script, text=script, url="javascript:alert(1)")
    for url in (page("status", status), page("list"), page("status", status, fragment="card")):
        document = read(as_owner.get(url))
        assert all(script.get("src") for script in document("script"))
        assert not document.select("a[href^=javascript]")


def test_status_page_shows_outputs(as_owner: Client, make_status: MakeStatus, make_artifact: MakeArtifact) -> None:
    status = finish(make_status())
    make_artifact(status, text="All rows are there.")
    make_artifact(status, name="Report", url="https://example.com/report")
    file = UserTaskArtifact(status=status, name="Table")
    file.file.save("table.csv", ContentFile(b"1" * 2048))
    document = read(as_owner.get(page("status", status)))
    shown = [text_of(item) for item in document.select(".ut-outputs > li")]
    assert shown[0] == "Output All rows are there."
    assert shown[1] == "Report https://example.com/report"
    assert shown[2].startswith("Table table")
    day = date_format(timezone.localtime(status.created + timedelta(days=30)))
    assert shown[2].endswith(f"2.0 KB The file is kept until {day}.")
    download = document.select_one("a[download]")
    assert isinstance(download, Tag)
    assert download["href"] == reverse("user_tasks:download", args=[file.uuid])


def test_a_missing_file_does_not_break_the_page(as_owner: Client, make_status: MakeStatus) -> None:
    status = finish(make_status())
    UserTaskArtifact.objects.create(status=status, name="Table", file="gone/table.csv")
    shown = text_of(read(as_owner.get(page("status", status))).select_one(".ut-outputs"))
    assert shown.startswith("Table table.csv")


def test_long_texts_are_folded_and_very_long_ones_are_cut(
    as_owner: Client, make_status: MakeStatus, make_artifact: MakeArtifact
) -> None:
    status = finish(make_status(), "Failed")
    make_artifact(status, name="Error", text="e" * 65536)
    log = make_artifact(status, name="Log", text="line\n" * 20000)
    document = read(as_owner.get(page("status", status)))
    error = document.select_one(".ut-error details .ut-pre")
    assert isinstance(error, Tag)
    assert error.get_text() == "e" * 65536
    assert "line line" in text_of(document.select_one(".ut-outputs summary"))
    whole = document.select_one(".ut-outputs details a")
    assert isinstance(whole, Tag)
    response = as_owner.get(str(whole["href"]))
    assert response.content.decode() == log.text
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_texts_of_others_are_not_found(
    client: Client, make_user: Callable[..., User], make_status: MakeStatus, make_artifact: MakeArtifact
) -> None:
    client.force_login(make_user())
    url = reverse("user_tasks:text", args=[make_artifact(make_status(), text="secret").uuid])
    assert client.get(url).status_code == HTTPStatus.NOT_FOUND


def test_outputs_are_paged(as_owner: Client, make_status: MakeStatus) -> None:
    status = finish(make_status())
    UserTaskArtifact.objects.bulk_create(
        UserTaskArtifact(status=status, name=f"Part {number}", text="x") for number in range(3000)
    )
    document = read(as_owner.get(page("status", status)))
    assert len(document.select(".ut-outputs > li")) == StatusView.outputs_by
    following = document.select_one("a[rel=next]")
    assert isinstance(following, Tag)
    second = read(as_owner.get(str(following["href"])))
    assert text_of(second.select_one(".ut-outputs h3")) == f"Part {StatusView.outputs_by}"


def test_pages_without_javascript_refresh_themselves_while_something_runs(
    as_owner: Client, make_status: MakeStatus
) -> None:
    status = make_status(state="In Progress")
    for url in (page("list"), page("status", status)):
        assert 'http-equiv="refresh"' in as_owner.get(url).content.decode()
        assert 'http-equiv="refresh"' not in as_owner.get(f"{url}?refresh=off").content.decode()
    finish(status)
    for url in (page("list"), page("status", status)):
        assert 'http-equiv="refresh"' not in as_owner.get(url).content.decode()


def test_a_task_is_canceled_after_confirmation(as_owner: Client, make_status: MakeStatus) -> None:
    status = make_status()
    document = read(as_owner.get(page("status", status)))
    cancel = document.select_one(".ut-actions a")
    assert isinstance(cancel, Tag)
    question = read(as_owner.get(str(cancel["href"])))
    assert text_of(question.h1) == "Cancel “Export”?"
    status.refresh_from_db()
    assert status.state == "Pending"
    answer = as_owner.post(str(cancel["href"]), follow=True)
    assert "The task is canceled." in text_of(read(answer).select_one(".ut-messages"))
    status.refresh_from_db()
    assert status.state == "Canceled"


def test_a_finished_task_is_deleted_after_confirmation(as_owner: Client, make_status: MakeStatus) -> None:
    status = finish(make_status())
    document = read(as_owner.get(page("status", status)))
    delete = document.select_one(".ut-actions a")
    assert isinstance(delete, Tag)
    question = read(as_owner.get(str(delete["href"])))
    assert text_of(question.h1) == "Delete “Export”?"
    assert "for good" in text_of(question.main)
    answer = as_owner.post(str(delete["href"]), follow=True)
    assert "The task is deleted." in text_of(read(answer).select_one(".ut-messages"))
    assert not UserTaskStatus.objects.exists()


def test_forms_are_guarded_against_forgery(make_status: MakeStatus, owner: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    status = make_status()
    assert client.post(page("cancel", status)).status_code == HTTPStatus.FORBIDDEN
    field = read(client.get(page("cancel", status))).select_one("input[name=csrfmiddlewaretoken]")
    assert isinstance(field, Tag)
    response = client.post(page("cancel", status), {"csrfmiddlewaretoken": field["value"]})
    assert response.status_code == HTTPStatus.FOUND


@pytest.mark.parametrize(
    ("action", "state", "reason"),
    [
        ("cancel", "Succeeded", "there is nothing left to cancel"),
        ("delete", "In Progress", "Cancel it before you delete it"),
    ],
)
def test_what_cannot_be_done_at_present_is_explained(
    as_owner: Client, make_status: MakeStatus, action: str, state: str, reason: str
) -> None:
    status = make_status(state=state)
    for ask in (as_owner.get, as_owner.post):
        response = ask(page(action, status), follow=True)
        assert reason in text_of(read(response).select_one(".ut-messages"))
    status.refresh_from_db()
    assert status.state == state


def test_parts_are_deleted_with_the_whole(
    as_owner: Client, make_status: MakeStatus, make_container: MakeStatus
) -> None:
    part = finish(make_status(parent=make_container("celery.group")))
    assert not read(as_owner.get(page("status", part))).select(".ut-actions")
    as_owner.post(page("delete", part))
    assert UserTaskStatus.objects.filter(pk=part.pk).exists()


@pytest.mark.parametrize("action", ["cancel", "delete"])
def test_who_may_view_may_not_do_everything(as_owner: Client, make_status: MakeStatus, action: str) -> None:
    forbid(action)
    status = make_status(state="In Progress" if action == "cancel" else "Succeeded")
    assert not read(as_owner.get(page("status", status))).select(".ut-actions")
    assert as_owner.get(page(action, status)).status_code == HTTPStatus.FORBIDDEN
    assert as_owner.post(page(action, status)).status_code == HTTPStatus.FORBIDDEN


def test_a_workflow_shows_its_parts(as_owner: Client, make_status: MakeStatus, make_container: MakeStatus) -> None:
    chain = make_container("celery.chain", name="Whole")
    inner = make_container("celery.group", name="Inner", parent=chain)
    make_status(name="Leaf", parent=inner)
    make_status(name="Last", parent=chain)
    document = read(as_owner.get(page("status", chain)))
    assert names(document) == ["Inner", "Last"]
    nested = document.select_one(".ut-tasks details user-tasks")
    assert isinstance(nested, Tag)
    assert names(read(as_owner.get(str(nested["src"])))) == ["Leaf"]
    link = nested.a
    assert link is not None
    below = read(as_owner.get(str(link["href"])))
    assert names(below) == ["Leaf"]
    up = below.select_one(".ut-path a")
    assert isinstance(up, Tag)
    assert up["href"] == page("status", inner)


def test_a_workflow_shows_the_outputs_of_its_parts(
    as_owner: Client, make_status: MakeStatus, make_container: MakeStatus, make_artifact: MakeArtifact
) -> None:
    chord = make_container("celery.chord")
    body = make_status(name="ZIP file", parent=chord)
    make_artifact(body, name="Table", text="All of it")
    make_artifact(body, name="Error", text="Nothing for the whole")
    document = read(as_owner.get(page("status", chord)))
    assert [text_of(item) for item in document.select(".ut-outputs > li")] == ["Table ZIP file All of it"]
    assert not document.select(".ut-error")


def test_many_parts_are_shown_on_demand(as_owner: Client, make_status: MakeStatus, make_container: MakeStatus) -> None:
    group = make_container("celery.group")
    for number in range(StatusView.parts_unfolded + 1):
        make_status(name=f"Part {number}", parent=group)
    document = read(as_owner.get(page("status", group)))
    assert names(document) == []
    folded = document.select_one("details.ut-parts user-tasks")
    assert isinstance(folded, Tag)
    shown = read(as_owner.get(str(folded["src"])))
    assert names(shown)[:2] == ["Part 0", "Part 1"]


def test_tray_holds_own_tasks_that_run_or_have_just_finished(
    as_owner: Client, make_user: Callable[..., User], make_status: MakeStatus
) -> None:
    make_status(name="Running", state="In Progress")
    finish(make_status(name="Just finished"))
    finish(make_status(name="Long finished"), finished=timezone.now() - 2 * selection.JUST_FINISHED)
    make_status(name="Another's", user=make_user())
    tray = read(as_owner.get(page("list", fragment="tray")))
    assert names(tray) == ["Running", "Just finished"]
    assert "1 is running" in text_of(tray.summary)


def test_tray_counts_what_runs_beside_failed_containers_whose_members_go_on(
    as_owner: Client, make_status: MakeStatus, make_container: MakeStatus
) -> None:
    for _ in range(selection.TRAY_SIZE + 2):
        make_status(state="In Progress")
    for _ in range(selection.TRAY_SIZE):
        make_status(parent=make_container("celery.group", name="Half failed", state="Failed"), state="In Progress")
    tray = read(as_owner.get(page("list", fragment="tray")))
    assert f"{selection.TRAY_SIZE + 2} are running" in text_of(tray.summary)
    assert "Half failed" not in names(tray)


@pytest.mark.parametrize("fragment", ["status", "card"])
def test_an_unchanged_status_costs_one_query(
    as_owner: Client,
    make_status: MakeStatus,
    django_assert_num_queries: DjangoAssertNumQueries,
    fragment: str,
) -> None:
    url = page("status", make_status(), fragment=fragment)
    first = as_owner.get(url)
    etag = first.headers["ETag"]
    with django_assert_num_queries(AUTHENTICATION + 1):
        again = as_owner.get(url, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["ETag"]) == (HTTPStatus.NOT_MODIFIED, b"", etag)
    assert first.headers["Cache-Control"] == again.headers["Cache-Control"] == "private, no-cache"


def test_etag_changes_with_all_that_is_shown(
    as_owner: Client, make_status: MakeStatus, make_artifact: MakeArtifact
) -> None:
    status = make_status(total_steps=3)
    url = page("status", status, fragment="status")

    def changed(etag: str) -> str:
        response = as_owner.get(url, headers={"If-None-Match": etag})
        assert response.status_code == HTTPStatus.OK
        return str(response.headers["ETag"])

    etag = as_owner.get(url).headers["ETag"]
    status.start()
    etag = changed(etag)
    status.increment_completed_steps()
    etag = changed(etag)
    artifact = make_artifact(status, text="one")
    etag = changed(etag)
    artifact.text = "two"
    artifact.save()
    etag = changed(etag)
    forbid("cancel")
    changed(etag)


@pytest.mark.parametrize("fragment", ["list", "tray"])
def test_an_unchanged_list_costs_two_queries(
    as_owner: Client,
    make_status: MakeStatus,
    django_assert_num_queries: DjangoAssertNumQueries,
    fragment: str,
) -> None:
    for _ in range(5):
        make_status()
    url = page("list", fragment=fragment)
    etag = as_owner.get(url).headers["ETag"]
    with django_assert_num_queries(AUTHENTICATION + 2):
        again = as_owner.get(url, headers={"If-None-Match": etag})
    assert again.status_code == HTTPStatus.NOT_MODIFIED


@pytest.mark.parametrize("count", [1, 100])
def test_a_list_costs_the_same_whatever_its_length(
    as_owner: Client,
    make_status: MakeStatus,
    django_assert_num_queries: DjangoAssertNumQueries,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    monkeypatch.setattr(TaskListView, "paginate_by", 100)
    for _ in range(count):
        make_status()
    with django_assert_num_queries(AUTHENTICATION + 4):
        assert len(names(read(as_owner.get(page("list"))))) == count


@pytest.mark.parametrize("count", [1, 20, 500])
def test_a_status_page_costs_the_same_whatever_its_size(
    as_owner: Client,
    make_container: MakeStatus,
    owner: User,
    django_assert_num_queries: DjangoAssertNumQueries,
    count: int,
) -> None:
    group = make_container("celery.group")
    UserTaskStatus.objects.bulk_create(
        UserTaskStatus(user=owner, task_id=str(uuid4()), task_class="x", parent=group, total_steps=1)
        for _ in range(count)
    )
    UserTaskArtifact.objects.bulk_create(UserTaskArtifact(status=group, text="x") for _ in range(count))
    with django_assert_num_queries(AUTHENTICATION + 4):
        read(as_owner.get(page("status", group)))


def test_tray_counts_more_than_it_shows(as_owner: Client, make_status: MakeStatus) -> None:
    for _ in range(selection.TRAY_SIZE + 3):
        make_status(state="In Progress")
    tray = read(as_owner.get(page("list", fragment="tray")))
    assert f"{selection.TRAY_SIZE + 3} are running" in text_of(tray.summary)


def test_status_of_a_container_changes_with_the_outputs_of_its_parts(
    as_owner: Client, make_status: MakeStatus, make_container: MakeStatus, make_artifact: MakeArtifact
) -> None:
    group = make_container("celery.group", created=timezone.now() - timedelta(days=3))
    member = make_status(parent=group)
    address = page("status", group, fragment="status")
    etag = as_owner.get(address).headers["ETag"]
    make_artifact(member, name="Invoice")
    assert "Invoice" in text_of(read(as_owner.get(address, headers={"If-None-Match": etag})).body)


def test_container_of_another_user_is_not_named(
    as_owner: Client, make_status: MakeStatus, make_container: MakeStatus, make_user: Callable[..., User]
) -> None:
    hidden = make_container("celery.group", user=make_user(), name="Secret")
    document = read(as_owner.get(page("status", make_status(parent=hidden))))
    assert "Secret" not in document.get_text()


@pytest.mark.parametrize("values", [{}, {"request": HttpRequest()}])
def test_tags_leave_pages_alone_that_know_no_reader(make_status: MakeStatus, values: dict[str, Any]) -> None:
    template = Template("{% load user_tasks %}{% user_task status %}{% user_tasks_tray %}")
    assert template.render(Context({**values, "status": make_status()})).strip() == ""
