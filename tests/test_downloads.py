from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from io import BytesIO, UnsupportedOperation
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, Storage
from django.core.signing import Signer
from django.db import connection
from django.http import Http404
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format
from pytest_django import Settings

from user_tasks import downloads, lifetimes, ranges
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.querysets import UserTaskArtifactQuerySet

MakeStatus = Callable[..., UserTaskStatus]
MakeUser = Callable[..., User]

DATA = bytes(range(256)) * 4

KEPT: dict[str, bytes] = {}


class OneWayFile(BytesIO):
    """A file as some storages have them: it cannot go back and forth, nor tell its size."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise UnsupportedOperation("seek")


class PathlessStorage(Storage):
    """Keeps files in memory, and can do no more than it must."""

    def _open(self, name: str, mode: str = "rb") -> Any:
        if name not in KEPT:
            raise FileNotFoundError(name)
        return OneWayFile(KEPT[name])

    def _save(self, name: str, content: File[bytes]) -> str:
        KEPT[name] = b"".join(content.chunks())
        return name

    def exists(self, name: str) -> bool:
        return name in KEPT

    def delete(self, name: str) -> None:
        del KEPT[name]


class SigningStorage(FileSystemStorage):
    """Signs URLs as object stores do."""

    def url(self, name: str | None, expire: int = 3600) -> str:
        return f"https://bucket.example.com/{name}?signature=abc&expires={expire}"


class MethodSigningStorage(FileSystemStorage):
    """Signs URLs for one method each, as S3 does."""

    def url(self, name: str | None, parameters: Any = None, expire: int = 3600, http_method: str | None = None) -> str:
        return f"https://bucket.example.com/{name}?signature=abc&for={http_method}"


class BreakingStorage(FileSystemStorage):
    """Loses its connection when a file is read."""

    opened: ClassVar[list[File[bytes]]] = []

    def _open(self, name: str, mode: str = "rb") -> Any:
        self.opened.append(File(BreakingFile(), name=name))
        return self.opened[-1]


class BreakingFile(OneWayFile):
    def read(self, *_: Any) -> bytes:
        raise ConnectionError("The bucket is away.")


class PackingStorage(PathlessStorage):
    """Keeps files compressed, as some object stores do, and tells how long they are then."""

    def _open(self, name: str, mode: str = "rb") -> Any:
        return BytesIO(gzip.decompress(KEPT[name]))

    def _save(self, name: str, content: File[bytes]) -> str:
        KEPT[name] = gzip.compress(b"".join(content.chunks()))
        return name

    def size(self, name: str) -> int:
        return len(KEPT[name])


@pytest.fixture(autouse=True)
def media(settings: Settings, tmp_path: Path, package_rules: None) -> Path:
    settings.MEDIA_ROOT = str(tmp_path)
    return tmp_path


@pytest.fixture(params=[None, f"{__name__}.PathlessStorage"], ids=["files", "no paths"])
def storage(request: pytest.FixtureRequest, settings: Settings) -> None:
    """The storage that the settings name: one with files, or one that has no paths."""
    settings.USER_TASKS_ARTIFACT_STORAGE = request.param


@pytest.fixture
def make_file(make_status: MakeStatus) -> Callable[..., UserTaskArtifact]:
    """Return a factory of artifacts with a file."""

    def make(name: str = "table.csv", data: bytes = DATA, **fields: Any) -> UserTaskArtifact:
        artifact = UserTaskArtifact(status=make_status(), name="Table", **fields)
        artifact.file.save(name, ContentFile(data))
        return UserTaskArtifact.objects.get(pk=artifact.pk)

    return make


def api(artifact: UserTaskArtifact) -> str:
    return reverse("usertaskartifact-download", args=[artifact.uuid])


def page(artifact: UserTaskArtifact) -> str:
    return reverse("user_tasks:download", args=[artifact.uuid])


def link(artifact: UserTaskArtifact) -> str:
    return artifact.signed_url(timedelta(minutes=1))


def page_link(artifact: UserTaskArtifact) -> str:
    return reverse("user_tasks:shared", args=[link(artifact).rstrip("/").rpartition("/")[2]])


WAYS = pytest.mark.parametrize("way", [api, page, link, page_link])


@pytest.fixture
def as_owner(client: Client, owner: User) -> Client:
    client.force_login(owner)
    return client


def body(response: Any) -> bytes:
    data: bytes = response.getvalue()
    return data


@pytest.mark.usefixtures("storage")
@WAYS
def test_a_file_is_sent_whole(as_owner: Client, make_file: Any, way: Any) -> None:
    artifact = make_file("Übersicht 1.csv")
    response = as_owner.get(way(artifact))
    assert (response.status_code, body(response)) == (200, DATA)
    assert response["Content-Length"] == "1024"
    assert response["Content-Type"] == "text/csv"
    assert response["Content-Disposition"] == "attachment; filename*=utf-8''%C3%9Cbersicht%201.csv"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response["Content-Security-Policy"]
    assert response["Accept-Ranges"] == "bytes"
    assert "private" in response["Cache-Control"]


@pytest.mark.usefixtures("storage")
@WAYS
def test_head_tells_the_same_without_the_file(as_owner: Client, make_file: Any, way: Any) -> None:
    url = way(make_file())
    whole, head = as_owner.get(url), as_owner.head(url)
    body(whole)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "Content-Type", "Content-Disposition", "ETag", "Last-Modified", "Accept-Ranges"):
        assert head[name] == whole[name]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=1000-", 1000, 1024),
        ("bytes=-24", 1000, 1024),
        ("bytes=-5000", 0, 1024),
        ("bytes=1000-9999", 1000, 1024),
        ("BYTES = 1-2".replace(" ", ""), 1, 3),
    ],
)
@pytest.mark.usefixtures("storage")
def test_a_part_is_sent(as_owner: Client, make_file: Any, asked: str, start: int, stop: int) -> None:
    response = as_owner.get(api(make_file()), headers={"Range": asked})
    assert (response.status_code, body(response)) == (206, DATA[start:stop])
    assert response["Content-Range"] == f"bytes {start}-{stop - 1}/1024"
    assert response["Content-Length"] == str(stop - start)


def test_a_part_is_not_compressed(as_owner: Client, make_file: Any, settings: Settings) -> None:
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    headers = {"Range": "bytes=100-899", "Accept-Encoding": "gzip"}
    response = as_owner.get(api(make_file()), headers=headers)
    assert (response.status_code, body(response), response["Content-Length"]) == (206, DATA[100:900], "800")


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_part_that_is_not_there_is_refused(as_owner: Client, make_file: Any, asked: str) -> None:
    response = as_owner.get(api(make_file()), headers={"Range": asked})
    assert (response.status_code, response["Content-Range"]) == (416, "bytes */1024")


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=9-1",
        "bytes=a-b",
        "lines=0-1",
        "bytes=0-1,5-6",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_what_is_no_single_range_gets_the_whole(as_owner: Client, make_file: Any, asked: str) -> None:
    response = as_owner.get(api(make_file()), headers={"Range": asked})
    assert (response.status_code, body(response)) == (200, DATA)


def test_nothing_is_in_an_empty_file(as_owner: Client, make_file: Any) -> None:
    url = api(make_file(data=b""))
    whole = as_owner.get(url)
    assert (whole.status_code, body(whole), whole["Content-Length"]) == (200, b"", "0")
    assert as_owner.get(url, headers={"Range": "bytes=0-"}).status_code == 416
    assert body(as_owner.get(url, headers={"Range": "bytes=-5"})) == b""
    with pytest.raises(ranges.UnsatisfiableRangeError):
        ranges.requested("bytes=0-", 0)


def test_a_copy_that_is_right_is_not_sent_again(as_owner: Client, make_file: Any) -> None:
    artifact = make_file()
    url = api(artifact)
    first = as_owner.get(url)
    body(first)
    etag, modified = first["ETag"], first["Last-Modified"]
    for headers in ({"If-None-Match": etag}, {"If-Modified-Since": modified}):
        assert as_owner.get(url, headers=headers).status_code == 304
    assert as_owner.get(url, headers={"If-Match": '"other"'}).status_code == 412
    part = {"Range": "bytes=0-9"}
    response = as_owner.get(url, headers={**part, "If-Range": etag})
    assert (response.status_code, body(response)) == (206, DATA[:10])
    # Nor by the time, which two versions made in one second share.
    for condition in ('"other"', "Mon, 01 Jan 2001 00:00:00 GMT", modified):
        response = as_owner.get(url, headers={**part, "If-Range": condition})
        assert (response.status_code, body(response)) == (200, DATA)
    artifact.file.save("table.csv", ContentFile(DATA[::-1]))
    again = as_owner.get(url, headers={"If-None-Match": etag, **part, "If-Range": etag})
    assert (again.status_code, body(again)) == (200, DATA[::-1])
    assert again["ETag"] != etag


@WAYS
def test_what_is_asked_for_asynchronously_is_streamed_so(
    owner: User, make_file: Any, way: Any, transactional_db: None
) -> None:
    url = way(make_file())

    async def fetch(**headers: str) -> tuple[Any, bytes]:
        client = AsyncClient()
        await client.aforce_login(owner)
        response: Any = await client.get(url, headers=headers)
        assert isinstance(response.streaming_content, AsyncIterator)
        return response, b"".join([block async for block in response.streaming_content])

    whole, data = async_to_sync(fetch)()
    assert (whole.status_code, data, whole["Content-Length"]) == (200, DATA, "1024")
    part, data = async_to_sync(fetch)(range="bytes=10-19")
    assert (part.status_code, data, part["Content-Length"]) == (206, DATA[10:20], "10")


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("page.html", "application/octet-stream"),
        ("page.xhtml", "application/octet-stream"),
        ("image.svg", "application/octet-stream"),
        ("feed.xml", "application/octet-stream"),
        ("script.js", "application/octet-stream"),
        ("page.mht", "application/octet-stream"),
        ("style.css", "application/octet-stream"),
        ("page.xul", "application/octet-stream"),
        ("noextension", "application/octet-stream"),
        ("table.csv.gz", "application/gzip"),
        ("table.csv", "text/csv"),
        ("photo.PNG", "image/png"),
        ("sheet.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ],
)
def test_nothing_is_sent_as_what_could_run_here(as_owner: Client, make_file: Any, name: str, sent: str) -> None:
    response = as_owner.get(api(make_file(name)))
    body(response)
    assert response["Content-Type"] == sent
    assert response["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("photo.png", True),
        ("report.pdf", True),
        ("notes.txt", True),
        ("photo.gif", False),
        ("page.html", False),
        ("image.svg", False),
    ],
)
def test_only_what_is_allowed_and_harmless_is_shown_in_place(
    as_owner: Client, make_file: Any, settings: Settings, name: str, shown: bool
) -> None:
    settings.USER_TASKS_INLINE_TYPES = ["image/png", "application/pdf", "text/plain", "text/html", "image/svg+xml"]
    response = as_owner.get(api(make_file(name)))
    body(response)
    assert response["Content-Disposition"].partition(";")[0] == ("inline" if shown else "attachment")
    assert ("Content-Security-Policy" in response) == (name != "report.pdf")


@pytest.mark.parametrize(
    "name",
    [
        "a\r\nSet-Cookie: x=y",
        'q"uo\\te;filename=evil.exe',
        "x" * 500,
        "\u202egpj.exe",
        "..",
        "../../x",
        "é\x7f\x00\n.csv",
    ],
)
def test_names_inject_nothing(as_owner: Client, make_file: Any, name: str) -> None:
    artifact = make_file()
    UserTaskArtifact.objects.filter(pk=artifact.pk).update(file_name=name[:255].replace("\0", ""))
    response = as_owner.get(api(artifact))
    body(response)
    assert response.status_code == 200
    disposition = response["Content-Disposition"]
    assert disposition.startswith("attachment; filename")
    assert not set(disposition) & {"\r", "\n", "\0", "\x7f", "\u202e"}
    assert "Set-Cookie" not in response


def test_a_text_is_sent_where_there_is_no_file(as_owner: Client, make_status: MakeStatus) -> None:
    status = make_status()
    text, data = status.add_artifact("Log: Ü", text="Größe"), status.add_artifact("Data", json={"a": 1})
    sent = as_owner.get(api(text))
    assert (body(sent), sent["Content-Type"]) == ("Größe".encode(), "text/plain; charset=utf-8")
    assert sent["Content-Disposition"] == "attachment; filename*=utf-8''Log%3A%20%C3%9C.txt"
    sent = as_owner.get(api(data))
    assert (body(sent), sent["Content-Type"]) == (b'{"a": 1}', "application/json")
    assert 'filename="Data.json"' in sent["Content-Disposition"]


@pytest.mark.usefixtures("storage")
@WAYS
def test_what_has_no_file_is_not_found(as_owner: Client, make_file: Any, make_status: MakeStatus, way: Any) -> None:
    assert as_owner.get(way(make_status().add_artifact("Link", url="https://example.com/"))).status_code == 404
    lost = make_file()
    lost.file.storage.delete(lost.file.name)
    assert as_owner.get(way(lost)).status_code == 404


@pytest.mark.parametrize("way", [api, page])
def test_only_the_owner_and_superusers_get_it(client: Client, make_user: MakeUser, make_file: Any, way: Any) -> None:
    url = way(make_file())
    anonymous = client.get(url)
    assert anonymous.status_code in (302, 403)
    client.force_login(make_user())
    for method in (client.get, client.head):
        assert method(url).status_code == 404
    client.force_login(make_user(is_staff=True))
    assert client.get(url).status_code == 404
    client.force_login(make_user(is_superuser=True))
    response = client.get(url)
    assert (response.status_code, body(response)) == (200, DATA)


@pytest.mark.parametrize("way", [api, page])
def test_ids_that_are_guessed_or_no_ids_lead_nowhere(as_owner: Client, make_file: Any, way: Any) -> None:
    artifact = make_file()
    url = way(artifact)
    for guess in (uuid4(), "0", "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", f"{artifact.uuid}%00", artifact.file.name):
        assert as_owner.get(url.replace(str(artifact.uuid), str(guess))).status_code == 404


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
@WAYS
def test_files_are_only_read(as_owner: Client, make_file: Any, way: Any, method: str) -> None:
    assert getattr(as_owner, method)(way(make_file())).status_code in (403, 405)


def test_clients_may_accept_what_they_like(as_owner: Client, make_file: Any) -> None:
    url = api(make_file())
    for accepted in ("text/csv", "image/*", "text/html"):
        response = as_owner.get(url, headers={"Accept": accepted})
        assert (response.status_code, body(response)) == (200, DATA)
        assert as_owner.get(url.replace("artifacts/", "artifacts/0"), headers={"Accept": accepted}).status_code == 404


@pytest.mark.parametrize("way", [link, page_link])
def test_a_link_opens_for_anybody_until_its_time_is_over(client: Client, make_file: Any, way: Any) -> None:
    artifact = make_file()
    response = client.get(way(artifact))
    assert (response.status_code, body(response)) == (200, DATA)
    assert response["Referrer-Policy"] == "no-referrer"
    over = client.get(artifact.signed_url(timedelta(seconds=-1)))
    assert (over.status_code, over.content) == (410, b"This link has expired.")


def test_a_link_cannot_be_forged_nor_used_for_another(client: Client, make_file: Any, settings: Settings) -> None:
    artifact, other = make_file(), make_file()
    url = link(artifact)
    payload, _, signature = url.rstrip("/").rpartition("/")[2].partition(".")
    others = link(other).rstrip("/").rpartition("/")[2].partition(".")[0]
    unsalted = Signer(sep=".").sign_object([artifact.uuid.hex, 9_999_999_999])
    wrong = Signer(sep=".", salt="user_tasks.links")
    tokens = [f"{others}.{signature}", f"{payload}.{'A' * 43}", f"{payload}.", payload, "x", ".", "%00", unsalted]
    tokens += [wrong.sign_object(value) for value in (1, [], ["x", 1], [None, 1], {"a": 1}, [artifact.uuid.hex, "x"])]
    for token in tokens:
        assert client.get(f"/artifacts/shared/{token}/").status_code == 404, token
        assert client.get(f"/my-tasks/shared/{token}/").status_code == 404, token
    settings.SECRET_KEY = "another"
    assert client.get(url).status_code == 404


def test_a_link_ends_with_its_artifact(client: Client, make_file: Any) -> None:
    artifact = make_file()
    url = link(artifact)
    artifact.delete()
    assert client.get(url).status_code == 404


def test_links_need_the_urls_of_the_package(make_file: Any, settings: Settings) -> None:
    artifact = make_file()
    settings.ROOT_URLCONF = "django.contrib.auth.urls"
    with pytest.raises(NoReverseMatch, match=r"user_tasks\.urls"):
        link(artifact)


def test_days_are_told_without_time_zones_too(make_file: Any, settings: Settings) -> None:
    settings.USE_TZ = False
    artifact = make_file()
    artifact.expired = datetime(2026, 5, 4, 9, 30)  # noqa: DTZ001 - as Django reads it from the database then

    assert downloads.gone_text(artifact) == "The file was kept until May 4, 2026."


def test_a_file_that_is_stored_while_old_ones_expire_stays(
    make_file: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.USER_TASKS_ARTIFACT_MAX_AGE = timedelta(days=2)
    artifact = make_file()
    UserTaskArtifact.objects.update(stored=timezone.now() - timedelta(days=3))
    read = UserTaskArtifactQuerySet.oldest_after

    def read_and_store(self: UserTaskArtifactQuerySet, *args: Any) -> Any:
        found = read(self, *args)
        UserTaskArtifact.objects.update(stored=timezone.now())
        return found

    monkeypatch.setattr(UserTaskArtifactQuerySet, "oldest_after", read_and_store)

    assert lifetimes.expire() == 0
    artifact.refresh_from_db()
    assert artifact.file.storage.exists(artifact.file.name)


@WAYS
def test_what_is_past_its_age_is_gone(as_owner: Client, make_file: Any, settings: Settings, way: Any) -> None:
    artifact = make_file()
    UserTaskArtifact.objects.update(stored=timezone.now() - timedelta(days=3))
    settings.USER_TASKS_ARTIFACT_MAX_AGE = timedelta(days=2)
    response = as_owner.get(way(artifact))
    assert response.status_code == 410
    day = date_format(timezone.localtime() - timedelta(days=1), "DATE_FORMAT")
    assert f"The file was kept until {day}." in response.content.decode()
    settings.USER_TASKS_ARTIFACT_MAX_AGE = timedelta(days=4)
    again = as_owner.get(way(artifact))
    assert (again.status_code, body(again)) == (200, DATA)


@WAYS
def test_a_storage_that_signs_is_redirected_to(as_owner: Client, make_file: Any, settings: Settings, way: Any) -> None:
    settings.USER_TASKS_ARTIFACT_STORAGE = f"{__name__}.SigningStorage"
    response = as_owner.get(way(make_file()))
    assert response.status_code == 302
    url = urlsplit(response["Location"])
    assert (url.hostname, parse_qs(url.query)["expires"]) == ("bucket.example.com", ["300"])
    assert response["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("backend", "header"),
    [("nginx", "X-Accel-Redirect"), ("xsendfile", "X-Sendfile")],
)
def test_a_web_server_takes_over(
    as_owner: Client, make_file: Any, settings: Settings, backend: str, header: str
) -> None:
    import django_sendfile.utils

    django_sendfile.utils._get_sendfile.cache_clear()
    settings.USER_TASKS_SENDFILE = True
    settings.SENDFILE_BACKEND = f"django_sendfile.backends.{backend}"
    settings.SENDFILE_ROOT = settings.MEDIA_ROOT
    settings.SENDFILE_URL = "/protected"
    artifact = make_file("page.html.gz")
    response = as_owner.get(api(artifact))
    assert (response.status_code, response.content) == (200, b"")
    assert response[header].endswith(artifact.file.name)
    assert response["Content-Type"] == "application/gzip"
    assert response["Content-Disposition"] == 'attachment; filename="page.html.gz"'
    assert "Content-Encoding" not in response
    assert response.headers.get("Content-Length", "0") == "0"
    settings.USER_TASKS_ARTIFACT_STORAGE = f"{__name__}.PathlessStorage"
    streamed = as_owner.get(api(make_file()))
    assert body(streamed) == DATA
    django_sendfile.utils._get_sendfile.cache_clear()


def test_a_file_that_is_deleted_meanwhile_is_sent_to_its_end(
    as_owner: Client, make_file: Any, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "BLOCK", 100)
    artifact = make_file()
    response: Any = as_owner.get(api(artifact), headers={"Range": "bytes=0-"})
    blocks = iter(response.streaming_content)
    data = next(blocks)
    path = Path(artifact.file.path)
    artifact.status.delete()
    assert not path.exists()
    assert data + b"".join(blocks) == DATA
    assert as_owner.get(api(artifact)).status_code == 404


@pytest.mark.parametrize("method", ["get", "head"])
@pytest.mark.parametrize(
    "headers", [{}, {"Range": "bytes=2000-"}, {"If-None-Match": "*"}], ids=["whole", "part", "same"]
)
@WAYS
def test_a_file_that_the_storage_has_lost_is_not_found(
    as_owner: Client, make_file: Any, way: Any, method: str, headers: dict[str, str]
) -> None:
    artifact = make_file()
    Path(artifact.file.path).unlink()
    assert getattr(as_owner, method)(way(artifact), headers=headers).status_code == 404


def test_a_folder_is_no_file(as_owner: Client, make_file: Any) -> None:
    artifact = make_file()
    Path(artifact.file.path).unlink()
    Path(artifact.file.path).mkdir()
    assert as_owner.get(api(artifact)).status_code == 404


def test_a_file_that_has_just_been_replaced_is_sent(rf: RequestFactory, make_file: Any) -> None:
    read_before = make_file()
    UserTaskArtifact.objects.get(pk=read_before.pk).file.save("newer.csv", ContentFile(b"newer"))
    Path(read_before.file.path).unlink(missing_ok=True)
    response = downloads.respond(rf.get("/"), read_before)
    assert body(response) == b"newer"
    response.close()


def test_an_artifact_that_has_just_gone_is_not_found(rf: RequestFactory, make_file: Any) -> None:
    read_before = make_file()
    UserTaskArtifact.objects.get(pk=read_before.pk).delete()
    Path(read_before.file.path).unlink(missing_ok=True)
    with pytest.raises(Http404):
        downloads.respond(rf.get("/"), read_before)


def test_a_file_that_cannot_be_read_is_closed(as_owner: Client, make_file: Any, settings: Settings) -> None:
    artifact = make_file()
    settings.USER_TASKS_ARTIFACT_STORAGE = f"{__name__}.BreakingStorage"
    with pytest.raises(ConnectionError):
        as_owner.get(api(artifact), headers={"Range": "bytes=500-"})
    assert [file.closed for file in BreakingStorage.opened] == [True]
    BreakingStorage.opened.clear()


def test_what_a_storage_packs_is_sent_at_its_own_length(as_owner: Client, make_file: Any, settings: Settings) -> None:
    settings.USER_TASKS_ARTIFACT_STORAGE = f"{__name__}.PackingStorage"
    artifact = make_file(data=b"abc" * 10_000)
    whole = as_owner.get(api(artifact))
    assert (whole["Content-Length"], len(body(whole))) == ("30000", 30_000)
    part = as_owner.get(api(artifact), headers={"Range": "bytes=29998-"})
    assert (part.status_code, body(part)) == (206, b"bc")


def test_a_file_may_be_named_after_the_last_one_has_expired(
    as_owner: Client, make_file: Any, settings: Settings
) -> None:
    settings.USER_TASKS_ARTIFACT_MAX_AGE = timedelta(days=7)
    artifact = make_file()
    week_ago = timezone.now() - timedelta(days=8)
    UserTaskArtifact.objects.update(stored=week_ago, created=week_ago)
    assert lifetimes.expire() == 1
    artifact.refresh_from_db()
    artifact.file = artifact.file.storage.save("kept/elsewhere.csv", ContentFile(b"again"))
    artifact.save()
    response = as_owner.get(api(artifact))
    assert (response.status_code, body(response)) == (200, b"again")


def test_a_storage_signs_for_reading_alone(as_owner: Client, make_file: Any, settings: Settings) -> None:
    settings.USER_TASKS_ARTIFACT_STORAGE = f"{__name__}.MethodSigningStorage"
    url = api(make_file())
    signed = {way: parse_qs(urlsplit(getattr(as_owner, way)(url)["Location"]).query)["for"] for way in ("get", "head")}
    assert signed == {"get": ["GET"], "head": ["HEAD"]}


def test_a_link_needs_no_login_where_all_else_does(client: Client, make_file: Any, settings: Settings) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    for way in (link, page_link):
        assert body(client.get(way(make_file()))) == DATA


def test_a_link_may_have_no_end_in_sight(client: Client, make_file: Any) -> None:
    assert body(client.get(make_file().signed_url(timedelta.max))) == DATA


def test_a_text_is_named_after_all_of_its_title(as_owner: Client, make_status: MakeStatus) -> None:
    artifact = UserTaskArtifact.objects.create(status=make_status(), name="Sales 2025/2026", text="None")
    assert as_owner.get(api(artifact))["Content-Disposition"] == 'attachment; filename="Sales 2025-2026.txt"'


def test_the_admin_sends_files_to_whom_it_shows_them(
    client: Client, make_user: MakeUser, make_file: Any, settings: Settings
) -> None:
    artifact = make_file()
    url = f"/admin/user_tasks/usertaskartifact/{artifact.pk}/download/"
    change = reverse("admin:user_tasks_usertaskartifact_change", args=[artifact.pk])
    assert client.get(url).status_code == 302
    client.force_login(artifact.status.user)
    assert client.get(url).status_code == 302
    staff = make_user(is_staff=True)
    client.force_login(staff)
    assert client.get(url).status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="view_usertaskartifact"))
    assert f'href="{url}"' in client.get(change).content.decode()
    response = client.get(url)
    assert (response.status_code, body(response)) == (200, DATA)
    assert client.get(url.replace(str(artifact.pk), "0")).status_code == 404
    UserTaskArtifact.objects.update(expired=timezone.now())
    assert client.get(url).status_code == 410


def test_the_time_of_a_file_is_that_of_its_tree(make_status: MakeStatus, make_container: Any) -> None:
    chain = make_container("celery.chain", created=timezone.now() - timedelta(days=5))
    artifact = make_status(parent=chain).add_artifact(file=b"data", file_name="data.bin")
    assert artifact.expires == chain.created + timedelta(days=30)


def test_scripts_are_told_all_about_files(
    as_owner: Client, make_file: Any, make_status: MakeStatus, settings: Settings
) -> None:
    settings.USER_TASKS_ARTIFACT_SERIALIZER = "user_tasks.detailed.DetailedArtifactSerializer"
    artifact = make_file("table.csv")
    shown = as_owner.get(reverse("usertaskartifact-detail", args=[artifact.uuid])).json()
    assert shown["file"] == artifact.file.url
    assert shown["download_url"] == f"http://testserver{api(artifact)}"
    assert (shown["file_name"], shown["size"], shown["content_type"]) == ("table.csv", 1024, "text/csv")
    assert parse_datetime(shown["expires"]) == artifact.expires
    UserTaskArtifact.objects.update(file="", expired=timezone.now())
    shown = as_owner.get(reverse("usertaskartifact-detail", args=[artifact.uuid])).json()
    assert (shown["download_url"], shown["file_name"], shown["expires"]) == (None, "table.csv", None)
    link = make_status().add_artifact("Link", url="https://example.com/")
    shown = as_owner.get(reverse("usertaskartifact-detail", args=[link.uuid])).json()
    assert (shown["download_url"], shown["file_name"], shown["content_type"]) == (None, "", "")


def test_queries_of_a_list_of_files_are_fixed(
    as_owner: Client, make_status: MakeStatus, make_container: Any, settings: Settings
) -> None:
    settings.USER_TASKS_ARTIFACT_SERIALIZER = "user_tasks.detailed.DetailedArtifactSerializer"
    counts = []
    for _ in range(2):
        group = make_container("celery.group")
        for _ in range(3):
            make_status(parent=group).add_artifact(file=b"data", file_name="data.bin")
        with CaptureQueriesContext(connection) as queries:
            as_owner.get(reverse("usertaskartifact-list"))
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_the_page_tells_of_a_file_that_is_gone(as_owner: Client, make_file: Any) -> None:
    artifact = make_file("table.csv")
    UserTaskArtifact.objects.update(file="", expired=timezone.now())
    page = as_owner.get(reverse("user_tasks:status", args=[artifact.status.uuid])).content.decode()
    assert "table.csv" in page
    assert "The file was kept until" in page
    assert "<a download" not in page
    assert reverse("user_tasks:download", args=[artifact.uuid]) not in page
