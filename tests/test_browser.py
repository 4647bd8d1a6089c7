from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from celery import chain, group
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import translation
from pytest_django.live_server_helper import LiveServer
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser_tasks import guided, tell
from browsers import NARROW, Browser
from ports import accepts, free_port
from test_settings import BASE_DIR
from user_tasks.models import UserTaskStatus
from user_tasks.states import State
from workers import Route, Workers, database_url, wait_for

pytestmark = pytest.mark.browser


@pytest.fixture
def start(workers: Workers, publish_to: Callable[[Route], None], owner: User) -> Iterator[Callable[..., str]]:
    """Return a function that starts a guided task in a real worker and returns its name, by which it takes orders."""
    publish_to(workers.shared().route)
    started: list[str] = []

    def start_(steps: int = 4) -> str:
        started.append(f"Task {uuid4().hex[:6]}")
        guided.delay(owner.pk, started[-1], steps)
        return started[-1]

    yield start_
    for name in started:
        tell(name, "return")
    wait_for(lambda: not UserTaskStatus.objects.unfinished().exists(), "The end of what was started")


def status_of(name: str) -> UserTaskStatus:
    """Return the status of a started task."""
    return UserTaskStatus.objects.get(name=name, is_container=False)


def visit(browser: Browser, site: LiveServer, name: str, status: UserTaskStatus | None = None) -> None:
    """Open a page."""
    browser.driver.get(site.url + reverse(f"user_tasks:{name}", args=[status.uuid] if status else []))


def mark(browser: Browser) -> Callable[[], bool]:
    """Return a function that tells whether the page has not been loaded again since."""
    browser.run("window.isStillHere = true")
    return lambda: bool(browser.run("return window.isStillHere === true"))


def test_progress_moves_without_a_reload(browser: Browser, site: LiveServer, start: Callable[..., str]) -> None:
    name = start(steps=4)
    visit(browser, site, "status", status_of(name))
    is_still_here = mark(browser)
    browser.wait_for_text(".ut-state", "In Progress")
    assert browser.attribute("progress", "value") == "0"
    for percent in ("25%", "50%"):
        tell(name, "step")
        browser.wait_for_text(".ut-percent", percent)
    tell(name, "state Compressing")
    browser.wait_for_text(".ut-state", "Compressing")
    tell(name, "text It is all there.", "return")
    browser.wait_for_text(".ut-state", "Succeeded")
    assert browser.attribute("progress", "value") == "100"
    assert "It is all there." in browser.text(".ut-outputs")
    assert browser.text(".ut-actions") == "Delete"
    assert is_still_here()


def test_a_finished_task_is_not_asked_about_any_more(
    browser: Browser, site: LiveServer, start: Callable[..., str]
) -> None:
    name = start()
    visit(browser, site, "status", status_of(name))
    tell(name, "return")
    browser.wait_for_text(".ut-state", "Succeeded")
    count = "return performance.getEntriesByType('resource').filter(entry => entry.name.includes('fragment')).length"
    asked = browser.run(count)
    later = time.monotonic() + 4
    browser.wait_for(lambda: time.monotonic() > later, "Time passes")
    assert browser.run(count) == asked


def test_a_busy_server_is_left_alone_as_long_as_it_asks(
    browser: Browser, site: LiveServer, start: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = start()
    visit(browser, site, "status", status_of(name))
    browser.wait_for_text(".ut-state", "In Progress")
    monkeypatch.setattr("browser_site.BUSY", [6])
    refused = (
        "return performance.getEntriesByType('resource').filter(e => e.responseStatus === 503).map(e => e.startTime)"
    )
    browser.wait_for(lambda: len(browser.run(refused)) > 1, "It is not asked again")
    first, second = browser.run(refused)[:2]
    assert second - first > 5000
    monkeypatch.setattr("browser_site.BUSY", [])
    tell(name, "step")
    browser.wait_for_text(".ut-percent", "25%")
    assert all("503" in complaint for complaint in browser.complaints())


def test_a_hidden_tab_asks_nothing_until_it_is_seen(
    browser: Browser, site: LiveServer, start: Callable[..., str]
) -> None:
    name = start()
    visit(browser, site, "status", status_of(name))
    browser.wait_for_text(".ut-state", "In Progress")
    seen = browser.driver.current_window_handle
    browser.run(
        "document.addEventListener('visibilitychange', () => { (window.changes ??= []).push(performance.now()) })"
    )
    browser.driver.switch_to.new_window("tab")
    later = time.monotonic() + 5
    browser.wait_for(lambda: time.monotonic() > later, "Time passes")
    tell(name, "step")
    browser.driver.close()
    browser.driver.switch_to.window(seen)
    browser.wait_for_text(".ut-percent", "25%")
    hidden, shown = browser.run("return window.changes")[:2]
    asked = browser.run("return performance.getEntriesByType('resource').map(entry => entry.startTime)")
    assert shown - hidden > 4000
    assert not [moment for moment in asked if hidden < moment < shown - 100]


def test_events_tell_a_project_of_progress_and_end(
    browser: Browser, site: LiveServer, start: Callable[..., str]
) -> None:
    name = start()
    browser.driver.get(f"{site.url}/shop/")
    browser.run("""
        window.told = [];
        for (const type of ["user-task:progress", "user-task:stopped"]) {
          document.querySelector("main").addEventListener(type, ({ detail }) => window.told.push({ type, ...detail }));
        }
    """)
    tell(name, "step")
    browser.wait_for(lambda: browser.attribute("main progress", "value") == "25", "No progress")
    tell(name, "return")
    browser.wait_for_text("main .ut-state", "Succeeded")
    told = browser.run("return window.told")
    uuid = str(status_of(name).uuid)
    assert {event["uuid"] for event in told} == {uuid}
    assert {
        "type": "user-task:progress",
        "uuid": uuid,
        "state": "In Progress",
        "completed": 1,
        "total": 4,
        "live": True,
    } in told
    stopped = [event for event in told if event["type"] == "user-task:stopped"]
    assert stopped == [
        {"type": "user-task:stopped", "uuid": uuid, "state": "Succeeded", "completed": 4, "total": 4, "live": False}
    ]


def test_tray_counts_what_runs_and_shows_what_has_finished(
    browser: Browser, site: LiveServer, start: Callable[..., str]
) -> None:
    name = start()
    browser.driver.get(f"{site.url}/shop/")
    assert browser.text("header .ut-count") == "1 1 is running"
    browser.click("header summary")
    assert name in browser.text("header .ut-panel")
    tell(name, "return")
    browser.wait_for_text("header .ut-panel .ut-state", "Succeeded")
    assert browser.text("header .ut-count") == ""
    assert browser.attribute("header details", "open") is not None


def test_an_idle_tray_finds_what_has_been_started_elsewhere(
    browser: Browser, site: LiveServer, start: Callable[..., str]
) -> None:
    hurry = "{ const { setTimeout } = window; window.setTimeout = (call, delay) => setTimeout(call, delay / 30); }"
    script = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": hurry})
    try:
        browser.driver.get(f"{site.url}/shop/")
        assert browser.text("header .ut-count") == ""
        name = start()
        browser.wait_for_text("header .ut-count", "1 1 is running")
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    tell(name, "return")


def test_a_running_task_is_canceled(browser: Browser, site: LiveServer, start: Callable[..., str]) -> None:
    name = start()
    visit(browser, site, "status", status_of(name))
    browser.wait_for_text(".ut-state", "In Progress")
    browser.click(".ut-actions a")
    browser.wait_for_text("h1", "Cancel")
    browser.click("button.ut-danger")
    browser.wait_for_text(".ut-messages", "The task is canceled.")
    browser.wait_for_text(".ut-state", "Canceled")
    browser.wait_for_text(".ut-actions", "Delete")
    browser.wait_for(lambda: status_of(name).finished, "The worker has not stopped")
    browser.wait_for(lambda: "stopping" not in browser.text(".ut-large"), "It still stops")


def test_a_finished_task_is_deleted(browser: Browser, site: LiveServer, start: Callable[..., str]) -> None:
    name = start()
    visit(browser, site, "status", status_of(name))
    tell(name, "return")
    browser.wait_for_text(".ut-actions", "Delete")
    browser.click(".ut-actions a")
    browser.wait_for_text("h1", "Delete")
    browser.click("button.ut-danger")
    browser.wait_for_text(".ut-messages", "The task is deleted.")
    assert not UserTaskStatus.objects.filter(name=name).exists()


def test_a_failure_says_why(browser: Browser, site: LiveServer, start: Callable[..., str]) -> None:
    name = start()
    visit(browser, site, "status", status_of(name))
    tell(name, "step", "fail Line 7 has no <b>price</b>.")
    browser.wait_for_text(".ut-state", "Failed")
    assert browser.text(".ut-error") == "Line 7 has no <b>price</b>."


def test_files_are_downloaded(browser: Browser, site: LiveServer, start: Callable[..., str], tmp_path: Path) -> None:
    name = start()
    visit(browser, site, "status", status_of(name))
    tell(name, "file table.csv", "return")
    browser.wait_for_text(".ut-outputs", "6 bytes")
    behavior = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behavior)
    browser.click(".ut-outputs a[download]")
    found = browser.wait_for(lambda: list(tmp_path.glob("*.csv")), "No file")
    browser.wait_for(lambda: found[0].read_text() == "1,2,3\n", "The file is not whole")


def test_a_workflow_opens_level_by_level_and_moves(
    browser: Browser, site: LiveServer, workers: Workers, publish_to: Callable[[Route], None], owner: User
) -> None:
    publish_to(workers.shared().route)
    names = [f"Part {uuid4().hex[:6]}" for _ in range(3)]
    first, second, last = (guided.si(owner.pk, name, 2, user_task_name="Whole") for name in names)
    chain(group(first, second), last).delay()
    root = UserTaskStatus.objects.roots().get()
    visit(browser, site, "status", root)
    for name in names[:2]:
        tell(name, "step")
    browser.wait_for(lambda: browser.text("h1") == "Whole", "No name")
    opened = "details.ut-parts[open] .ut-tasks > li .ut-name"
    browser.click("details.ut-parts summary")
    browser.wait_for(lambda: set(names[:2]) <= set(browser.texts(opened)), "The group does not open")
    is_still_here = mark(browser)
    browser.wait_for(lambda: browser.texts(".ut-status .ut-percent") == ["33%"], "The sum does not move")
    tell(names[0], "return")
    browser.wait_for(lambda: "Succeeded" in browser.texts("details[open] .ut-state"), "The part does not move")
    for name in names[1:]:
        tell(name, "return")
    browser.wait_for_text(".ut-status .ut-state", "Succeeded")
    assert browser.attribute("details.ut-parts", "open") is not None
    assert is_still_here()


def test_the_language_of_the_user_is_followed(browser: Browser, site: LiveServer, start: Callable[..., str]) -> None:
    name = start()
    visit(browser, site, "status", status_of(name))
    browser.set_cookie("django_language", "ar")
    visit(browser, site, "status", status_of(name))
    assert (browser.attribute("html", "lang"), browser.attribute("html", "dir")) == ("ar", "rtl")
    tell(name, "step", "return")
    with translation.override("ar"):
        browser.wait_for_text(".ut-state", str(State.SUCCEEDED.label))
    browser.set_cookie("django_language", "de")
    visit(browser, site, "status", status_of(name))
    assert (browser.attribute("html", "lang"), browser.attribute("html", "dir")) == ("de", "ltr")


def test_everything_is_done_with_the_keyboard(browser: Browser, site: LiveServer, start: Callable[..., str]) -> None:
    name = start()
    visit(browser, site, "list")

    def press(*keys: str) -> None:
        for key in keys:
            browser.driver.switch_to.active_element.send_keys(key)

    def tab_to(text: str) -> None:
        for _ in range(30):
            press(Keys.TAB)
            if text in browser.driver.switch_to.active_element.text:
                outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
                assert outline == "solid"
                return
        raise AssertionError(f"{text!r} is not reached by keyboard.")

    tab_to("Skip to the content")
    press(Keys.ENTER)
    tab_to(name)
    press(Keys.ENTER)
    browser.wait_for_text("h1", name)
    tab_to("Cancel")
    press(Keys.ENTER)
    browser.wait_for_text("h1", "Cancel")
    tab_to("Cancel the task")
    press(Keys.ENTER)
    browser.wait_for_text(".ut-state", "Canceled")


def test_the_focus_is_never_on_another_action(browser: Browser, site: LiveServer, start: Callable[..., str]) -> None:
    name = start()
    visit(browser, site, "status", status_of(name))
    browser.run("document.querySelector('.ut-actions a').focus()")
    tell(name, "step")
    browser.wait_for(lambda: browser.attribute("progress", "value") == "25", "No progress")
    assert browser.driver.switch_to.active_element.text == "Cancel"
    tell(name, "return")
    browser.wait_for_text(".ut-actions", "Delete")
    assert browser.driver.switch_to.active_element.tag_name == "h1"


def test_without_javascript_pages_refresh_and_actions_work(
    open_browser: Callable[..., Browser], site: LiveServer, owner: User, start: Callable[..., str]
) -> None:
    name = start()
    plain = open_browser(javascript=False)
    plain.log_in(site.url, owner)
    visit(plain, site, "status", status_of(name))
    assert "refreshes itself" in plain.text("main")
    tell(name, "step")
    plain.wait_for(lambda: plain.attribute("progress", "value") == "25", "The page does not refresh")
    plain.click(".ut-actions a")
    plain.wait_for_text("h1", "Cancel")
    plain.click("button.ut-danger")
    plain.wait_for_text(".ut-state", "Canceled")
    plain.wait_for_text(".ut-actions", "Delete")
    plain.click(".ut-actions a")
    plain.wait_for_text("h1", "Delete")
    plain.click("button.ut-danger")
    plain.wait_for_text(".ut-messages", "deleted")


@pytest.fixture
def serve() -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Return a function that starts a web server in a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def serve_(port: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "django", "runserver", "--noreload", "--insecure", f"localhost:{port}"]
        paths = os.pathsep.join([str(BASE_DIR), str(BASE_DIR / "tests")])
        settings = {"DJANGO_SETTINGS_MODULE": "browser_settings", "DATABASE_URL": database_url(), "PYTHONPATH": paths}
        started.append(subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.DEVNULL))
        wait_for(lambda: accepts(port), "A web server that answers")
        return started[-1]

    yield serve_
    for process in started:
        process.kill()
        process.wait()


def test_a_restarted_server_is_found_again(
    browser: Browser,
    serve: Callable[[int], subprocess.Popen[bytes]],
    make_user: Callable[..., User],
    make_status: Callable[..., UserTaskStatus],
) -> None:
    status = make_status(total_steps=4)
    status.start()
    port = free_port()
    server = serve(port)
    url = f"http://localhost:{port}"
    browser.log_in(url, make_user(is_superuser=True))
    browser.driver.get(url + reverse("user_tasks:status", args=[status.uuid]))
    is_still_here = mark(browser)
    server.kill()
    server.wait()
    browser.wait_for_text(".ut-connection", "No connection")
    status.increment_completed_steps()
    serve(port)
    browser.wait_for(lambda: browser.attribute("progress", "value") == "25", "It is not found again")
    assert browser.text(".ut-connection") == ""
    assert is_still_here()
    assert all("favicon" in complaint or "net::ERR" in complaint for complaint in browser.complaints())


def test_two_tabs_show_the_same(browser: Browser, site: LiveServer, start: Callable[..., str]) -> None:
    name = start()
    visit(browser, site, "status", status_of(name))
    first = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("window")
    visit(browser, site, "status", status_of(name))
    tell(name, "step")
    browser.wait_for(lambda: browser.attribute("progress", "value") == "25", "The second tab does not move")
    browser.click(".ut-actions a")
    browser.wait_for_text("h1", "Cancel")
    browser.click("button.ut-danger")
    browser.wait_for_text(".ut-state", "Canceled")
    browser.driver.close()
    browser.driver.switch_to.window(first)
    browser.wait_for_text(".ut-state", "Canceled")
    browser.wait_for_text(".ut-actions", "Delete")


def test_a_deleted_task_is_told_as_such(browser: Browser, site: LiveServer, start: Callable[..., str]) -> None:
    name = start()
    visit(browser, site, "status", status_of(name))
    browser.wait_for_text(".ut-state", "In Progress")
    status_of(name).delete()
    browser.wait_for_text(".ut-connection", "can no longer be shown")
    assert all("404" in complaint for complaint in browser.complaints())


def test_screen_readers_are_told_of_news_only(browser: Browser, site: LiveServer, start: Callable[..., str]) -> None:
    name = start(steps=100)
    visit(browser, site, "status", status_of(name))
    browser.wait_for_text(".ut-state", "In Progress")
    browser.run("""
        window.said = [];
        const region = document.querySelector(".ut-status > [role=status]");
        new MutationObserver(() => window.said.push(region.textContent)).observe(
          region, { characterData: true, childList: true, subtree: true });
    """)
    for number in range(1, 31):
        tell(name, "step", f"state Block {number}")
        browser.wait_for_text(".ut-state", f"Block {number}") if number % 10 == 0 else None
    browser.wait_for_text(".ut-percent", "30%")
    assert browser.run("return window.said") == [f"{name}: In Progress, 25%"]
    tell(name, "return")
    browser.wait_for_text(".ut-state", "Succeeded")
    assert browser.run("return window.said")[-1] == f"{name}: Succeeded"


def test_nothing_is_wider_than_a_phone(
    browser: Browser, site: LiveServer, make_status: Callable[..., UserTaskStatus]
) -> None:
    status = make_status(name="n" * 255, state="س" * 128, total_steps=2**62, completed_steps=2**61)
    browser.show_as(width=NARROW)
    for name in ("list", "status", "cancel"):
        visit(browser, site, name, status if name != "list" else None)
        assert browser.run("return document.documentElement.scrollWidth") <= NARROW
    assert browser.driver.find_elements(By.CSS_SELECTOR, "h1")
