from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from browsers import NARROW, WIDE, Browser
from user_tasks.models import UserTaskArtifact, UserTaskStatus

pytestmark = [pytest.mark.browser, pytest.mark.node]

MODULES = Path(__file__).parent / "node_modules"
AXE = MODULES / "axe-core" / "axe.min.js"
HTML_VALIDATE = MODULES / ".bin" / "html-validate"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

PICTURES = os.environ.get("SCREENSHOTS")
"""Folder in which pictures of the pages are left, if any."""


class Look(NamedTuple):
    """How a page is looked at."""

    scheme: str
    width: int
    language: str


LOOKS = [
    Look("light", WIDE, "en"),
    Look("dark", WIDE, "en"),
    Look("light", NARROW, "en"),
    Look("dark", NARROW, "en"),
    Look("light", WIDE, "ar"),
    Look("dark", NARROW, "ar"),
]

NAMES = {
    "en": ["Export of all orders", "Import of products.csv", "Monthly report", "Backup", "Images of the catalogue"],
    "ar": ["تصدير جميع الطلبات", "استيراد products.csv", "التقرير الشهري", "نسخة احتياطية", "صور الكتالوج"],
}
PARTS = {"en": ["Collect", "Resize", "Upload"], "ar": ["جمع", "تغيير الحجم", "رفع"]}
COMPRESSING = {"en": "Compressing", "ar": "جارٍ الضغط"}
ERROR = {
    "en": "Line 4711 has no price: “Lamp, green”.\nNothing was imported. Correct the file and start the import again.",
    "ar": "السطر 4711 بلا سعر: «مصباح أخضر».\nلم يُستورد شيء. صحّح الملف وابدأ الاستيراد من جديد.",
}
SUMMARY = {"en": "18,204 orders of 3,021 customers.", "ar": "18204 طلبات من 3021 عميلا."}

PAGES = {
    "list": ("list", None),
    "empty": ("list", None),
    "running": ("status", 1),
    "indeterminate": ("status", 2),
    "failed": ("status", 3),
    "succeeded": ("status", 4),
    "workflow": ("status", 5),
    "parts": ("parts", 5),
    "cancel": ("cancel", 1),
    "delete": ("delete", 4),
    "tray": ("tray", None),
}


def path_of(page: str) -> str:
    """Return the path of a page's URL."""
    name, number = PAGES[page]
    if name == "tray":
        return "/shop/"
    return reverse(f"user_tasks:{name}", args=[UUID(int=number)] if number else [])


@pytest.fixture
def as_owner(client: Client, owner: User, settings: Settings, package_rules: None) -> Client:
    """A client of the site, logged in as the owner of the statuses."""
    settings.ROOT_URLCONF = "browser_site"
    client.force_login(owner)
    return client


@pytest.fixture
def tasks(make_status: Callable[..., UserTaskStatus], owner: User) -> Callable[[str], None]:
    """Return a function that makes tasks in each state, named in a language."""

    def make(language: str) -> None:
        now = timezone.now()
        names = NAMES[language]
        common: dict[str, Any] = {"started": now - timedelta(minutes=2, seconds=5), "user": owner}
        done = {**common, "finished": now - timedelta(seconds=3)}
        make_status(
            name=names[0], uuid=UUID(int=1), state="In Progress", completed_steps=7432, total_steps=18204, **common
        )
        make_status(name=names[3], uuid=UUID(int=2), state=COMPRESSING[language], **common)
        failed = make_status(
            name=names[1], uuid=UUID(int=3), state="Failed", completed_steps=4710, total_steps=9000, attempts=3, **done
        )
        report = make_status(
            name=names[2], uuid=UUID(int=4), state="Succeeded", completed_steps=12, total_steps=12, **done
        )
        whole = make_status(
            name=names[4],
            uuid=UUID(int=5),
            state="In Progress",
            is_container=True,
            task_class="celery.chain",
            completed_steps=140,
            total_steps=0,
            **common,
        )
        first, second, third = PARTS[language]
        steps = {"completed_steps": 100, "total_steps": 100}
        make_status(name=first, parent=whole, state="Succeeded", **steps, **done)
        group = make_status(
            name=second,
            parent=whole,
            state="In Progress",
            is_container=True,
            total_steps=0,
            completed_steps=40,
            **common,
        )
        make_status(name=second, parent=group, state="In Progress", completed_steps=40, total_steps=100, **common)
        make_status(name=third, parent=whole, total_steps=50)
        make_status(name=names[0], state="Canceled", completed_steps=5, total_steps=12, **done)
        make_status(name=names[1], state="Retrying", attempts=2, total_steps=9000)
        make_status(name=names[3])
        UserTaskArtifact.objects.create(status=failed, name="Error", text=ERROR[language])
        UserTaskArtifact.objects.create(status=report, text=SUMMARY[language])
        UserTaskArtifact.objects.create(status=report, name="Log", text=f"{SUMMARY[language]}\n" * 300)
        UserTaskArtifact.objects.create(status=report, name="Online", url="https://example.com/reports/2026/11/")
        table = UserTaskArtifact(status=report, name="orders")
        table.file.save("orders.csv", ContentFile(b"0" * 1_250_000))

    return make


@pytest.mark.parametrize("look", LOOKS, ids="-".join(["{0.scheme}", "{0.width}", "{0.language}"]).format)
@pytest.mark.parametrize("page", PAGES)
def test_page_is_accessible(
    browser: Browser, site: LiveServer, tasks: Callable[[str], None], page: str, look: Look
) -> None:
    if page != "empty":
        tasks(look.language)
    browser.set_cookie("django_language", look.language)
    browser.show_as(look.scheme, look.width)
    browser.driver.get(f"{site.url}{path_of(page)}")
    if page == "tray":
        browser.click("header summary")
    for summary in browser.driver.find_elements("css selector", "details.ut-parts > summary"):
        summary.click()
        browser.wait_for(lambda: browser.texts("details[open] .ut-name"), "The parts do not open")
    assert browser.run("return document.documentElement.scrollWidth") <= look.width
    if PICTURES:
        browser.screenshot(Path(PICTURES, f"{page}-{look.scheme}-{look.width}-{look.language}.png"))
    assert violations(browser) == []
    browser.complaints()


@pytest.mark.parametrize("page", PAGES)
def test_html_is_valid(as_owner: Client, tasks: Callable[[str], None], page: str, tmp_path: Path) -> None:
    if page != "empty":
        tasks("en")
    file = tmp_path / f"{page}.html"
    file.write_bytes(as_owner.get(path_of(page)).content)
    command: list[str | Path] = [HTML_VALIDATE, "--config", MODULES.parent / ".htmlvalidate.json", file]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def violations(browser: Browser) -> list[str]:
    """Return what axe finds on the page: the rule, and the elements."""
    browser.run(AXE.read_text(encoding="utf-8"))
    result: dict[str, Any] = browser.driver.execute_async_script(
        "const [values, done] = arguments; axe.run({ runOnly: { type: 'tag', values } }).then(done)", RULES
    )
    assert result["passes"]
    return [f"{found['id']}: {node['html']}" for found in result["violations"] for node in found["nodes"]]
