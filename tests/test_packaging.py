from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.specifiers import SpecifierSet

import user_tasks

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "user_tasks"

pytestmark = pytest.mark.embedded


def shipped_files() -> set[str]:
    """Return every file of the package that a project needs at run time, catalogs in their compiled form."""
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {path.relative_to(ROOT).as_posix() for path in files} | {
        path.with_suffix(".mo").relative_to(ROOT).as_posix() for path in files if path.suffix == ".po"
    }


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist made from the checkout and a wheel made from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder


@pytest.fixture(scope="session")
def wheel_names(distributions: Path) -> set[str]:
    with ZipFile(next(distributions.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


@pytest.fixture(scope="session")
def sdist_names(distributions: Path) -> set[str]:
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as sdist:
        return {name.partition("/")[2] for name in sdist.getnames()}


def test_wheel_holds_the_whole_package_and_nothing_else(wheel_names: set[str]) -> None:
    metadata = {name for name in wheel_names if ".dist-info/" in name}
    assert wheel_names - metadata == shipped_files()


def test_sdist_holds_the_package_and_what_builds_and_tests_it(sdist_names: set[str]) -> None:
    others = (
        "LICENSE.txt",
        "README.rst",
        "pyproject.toml",
        "hatch_build.py",
        "test_settings.py",
        "test_urls.py",
    )
    assert sdist_names >= shipped_files() | set(others)


@pytest.mark.parametrize("part", ["py.typed", "migrations/0001_initial.py"])
def test_wheel_holds(wheel_names: set[str], part: str) -> None:
    assert f"user_tasks/{part}" in wheel_names


def test_wheel_metadata(distributions: Path) -> None:
    path = next(distributions.glob("*.whl"))
    with ZipFile(path) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(wheel.read(name).decode())
        assert any(name.endswith(".dist-info/licenses/LICENSE.txt") for name in wheel.namelist())
    assert metadata["Name"] == "django-user-tasks"
    assert metadata["Version"] == user_tasks.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert SpecifierSet(metadata["Requires-Python"]) == SpecifierSet(">=3.11")


PROJECT_SETTINGS = """
INSTALLED_APPS += ["rest_framework", "user_tasks", "shop"]
ROOT_URLCONF = "shop.urls"
CELERY_TASK_ALWAYS_EAGER = True
"""
PROJECT_URLS = """
from django.urls import include, path

urlpatterns = [path("api/", include("user_tasks.urls"))]
"""
PROJECT_TASKS = """
from celery import Celery
from user_tasks.tasks import UserTask

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(base=UserTask, bind=True)
def export(self, user_id):
    self.status.set_state("Writing")
"""
PROJECT_USE = """
from pathlib import Path

import user_tasks
from django.contrib.auth.models import Permission, User
from django.test import Client
from shop.tasks import export
from user_tasks.models import UserTaskStatus

assert Path(user_tasks.__file__).is_relative_to({site!r}), user_tasks.__file__
user = User.objects.create_user("someone")
user.user_permissions.set(Permission.objects.filter(content_type__app_label="user_tasks"))
export.delay(user_id=user.pk)
assert UserTaskStatus.objects.get().state == UserTaskStatus.SUCCEEDED
client = Client(headers={{"host": "localhost"}})
client.force_login(user)
assert [status["name"] for status in client.get("/api/tasks/").json()] == ["export"]
"""


def test_wheel_works_in_a_fresh_project_and_can_be_removed(distributions: Path, tmp_path: Path) -> None:
    site, project = tmp_path / "site", tmp_path / "project"
    project.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site), "DJANGO_SETTINGS_MODULE": "shop.settings"}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    wheel = str(next(distributions.glob("*.whl")))
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), wheel)
    run("-m", "django", "startproject", "shop", ".", "--settings", "django.conf.global_settings")
    with (project / "shop" / "settings.py").open("a") as settings_file:
        settings_file.write(PROJECT_SETTINGS)
    (project / "shop" / "urls.py").write_text(PROJECT_URLS)
    (project / "shop" / "tasks.py").write_text(PROJECT_TASKS)
    run("manage.py", "migrate")
    run("manage.py", "shell", "--no-imports", "--command", PROJECT_USE.format(site=str(site)))
    run("manage.py", "migrate", "user_tasks", "zero")
    assert "user_tasks" not in run("manage.py", "inspectdb")
