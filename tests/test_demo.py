from __future__ import annotations

import csv
import io
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import pytest
import requests
from kombu import Connection, Exchange, Queue

from ports import free_port
from workers import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.embedded]

DEMO = Path(__file__).resolve().parent.parent / "demo"
SAMPLE = DEMO / "jobs" / "static" / "jobs" / "products.csv"
HEADER = b"gtin,name,category,price,stock,available_from\n"
FINAL_STATES = ("Succeeded", "Failed", "Canceled")
ALL_NAMES = [name for code_point in range(sys.maxunicode + 1) if (name := unicodedata.name(chr(code_point), ""))]
MEBIBYTE = 2**20
OF_THE_SUITE = re.compile("COVERAGE_|DJANGO_SETTINGS_MODULE$")


class Demo:
    """A demo that runs, with all that it keeps in a folder of its own."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.environment = {
            **{name: value for name, value in os.environ.items() if not OF_THE_SUITE.match(name)},
            "DEMO_PORT": str(port or free_port()),
            "DEMO_QUEUE": f"demo_{uuid4().hex}",
            "DEMO_VAR": str(folder / "var"),
            "DJANGO_COLORS": "nocolor",
        }
        self.log_file = folder / "log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, DEMO / "run.py"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.url = wait_for(self._url, "A demo that is ready")

    def _url(self) -> str:
        assert self.process.poll() is None, self.log()
        found = re.search(r"^The demo is at (http://\S+)/$", self.log(), re.MULTILINE)
        return found[1] if found else ""

    def log(self) -> str:
        """Return what it has printed."""
        return self.log_file.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Return its processes, those that execute tasks last."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(), *(leaf for child in process.children() for leaf in child.children())]

    def manage(self, *arguments: str) -> list[str | Path]:
        """Return a command line."""
        return [sys.executable, DEMO / "manage.py", *arguments]

    def press_ctrl_c(self) -> int:
        """Interrupt what runs in the foreground of its terminal; return the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        exit_code = self.process.wait(60)
        self.delete_queue()
        return exit_code

    def delete_queue(self) -> None:
        """Remove its queue from a broker that outlives it."""
        if "CELERY_BROKER_URL" not in self.environment:
            return
        with Connection(self.environment["CELERY_BROKER_URL"]) as broker:
            name = self.environment["DEMO_QUEUE"]
            queue: Any = Queue(name, Exchange(name), routing_key=name).bind(broker.default_channel)
            queue.declare()
            queue.delete()
            queue.exchange.delete()


class Terminal:
    """A command that writes to a terminal."""

    def __init__(self, command: list[str | Path], environment: dict[str, str]) -> None:
        self.output = ""
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 100))
        self.process = subprocess.Popen(
            command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.reader = Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        """Collect what is written, until the terminal is closed; Linux tells that by an error."""
        with suppress(OSError), os.fdopen(self.ours, "rb", buffering=0) as terminal:
            while written := terminal.read(1024):
                self.output += written.decode()

    def press_ctrl_c(self) -> None:
        """Interrupt the command."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self) -> int:
        """Return the exit code."""
        exit_code = self.process.wait(60)
        self.reader.join(60)
        return exit_code


class Browser:
    """A session of a user who is signed in."""

    def __init__(self, url: str, user: str = "demo") -> None:
        self.url = url
        self.session = requests.Session()
        self.session.get(f"{url}/accounts/login/").raise_for_status()
        self.post("/accounts/login/", username=user, password=user).raise_for_status()

    def get(self, url: str) -> requests.Response:
        """Get a page that has to be there."""
        response = self.session.get(f"{self.url}{url}" if url.startswith("/") else url)
        response.raise_for_status()
        return response

    def post(self, url: str, files: Any = None, **fields: str) -> requests.Response:
        """Send a form, as a page of the site does."""
        token = self.session.cookies["csrftoken"]
        headers = {"X-CSRFToken": token}
        return self.session.post(f"{self.url}{url}", data=fields, files=files, headers=headers)

    def start(self, job: str, content: bytes | None = None) -> str:
        """Start a job; return the address of its status."""
        response = self.post(f"/start/{job}/", {"file": ("upload.csv", content)} if content is not None else None)
        response.raise_for_status()
        found = re.search(r"[0-9a-f-]{36}", urlsplit(response.url).path)
        assert found, response.url
        return f"/api/tasks/{found[0]}/"

    def follow(self, status_url: str) -> list[dict[str, Any]]:
        """Return the status again and again, until it is final."""
        seen: list[dict[str, Any]] = []

        def is_final() -> bool:
            seen.append(self.get(status_url).json())
            return seen[-1]["state"] in FINAL_STATES

        wait_for(is_final, "A final state")
        return seen

    def run(self, job: str, content: bytes | None = None) -> dict[str, Any]:
        """Start a job; return its final status."""
        return self.follow(self.start(job, content))[-1]

    def artifacts(self, status: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the outputs of a status by name."""
        found = [self.get(url).json() for url in status["artifacts"]]
        return {artifact["name"]: artifact for artifact in found}

    def rows(self, artifact: dict[str, Any]) -> list[list[str]]:
        """Return the rows of a CSV file below the header."""
        return list(csv.reader(io.StringIO(self.get(artifact["download_url"]).content.decode(), newline="")))[1:]

    def rejections(self, content: bytes) -> list[tuple[int, str]]:
        """Import a file; return the lines that were refused with the reasons."""
        status = self.run("import-products", content)
        assert status["state"] == "Succeeded"
        artifacts = self.artifacts(status)
        return [(int(row[0]), row[1]) for row in self.rows(artifacts["Rejected rows"])]


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let what the tests start hear Ctrl-C: where a shell runs them in the background, all inherit its deafness."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo"))
    yield demo
    demo.press_ctrl_c()


@pytest.fixture(scope="module")
def browser(demo: Demo) -> Browser:
    return Browser(demo.url)


def test_unicode_export_is_seen_going_up_and_holds_all_named_characters(browser: Browser) -> None:
    seen = browser.follow(browser.start("export-unicode"))

    steps = [status["completed_steps"] for status in seen]
    assert steps == sorted(steps)
    assert len(set(steps)) > 3
    assert {"Basic Latin", "Hangul Syllables", "CJK Unified Ideographs"} & {status["state"] for status in seen}
    assert seen[-1]["state"] == "Succeeded"
    assert seen[-1]["completed_steps"] == seen[-1]["total_steps"] == len(ALL_NAMES)
    rows = browser.rows(browser.artifacts(seen[-1])["Unicode characters"])
    assert [row[2] for row in rows] == ALL_NAMES
    assert rows[ALL_NAMES.index("ROMAN NUMERAL ONE HUNDRED")][:2] == ["U+216D", "\u216d"]


@pytest.mark.parametrize("kind", ["chord", "chain"])
def test_unicode_export_as_a_canvas_ends_with_a_zip_file_of_all_planes(browser: Browser, kind: str) -> None:
    status = browser.run(f"export-unicode-{kind}")

    assert status["state"] == "Succeeded"
    assert status["name"].startswith("Unicode characters, ")
    assert status["completed_steps"] == status["total_steps"] > len(ALL_NAMES)
    newest = next(found for found in browser.get("/api/artifacts/").json() if found["name"] == "All planes")
    with zipfile.ZipFile(io.BytesIO(browser.get(newest["download_url"]).content)) as archive:
        parts = [archive.read(name).decode() for name in archive.namelist()]
    names = [row[2] for part in parts for row in list(csv.reader(io.StringIO(part, newline="")))[1:]]
    assert sorted(names) == sorted(ALL_NAMES)


def test_sample_is_imported_but_for_twelve_rows(browser: Browser) -> None:
    status = browser.run("import-products")

    assert status["state"] == "Succeeded"
    assert status["name"] == "Import of products.csv"
    lines = list(csv.reader(SAMPLE.read_text().splitlines()))
    assert status["completed_steps"] == status["total_steps"] == len(lines)
    artifacts = browser.artifacts(status)
    assert artifacts["Summary"]["text"] == "3,988 rows stored, 12 rejected."
    rejected = browser.rows(artifacts["Rejected rows"])
    assert [row[2:] for row in rejected] == [lines[int(row[0]) - 1] for row in rejected]
    assert [row[1] for row in rejected] == [
        "gtin: The check digit should be 1.",
        "gtin: Enter 13 digits.",
        "name: This field cannot be blank.",
        "category: Value 'furniture' is not a valid choice.",
        "price: “61,73” value must be a decimal number.",
        "price: Ensure this value is greater than or equal to 0.01.",
        "stock: Ensure this value is greater than or equal to 0.",
        "stock: “plenty” value must be an integer.",
        "available_from: “2026-02-30” value has the correct format (YYYY-MM-DD) but it is an invalid date.",
        "6 columns expected, 5 found.",
        "6 columns expected, 7 found.",
        "gtin: Line 2 has it already.",
    ]


def test_sample_is_what_its_command_writes(demo: Demo) -> None:
    written = subprocess.run(demo.manage("make_products"), env=demo.environment, stdout=subprocess.PIPE, check=True)

    assert written.stdout == SAMPLE.read_bytes()


def test_uploaded_rows_are_refused_by_the_line_on_which_they_begin(browser: Browser) -> None:
    valid = b'"Lamp, of\ntwo lines",lighting,9.99,1,2025-01-01\r\n'

    assert browser.rejections(
        b"\xef\xbb\xbf"
        + HEADER
        + b"2000000000008,"
        + valid
        + b"\n"
        + b"2000000000008,"
        + valid
        + b"2000000000015,Cr\xe8me,lighting,9.99,1,2025-01-01\n"
        + b"2000000000022,Nul\0,lighting,9.99,1,2025-01-01\n"
        + b"2000000000039,\xc3\xa8,lighting,9.999,1,2025-01-01"
    ) == [
        (5, "gtin: Line 2 has it already."),
        (7, "Not in UTF-8."),
        (8, "name: Null characters are not allowed."),
        (9, "price: Ensure that there are no more than 2 decimal places."),
    ]


def test_an_import_that_is_repeated_overwrites(browser: Browser) -> None:
    content = HEADER + b"2000000000008,Lamp,lighting,9.99,1,2025-01-01\n"

    summaries = [browser.artifacts(browser.run("import-products", content))["Summary"] for _ in range(2)]

    assert [summary["text"] for summary in summaries] == ["1 rows stored, 0 rejected."] * 2


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"name,price\n", f"The first line should be {HEADER.decode().strip()}, it is 'name,price'."),
        (HEADER + b'1,"' + b"x" * 200_000, "Line 2: field larger than field limit (131072)."),
    ],
)
def test_a_file_that_is_something_else_fails_the_import(browser: Browser, content: bytes, error: str) -> None:
    status = browser.run("import-products", content)

    assert status["state"] == "Failed"
    assert browser.artifacts(status)["Error"]["text"] == error


def test_an_empty_file_is_refused_on_the_page(browser: Browser) -> None:
    response = browser.post("/start/import-products/", {"file": ("empty.csv", b"")})

    assert response.status_code == 400
    assert "The submitted file is empty." in response.text


def test_100_000_rows_are_imported_in_bounded_memory(demo: Demo, browser: Browser) -> None:
    written = subprocess.run(
        demo.manage("make_products", "--rows", "100000"), env=demo.environment, stdout=subprocess.PIPE, check=True
    )
    browser.run("import-products")
    processes = demo.processes()[1:]
    before = {process.pid: process.memory_info().rss for process in processes}
    growth: dict[int, int] = {}
    status_url = browser.start("import-products", written.stdout)

    def is_at(steps: int) -> bool:
        for process in processes:
            grown = process.memory_info().rss - before[process.pid]
            growth[process.pid] = max(grown, growth.get(process.pid, 0))
        status = browser.get(status_url).json()
        return status["completed_steps"] >= steps or status["state"] in FINAL_STATES

    for steps in range(20_000, 100_001, 20_000):
        wait_for(partial(is_at, steps), f"Step {steps}")
    browser.follow(status_url)

    status = browser.get(status_url).json()
    assert (status["state"], status["total_steps"]) == ("Succeeded", 100_001)
    assert browser.artifacts(status)["Summary"]["text"] == "99,988 rows stored, 12 rejected."
    assert max(growth.values()) < 24 * MEBIBYTE, growth


def test_a_job_fails(browser: Browser) -> None:
    status = browser.run("fail")

    assert status["state"] == "Failed"
    assert browser.artifacts(status)["Error"]["text"] == "The warehouse is closed."


def test_a_job_is_retried_and_succeeds(browser: Browser) -> None:
    seen = browser.follow(browser.start("retry"))

    assert "Retrying" in [status["state"] for status in seen]
    assert (seen[-1]["state"], seen[-1]["attempts"]) == ("Succeeded", 3)
    assert "Answer" in browser.artifacts(seen[-1])


def test_a_slow_job_is_canceled(demo: Demo, browser: Browser) -> None:
    url = browser.start("find-primes")
    wait_for(lambda: browser.get(url).json()["completed_steps"] > 0)

    response = browser.post(f"{url}cancel/")

    assert (response.status_code, response.json()["state"]) == (201, "Canceled")
    wait_for(lambda: "raised expected: TaskCanceledException" in demo.log())
    steps = browser.get(url).json()["completed_steps"]
    assert steps < browser.get(url).json()["total_steps"]


def test_pages_ask_who_is_there(demo: Demo) -> None:
    for path in ("/", f"/tasks/files/{uuid4()}/"):
        assert urlsplit(requests.get(f"{demo.url}{path}").url).path == "/accounts/login/"
    assert requests.get(f"{demo.url}/api/tasks/").status_code == 403


def test_admin_signs_in_to_the_admin(demo: Demo) -> None:
    admin = Browser(demo.url, "admin")

    assert "Site administration" in admin.get("/admin/").text
    assert "/cancel/" in admin.get("/api/schema/").text


def test_pages_are_in_the_language_that_is_chosen(demo: Demo) -> None:
    reader = Browser(demo.url)
    page = reader.post("/i18n/setlang/", language="de", next="/").text

    assert '<html lang="de" dir="ltr">' in page
    assert all(text in page for text in ("Eine Aufgabe starten", "Produkte importieren", "Meine Aufgaben"))
    assert not [text for text in ("Start a job", "Import products", "My tasks") if text in page]


def test_pages_show_what_was_started(browser: Browser) -> None:
    status_url = browser.start("fail")
    browser.follow(status_url)

    index = browser.get("/").text
    assert index.count("<article") == 7
    for page in (index, browser.get(status_url.removeprefix("/api")).text):
        assert "Look-up of the stock" in page
        assert "Failed" in page


def test_command_draws_progress_and_prints_the_outputs(demo: Demo) -> None:
    terminal = Terminal(demo.manage("job", "export-unicode"), demo.environment)

    assert terminal.wait() == 0
    assert f"Unicode characters: 100%|{'█' * 10}" in terminal.output
    assert re.search(rf"{len(ALL_NAMES)}/{len(ALL_NAMES)} .*, Succeeded\]", terminal.output)
    path = Path(terminal.output.strip().rpartition("\r\nUnicode characters: ")[2])
    assert path.stat().st_size > MEBIBYTE


def test_command_reports_a_failure_by_its_exit_code(demo: Demo) -> None:
    failed = subprocess.run(demo.manage("job", "fail"), env=demo.environment, stderr=subprocess.PIPE, check=False)

    assert (failed.returncode, failed.stderr.decode()) == (1, "CommandError: Failed: The warehouse is closed.\n")


def test_ctrl_c_cancels_the_job_of_a_command(demo: Demo, browser: Browser) -> None:
    terminal = Terminal(demo.manage("job", "find-primes"), demo.environment)
    wait_for(lambda: "Tested 2^" in terminal.output, "Progress")

    terminal.press_ctrl_c()

    assert terminal.wait() == 130
    assert terminal.output.endswith("CommandError: Canceled.\r\n")
    assert "Traceback" not in terminal.output
    newest = browser.get("/api/tasks/").json()[0]
    assert (newest["name"], newest["state"]) == ("Search for Mersenne primes", "Canceled")


def test_one_ctrl_c_ends_everything(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = Demo(tmp_path, port)
    browser = Browser(demo.url)
    url = browser.start("find-primes")
    wait_for(lambda: browser.get(url).json()["completed_steps"] > 0)
    processes = demo.processes()

    exit_code = demo.press_ctrl_c()

    assert exit_code == 0
    assert len(processes) == 6
    assert [process for process in processes if process.is_running()] == []
    assert "Traceback" not in demo.log()
    assert urlsplit(demo.url).port != port
