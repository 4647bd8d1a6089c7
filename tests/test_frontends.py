from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from browser_site import POLICY
from browser_tasks import guided, tell
from browsers import Browser
from documents import DOCUMENTS, code_blocks, executed
from frontends import MODULES, Frontend, generated_types
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.views import StatusViewSet
from workers import Route, Workers, wait_for

pytestmark = pytest.mark.node

BUILT = {"react": "tsc", "vue": "vue-tsc"}
"""The compilers by the frontends that are built."""

HTMX = {"htmx2": "htmx2", "htmx4": "htmx.org"}
"""The packages by the version of htmx."""

TRUSTED_TYPES = "require-trusted-types-for 'script'; trusted-types 'none'"

POLICIES = {
    "react": POLICY,
    "vue": POLICY.replace("trusted-types 'none'", "trusted-types vue"),
    "htmx": POLICY.replace(TRUSTED_TYPES, ""),
}
"""What the pages of each frontend may load and do, as the documentation says."""

PAGES = {path.stem: path for path in DOCUMENTS}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The types of the API in TypeScript."""
    return generated_types(tmp_path_factory.mktemp("types"))


@pytest.fixture(scope="module")
def frontend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, api: str) -> Frontend:
    """A frontend as its page says, with the client of the API, compiled in strict mode and built."""
    made = Frontend(tmp_path_factory.mktemp(request.param), "typescript", request.param)
    made.check(api, BUILT[request.param])
    made.build()
    return made


@pytest.fixture
def order(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, publish_to: Callable[[Route], None]
) -> Iterator[Callable[..., None]]:
    """Return a function that tells the project's last export, which a real worker executes, what to do."""
    publish_to(workers.shared().route)
    names: list[str] = []

    def delay(what: str, user_id: Any) -> Any:
        assert what == "orders"
        names.append(f"Export {uuid4().hex[:6]}")
        return guided.delay(user_id, names[-1], 4)

    sales = ModuleType("sales.tasks")
    vars(sales)["export"] = SimpleNamespace(delay=delay)
    monkeypatch.setitem(sys.modules, "sales", ModuleType("sales"))
    monkeypatch.setitem(sys.modules, "sales.tasks", sales)
    yield lambda *lines: tell(names[-1], *lines)
    for name in names:
        tell(name, "return")
    wait_for(lambda: not UserTaskStatus.objects.unfinished().exists(), "The end of what was started")


@pytest.fixture
def documented(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Any]:
    """Return a function that makes a module of a page's code, by where that belongs."""

    def module(page: str, caption: str) -> Any:
        (block,) = [block for block in code_blocks(PAGES[page]) if block.caption == caption]
        name = caption.removesuffix(".py").replace("/", ".")
        package, _, last = name.rpartition(".")
        if package not in sys.modules:
            monkeypatch.setitem(sys.modules, package, ModuleType(package))
        made = executed(block, name)
        monkeypatch.setitem(sys.modules, name, made)
        monkeypatch.setattr(sys.modules[package], last, made, raising=False)
        return made

    return module


@pytest.fixture
def show(
    settings: Settings, site: LiveServer, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> Callable[..., Browser]:
    """Return a function that shows a frontend's page, under its policy, and starts an export there."""

    def show_(folder: Path, urls: str, policy: str) -> Browser:
        monkeypatch.setattr("browser_site.POLICY", policy)
        monkeypatch.setattr(StatusViewSet, "retry_after", 1)
        settings.ROOT_URLCONF = urls
        settings.STATICFILES_DIRS = [folder / "static"]
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [folder / "templates"]}]
        browser.driver.get(f"{site.url}/shop/")
        browser.wait_for_text("main", "Export")
        browser.click("main > button")
        return browser

    return show_


@pytest.fixture
def shop(
    request: pytest.FixtureRequest,
    frontend: Frontend,
    order: Callable[..., None],
    documented: Callable[[str, str], Any],
    show: Callable[..., Browser],
) -> Browser:
    """A browser that shows the page of a frontend that is built, with an export."""
    documented("typescript", "shop/views.py")
    urls = documented("typescript", "mysite/urls.py")
    return show(frontend.folder, urls.__name__, POLICIES[request.node.callspec.params["frontend"]])


@pytest.mark.browser
@pytest.mark.parametrize("frontend", BUILT, indirect=True)
def test_element_and_api_both_follow_a_task_and_one_that_is_canceled(shop: Browser, order: Callable[..., None]) -> None:
    shown = {"user-task": "user-task .ut-state", "section": "section [role=status]"}
    for state in shown.values():
        shop.wait_for_text(state, "In Progress")
    order("step", "state Compressing")
    for part, state in shown.items():
        shop.wait_for_text(state, "Compressing")
        progress = [shop.attribute(f"{part} progress", name) for name in ("value", "max")]
        assert progress in (["25", "100"], ["1", "4"])
    order("text It is all there.", "return")
    for state in shown.values():
        shop.wait_for_text(state, "Succeeded")
    shop.wait_for_text("section li", "It is all there.")
    shop.wait_for_text("output", "The export has ended: Succeeded")
    assert shop.texts("section button") == []

    shop.click("main > button")
    for state in shown.values():
        shop.wait_for_text(state, "In Progress")
    shop.click("section button")
    for state in shown.values():
        shop.wait_for_text(state, "Canceled")
    shop.wait_for_text("output", "The export has ended: Canceled")
    assert UserTaskStatus.objects.latest("pk").state == UserTaskStatus.CANCELED


@pytest.fixture
def htmx_shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    order: Callable[..., None],
    documented: Callable[[str, str], Any],
    show: Callable[..., Browser],
) -> Browser:
    """A browser that shows the page of htmx, with an export."""
    made = Frontend(tmp_path, "htmx")
    script = MODULES / HTMX[request.param] / "dist" / "htmx.min.js"
    made.write("static/htmx.min.js", script.read_text(encoding="utf-8"))
    for caption in ("shop/views.py", "shop/progress.py"):
        documented("htmx", caption)
    return show(tmp_path, documented("htmx", "mysite/urls.py").__name__, POLICIES["htmx"])


@pytest.mark.browser
@pytest.mark.parametrize("htmx_shop", HTMX, indirect=True)
def test_htmx_shows_how_far_a_task_is_and_what_has_finished(htmx_shop: Browser, order: Callable[..., None]) -> None:
    parts = {"user-task": "user-task .ut-state", "section": "section [role=status]"}
    for state in parts.values():
        htmx_shop.wait_for_text(state, "In Progress")
    order("step", "state Compressing")
    for part, state in parts.items():
        htmx_shop.wait_for_text(state, "Compressing")
        assert htmx_shop.attribute(f"{part} progress", "value") in ("25", "0.25")
    assert htmx_shop.texts("#finished li") == []
    order("return")
    for state in parts.values():
        htmx_shop.wait_for_text(state, "Succeeded")
    htmx_shop.wait_for_text("#finished li", "Export")
    assert htmx_shop.texts("section button") == []


@pytest.mark.browser
@pytest.mark.parametrize("htmx_shop", HTMX, indirect=True)
def test_htmx_cancels_by_the_api(htmx_shop: Browser) -> None:
    htmx_shop.wait_for_text("section [role=status]", "In Progress")
    htmx_shop.click("section button")
    htmx_shop.wait_for_text("section [role=status]", "Canceled")
    htmx_shop.wait_for_text("user-task .ut-state", "Canceled")
    assert UserTaskStatus.objects.get().state == UserTaskStatus.CANCELED


@pytest.fixture(scope="module")
def client_program(tmp_path_factory: pytest.TempPathFactory, api: str) -> Path:
    """A program that calls the whole API by the generated client."""
    made = Frontend(tmp_path_factory.mktemp("client"), "typescript")
    made.write("src/api_client.ts", Path(__file__).with_name("api_client.ts").read_text(encoding="utf-8"))
    made.check(api)
    made.build("--ssr", "src/api_client.ts", "--outDir", "built")
    return made.folder / "built" / "api_client.js"


def test_generated_client_calls_a_running_server(
    client_program: Path,
    site: LiveServer,
    owner: User,
    make_status: Callable[..., UserTaskStatus],
    make_artifact: Callable[..., UserTaskArtifact],
) -> None:
    finished, running = make_status(), make_status(name="Import")
    UserTaskStatus.objects.bulk_create(
        UserTaskStatus(user=owner, task_id=str(number), task_class="shop.export", total_steps=1)
        for number in range(101)
    )
    make_artifact(finished, text="It is all there.")
    finished.succeed()
    client, token = Client(), "a" * 32
    client.force_login(owner)
    cookie = f"sessionid={client.session.session_key}; csrftoken={token}"
    given = [site.url, cookie, token, str(finished.uuid), str(running.uuid), str(uuid4())]

    done = subprocess.run(["node", str(client_program), *given], capture_output=True, text=True, check=False)

    assert not done.stderr
    assert json.loads(done.stdout) == {
        "followed": [["Succeeded", 1]],
        "isFinal": True,
        "listed": 103,
        "texts": ["It is all there."],
        "tasks": [str(finished.uuid)],
        "lost": "Error: No UserTaskStatus matches the given query.",
        "canceled": "Canceled",
        "deleted": 204,
    }
    assert not UserTaskStatus.objects.filter(pk=running.pk).exists()
