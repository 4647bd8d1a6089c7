from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.db import IntegrityError, models, transaction
from django.template import Context, Template
from django.utils import timezone
from django.utils.translation import override
from pytest_django import DjangoAssertNumQueries

from user_tasks import recording, transitions, user_task_stopped
from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskArtifact, UserTaskStatus

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

VERBS: dict[str, Callable[[UserTaskStatus], None]] = {
    "start": lambda status: status.start(),
    "increment_completed_steps": lambda status: status.increment_completed_steps(),
    "increment_total_steps": lambda status: status.increment_total_steps(2),
    "cancel": lambda status: status.cancel(),
    "fail": lambda status: status.fail("why"),
    "retry": lambda status: status.retry(),
    "set_name": lambda status: status.set_name("Import"),
    "set_state": lambda status: status.set_state("Compressing"),
    "succeed": lambda status: status.succeed(),
}

HALTING = ("start", "increment_completed_steps", "increment_total_steps", "set_state")


def stored() -> UserTaskStatus:
    return UserTaskStatus.objects.get()


def shown(status: UserTaskStatus) -> dict[str, Any]:
    return {field.attname: getattr(status, field.attname) for field in status._meta.concrete_fields}


def error_texts(status: UserTaskStatus) -> list[str]:
    return list(status.artifacts.filter(name="Error").order_by("pk").values_list("text", flat=True))


def test_new_status_waits(owner: User) -> None:
    status = UserTaskStatus.objects.create(user=owner, task_id="1", total_steps=3)
    assert (status.state, status.completed_steps, status.attempts) == ("Pending", 0, 1)
    assert (status.parent, status.is_container, status.name, status.task_class) == (None, False, "", "")
    assert (status.started, status.finished, status.heartbeat) == (None, None, None)


def test_status_is_written_as_its_name(make_status: Callable[..., UserTaskStatus]) -> None:
    assert str(make_status(name="Export of ☃")) == "<UserTaskStatus: Export of ☃>"


def test_constants() -> None:
    assert (UserTaskStatus.PENDING, UserTaskStatus.IN_PROGRESS) == ("Pending", "In Progress")
    assert (UserTaskStatus.SUCCEEDED, UserTaskStatus.FAILED) == ("Succeeded", "Failed")
    assert (UserTaskStatus.CANCELED, UserTaskStatus.RETRYING) == ("Canceled", "Retrying")
    assert type(UserTaskStatus.PENDING) is str


def test_every_known_state_has_a_translation() -> None:
    with override("en"):
        assert {state: str(text) for state, text in UserTaskStatus.STATE_TRANSLATIONS.items()} == {
            state: state for state in ("Pending", "In Progress", "Succeeded", "Failed", "Canceled", "Retrying")
        }


def test_names_of_the_model() -> None:
    assert str(UserTaskStatus._meta.verbose_name_plural) == "user task statuses"
    assert UserTaskStatus._meta.db_table == "user_tasks_usertaskstatus"
    assert UserTaskArtifact._meta.db_table == "user_tasks_usertaskartifact"


@pytest.mark.parametrize(
    ("model", "name", "kind", "length"),
    [
        (UserTaskStatus, "id", models.AutoField, None),
        (UserTaskStatus, "task_id", models.CharField, 128),
        (UserTaskStatus, "task_class", models.CharField, 128),
        (UserTaskStatus, "name", models.CharField, 255),
        (UserTaskStatus, "state", models.CharField, 128),
        (UserTaskArtifact, "id", models.AutoField, None),
        (UserTaskArtifact, "name", models.CharField, 255),
        (UserTaskArtifact, "file", models.FileField, 100),
        (UserTaskArtifact, "url", models.TextField, None),
        (UserTaskArtifact, "text", models.TextField, None),
    ],
)
def test_field(model: type[models.Model], name: str, kind: type[models.Field[Any, Any]], length: int | None) -> None:
    field = model._meta.get_field(name)
    assert isinstance(field, kind)
    assert field.max_length == length


def test_task_id_is_unique(make_status: Callable[..., UserTaskStatus]) -> None:
    make_status(task_id="1")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_status(task_id="1")


def test_statuses_go_with_their_user(make_status: Callable[..., UserTaskStatus], owner: User) -> None:
    make_status()
    owner.delete()
    assert not UserTaskStatus.objects.exists()


def test_members_and_artifacts_go_with_a_status(make_status: Callable[..., UserTaskStatus]) -> None:
    container = make_status(is_container=True)
    UserTaskArtifact.objects.create(status=make_status(parent=container))
    container.delete()
    assert not UserTaskStatus.objects.exists()
    assert not UserTaskArtifact.objects.exists()


@pytest.mark.parametrize("verb", VERBS)
def test_verb_is_stored_at_once_and_shown(make_status: Callable[..., UserTaskStatus], verb: str) -> None:
    status = make_status(total_steps=5, completed_steps=1)
    VERBS[verb](status)
    assert shown(status) == shown(stored())


@pytest.mark.parametrize("verb", VERBS)
def test_verb_moves_modified(make_status: Callable[..., UserTaskStatus], verb: str) -> None:
    status = make_status(total_steps=5)
    UserTaskStatus.objects.update(modified=LONG_AGO)
    VERBS[verb](status)
    assert status.modified > status.created > LONG_AGO


@pytest.mark.parametrize("verb", VERBS)
def test_verb_overwrites_nothing_that_others_have_written(
    make_status: Callable[..., UserTaskStatus], verb: str
) -> None:
    status = make_status(total_steps=5)
    UserTaskStatus.objects.update(completed_steps=2, heartbeat=LONG_AGO, task_class="changed")
    VERBS[verb](status)
    row = stored()
    assert (row.heartbeat, row.task_class) == (LONG_AGO, "changed")
    assert row.completed_steps == {"increment_completed_steps": 3, "succeed": 5}.get(verb, 2)


def test_steps_are_added_in_the_database(make_status: Callable[..., UserTaskStatus]) -> None:
    first = make_status(total_steps=10)
    second = stored()
    first.increment_completed_steps(2)
    second.increment_completed_steps(3)
    first.increment_total_steps(-4)
    second.increment_completed_steps()
    row = stored()
    assert (row.completed_steps, row.total_steps) == (6, 6)


def test_steps_are_neither_clamped_nor_compared(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status(total_steps=0)
    status.increment_completed_steps(3)
    status.increment_total_steps(-1)
    assert (stored().completed_steps, stored().total_steps) == (3, -1)


@pytest.mark.parametrize("steps", [100_000, 5_000_000_000])
def test_steps_may_be_many(make_status: Callable[..., UserTaskStatus], steps: int) -> None:
    status = make_status(total_steps=steps)
    status.increment_total_steps(steps)
    status.increment_completed_steps(steps)
    assert (stored().completed_steps, stored().total_steps) == (steps, 2 * steps)
    status.succeed()
    assert stored().completed_steps == 2 * steps


def test_attempts_may_be_many(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status(attempts=100_000)
    status.retry()
    assert stored().attempts == 100_001


def test_success_completes_the_missing_steps(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status(total_steps=5)
    status.increment_completed_steps(2)
    status.succeed()
    assert (stored().completed_steps, stored().state) == (5, "Succeeded")


def test_success_takes_no_step_back(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status(total_steps=1, completed_steps=3)
    status.succeed()
    assert stored().completed_steps == 3


def test_first_start_and_the_end_are_timed(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status()
    status.start()
    started = status.started
    status.set_state("Compressing")
    assert (status.started, status.finished) == (started, None)
    status.succeed()
    assert started is not None
    assert status.finished is not None
    assert status.created <= started <= status.finished


def test_retry_counts_an_attempt_and_leaves_the_steps(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status(total_steps=5, completed_steps=2, state="In Progress")
    status.retry()
    assert (status.state, status.attempts, status.completed_steps) == ("Retrying", 2, 2)


def test_steps_begin_again_with_the_next_attempt(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status(total_steps=5, completed_steps=2, state="In Progress")
    status.retry()
    status.start()
    assert (status.state, status.completed_steps, status.total_steps) == ("In Progress", 0, 5)


@pytest.mark.parametrize("verb", HALTING)
def test_canceled_task_is_halted(make_status: Callable[..., UserTaskStatus], verb: str) -> None:
    status = make_status(state="In Progress")
    stored().cancel()
    with pytest.raises(TaskCanceledException, match=status.task_id):
        VERBS[verb](status)
    assert (status.state, stored().state) == ("Canceled", "Canceled")


@pytest.mark.django_db(transaction=True)
def test_who_listens_to_what_is_saved_is_sent_no_half_filled_status(make_status: Callable[..., UserTaskStatus]) -> None:
    status, heard = make_status(), list[Any]()

    def listen(instance: UserTaskStatus, **_kwargs: Any) -> None:
        heard.append(instance.user_id)

    models.signals.post_save.connect(listen, sender=UserTaskStatus)
    try:
        status.increment_completed_steps()
    finally:
        models.signals.post_save.disconnect(listen, sender=UserTaskStatus)
    assert stored().completed_steps == 1
    assert heard == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("surroundings", [nullcontext, transaction.atomic])
@pytest.mark.parametrize("verb", HALTING)
def test_task_without_a_row_is_halted(
    make_status: Callable[..., UserTaskStatus], verb: str, surroundings: Callable[[], AbstractContextManager[None]]
) -> None:
    status = make_status(state="In Progress")
    UserTaskStatus.objects.all().delete()
    with surroundings(), pytest.raises(TaskCanceledException, match=status.task_id):
        VERBS[verb](status)
    assert not UserTaskStatus.objects.exists()


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - set(HALTING)))
def test_verb_makes_no_row_anew(make_status: Callable[..., UserTaskStatus], verb: str) -> None:
    status = make_status(state="In Progress")
    UserTaskStatus.objects.all().delete()
    VERBS[verb](status)
    assert not UserTaskStatus.objects.exists()
    assert not UserTaskArtifact.objects.exists()


@pytest.mark.parametrize(
    ("increment", "numbers"), [("increment_completed_steps", (1, 5)), ("increment_total_steps", (0, 7))]
)
def test_step_of_a_canceled_task_counts(
    make_status: Callable[..., UserTaskStatus], increment: str, numbers: tuple[int, int]
) -> None:
    status = make_status(state="Canceled", total_steps=5)
    with pytest.raises(TaskCanceledException):
        VERBS[increment](status)
    assert (stored().completed_steps, stored().total_steps) == numbers


@pytest.mark.parametrize("update_fields", [None, ["state"]])
def test_next_step_halts_on_a_state_that_the_project_wrote(
    make_status: Callable[..., UserTaskStatus], stopped: list[UserTaskStatus], update_fields: list[str] | None
) -> None:
    status = make_status(total_steps=5)
    status.start()
    theirs = stored()
    theirs.state = UserTaskStatus.CANCELED
    theirs.save(update_fields=update_fields)
    with pytest.raises(TaskCanceledException):
        status.increment_completed_steps()
    assert (stored().completed_steps, stored().state) == (1, "Canceled")
    recording.ended(status.task_id)
    recording.ended(status.task_id)
    assert [told.state for told in stopped] == ["Canceled"]


@pytest.mark.parametrize("update_fields", [None, ["state"], {"state", "name"}])
def test_what_the_project_opens_again_is_not_at_rest(
    make_status: Callable[..., UserTaskStatus], stopped: list[UserTaskStatus], update_fields: Any
) -> None:
    status = make_status()
    status.fail("why")
    status.state = UserTaskStatus.IN_PROGRESS
    status.save(update_fields=update_fields)
    assert UserTaskStatus.objects.unfinished().get() == status
    assert stored().finished is None
    stored().succeed()
    assert [told.state for told in stopped] == ["Failed", "Succeeded"]


def test_failure_keeps_its_message(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status()
    status.fail("why")
    artifact = UserTaskArtifact.objects.get()
    assert (artifact.status, artifact.name, artifact.text) == (status, "Error", "why")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (ValueError("why"), "why"),
        ({"line": 3}, '{"line": 3}'),
        (UserTaskStatus.STATE_TRANSLATIONS["Failed"], "Failed"),
        ("a\0b\ud800", "ab?"),
        ("x" * 70_000, "x" * 65_533 + "…"),
        ("😀" * 20_000, "😀" * 16_383 + "…"),
    ],
    ids=["exception", "data", "lazy", "unfit", "long", "long wide"],
)
def test_failure_message_may_be_anything(make_status: Callable[..., UserTaskStatus], message: Any, text: str) -> None:
    status = make_status()
    status.fail(message)
    assert error_texts(status) == [text]


def test_later_message_is_kept_too(make_status: Callable[..., UserTaskStatus], stopped: list[UserTaskStatus]) -> None:
    status = make_status()
    status.fail("first")
    status.fail("second")
    assert error_texts(status) == ["first", "second"]
    assert stopped == [status]


@pytest.mark.parametrize("state", ["Succeeded", "Canceled"])
def test_message_is_not_kept_on_what_did_not_fail(make_status: Callable[..., UserTaskStatus], state: str) -> None:
    status = make_status(state=state)
    status.fail("late")
    assert not UserTaskArtifact.objects.exists()


def test_failure_given_as_a_state_has_no_message(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status()
    status.set_state(UserTaskStatus.FAILED)
    assert (status.state, error_texts(status)) == ("Failed", [])


def test_name_is_shortened_and_made_fit(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status()
    status.set_name("x\0" * 300)
    assert stored().name == status.name == "x" * 254 + "…"


def test_name_may_be_lazy(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status()
    status.set_name(UserTaskStatus.STATE_TRANSLATIONS["Pending"])  # type: ignore[arg-type]  # lazy strings count as such only at run time
    assert stored().name == "Pending"


class Phase(Enum):
    PACKING = "Packing"


class TextPhase(StrEnum):
    PACKING = "Packing"


@pytest.mark.parametrize(
    ("state", "text"),
    [("Packing", "Packing"), (Phase.PACKING, "Packing"), (TextPhase.PACKING, "Packing"), ("x" * 200, "x" * 127 + "…")],
)
def test_custom_state(make_status: Callable[..., UserTaskStatus], state: object, text: str) -> None:
    status = make_status()
    status.set_state(state)
    assert (type(status.state), status.state) == (str, text)
    assert stored().state == text
    assert status.state_text == text


def test_signal_brings_what_is_stored(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status()
    seen: list[tuple[type, bool, str, str]] = []

    def receive(sender: type, status: UserTaskStatus, **_: Any) -> None:
        seen.append((sender, isinstance(status, UserTaskStatus), status.state, stored().state))

    user_task_stopped.connect(receive)
    status.succeed()
    user_task_stopped.disconnect(receive)
    assert seen == [(UserTaskStatus, True, "Succeeded", "Succeeded")]


def test_canceling_instance_shows_it_before_the_signal_and_is_not_the_one_sent(
    make_status: Callable[..., UserTaskStatus],
) -> None:
    status = make_status()
    seen = []

    def receive(status: UserTaskStatus, canceling: UserTaskStatus = status, **_: Any) -> None:
        seen.append((status == canceling, status is canceling, canceling.state))

    user_task_stopped.connect(receive)
    status.cancel()
    user_task_stopped.disconnect(receive)
    assert seen == [(True, False, "Canceled")]


def test_what_a_receiver_writes_stays(make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status()

    def receive(status: UserTaskStatus, **_: Any) -> None:
        UserTaskStatus.objects.filter(pk=status.pk).update(name="seen")

    user_task_stopped.connect(receive)
    status.cancel()
    user_task_stopped.disconnect(receive)
    assert stored().name == "seen"


def test_failing_receiver_harms_nobody(
    make_status: Callable[..., UserTaskStatus], stopped: list[UserTaskStatus]
) -> None:
    def receive(**_: Any) -> None:
        raise ValueError("receiver")

    user_task_stopped.connect(receive)
    status = make_status()
    status.succeed()
    user_task_stopped.disconnect(receive)
    assert (status.state, stopped) == ("Succeeded", [status])


@pytest.mark.parametrize("verb", ["succeed", "fail", "cancel"])
def test_signal_is_not_deferred_to_the_commit(
    make_status: Callable[..., UserTaskStatus], stopped: list[UserTaskStatus], verb: str
) -> None:
    status = make_status()
    with transaction.atomic():
        VERBS[verb](status)
        assert stopped == [status]
    assert stopped == [status]


@pytest.mark.parametrize("state", ["Pending", "Retrying"])
def test_waiting_task_is_revoked_and_told_by_cancel(
    make_status: Callable[..., UserTaskStatus],
    stopped: list[UserTaskStatus],
    revoked: list[str],
    state: str,
) -> None:
    status = make_status(state=state)
    status.cancel()
    assert (revoked, stopped) == ([status.task_id], [status])
    assert status.finished is not None


@pytest.mark.parametrize("state", ["In Progress", "Compressing"])
def test_running_task_is_told_when_its_worker_stops(
    make_status: Callable[..., UserTaskStatus],
    stopped: list[UserTaskStatus],
    revoked: list[str],
    state: str,
) -> None:
    status = make_status()
    status.set_state(state)
    status.cancel()
    assert (status.state, status.finished, revoked, stopped) == ("Canceled", None, [], [])
    assert UserTaskStatus.objects.unfinished().get() == status
    recording.ended(status.task_id)
    assert stopped == [status]
    assert stored().finished is not None
    assert not UserTaskStatus.objects.unfinished().exists()


@pytest.mark.parametrize(
    ("verb", "queries"),
    [
        ("start", 3),
        ("increment_completed_steps", 2),
        ("increment_total_steps", 2),
        ("set_state", 3),
        ("set_name", 3),
        ("retry", 3),
    ],
)
def test_queries_of_a_task_alone(
    make_status: Callable[..., UserTaskStatus],
    django_assert_num_queries: DjangoAssertNumQueries,
    verb: str,
    queries: int,
) -> None:
    status = make_status()
    with django_assert_num_queries(queries):
        VERBS[verb](status)


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ({}, ""),
        ({"text": "x" * 50}, "x" * 50),
        ({"text": "x" * 51}, "x" * 47 + "..."),
        ({"url": "https://example.com/" + "x" * 60, "text": "text"}, "https://example.com/" + "x" * 60),
        (
            {"file": "user_tasks/2020/01/01/" + "x" * 50, "url": "https://example.com/"},
            "user_tasks/2020/01/01/" + "x" * 50,
        ),
    ],
)
def test_artifact_is_written_as_its_content(fields: dict[str, str], content: str) -> None:
    assert str(UserTaskArtifact(name="Sample", **fields)) == f"<UserTaskArtifact: (Sample) {content}>"


def test_artifact_is_output_unless_named(
    make_status: Callable[..., UserTaskStatus], make_artifact: Callable[..., UserTaskArtifact]
) -> None:
    status = make_status()
    artifact = make_artifact(status)
    assert (artifact.name, artifact.text, artifact.url, bool(artifact.file)) == ("Output", "", "", False)
    assert list(status.artifacts.all()) == [artifact]


@pytest.mark.parametrize("url", ["not a url", "javascript:alert(1)"])
def test_artifact_url_is_validated(make_status: Callable[..., UserTaskStatus], url: str) -> None:
    with pytest.raises(ValidationError, match="url"):
        UserTaskArtifact(status=make_status(), url=url).full_clean()


def test_artifact_url_may_be_long(make_status: Callable[..., UserTaskStatus]) -> None:
    url = "https://example.com/" + "x" * 2000
    UserTaskArtifact(status=make_status(), url=url).save()
    assert UserTaskArtifact.objects.get().url == url


def test_artifact_takes_another_file_later(make_status: Callable[..., UserTaskStatus]) -> None:
    artifact = UserTaskArtifact(status=make_status(), name="Output")
    artifact.file.save(name="first.csv", content=ContentFile(b"1"))
    first = artifact.file.name
    artifact.file.save(name="second.csv", content=ContentFile(b"2"))
    artifact.save()
    artifact = UserTaskArtifact.objects.get()
    with artifact.file.open() as file:
        assert file.read() == b"2"
    assert artifact.file.name != first
    assert re.fullmatch(r"user_tasks/\d{4}/\d\d/\d\d/second\w*\.csv", str(artifact.file.name))


class Replicated:
    """Sends writes to the one database, wherever a row has been read."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


def test_what_a_replica_tells_is_written_where_the_router_says(
    make_status: Callable[..., UserTaskStatus], make_container: Callable[..., UserTaskStatus], settings: Any
) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.Replicated"]
    status = make_status(parent=make_container("celery.group"))
    status._state.db = "replica"

    status.start()
    status.increment_completed_steps()
    status.succeed()

    assert UserTaskStatus.objects.get(pk=status.pk).state == "Succeeded"
    assert UserTaskStatus.objects.get(is_container=True).state == "Succeeded"


class Replica(Replicated):
    """Names a replica for whatever is read; there is none, so that each query to it is an error."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"


def test_the_loss_of_a_member_is_undone_without_a_look_at_a_replica(
    make_status: Callable[..., UserTaskStatus], make_container: Callable[..., UserTaskStatus], settings: Any
) -> None:
    container = make_container("celery.group")
    member = make_status(parent=container, state="In Progress", heartbeat=timezone.now())
    settings.DATABASE_ROUTERS = [f"{__name__}.Replica"]
    stored = UserTaskStatus.objects.using("default").select_related("parent")

    transitions.lose(stored.get(pk=member.pk), "gone")
    transitions.tell_containers(stored.get(pk=member.pk))
    assert UserTaskArtifact.objects.using("default").count() == 2
    transitions.revive(stored.get(pk=member.pk))

    assert not UserTaskArtifact.objects.using("default").exists()
    assert set(stored.values_list("state", flat=True)) == {"In Progress"}


@pytest.mark.parametrize("verb", ["start", "increment_completed_steps", "retry", "succeed", "cancel", "add_artifact"])
def test_a_template_calls_no_verb(make_status: Callable[..., UserTaskStatus], verb: str) -> None:
    status = make_status()

    Template(f"{{% if status.{verb} %}}{{% endif %}}").render(Context({"status": status}))

    status.refresh_from_db()
    assert (status.state, status.completed_steps, status.artifacts.count()) == ("Pending", 0, 0)


@pytest.fixture
def proxies(db: None) -> Iterator[tuple[Any, Any]]:
    """Proxies of both models, with managers of their own, as a project makes them."""

    class ExportManager(models.Manager[Any]):
        def get_queryset(self) -> Any:
            return super().get_queryset().filter(task_class="shop.export")

        def running(self) -> Any:
            return self.filter(state=UserTaskStatus.IN_PROGRESS)

    class Export(UserTaskStatus):
        objects = ExportManager()  # type: ignore[assignment]  # a project's own takes the place of ours

        class Meta:
            app_label = "user_tasks"
            proxy = True

        @property
        def is_big(self) -> bool:
            return self.total_steps > 1000

    class TextManager(models.Manager[Any]):
        def get_queryset(self) -> Any:
            return super().get_queryset().exclude(text="")

    class TextArtifact(UserTaskArtifact):
        objects = TextManager()  # type: ignore[assignment]  # as above

        class Meta:
            app_label = "user_tasks"
            proxy = True

    yield Export, TextArtifact
    for model in (Export, TextArtifact):
        del apps.all_models["user_tasks"][model._meta.model_name or ""]
    apps.clear_cache()


def test_proxies_read_cancel_and_are_heard_of_as_the_models(
    proxies: tuple[Any, Any], make_status: Callable[..., UserTaskStatus], stopped: list[UserTaskStatus]
) -> None:
    export_proxy, text_proxy = proxies
    waiting, running, _other = make_status(), make_status(total_steps=2000), make_status(task_class="shop.import")
    running.start()
    assert [status.pk for status in export_proxy.objects.order_by("pk")] == [waiting.pk, running.pk]

    export = export_proxy.objects.running().get()
    assert (export.is_big, export.state_text) == (True, "In Progress")
    export.increment_completed_steps(5)
    artifact = export.add_artifact("Result", text="It is all there.")
    assert text_proxy.objects.get().status == running
    text_proxy.objects.create(status=export, text="And more.")
    assert [found.text for found in export.artifacts.order_by("pk")] == ["It is all there.", "And more."]
    text_proxy.objects.get(pk=artifact.pk).delete()
    assert running.artifacts.count() == 1

    export.succeed()
    export_proxy.objects.get(pk=waiting.pk).cancel()
    running.refresh_from_db()
    waiting.refresh_from_db()
    assert (running.state, running.completed_steps, waiting.state) == ("Succeeded", 2000, "Canceled")
    assert [(type(status), status.pk, status.state) for status in stopped] == [
        (UserTaskStatus, running.pk, "Succeeded"),
        (UserTaskStatus, waiting.pk, "Canceled"),
    ]

    export_proxy.objects.get(pk=running.pk).delete()
    assert export_proxy.objects.count() == 1
    assert not text_proxy.objects.exists()


def test_container_read_as_a_proxy_cancels_its_members(
    proxies: tuple[Any, Any],
    make_container: Callable[..., UserTaskStatus],
    make_status: Callable[..., UserTaskStatus],
    stopped: list[UserTaskStatus],
) -> None:
    export_proxy, _text_proxy = proxies
    group = make_container("celery.group")
    member = make_status(parent=group)

    proxied = export_proxy._base_manager.get(pk=group.pk)
    proxied.cancel()

    assert (type(proxied), proxied.state) == (export_proxy, "Canceled")
    assert [(type(status), status.pk) for status in stopped] == [
        (UserTaskStatus, member.pk),
        (UserTaskStatus, group.pk),
    ]
