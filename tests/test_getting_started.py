from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from documents import ROOT, Block, code_blocks
from workers import PATIENCE, wait_for

ADDRESS = "127.0.0.1:8000"
SERVERS = ("python manage.py runserver", "celery -A mysite worker")
NOT_RUN = ("python -m pip install django-user-tasks", "python manage.py shell")

pytestmark = pytest.mark.embedded


def environment() -> dict[str, str]:
    """Return a newcomer's variables: nothing about other settings, and this Python's programs first."""
    others = ("DJANGO_SETTINGS_MODULE", "DATABASE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in others}
    return {**kept, "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])}


def free_address() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


class Newcomer:
    """Does what the tutorial says, in a folder and at an address of its own."""

    def __init__(self, folder: Path, servers: ExitStack) -> None:
        self.folder = folder
        self.servers = servers
        self.address = free_address()
        self.outputs: list[str] = []

    def follow(self, block: Block) -> None:
        """Write the file, or run the commands."""
        if block.caption == "manage.py shell":
            self.run(["python", "manage.py", "shell", "-c", block.source])
        elif block.language == "python":
            self.write(block)
        elif block.language == "console":
            for line in block.source.splitlines():
                self.enter(line.removeprefix("$ "))

    def write(self, block: Block) -> None:
        name, _, added = block.caption.partition(" ")
        with (self.folder / name).open("a" if added else "w", encoding="utf-8") as file:
            file.write(block.source)

    def enter(self, line: str) -> None:
        command = shlex.split(line.replace(ADDRESS, self.address))
        if line.startswith(SERVERS):
            without_reloading = ["--noreload"] if "runserver" in command else []
            self.servers.enter_context(self.serve([*command, *without_reloading]))
        elif line == "python manage.py migrate user_tasks zero":
            self.servers.close()
            self.run(command)
        elif line not in NOT_RUN:
            self.run(command)

    def run(self, command: list[str]) -> None:
        result = subprocess.run(
            command, cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
        self.outputs.append(result.stdout.strip())

    @contextmanager
    def serve(self, command: list[str]) -> Iterator[None]:
        """Run a server; a worker ends once the tasks that it executes have ended."""
        with (
            (self.folder / f"{command[0]}.log").open("w") as log,
            subprocess.Popen(
                command, cwd=self.folder, env=environment(), stdout=log, stderr=log, start_new_session=True
            ) as process,
        ):
            try:
                yield
                process.terminate()
                process.wait(PATIENCE)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise

    def get(self, url: str, user: str | None = "ada") -> Any:
        """Return what the API answers, or None while the web server does not listen yet."""
        headers = {"Authorization": f"Basic {b64encode(f'{user}:engine'.encode()).decode()}"} if user else {}
        try:
            with urlopen(Request(url, headers=headers), timeout=PATIENCE) as response:
                return json.load(response)
        except HTTPError:
            raise
        except URLError:
            return None

    def tasks(self, user: str | None = "ada") -> Any:
        return self.get(f"http://{self.address}/api/tasks/", user)

    def watch(self) -> tuple[dict[str, Any], list[int]]:
        """Return the newest task once it has succeeded, and the steps that were seen until then."""
        steps: list[int] = []

        def succeeded() -> Any:
            tasks = self.tasks() or [{"state": None, "completed_steps": 0}]
            steps.append(tasks[0]["completed_steps"])
            assert tasks[0]["state"] not in ("Failed", "Canceled"), tasks
            return tasks[0] if tasks[0]["state"] == "Succeeded" else None

        return wait_for(succeeded, "The end of the task"), steps


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    with ExitStack() as servers:
        yield Newcomer(tmp_path, servers)


@pytest.mark.integration
def test_tutorial_leads_to_a_task_whose_progress_is_seen(newcomer: Newcomer) -> None:
    blocks = code_blocks(ROOT / "docs" / "getting_started.rst")
    seeing = [index for index, block in enumerate(blocks) if block.language == "json"]
    tasks_in_tutorial, artifact_in_tutorial = (json.loads(blocks[index].source) for index in seeing)

    for block in blocks[: seeing[0]]:
        newcomer.follow(block)
    task, steps = newcomer.watch()
    assert (set(task), task["name"]) == (set(tasks_in_tutorial[0]), tasks_in_tutorial[0]["name"])
    assert (task["state"], task["completed_steps"]) == ("Succeeded", tasks_in_tutorial[0]["total_steps"])
    assert steps == sorted(steps)
    assert len(set(steps)) > 3

    artifact = newcomer.get(task["artifacts"][0])
    assert (set(artifact), artifact["text"]) == (set(artifact_in_tutorial), artifact_in_tutorial["text"])
    newcomer.run(["python", "manage.py", "shell", "-c", "User.objects.create_user('bob', password='engine')"])
    assert newcomer.tasks(user="bob") == []
    with pytest.raises(HTTPError, match="404"):
        newcomer.get(task["artifacts"][0], user="bob")
    with pytest.raises(HTTPError, match="403"):
        newcomer.tasks(user=None)

    for block in blocks[seeing[-1] + 1 :]:
        newcomer.follow(block)
        if block.caption:
            assert newcomer.outputs[-1].splitlines()[-1] == newcomer.tasks()[0]["state"] == "Canceled"
    with closing(sqlite3.connect(newcomer.folder / "db.sqlite3")) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert "auth_user" in tables
    assert not {table for table in tables if table.startswith("user_tasks_")}
