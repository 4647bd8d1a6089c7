"""Chromium, as the tests drive it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 30
"""Seconds that a page may take for what a test waits for."""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

WIDE = 1280
NARROW = 375

Result = TypeVar("Result")


class Browser:
    """A window of Chromium in which nobody is logged in."""

    def __init__(self, profile: Path, javascript: bool = True) -> None:
        options = webdriver.ChromeOptions()
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={WIDE},900", "--lang=en"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if not javascript:
            blocked = {"profile.managed_default_content_settings.javascript": 2}
            options.add_experimental_option("prefs", blocked)
        service = Service(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options, service)

    def quit(self) -> None:
        """Close all windows."""
        self.driver.quit()

    def log_in(self, url: str, user: User) -> None:
        """Log in as a user of the site at `url`."""
        client = Client()
        client.force_login(user)
        self.driver.get(f"{url}/static/user_tasks/user_tasks.css")
        self.set_cookie(settings.SESSION_COOKIE_NAME, client.cookies[settings.SESSION_COOKIE_NAME].value)

    def set_cookie(self, name: str, value: str) -> None:
        """Set a cookie of the site being shown."""
        self.driver.add_cookie({"name": name, "value": value, "path": "/"})

    def text(self, selector: str) -> str:
        """Return the visible text of the first element that fits; empty where there is none."""
        try:
            return " ".join(self.driver.find_element(By.CSS_SELECTOR, selector).text.split())
        except (NoSuchElementException, StaleElementReferenceException):
            return ""

    def texts(self, selector: str) -> list[str]:
        """Return the visible texts of all elements that fit."""
        return [element.text for element in self.driver.find_elements(By.CSS_SELECTOR, selector)]

    def attribute(self, selector: str, name: str) -> str | None:
        """Return an attribute of the first element that fits."""
        return self.driver.find_element(By.CSS_SELECTOR, selector).get_dom_attribute(name)

    def click(self, selector: str) -> None:
        """Click on the first element that fits."""
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return its result."""
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, condition: Callable[[], Result], what: str) -> Result:
        """Return the first true value of the condition; raise an error if none comes in time."""
        waiting = WebDriverWait(self.driver, PATIENCE, 0.05, [StaleElementReferenceException])
        try:
            return waiting.until(lambda _driver: condition())
        except TimeoutException:
            raise AssertionError(f"{what}; the page says: {self.text('body')}") from None

    def wait_for_text(self, selector: str, text: str) -> None:
        """Return once an element shows a text."""
        self.wait_for(lambda: text in self.text(selector), f"No {text!r} in {selector}")

    def show_as(self, scheme: str = "light", width: int = WIDE, height: int = 900) -> None:
        """Set whether the user prefers light or dark, and the width of the window in CSS pixels."""
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return window.innerWidth")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(path))

    def complaints(self) -> list[str]:
        """Return what the browser has complained about since it was last asked, such as violations of the policy."""
        entries: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]  # Selenium does not annotate it
        return [str(entry["message"]) for entry in entries if entry["level"] in {"WARNING", "SEVERE"}]
