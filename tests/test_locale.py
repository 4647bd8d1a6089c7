from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from gettext import GNUTranslations
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from bs4 import BeautifulSoup, Tag
from bs4.element import PreformattedString
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.template.defaultfilters import filesizeformat
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation.template import templatize
from pytest_django import Settings

import user_tasks
from user_tasks.containers import CHAIN
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.pages.views import TaskListView
from user_tasks.states import State

MakeStatus = Callable[..., UserTaskStatus]
MakeArtifact = Callable[..., UserTaskArtifact]

PACKAGE = Path(user_tasks.__file__).parent
DEMO = Path(__file__).resolve().parent.parent / "demo"
TEMPLATES = sorted(path for folder in (PACKAGE, DEMO) for path in (folder / "templates").rglob("*.html"))
LANGUAGES = ("ar", "de", "es", "fr", "hi", "ja", "pt_BR", "ru", "zh_Hans")

FOLDERS = pytest.mark.parametrize("folder", [PACKAGE, DEMO], ids=["package", "demo"])

Key = tuple[str | None, str | tuple[str, ...]]
"""A message: its context, and its text or its singular and plural."""

CALLS: dict[str, Any] = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "npgettext": ((1, "c"), 2, 3),
    "npgettext_lazy": ((1, "c"), 2, 3),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
}
"""What marks a text, and which arguments are its context, its singular and its plural."""

PLACEHOLDER = re.compile(r"%\(\w+\)[ds]|%%|\{\w*\}|<[^>]+>")
LETTER = re.compile(r"[^\W\d_]")
ENDS = {".": ".。।", "?": "?\N{FULLWIDTH QUESTION MARK}؟", "…": "…"}
NUMBERS = (*range(1000), 10**6, 10**6 + 1, 10**9)
READ_ALOUD = ("alt", "aria-label", "aria-valuetext", "placeholder", "title")

pytestmark = pytest.mark.embedded


@cache
def messages(folder: Path) -> frozenset[Key]:
    """Return all messages of the sources."""
    found: set[Key] = set()
    for path in folder.rglob("*.py"):
        found |= set(extracted(path.read_bytes()))
    for path in (folder / "templates").rglob("*.html"):
        code = templatize(path.read_text(encoding="utf-8"))
        found |= set(extracted(" ".join(code.split("\n")).strip().encode()))
    return frozenset(found)


def extracted(code: bytes) -> Iterator[Key]:
    """Return the messages of Python code."""
    for _line, message, _comments, context in extract("python", BytesIO(code), CALLS):
        yield context, message


def po_file(folder: Path, language: str) -> Path:
    return folder / "locale" / language / "LC_MESSAGES" / "django.po"


@cache
def catalog(folder: Path, language: str) -> Catalog:
    """Return the translations into a language."""
    with po_file(folder, language).open("rb") as catalog_file:
        return read_po(catalog_file, locale=language, abort_invalid=True)


def translations(folder: Path, language: str) -> dict[Key, tuple[str, ...]]:
    """Return what a catalog says for each of its messages, one text for each plural form."""
    entries = [entry for entry in catalog(folder, language) if entry.id]
    return {(entry.context, frozen(entry.id)): forms(entry.string) for entry in entries}


def frozen(message: Any) -> str | tuple[str, ...]:
    return message if isinstance(message, str) else tuple(message)


def forms(message: Any) -> tuple[str, ...]:
    """Return the forms of a text, of which there may be just one."""
    return (message,) if isinstance(message, str) else tuple(message)


def plural_index(folder: Path, language: str) -> Callable[[int], int]:
    """Return the function that picks the form for a number, as it is in use."""
    compiled = BytesIO()
    write_mo(compiled, catalog(folder, language))
    compiled.seek(0)
    return GNUTranslations(compiled).plural  # type: ignore[attr-defined,no-any-return]  # an attribute that gettext sets while it reads


def code_of(language: str) -> str:
    return translation.to_language(language)


def test_the_sources_are_searched() -> None:
    assert messages(PACKAGE) >= {
        (None, "Pending"),
        (None, "My tasks"),
        (None, ("%(running)s is running", "%(running)s are running")),
        ("duration", ("%(num)d day", "%(num)d days")),
        (None, "created"),
    }


@FOLDERS
def test_the_languages_are_there(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "locale").iterdir()) == sorted(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
@FOLDERS
def test_no_message_is_missing_or_left_over(folder: Path, language: str) -> None:
    known = frozenset(translations(folder, language))
    assert messages(folder) - known == set(), 'run "make messages" and translate what is new'
    assert known - messages(folder) == set(), 'run "make messages"'


@pytest.mark.parametrize("language", LANGUAGES)
@FOLDERS
def test_no_message_is_empty_or_fuzzy(folder: Path, language: str) -> None:
    assert not [key for key, texts in translations(folder, language).items() if not all(text.strip() for text in texts)]
    assert not [message.id for message in catalog(folder, language) if message.fuzzy]


@pytest.mark.parametrize("language", LANGUAGES)
@FOLDERS
def test_translations_keep_placeholders_and_markup(folder: Path, language: str) -> None:
    single = forms_of_one_number(folder, language)
    for (_context, message), texts in translations(folder, language).items():
        original = placeholders(forms(message)[-1])
        for form, text in enumerate(texts):
            kept = placeholders(text)
            written_as_a_word = len(texts) > 1 and form in single and kept < original
            assert kept == original or written_as_a_word, text


def placeholders(text: str) -> Counter[str]:
    return Counter(match[0] for match in PLACEHOLDER.finditer(text))


def forms_of_one_number(folder: Path, language: str) -> set[int]:
    """Return the plural forms that stand for a single number each, so that they may name it in words."""
    uses = Counter(map(plural_index(folder, language), NUMBERS))
    return {form for form, numbers in uses.items() if numbers == 1}


@pytest.mark.parametrize("language", LANGUAGES)
@FOLDERS
def test_translations_end_as_their_originals_do(folder: Path, language: str) -> None:
    for (_context, message), texts in translations(folder, language).items():
        original = forms(message)[0]
        for text in texts:
            assert text[-1] in ENDS.get(original[-1], text[-1]), text
            assert text.strip() == text or original.strip() != original, text


@pytest.mark.parametrize("language", LANGUAGES)
@FOLDERS
def test_plural_forms_are_those_of_the_language(folder: Path, language: str) -> None:
    index, rule = plural_index(folder, language), Locale.parse(language).plural_form
    number_of_forms = catalog(folder, language).num_plurals
    for (_context, message), texts in translations(folder, language).items():
        assert len(texts) == (number_of_forms if isinstance(message, tuple) else 1), message
    pairs = {(rule(number), index(number)) for number in NUMBERS}
    categories, used = zip(*sorted(pairs), strict=True)
    assert len(set(categories)) == len(categories), "numbers that the language tells apart share a form"
    assert sorted(used) == list(range(number_of_forms))


@pytest.mark.parametrize("language", LANGUAGES)
@FOLDERS
def test_what_is_inserted_from_elsewhere_keeps_to_its_own_direction(folder: Path, language: str) -> None:
    for texts in translations(folder, language).values():
        for text in texts:
            assert text.count("\u2068") == text.count("\u2069")
            if language == "ar" and re.search(r"%\((name|holders|user)\)s", text):
                assert re.search(r"(\u2068|<bdi>)%\(\w+\)s(\u2069|</bdi>)", text), text


@pytest.mark.parametrize("language", LANGUAGES)
@FOLDERS
def test_catalogs_name_no_places_and_no_people(folder: Path, language: str) -> None:
    text = po_file(folder, language).read_text(encoding="utf-8")
    assert not re.search(r"^#: |@|\.py\b|\.html\b", text, re.MULTILINE)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("state", list(State))
def test_states_are_told_in_the_language(language: str, state: State) -> None:
    with translation.override(code_of(language)):
        text = UserTaskStatus(state=state.value).state_text
    assert (text,) == translations(PACKAGE, language)[None, state.value]
    assert text != state.value


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_text_that_is_not_marked(path: Path) -> None:
    source = re.sub(
        r"{% blocktranslate.*?{% endblocktranslate %}|{%.*?%}|{{.*?}}", "", path.read_text(), flags=re.DOTALL
    )
    document = BeautifulSoup(re.sub(r'data-[\w-]+(="[^"]*")?', "", source), "html.parser")
    assert not [text for text in texts_of(document) if LETTER.search(text)]


def texts_of(element: Tag) -> list[str]:
    """Return what an element says but for times, to the eye and to the ear, one entry for each text or attribute."""
    for passed_over in element.find_all("time"):
        passed_over.decompose()
    texts = [str(text) for text in element.find_all(string=True) if not isinstance(text, PreformattedString)]
    texts += [str(tag[name]) for tag in element.find_all(True) for name in READ_ALOUD if tag.has_attr(name)]
    return [" ".join(text.split()) for text in texts if text.strip()]


@pytest.fixture
def reader(make_user: Callable[..., User]) -> User:
    """Somebody whose name has no letters."""
    return make_user("2")


@pytest.fixture
def as_reader(client: Client, reader: User, settings: Settings, package_rules: None) -> Client:
    """A client that is logged in, on a site in many languages."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    client.force_login(reader)
    return client


@pytest.fixture
def make(reader: User, make_status: MakeStatus) -> MakeStatus:
    """Return a factory of the reader's statuses; their names have no letters."""

    def make_one(**fields: Any) -> UserTaskStatus:
        return make_status(**{"user": reader, "name": "3", **fields})

    return make_one


@pytest.fixture
def statuses(make: MakeStatus, make_artifact: MakeArtifact) -> list[UserTaskStatus]:
    """Statuses in all states, some of them parts of a workflow, with outputs of all kinds."""
    now = timezone.now()
    chain = make(task_class=CHAIN, is_container=True, total_steps=0, due=None, state="In Progress")
    long_ago = now - timedelta(days=2, hours=1)
    found = [
        chain,
        make(parent=chain, state="In Progress", started=long_ago, total_steps=1000, completed_steps=10),
        make(parent=chain),
        *(
            make(state=state.value, started=now - timedelta(seconds=42), finished=now, total_steps=12)
            for state in State
        ),
        make(state="Canceled", started=now),
        make(state="In Progress", started=now, total_steps=1),
    ]
    for status in found[3:]:
        make_artifact(status, name="Error", text="4")
        make_artifact(status, text="5 " * 1000)
        make_artifact(status, url="https://example.org/6")
        make_artifact(status).file.save("7", ContentFile(b"88"))
    return found


DATA = re.compile(r"https://example.org/6|(?<!\w)\d+_\w+(?!\w)")
"""Of what is shown, what is no text of the package: an address, and a file name that the storage has made."""


def said(client: Client, language: str, path: str, post: bool = False) -> set[str]:
    """Return all that a page says in a language, without what is data."""
    headers = {"accept-language": language}
    response: Any = client.post(path, headers=headers, follow=True) if post else client.get(path, headers=headers)
    document = BeautifulSoup(response.content.decode(), "html5lib")
    if document.html and document.html.has_attr("lang"):
        assert document.html["lang"] == language
        assert document.html["dir"] == ("rtl" if language == "ar" else "ltr")
    with translation.override(language):
        size = " ".join(filesizeformat(2).split())
    return {text for text in texts_of(document) if text != size and LETTER.search(DATA.sub("", text))}


def is_said_alike(language: str, text: str) -> bool:
    """Return whether a text is the same in English, by its translation."""
    for (_context, message), texts in translations(PACKAGE, language).items():
        for original, translated in zip(forms(message), texts, strict=False):
            pattern = ".+".join(map(re.escape, re.split(r"%\(\w+\)[ds]", original)))
            if original.lower() == translated.lower() and re.fullmatch(pattern, text, re.IGNORECASE):
                return True
    return False


def addresses(statuses: list[UserTaskStatus]) -> list[str]:
    """Return where the pages, and parts of them, are."""
    lists = ["", "?fragment=list", "?fragment=tray", "?q=nothing", "?page=2", "?refresh=off", "?state=Failed"]
    pages = [reverse("user_tasks:list") + query for query in lists]
    for status in statuses:
        own = reverse("user_tasks:status", args=[status.uuid])
        pages += [own, f"{own}?fragment=card", reverse("user_tasks:delete", args=[status.uuid])]
        pages += [reverse("user_tasks:cancel", args=[status.uuid]), reverse("user_tasks:parts", args=[status.uuid])]
    return pages


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_say_nothing_in_english(
    as_reader: Client,
    make_user: Callable[..., User],
    statuses: list[UserTaskStatus],
    monkeypatch: pytest.MonkeyPatch,
    language: str,
) -> None:
    monkeypatch.setattr(TaskListView, "paginate_by", 5)
    paths = addresses(statuses)
    english = set[str]().union(*(said(as_reader, "en", path) for path in paths))
    translated = set[str]().union(*(said(as_reader, code_of(language), path) for path in paths))
    assert len(english) > 60
    assert not [text for text in english & translated if not is_said_alike(language, text)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_has_been_done_is_told_in_the_language(as_reader: Client, make: MakeStatus, language: str) -> None:
    running, finished = make(), make(state="Succeeded")
    told = said(as_reader, code_of(language), reverse("user_tasks:cancel", args=[running.uuid]), post=True)
    told |= said(as_reader, code_of(language), reverse("user_tasks:delete", args=[finished.uuid]), post=True)
    for message in ("The task is canceled.", "The task is deleted."):
        assert translations(PACKAGE, language)[None, message][0] in told


@pytest.mark.parametrize("language", LANGUAGES)
def test_admin_names_all_fields_in_the_language(
    as_reader: Client, reader: User, statuses: list[UserTaskStatus], language: str
) -> None:
    User.objects.filter(pk=reader.pk).update(is_staff=True, is_superuser=True)
    artifact = statuses[-1].artifacts.first()
    assert artifact is not None
    paths = [
        reverse("admin:user_tasks_usertaskstatus_changelist"),
        reverse("admin:user_tasks_usertaskstatus_change", args=[statuses[0].pk]),
        reverse("admin:user_tasks_usertaskartifact_changelist"),
        reverse("admin:user_tasks_usertaskartifact_change", args=[artifact.pk]),
    ]
    english = set[str]().union(*(labels(as_reader, "en", path) for path in paths))
    translated = set[str]().union(*(labels(as_reader, code_of(language), path) for path in paths))
    assert english >= {"Created", "Task ID", "Completed steps", "The name that the user reads", "Members"}
    assert not [text for text in english & translated if not is_said_alike(language, text)]


def labels(client: Client, language: str, path: str) -> set[str]:
    """Return how a page of the admin names the fields, and what it explains."""
    document = BeautifulSoup(client.get(path, headers={"accept-language": language}).content.decode(), "html5lib")
    found = document.select("#result_list thead .text, #searchbar_helptext, fieldset label, fieldset .help")
    return {" ".join(element.get_text().split()).rstrip(":") for element in found} - {""}
