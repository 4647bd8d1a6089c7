from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from documents import ROOT, code_blocks
from projects import Project
from workers import PATIENCE, wait_for

pytestmark = pytest.mark.embedded


class Newcomer(Project):
    """Does what the tutorial says, and looks at what the API says."""

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
    newcomer.shell("User.objects.create_user('bob', password='engine')")
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
