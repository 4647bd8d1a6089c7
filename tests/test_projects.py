"""New projects of three kinds, made by following the documentation, in which a user starts and cancels tasks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests
from bs4 import BeautifulSoup, Tag

from frontends import Frontend
from projects import PATIENCE, Project, blocks_of, make
from workers import wait_for

USER, PASSWORD = "ada", "engine"

pytestmark = [pytest.mark.embedded, pytest.mark.integration]


class Visitor:
    """A user who is logged in to a running project, as browsers do that."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.session = requests.Session()
        form = self.get("/accounts/login/")
        field = BeautifulSoup(form.text, "html.parser").select_one("[name=csrfmiddlewaretoken]")
        assert field
        fields = {"username": USER, "password": PASSWORD, field["name"]: field["value"], "next": "/api/"}
        answer = self.session.post(f"{site}/accounts/login/", fields, allow_redirects=False, timeout=PATIENCE)
        assert answer.status_code == 302

    @property
    def token(self) -> str:
        return self.session.cookies["csrftoken"]

    def get(self, path: str) -> requests.Response:
        answer = self.session.get(f"{self.site}{path}", timeout=PATIENCE)
        answer.raise_for_status()
        return answer

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: Any) -> requests.Response:
        headers = headers or {"X-CSRFToken": self.token}
        answer = self.session.post(f"{self.site}{path}", fields, headers=headers, timeout=PATIENCE)
        answer.raise_for_status()
        return answer


def is_up(site: str) -> bool:
    try:
        return requests.get(f"{site}/accounts/login/", timeout=PATIENCE).ok
    except requests.ConnectionError:
        return False


@pytest.fixture
def new_project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Return a function that makes a project of a kind."""
    with ExitStack() as servers:

        def make_(kind: str, **variables: str) -> Project:
            project = Project(tmp_path, servers, **variables)
            make(kind, project)
            return project

        yield make_


def visited(project: Project) -> Visitor:
    """Run the project, with a worker, and return its user."""
    project.enter("celery -A mysite worker --loglevel INFO --concurrency 1")
    project.enter("python manage.py runserver 127.0.0.1:8000")
    site = f"http://{project.address}"
    wait_for(lambda: is_up(site), "A web server that is ready")
    wait_for(lambda: " ready." in project.log_file("celery").read_text(), "A worker that is ready")
    return Visitor(site)


def prepare(project: Project) -> None:
    """Check a new project, make its tables and its user."""
    project.enter("python manage.py check --fail-level WARNING")
    project.enter("python manage.py migrate")
    (user,) = [block for block in blocks_of("getting_started") if "create_user" in block.source]
    project.follow(user)


def parsed(answer: requests.Response) -> BeautifulSoup:
    return BeautifulSoup(answer.text, "html.parser")


def found(part: Tag, selector: str) -> Tag:
    tag = part.select_one(selector)
    assert tag, f"No {selector} in {part}"
    return tag


def pressed(visitor: Visitor, button: Tag) -> BeautifulSoup:
    """Do what htmx does when a button is pressed."""
    return parsed(visitor.post(str(button["hx-post"]), json.loads(str(button["hx-headers"]))))


def loaded(visitor: Visitor, part: Tag) -> BeautifulSoup:
    """Do what htmx does when a part asks for what takes its place."""
    return parsed(visitor.get(str(part["hx-get"])))


@pytest.mark.node
def test_project_of_django_pages_and_htmx(new_project: Callable[..., Project]) -> None:
    project = new_project("htmx")
    prepare(project)
    visitor = visited(project)
    page = parsed(visitor.get("/shop/"))
    for asset in page.select("script[src], link[href]"):
        assert visitor.get(str(asset.get("src") or asset.get("href"))).content

    started = pressed(visitor, found(page, "main > button"))
    assert found(started, "user-task")
    asking = found(started, "[hx-get]")

    def finished() -> Any:
        section = found(loaded(visitor, asking), "section")
        return None if section.has_attr("hx-get") else section

    section: Any = wait_for(finished, "The end of the export")
    assert (found(section, "[role=status]").text, found(section, "progress")["value"]) == ("Succeeded", "1.0")
    assert section.select("button") == []
    assert [item.text for item in loaded(visitor, found(page, "#finished")).select("li")] == ["export"]

    another = loaded(visitor, found(pressed(visitor, found(page, "main > button")), "[hx-get]"))
    assert found(pressed(visitor, found(another, "button")), "[role=status]").text == "Canceled"
    assert [task["state"] for task in visitor.get("/api/tasks/").json()] == ["Canceled", "Succeeded"]
    assert {"Canceled", "Succeeded"} <= set(parsed(visitor.get("/my-tasks/")).stripped_strings)


@pytest.mark.node
def test_project_of_rest_framework_and_typescript(new_project: Callable[..., Project]) -> None:
    project = new_project("typescript")
    frontend = Frontend(project.folder)
    frontend.write("src/client.ts", Path(__file__).with_name("project_client.ts").read_text(encoding="utf-8"))
    frontend.check((project.folder / "src" / "api.ts").read_text(encoding="utf-8"))
    frontend.build("--ssr", "src/client.ts", "--outDir", "built")
    prepare(project)
    visitor = visited(project)
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in visitor.session.cookies)

    command = ["node", str(project.folder / "built" / "client.js"), visitor.site, cookies, visitor.token]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert not done.stderr
    assert json.loads(done.stdout) == {
        "state": "Succeeded",
        "steps": [100, 100],
        "texts": ["It is all there."],
        "canceled": "Canceled",
        "listed": ["Canceled", "Succeeded"],
    }
    assert "/api/tasks/{uuid}/cancel/:" in (project.folder / "own.yaml").read_text(encoding="utf-8")


def upgraded(project: Project) -> None:
    """Let 4.x have made the database, and upgrade it as the documentation says."""
    project.shell("import made_by_4x")
    upgrade, *_back = [block for block in blocks_of("upgrading") if block.language == "console"]
    project.follow(upgrade)
    for command in ("check --fail-level WARNING", "makemigrations --check"):
        project.enter(f"python manage.py {command}")


def test_existing_project_is_upgraded_and_calls_what_it_called(new_project: Callable[..., Project]) -> None:
    project = new_project("existing", DJANGO_SETTINGS_MODULE="mysite.development")
    upgraded(project)
    visitor = visited(project)

    def started(table: str, rows: int) -> str:
        answer = visitor.post("/start/", table=table, rows=rows).json()
        assert answer["state"] in ("Pending", "In Progress", "Reading")
        return f"/api/exports/{answer['uuid']}/"

    def ended(path: str) -> Any:
        status = visitor.get(path).json()
        return status if status["state"] in ("Succeeded", "Failed", "Canceled") else None

    orders = started("orders", 3)
    done = wait_for(lambda: ended(orders), "The end of the export")
    assert (done["state"], done["completed_steps"], done["total_steps"]) == ("Succeeded", 3, 3)
    assert (done["username"], f"/api/exports/{done['uuid']}/") == (USER, orders)
    artifact = requests.get(done["artifacts"][0], cookies=visitor.session.cookies, timeout=PATIENCE).json()
    assert artifact["url"] == "https://shop.example.com/ExportStorage/"
    assert (artifact["name"], artifact["file"].startswith("/media/user_tasks/")) == ("Output", True)
    (file,) = [path for path in (project.folder / "media").rglob("*") if path.is_file()]
    assert (file.read_bytes(), artifact["file"]) == (
        b"number\n1\n2\n3\n",
        f"/media/{file.relative_to(project.folder / 'media').as_posix()}",
    )

    customers = started("customers", 0)
    empty = wait_for(lambda: ended(customers), "The end of what fails")
    (error,) = empty["artifacts"]
    assert empty["state"] == "Failed"
    assert requests.get(error, cookies=visitor.session.cookies, timeout=PATIENCE).json()["text"] == (
        '{"empty": "customers"}'
    )

    invoices = started("invoices", 5000)
    wait_for(lambda: visitor.get(invoices).json()["state"] == "Reading", "The start of what is canceled")
    canceled = visitor.post(f"{invoices}cancel/")
    assert (canceled.status_code, canceled.json()["state"], canceled.json()["username"]) == (201, "Canceled", USER)

    notices = [
        "UserTaskStatus Export of orders: Succeeded",
        "UserTaskStatus Export of customers: Failed",
        f"{USER} canceled Export of invoices",
        "UserTaskStatus Export of invoices: Canceled",
    ]
    wait_for(lambda: len(visitor.get("/names/").json()["notices"]) >= len(notices), "The receiver's last notice")
    assert visitor.get("/names/").json() == {
        "statuses": ["Export of 2020", "Export of orders", "Export of customers", "Export of invoices"],
        "notices": notices,
        "days": 7,
    }

    page = visitor.get("/api/tasks/").json()
    assert (page["count"], page["results"][-1]["name"]) == (4, "Export of 2020")
    held = visitor.session.delete(
        f"{visitor.site}/api/tasks/{UUID(int=4)}/", headers={"X-CSRFToken": visitor.token}, timeout=PATIENCE
    )
    assert (held.status_code, "invoices" in held.text) == (409, True)
