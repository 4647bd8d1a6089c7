from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from pytest_django import Settings

from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskArtifact, UserTaskStatus

MakeStatus = Callable[..., UserTaskStatus]


class FailingStorage(FileSystemStorage):
    def _save(self, name: str, content: Any) -> str:
        raise OSError("The disk is full.")


def files() -> list[str]:
    """Return the paths of all stored files."""
    return [str(path) for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def media(settings: Settings, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    return tmp_path


def content(artifact: UserTaskArtifact) -> bytes:
    with artifact.file.open("rb") as file:
        data: bytes = file.read()
    return data


def test_one_line_makes_an_artifact(make_status: MakeStatus) -> None:
    status = make_status()
    made = [
        status.add_artifact("Rows", text="12 rows\0"),
        status.add_artifact("Shop", url="https://example.com/"),
        status.add_artifact(text="unnamed"),
    ]
    stored = UserTaskArtifact.objects.order_by("pk")
    assert list(stored) == made
    assert [(row.name, row.text, row.url, row.file.name or None) for row in stored] == [
        ("Rows", "12 rows", "", None),
        ("Shop", "", "https://example.com/", None),
        ("Output", "unnamed", "", None),
    ]


@pytest.mark.parametrize("value", [None, [1, "Ü"], {"day": date(2026, 3, 1)}, "text"])
def test_data_is_stored_as_text_of_a_known_type(make_status: MakeStatus, value: Any) -> None:
    artifact = make_status().add_artifact("Data", json=value)
    artifact.refresh_from_db()
    assert json.loads(artifact.text) == json.loads(json.dumps(value, default=str))
    assert artifact.content_type == "application/json"


@pytest.mark.parametrize(
    ("given", "file_name"),
    [
        (lambda folder: folder / "made.csv", ""),
        (lambda folder: str(folder / "made.csv"), ""),
        (lambda folder: (folder / "made.csv").open("rb"), ""),
        (lambda folder: ContentFile(b"a,b", name="made.csv"), ""),
        (lambda folder: io.BytesIO(b"a,b"), "made.csv"),
        (lambda folder: b"a,b", "made.csv"),
    ],
    ids=["path", "text", "open file", "File", "stream", "bytes"],
)
def test_a_file_is_taken_from_wherever_it_is(
    make_status: MakeStatus, tmp_path: Path, given: Callable[[Path], Any], file_name: str
) -> None:
    (tmp_path / "made.csv").write_bytes(b"a,b")
    file = given(tmp_path)
    artifact = make_status().add_artifact("Table", file=file, file_name=file_name)
    if hasattr(file, "close"):
        file.close()
    artifact.refresh_from_db()
    assert content(artifact) == b"a,b"
    assert (artifact.file_name, artifact.size, artifact.content_type) == ("made.csv", 3, "text/csv")


def test_a_file_is_attached_when_its_block_has_ended(make_status: MakeStatus) -> None:
    status = make_status()
    writing = status.open_artifact("Übersicht 2026.csv", name="Overview")
    with writing as file:
        csv.writer(file).writerow(["Größe", 1])
        file.flush()
        assert not UserTaskArtifact.objects.exists()
        assert files() == []
    artifact = status.artifacts.get()
    assert artifact == writing.artifact
    assert content(artifact) == "Größe,1\r\n".encode()
    assert (artifact.name, artifact.file_name) == ("Overview", "Übersicht 2026.csv")
    assert (artifact.size, artifact.content_type) == (11, "text/csv; charset=utf-8")


def test_bytes_are_written_too_even_by_what_closes_its_file(make_status: MakeStatus) -> None:
    status = make_status()
    with status.open_artifact("data.bin", "wb") as file:
        file.write(b"\0\xff")
        file.close()
    artifact = status.artifacts.get()
    assert (artifact.name, content(artifact), artifact.content_type) == (
        "data.bin",
        b"\0\xff",
        "application/octet-stream",
    )


def test_a_mode_that_does_not_write_is_refused(make_status: MakeStatus) -> None:
    with pytest.raises(ValueError, match="The mode is 'r'"):
        make_status().open_artifact("data.csv", "r")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, TaskCanceledException])
def test_an_exception_leaves_nothing(make_status: MakeStatus, tmp_path: Path, error: type[BaseException]) -> None:
    status = make_status()
    with pytest.raises(error), status.open_artifact("half.csv") as file:  # noqa: PT012 - what is in the block fails
        file.write("half")
        raise error
    assert not UserTaskArtifact.objects.exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def cancel(status: UserTaskStatus) -> None:
    UserTaskStatus.objects.get(pk=status.pk).cancel()


def delete(status: UserTaskStatus) -> None:
    UserTaskStatus.objects.filter(pk=status.pk).delete()


@pytest.mark.parametrize("end", [cancel, delete])
def test_a_cancelation_leaves_nothing(
    make_status: MakeStatus, tmp_path: Path, end: Callable[[UserTaskStatus], None]
) -> None:
    status = make_status()
    writing = status.open_artifact("half.csv")
    with pytest.raises(TaskCanceledException), writing as file:  # noqa: PT012 - the end of the block raises
        print("half", file=file)
        end(status)
    for values in ({"text": "late"}, {"file": b"late"}, {"json": 1}):
        with pytest.raises(TaskCanceledException):
            status.add_artifact("Late", **values)
    with pytest.raises(TaskCanceledException), status.open_artifact("late.csv"):
        pass
    assert not UserTaskArtifact.objects.exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_cancelation_while_the_file_is_stored_leaves_nothing(
    make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status = make_status()
    store: Any = vars(FileSystemStorage)["_save"]

    def store_and_cancel(storage: FileSystemStorage, name: str, content: Any) -> str:
        stored: str = store(storage, name, content)
        cancel(status)
        return stored

    monkeypatch.setattr(FileSystemStorage, "_save", store_and_cancel)
    with pytest.raises(TaskCanceledException), status.open_artifact("half.csv") as file:
        file.write("half")
    assert not UserTaskArtifact.objects.exists()
    assert files() == []


def test_a_storage_that_fails_leaves_no_artifact(make_status: MakeStatus, settings: Settings) -> None:
    settings.USER_TASKS_ARTIFACT_STORAGE = f"{__name__}.FailingStorage"
    status = make_status()
    with pytest.raises(OSError, match="full"), status.open_artifact("table.csv") as file:
        file.write("half")
    assert not UserTaskArtifact.objects.exists()


def test_a_status_that_is_never_stored_takes_outputs_and_keeps_none(tmp_path: Path) -> None:
    status = UserTaskStatus(name="Called")
    status.is_detached = True
    status.add_artifact("Text", text="text")
    status.add_artifact("File", file=b"content", file_name="file.txt")
    with status.open_artifact("table.csv") as file:
        file.write("a,b")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/absolute/x.csv", "x.csv"),
        ("..", "output"),
        ("", "output"),
        ("line\r\nSet-Cookie: a=b", "lineSet-Cookie: a=b"),
        ("evil\u202egpj.exe", "evilgpj.exe"),
        ("quo\"te's.csv", "quo\"te's.csv"),
        ("تقرير.csv", "تقرير.csv"),
        ("x" * 500 + ".csv", "x" * 251 + ".csv"),
        ("x." + "y" * 500, "x." + "y" * 253),
        ("😀" * 200 + ".csv", "😀" * 200 + ".csv"),
        ("nul\0.csv", "nul.csv"),
    ],
)
def test_hostile_names_are_made_harmless(make_status: MakeStatus, tmp_path: Path, given: str, shown: str) -> None:
    status = make_status()
    with status.open_artifact(given) as file:
        file.write("content")
    status.add_artifact(given or "output", file=b"content", file_name=given)
    for artifact in status.artifacts.all():
        assert artifact.file_name == shown
        assert len(str(artifact.file.name)) <= 100
        assert content(artifact) == b"content"
        assert Path(artifact.file.path).is_relative_to(tmp_path / "media" / "user_tasks")
