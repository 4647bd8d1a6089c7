from __future__ import annotations

import json
import re

import pytest
from django.contrib.auth.models import User

from documents import ROOT, code_blocks, executed
from user_tasks.models import UserTaskStatus
from user_tasks.serializers import StatusSerializer

pytestmark = pytest.mark.embedded

README = ROOT / "README.rst"


@pytest.mark.django_db
def test_first_example_shows_progress_and_result(owner: User) -> None:
    count_words = executed(code_blocks(README)[0], "readme_tasks").count_words
    result = count_words.apply(args=[["to be", "or not", "to be"]], kwargs={"user_id": owner.pk})
    status = UserTaskStatus.objects.get(task_id=result.id)
    assert (status.user, status.state, status.completed_steps) == (owner, "Succeeded", 3)
    assert list(status.artifacts.values_list("name", "text")) == [("Result", "6 words")]


def test_example_of_an_answer_has_the_fields_of_the_api() -> None:
    shown = json.loads(next(block.source for block in code_blocks(README) if block.language == "json"))
    assert [tuple(status) for status in shown] == [StatusSerializer.Meta.fields]


def test_commands_are_targets_of_the_makefile() -> None:
    commands = next(block.source for block in code_blocks(README) if block.language == "console").splitlines()
    assert commands == ["$ make demo", "$ make test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test"} <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_linked_files_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    linked = re.findall(r"`[^`]+<([^>`]+)>`_", text) + re.findall(r"^\.\. image:: (\S+)", text, re.MULTILINE)
    missing = [path for path in linked if not path.startswith("https://") and not (ROOT / path).is_file()]
    assert linked
    assert not missing
