from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import Task
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.template import Template
from django.test import Client, RequestFactory
from pytest_django import DjangoCaptureOnCommitCallbacks

import user_tasks
from documents import DOCUMENTS, ROOT, Block, code_blocks, executed
from test_architecture import RINGS
from user_tasks.conf import Defaults
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.tasks import fail_lost_user_tasks, purge_old_user_tasks

pytestmark = pytest.mark.embedded

PACKAGE = Path(user_tasks.__file__).parent
DOCS = ROOT / "docs"

TEST = re.compile(r"^def (test_\w+)", re.MULTILINE)

PUBLIC_NAMES = {
    "user_tasks": "__version__ user_task_stopped",
    "user_tasks.models": (
        "UserTaskStatus uuid user task_id parent is_container task_class name state completed_steps total_steps"
        " attempts created modified PENDING IN_PROGRESS SUCCEEDED FAILED CANCELED RETRYING STATE_TRANSLATIONS start"
        " increment_completed_steps increment_total_steps cancel fail retry set_name set_state succeed state_text"
        " UserTaskArtifact artifacts status file url text"
    ),
    "user_tasks.tasks": (
        "UserTaskMixin generate_name calculate_total_steps arguments_as_dict status UserTask purge_old_user_tasks"
    ),
    "user_tasks.signals": "create_user_task start_user_task task_failed retrying_task task_succeeded celery_app",
    "user_tasks.utils": "proto2_to_proto1 extract_proto2_headers extract_proto2_embed",
    "user_tasks.exceptions": "TaskCanceledException",
    "user_tasks.conf": "settings get_storage",
    "user_tasks.filters": "ArtifactFilterBackend StatusFilterBackend",
    "user_tasks.rules": "is_status_creator is_artifact_creator STATUS_PERMISSION ARTIFACT_PERMISSION add_rules",
    "user_tasks.views": "StatusViewSet ArtifactViewSet cancel_status_code DjangoObjectPermissionsIncludingView",
    "user_tasks.serializers": "StatusSerializer ArtifactSerializer",
    "user_tasks.urls": "ROUTER urlpatterns",
}
"""What a project may rely on."""


PYTHON_BLOCKS = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in DOCUMENTS
    for number, block in enumerate(code_blocks(path))
    if block.language == "python"
]


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def python_blocks(name: str) -> list[Block]:
    return [block for block in code_blocks(DOCS / name) if block.language == "python"]


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    """The sections of the reference by their modules."""
    titles = list(re.finditer(r"^(user_tasks\S*)\n-+\n", text_of("reference.rst"), re.MULTILINE))
    ends = [title.start() for title in titles[1:]] + [None]
    return {title[1]: title.string[title.end() : end] for title, end in zip(titles, ends, strict=True)}


@pytest.mark.parametrize("block", PYTHON_BLOCKS)
def test_python_compiles(block: Block) -> None:
    compile(block.source, block.caption, "exec")


@pytest.mark.parametrize(
    "block", [block for block in code_blocks(DOCS / "status_pages.rst") if block.language == "django"]
)
def test_template_compiles(block: Block) -> None:
    assert Template(block.source).nodelist


def test_every_setting_is_described() -> None:
    described = re.findall(r"^\.\. setting:: (\w+)$", text_of("settings.rst"), re.MULTILINE)
    assert sorted(described) == sorted(name for name in vars(Defaults) if name.isupper())


@pytest.mark.parametrize("module", PUBLIC_NAMES)
def test_every_public_name_stands_in_the_reference(reference: dict[str, str], module: str) -> None:
    words = set(re.findall(r"\w+", reference[module]))
    for model in re.findall(r"model-fields:: (\w+)", reference[module]):
        words |= {field.name for field in apps.get_model("user_tasks", model)._meta.fields}
    assert set(PUBLIC_NAMES[module].split()) <= words


@pytest.mark.parametrize("ring", sorted(RINGS.keys() - {"start"}))
def test_every_ring_is_listed(ring: str) -> None:
    assert f".. ring:: {ring}\n" in text_of("architecture.rst")


@pytest.mark.parametrize("migration", sorted(path.stem for path in PACKAGE.glob("migrations/00*.py"))[5:])
def test_every_migration_since_4_is_explained(migration: str) -> None:
    assert f"``{migration}``\n" in text_of("upgrading.rst")


def test_changelog_tells_about_this_version() -> None:
    assert f"\n{user_tasks.__version__} - " in (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")


def tree(parent: UserTaskStatus | None = None, indent: str = "") -> Iterator[str]:
    for status in UserTaskStatus.objects.filter(parent=parent).order_by("pk"):
        numbers = f"{status.completed_steps} of {status.total_steps}"
        yield f'{indent}{status.task_class}  "{status.name}"  {numbers}'
        yield from tree(status, f"{indent}  ")


@pytest.fixture(scope="module")
def sales() -> Iterator[None]:
    """The application whose tasks the page links."""
    tasks = next(block for block in python_blocks("linked_tasks.rst") if block.caption == "sales/tasks.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sales", ModuleType("sales"))
        patch.setitem(sys.modules, "sales.tasks", executed(tasks, "sales.tasks"))
        yield


CANVASES = [
    pytest.param(code, shown, id=code.source.split()[3])
    for code, shown in pairwise(code_blocks(DOCS / "linked_tasks.rst"))
    if shown.language == "text"
]


@pytest.mark.django_db
@pytest.mark.usefixtures("sales")
@pytest.mark.parametrize(("code", "shown"), CANVASES)
def test_canvas_is_recorded_as_shown(owner: User, code: Block, shown: Block) -> None:
    exec(code.source, {"user": owner})
    assert list(tree()) == shown.source.splitlines()


@pytest.fixture
def forgotten_rules(rule_set: dict[str, Any]) -> None:
    """No rules, but those that the test adds."""
    rule_set.clear()


@pytest.mark.usefixtures("forgotten_rules")
def test_support_group_may_cancel_what_others_triggered(
    make_status: Callable[..., UserTaskStatus], make_user: Callable[..., User]
) -> None:
    config = executed(python_blocks("authorization.rst")[2], "shop.apps").ShopConfig
    config.ready(None)
    supporter, other, status = make_user(), make_user(), make_status()
    supporter.groups.create(name="support")
    for permission in ("view_usertaskstatus", "cancel_usertaskstatus"):
        assert supporter.has_perms([f"user_tasks.{permission}"], status)
        assert not other.has_perms([f"user_tasks.{permission}"], status)
    assert not supporter.has_perms(["user_tasks.delete_usertaskstatus"], status)


def test_support_group_is_shown_what_others_triggered(
    rf: RequestFactory, make_status: Callable[..., UserTaskStatus], make_user: Callable[..., User]
) -> None:
    filters = executed(python_blocks("authorization.rst")[4], "shop.filters")
    supporter, other, status = make_user(), make_user(), make_status()
    supporter.groups.create(name="support")
    request = rf.get("/")
    for user, shown in ((supporter, [status]), (other, [])):
        request.user = user
        assert list(filters.SupportStatusFilter().filter_queryset(request, UserTaskStatus.objects.all(), None)) == shown


@pytest.mark.usefixtures("forgotten_rules")
def test_granted_permission_reaches_objects_by_a_rule(
    make_status: Callable[..., UserTaskStatus], make_user: Callable[..., User]
) -> None:
    executed(python_blocks("authorization.rst")[5], "shop.rules")
    granted, other, status = make_user(), make_user(), make_status()
    granted.user_permissions.add(Permission.objects.get(codename="cancel_usertaskstatus"))
    assert granted.has_perms(["user_tasks.cancel_usertaskstatus"], status)
    assert not other.has_perms(["user_tasks.cancel_usertaskstatus"], status)


@pytest.mark.parametrize(
    ("page", "task"), [("data_cleanup.rst", purge_old_user_tasks), ("lost_tasks.rst", fail_lost_user_tasks)]
)
def test_schedule_names_the_task(page: str, task: Task[Any, Any]) -> None:
    schedule = executed(python_blocks(page)[0], "settings").CELERY_BEAT_SCHEDULE
    assert [entry["task"] for entry in schedule.values()] == [task.name]


def test_files_go_with_their_artifacts(
    make_status: Callable[..., UserTaskStatus], django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    status = make_status()
    artifact = UserTaskArtifact(status=status)
    artifact.file.save("rows.csv", ContentFile("1,2"))
    storage, name = artifact.file.storage, str(artifact.file.name)
    assert storage.exists(name)
    with django_capture_on_commit_callbacks(execute=True):
        status.delete()
    assert not storage.exists(name)


def test_what_the_page_about_outputs_does_is_done(make_status: Callable[..., UserTaskStatus], mailoutbox: Any) -> None:
    example = executed(python_blocks("artifacts.rst")[3], "shop.mails")
    artifact = make_status().add_artifact("Export", text="done")
    artifact.status.user.email = "owner@example.com"
    example.mail(artifact)
    path = mailoutbox[0].body.removeprefix("https://shop.example.com")
    assert b"".join(Client().get(path)) == b"done"


def test_each_promise_is_shown_by_a_test_that_is_there() -> None:
    page = (DOCS / "reliability.rst").read_text()
    tests = {name for path in Path(__file__).parent.glob("test_*.py") for name in TEST.findall(path.read_text())}

    named = re.findall(r"``(test_\w+)``", page)

    assert len(named) > 20
    assert set(named) <= tests
