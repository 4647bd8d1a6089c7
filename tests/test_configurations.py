"""Configurations of projects that are supported: the same life of tasks in a project of each kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection

from documents import ROOT, code_blocks, put

SETTINGS = """
import os

from test_settings import *



def database(name, **options):
    name = f"{os.environ['PROJECT']}_{name}"
    return {**DATABASES["default"], "NAME": name, "TEST": {"NAME": f"test_{name}"}, **options}


DATABASES["default"] = database("main")

INSTALLED_APPS = [*INSTALLED_APPS, "shop"]
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = ["localhost"]
LOGIN_URL = "/admin/login/"
"""

URLS = """
from django.contrib import admin
from django.urls import include, path
from shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("user_tasks.urls")),
    path("tasks/", include("user_tasks.pages.urls")),
    path("start/", views.start),
]
"""

TASKS = """
from celery import shared_task
from user_tasks.models import UserTaskArtifact
from user_tasks.tasks import UserTask


@shared_task(base=UserTask, bind=True, autoretry_for=(ConnectionError,), default_retry_delay=600, name="shop.export")
def export(self, *results, user_id):
    for _row in self.track(range(3), label="Reading"):
        pass
    UserTaskArtifact.objects.create(status=self.status, text="done")
"""

VIEWS = """
from django.http import HttpResponse
from shop.tasks import export


def start(request):
    sent = export.delay_on_commit(user_id=request.user.pk)
    if "break" in request.GET:
        raise RuntimeError("The view has failed.")
    return HttpResponse(sent.id)
"""

MODELS = """
import uuid
from django.contrib.auth.models import AbstractUser
from django.db import models


class Person(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    username = None
    email = models.EmailField(unique=True)
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = []
"""

ROUTER = """
class Router:
    def db_for_read(self, model, **hints):
        return "users"

    db_for_write = db_for_read

    def allow_relation(self, first, second, **hints):
        return True

    def allow_migrate(self, db, app_label, **hints):
        return db == "users"
"""

OWN_DATABASE = """
class Router:
    def db_for_read(self, model, **hints):
        return "tasks" if model._meta.app_label == "user_tasks" else None

    db_for_write = db_for_read

    def allow_relation(self, first, second, **hints):
        return True
"""

DEFERRED = """
import atexit

import django

django.setup()

from celery.signals import after_task_publish
from django.contrib.auth.models import User
from django.db import transaction
from django.test.utils import setup_databases, teardown_databases

from shop.tasks import export
from user_tasks.models import UserTaskStatus

databases = setup_databases(verbosity=0, interactive=False, serialized_aliases=())
atexit.register(teardown_databases, databases, verbosity=0)
owner = User.objects.create_user("owner")
User.objects.using("tasks").create(pk=owner.pk, username="owner")
sent = []


def note(headers, **_):
    sent.append(headers["id"])


after_task_publish.connect(note)
for databases in (["default"], ["tasks"], ["default", "tasks"]):
    with transaction.atomic(databases[0]), transaction.atomic(databases[-1]):
        first = export.delay_on_commit(user_id=owner.pk)
        assert not sent, databases
    assert sent == [first.id], databases
    with transaction.atomic(databases[0]), transaction.atomic(databases[-1]):
        export.delay_on_commit(user_id=owner.pk)
        for database in databases:
            transaction.set_rollback(True, using=database)
    assert sent == [first.id], databases
    print(*databases, "leave", UserTaskStatus.objects.exclude(task_id=first.id).count())
    UserTaskStatus.objects.all().delete()
    sent.clear()
"""

LIFE = """
import atexit
import json
import warnings
from datetime import UTC, datetime, timedelta
from io import StringIO

import django

django.setup()

from celery import chain, chord, group
from celery.signals import after_task_publish
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.test.utils import setup_databases, teardown_databases
from django.utils import timezone

from shop.tasks import export
from user_tasks import testing
from user_tasks.models import UserTaskStatus
from user_tasks.rules import add_rules
from user_tasks.tasks import fail_lost_user_tasks, purge_old_user_tasks

if get_user_model()._meta.app_label == "shop":
    with warnings.catch_warnings():
        # There is no database yet with a history to look at.
        warnings.simplefilter("ignore", RuntimeWarning)
        call_command("makemigrations", "shop", verbosity=0)
databases = setup_databases(verbosity=0, interactive=False, serialized_aliases=())
atexit.register(teardown_databases, databases, verbosity=0)
add_rules()
users = get_user_model()
owner = users._default_manager.create(**{users.USERNAME_FIELD: "owner@example.com"})
root = users._default_manager.create(
    **{users.USERNAME_FIELD: "root@example.com"}, is_staff=True, is_superuser=True
)
client, admin = Client(headers={"host": "localhost"}), Client(headers={"host": "localhost"})
client.force_login(owner, "django.contrib.auth.backends.ModelBackend")
admin.force_login(root, "django.contrib.auth.backends.ModelBackend")


def state_of(sent):
    return UserTaskStatus.objects.get(task_id=sent.id)


def command(*arguments):
    output = StringIO()
    call_command("user_tasks", *arguments, "--json", stdout=output)
    return json.loads(output.getvalue())


# Executed, tried again, lost and found.
signature = export.s(user_id=owner.pk)
done = testing.execute(signature)
testing.assert_succeeded(done)
testing.assert_progress(done, 3, 3)
assert done.states == ["In Progress", "Reading", "In Progress", "Succeeded"], done.states
testing.assert_succeeded(testing.execute_with_error(signature, ConnectionError(), after=2))
testing.assert_canceled(testing.execute_canceled(signature, after=1))
lost = testing.execute_lost(signature, after=1)
testing.assert_failed(lost, "stopped reporting")
testing.assert_succeeded(testing.redeliver(lost))

# Sent, for later too.
now = timezone.now()
later = state_of(export.apply_async(kwargs={"user_id": owner.pk}, countdown=600))
assert timedelta(minutes=9) < later.due - now < timedelta(minutes=11), (later.due, now)
in_two_hours = datetime.now(UTC) + timedelta(hours=2)
later = state_of(export.apply_async(kwargs={"user_id": owner.pk}, eta=in_two_hours))
assert timedelta(minutes=119) < later.due - now < timedelta(minutes=121), (later.due, now)

# Linked, and canceled as a whole.
for canvas in (chain(signature, signature), group(signature, signature), chord([signature, signature], signature)):
    canvas.delay()
containers = UserTaskStatus.objects.filter(is_container=True, parent=None)
assert sorted(containers.values_list("task_class", flat=True)) == ["celery.chain", "celery.chord", "celery.group"]
for container in containers:
    answer = client.post(f"/api/tasks/{container.uuid}/cancel/")
    assert (answer.status_code, answer.json()["state"]) == (201, "Canceled"), answer.content
assert not containers.exclude(finished=None).exclude(state="Canceled").exists()

# Shown, and deleted.
assert len(client.get("/api/tasks/").json()) == UserTaskStatus.objects.count()
detail = client.get(f"/api/tasks/{done.status.uuid}/")
assert detail.json()["completed_steps"] == 3
assert client.get(f"/api/tasks/{done.status.uuid}/", headers={"If-None-Match": detail["ETag"]}).status_code == 304
for page in ("/tasks/", f"/tasks/{done.status.uuid}/"):
    assert client.get(page).status_code == 200, page
for page in ("usertaskstatus/", f"usertaskstatus/{done.status.pk}/change/", "usertaskartifact/"):
    assert admin.get(f"/admin/user_tasks/{page}").status_code == 200, page
assert client.delete(f"/api/tasks/{lost.status.uuid}/").status_code == 204
assert {line["state"] for line in command("stats")["tasks"]} >= {"Succeeded", "Canceled", "Pending"}
assert command("list", "--user", "owner@example.com", "--limit", "1")[0]["user"] == "owner@example.com"

# Started by a view, which may fail.
client.raise_request_exception = False
sent = []


def note(**kwargs):
    sent.append(kwargs["sender"])


after_task_publish.connect(note)
count = UserTaskStatus.objects.count()
assert client.get("/start/").status_code == 200
assert (UserTaskStatus.objects.count(), sent) == (count + 1, ["shop.export"])
assert client.get("/start/?break").status_code == 500
print("left by the view that failed:", UserTaskStatus.objects.count() - count - 1, "row,", len(sent) - 1, "message")

# Given up, and purged.
assert fail_lost_user_tasks() == 0
UserTaskStatus.objects.update(created=now - timedelta(days=40))
UserTaskStatus.objects.filter(heartbeat__isnull=False).update(heartbeat=now - timedelta(days=40))
assert purge_old_user_tasks() > 10
assert not UserTaskStatus.objects.exists()
"""

LAG = """
import atexit
from datetime import timedelta

import django

django.setup()

from celery import chain, chord, group
from django.contrib.auth.models import User
from django.db import connections
from django.test.utils import setup_databases, teardown_databases
from django.utils import timezone

from shop.tasks import export
from user_tasks import orphans, testing
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.tasks import fail_lost_user_tasks, purge_old_user_tasks

databases = setup_databases(verbosity=0, interactive=False, serialized_aliases=())
atexit.register(teardown_databases, databases, verbosity=0)
primary, replica = UserTaskStatus.objects.using("default"), UserTaskStatus.objects.using("replica")


def catch_up():
    with connections["replica"].constraint_checks_disabled():
        for model in (UserTaskArtifact, UserTaskStatus, User):
            model._base_manager.using("replica").all()._raw_delete("replica")
        for model in (User, UserTaskStatus, UserTaskArtifact):
            model._base_manager.using("replica").bulk_create(model._base_manager.using("default").order_by("pk"))


def read_only(execute, sql, *arguments):
    assert not sql.startswith(("INSERT", "UPDATE", "DELETE")), sql
    return execute(sql, *arguments)


# Recorded and executed, of a user whom the replica does not know yet.
user = User.objects.create_user("owner")
with connections["replica"].execute_wrapper(read_only):
    signature = export.s(user_id=user.pk)
    done = testing.execute(signature)
    failed = testing.execute_with_error(signature, ConnectionError(), after=2)
    canceled = testing.execute_canceled(signature, after=1)
    states = [primary.get(pk=execution.status.pk).state for execution in (done, failed, canceled)]
    assert states == ["Succeeded", "Succeeded", "Canceled"], states
    assert done.states == ["In Progress", "Reading", "In Progress", "Succeeded"], done.states
    for canvas in (chain(signature, signature), group(signature, signature), chord([signature], signature)):
        canvas.delay()
    assert (primary.filter(is_container=True, parent=None).count(), replica.count()) == (3, 0)

# Decided by the primary, whatever the replica shows.
waiting = UserTaskStatus(pk=primary.get(task_id=export.delay(user_id=user.pk).id).pk)
catch_up()
with connections["replica"].execute_wrapper(read_only):
    shown = UserTaskStatus.objects.get(pk=waiting.pk)
    primary.get(pk=waiting.pk).succeed()
    assert (shown._state.db, shown.state) == ("replica", "Pending")
    shown.cancel()
    assert (shown.state, primary.get(pk=waiting.pk).state) == ("Succeeded", "Succeeded")
    container = UserTaskStatus.objects.filter(task_class="celery.chord").get()
    assert container._state.db == "replica"
    container.cancel()
    assert not primary.filter(parent=container.pk).exclude(state="Canceled").exists()

# Neither lost nor purged is what has beaten since the replica heard of it.
long_ago = timezone.now() - timedelta(days=40)
running = primary.create(
    user=user, task_id="running", task_class="shop.export", state="In Progress", total_steps=1, started=long_ago,
    heartbeat=long_ago, created=long_ago,
)
primary.update(created=long_ago)
primary.filter(heartbeat__isnull=False).update(heartbeat=long_ago)
catch_up()
primary.filter(pk=running.pk).update(heartbeat=timezone.now())
with connections["replica"].execute_wrapper(read_only):
    assert fail_lost_user_tasks() == 0
    purge_old_user_tasks()
    assert list(primary.values_list("task_id", "state")) == [("running", "In Progress")], list(primary)

# Nor an orphan a file of which the replica has not heard.
primary.update(state="Succeeded", finished=timezone.now())
catch_up()
status = primary.get(pk=running.pk)
status.add_artifact(file=b"1", file_name="rows.csv")
with connections["replica"].execute_wrapper(read_only):
    assert (UserTaskArtifact.objects.count(), list(orphans.find())) == (0, [])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a project that has one app."""
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "__init__.py").touch()
    for name, source in {"urls": URLS, "tasks": TASKS, "views": VIEWS, "router": ROUTER}.items():
        (shop / f"{name}.py").write_text(source)
    return tmp_path


def lived(project: Path, settings: str, life: str = LIFE) -> str:
    """Let tasks live in the project under these further settings; return what it says about them.

    That is on the database server of these tests, if there is one, in databases that the project makes and drops.
    """
    (project / "project_settings.py").write_text(SETTINGS + settings)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    environment |= {
        "DJANGO_SETTINGS_MODULE": "project_settings",
        "PROJECT": f"project_{uuid4().hex}",
        "PYTHONPATH": os.pathsep.join([str(project), str(ROOT)]),
    }
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", life]
    done = subprocess.run(
        command, env=environment, cwd=project, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_request_may_be_a_transaction(project: Path) -> None:
    output = lived(project, "DATABASES['default']['ATOMIC_REQUESTS'] = True")

    assert output == "left by the view that failed: 0 row, 0 message\n"


def test_requests_need_not_be_transactions(project: Path) -> None:
    assert lived(project, "") == "left by the view that failed: 1 row, 1 message\n"


@pytest.mark.parametrize("zone", ["America/Chicago", "Asia/Tokyo"])
def test_times_may_be_without_time_zones(project: Path, zone: str) -> None:
    lived(project, f"USE_TZ = False\nTIME_ZONE = {zone!r}")


def test_users_may_be_of_the_projects_own_kind(project: Path) -> None:
    (project / "shop" / "models.py").write_text(MODELS)

    lived(project, "AUTH_USER_MODEL = 'shop.Person'")


@pytest.mark.parametrize(("is_atomic", "left"), [(True, 0), (False, 1)])
def test_users_and_their_tasks_may_be_in_another_database(project: Path, is_atomic: bool, left: int) -> None:
    settings = f"""
DATABASES["users"] = database("users", ATOMIC_REQUESTS={is_atomic})
DATABASE_ROUTERS = ["shop.router.Router"]
"""
    output = lived(project, settings)

    assert output == f"left by the view that failed: {left} row, {left} message\n"


def test_the_replica_of_the_documented_router_may_lag(project: Path) -> None:
    (router,) = (block for block in code_blocks(ROOT / "docs" / "deployment.rst") if block.caption == "routers.py")
    put(router, project)

    lived(project, 'DATABASES["replica"] = database("replica")\nDATABASE_ROUTERS = ["routers.ReplicaRouter"]', LAG)


def test_messages_wait_for_the_projects_own_database_where_statuses_have_another(project: Path) -> None:
    (project / "shop" / "router.py").write_text(OWN_DATABASE)
    settings = 'DATABASES["tasks"] = database("tasks")\nDATABASE_ROUTERS = ["shop.router.Router"]'

    output = lived(project, settings, life=DEFERRED)

    assert output == "default leave 1\ntasks leave 0\ndefault tasks leave 0\n"


@pytest.mark.embedded
@pytest.mark.django_db
def test_sqlite_may_keep_a_log_of_writes_as_in_all_tests_here() -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)


@pytest.mark.embedded
def test_sqlite_may_do_without_a_log_of_writes(project: Path) -> None:
    lived(project, "DATABASES['default']['OPTIONS'] = {'timeout': 20}")
