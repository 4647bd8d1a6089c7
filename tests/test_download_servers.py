from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import reverse
from moto.server import ThreadedMotoServer
from pytest_django import Settings

from servers import Server
from user_tasks import orphans
from user_tasks.models import UserTaskArtifact, UserTaskStatus

pytestmark = [pytest.mark.embedded, pytest.mark.integration, pytest.mark.django_db(transaction=True)]

BUCKET = "task-outputs"
PATHLESS = "download_site.PathlessStorage"
LARGE = 200 * 1024 * 1024
GROWTH = 50 * 1024 * 1024

StartServer = Callable[..., Server]


@pytest.fixture
def start_server(tmp_path: Path, request: pytest.FixtureRequest, interface: str) -> Iterator[StartServer]:
    """Return a function that starts a web server."""
    started: list[Server] = []

    def start(**overrides: Any) -> Server:
        started.append(Server(interface, tmp_path / f"{interface}.log", **overrides))
        return started[-1]

    yield start
    for server in started:
        server.stop()
        request.node.add_report_section("teardown", "web server", server.log())


@pytest.fixture(params=["wsgi", "asgi"])
def interface(request: pytest.FixtureRequest) -> str:
    """How the web server talks to Django."""
    kind: str = request.param
    return kind


@pytest.fixture
def media(settings: Settings, tmp_path: Path) -> Path:
    """A folder for files, of this test alone."""
    settings.MEDIA_ROOT = str(tmp_path / "media")
    return tmp_path / "media"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The address of a running S3 server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, settings: Settings) -> Iterator[Any]:
    """A bucket that the settings keep artifacts in."""
    access = {"region_name": "us-east-1", "endpoint_url": s3_server}
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    client = boto3.client("s3", **access, **keys)
    client.create_bucket(Bucket=BUCKET)
    options = {**access, "bucket_name": BUCKET, "access_key": "testing", "secret_key": "testing"}
    settings.STORAGES = {
        **django_settings.STORAGES,
        "user_task_artifacts": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {**options, "addressing_style": "path", "signature_version": "s3v4"},
        },
    }
    yield client
    for key in keys_in(client):
        client.delete_object(Bucket=BUCKET, Key=key)
    client.delete_bucket(Bucket=BUCKET)
    client.close()


def keys_in(client: Any) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def log_in(user: User) -> dict[str, str]:
    """Return the cookies of somebody who is logged in."""
    client = Client()
    client.force_login(user)
    return {name: cookie.value for name, cookie in client.cookies.items()}


def address(view: str, artifact: UserTaskArtifact) -> str:
    return reverse(view, args=[artifact.uuid])


@pytest.mark.usefixtures("media")
@pytest.mark.parametrize("storage", [None, PATHLESS], ids=["files", "no paths"])
def test_files_are_sent_by_servers(
    start_server: StartServer,
    settings: Settings,
    make_status: Callable[..., UserTaskStatus],
    make_user: Callable[..., User],
    storage: str | None,
) -> None:
    settings.USER_TASKS_ARTIFACT_STORAGE = storage
    data = bytes(range(256)) * 4096
    artifact = make_status().add_artifact("Table", file=data, file_name='Über "alles"\r\n.csv')
    server = start_server(USER_TASKS_ARTIFACT_STORAGE=storage)
    cookies, strangers = log_in(artifact.status.user), log_in(make_user())
    paths = [address(view, artifact) for view in ("usertaskartifact-download", "user_tasks:download")]
    for path in (*paths, artifact.signed_url(timedelta(minutes=1))):
        url = f"{server.url}{path}"
        whole = requests.get(url, cookies=cookies, timeout=30)
        assert (whole.status_code, whole.content) == (200, data)
        assert whole.headers["Content-Disposition"] == "attachment; filename*=utf-8''%C3%9Cber%20%22alles%22.csv"
        head = requests.head(url, cookies=cookies, timeout=30)
        assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(data)))
        part = requests.get(url, cookies=cookies, timeout=30, headers={"Range": "bytes=1000000-"})
        assert (part.status_code, part.content) == (206, data[1000000:])
        beyond = requests.get(url, cookies=cookies, timeout=30, headers={"Range": "bytes=2000000-"})
        assert beyond.status_code == 416
        same = requests.get(url, cookies=cookies, timeout=30, headers={"If-None-Match": whole.headers["ETag"]})
        assert (same.status_code, same.content) == (304, b"")
    for path in paths:
        assert requests.get(f"{server.url}{path}", cookies=strangers, timeout=30).status_code == 404
        assert requests.get(f"{server.url}{path}", timeout=30, allow_redirects=False).status_code in (302, 403)
    # The client has gone on before the file has: the connection is closed in the middle.
    with requests.get(f"{server.url}{paths[0]}", cookies=cookies, timeout=30, stream=True) as response:
        assert next(response.iter_content(10)) == data[:10]
        artifact.status.delete()
    assert requests.get(f"{server.url}{paths[0]}", cookies=cookies, timeout=30).status_code == 404
    assert "Traceback" not in server.log()


def test_a_large_file_takes_little_memory(
    start_server: StartServer,
    media: Path,
    make_status: Callable[..., UserTaskStatus],
    owner: User,
) -> None:
    path = media / "user_tasks" / "large.bin"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(LARGE)
    small = make_status().add_artifact("Small", file=b"small", file_name="small.bin")
    large = UserTaskArtifact.objects.create(status=small.status, file="user_tasks/large.bin")
    server = start_server()
    cookies = log_in(owner)
    requests.get(f"{server.url}{address('usertaskartifact-download', small)}", cookies=cookies, timeout=30)
    before = server.memory()
    received = 0
    url = f"{server.url}{address('usertaskartifact-download', large)}"
    with requests.get(url, cookies=cookies, timeout=60, stream=True) as response:
        for block in response.iter_content(1024 * 1024):
            received += len(block)
    assert received == LARGE
    assert server.memory() - before < GROWTH


def test_files_in_s3_are_sent_by_s3(
    start_server: StartServer,
    bucket: Any,
    make_status: Callable[..., UserTaskStatus],
    make_user: Callable[..., User],
    settings: Settings,
) -> None:
    data = bytes(range(256)) * 4096
    status = make_status()
    with status.open_artifact("Übersicht.html", "wb") as file:
        file.write(data)
    artifact = status.artifacts.get()
    assert (artifact.size, keys_in(bucket)) == (len(data), [artifact.file.name])
    server = start_server(STORAGES=settings.STORAGES)
    url = f"{server.url}{address('usertaskartifact-download', artifact)}"
    cookies = log_in(status.user)
    assert requests.get(url, cookies=log_in(make_user()), timeout=30).status_code == 404
    for path in (url, f"{server.url}{artifact.signed_url(timedelta(minutes=1))}"):
        response = requests.get(path, cookies=cookies, timeout=30)
        assert sha256(response.content).digest() == sha256(data).digest()
        assert [step.status_code for step in response.history] == [302]
        assert "X-Amz-Expires=300" in response.url
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Content-Disposition"] == "attachment; filename*=utf-8''%C3%9Cbersicht.html"
        assert requests.head(path, cookies=cookies, timeout=30, allow_redirects=True).status_code == 200
        part = requests.get(path, cookies=cookies, timeout=30, headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, data[10:20])
    status.delete()
    assert keys_in(bucket) == []


def test_files_in_s3_keep_out_of_each_others_way(bucket: Any, make_status: Callable[..., UserTaskStatus]) -> None:
    made = [make_status().add_artifact(file=data, file_name="table.csv") for data in (b"mine", b"other")]
    mine = made[0]
    with mine.file.open("rb") as file:
        assert file.read() == b"mine"
    assert set(keys_in(bucket)) == {artifact.file.name for artifact in made}
    bucket.put_object(Bucket=BUCKET, Key="user_tasks/2020/01/01/orphan.csv", Body=b"12345")
    assert list(orphans.find()) == [("user_tasks/2020/01/01/orphan.csv", 5)]
    assert list(orphans.remove()) == [("user_tasks/2020/01/01/orphan.csv", 5)]
    mine.file.save("table.csv", ContentFile(b"again"))
    assert set(keys_in(bucket)) == {artifact.file.name for artifact in made}
