"""Celery's message protocols 1 and 2, and what both say about a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import chain
from celery.canvas import maybe_signature
from kombu.utils.functional import maybe_list


@dataclass(frozen=True)
class Message:
    """A task about to be published: itself, what follows it, and the group and chord that it belongs to."""

    task_id: str
    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    retries: int = 0
    eta: str | None = None
    """ISO 8601, of a task that may not run before."""
    parent_id: str | None = None
    """The task that publishes this one, where the protocol tells."""
    group: str | None = None
    links: Sequence[Mapping[str, Any]] = ()
    """Signatures of the rest of the chain, in running order."""
    chord: Mapping[str, Any] | None = None
    """Signature of the body."""
    callbacks: Sequence[Mapping[str, Any]] = ()
    """Signatures published when it has ended, well or not; they have no ids yet."""


def read_message(sender: str, body: Any, headers: Mapping[str, Any] | None) -> Message:
    """Return what ``before_task_publish`` says, in either protocol: a dict body is 1, a tuple is 2."""
    if isinstance(body, Mapping):
        return _read_proto1(sender, body)
    args, kwargs, embed = body
    headers = headers or {}
    return Message(
        task_id=headers["id"],
        task=headers.get("task") or sender,
        args=args or (),
        kwargs=kwargs or {},
        retries=headers.get("retries") or 0,
        eta=headers.get("eta"),
        parent_id=headers.get("parent_id"),
        group=headers.get("group"),
        links=tuple(_chain_of(embed or {}) or ()),
        chord=(embed or {}).get("chord"),
        callbacks=callbacks_of(embed or {}, "callbacks", "errbacks"),
    )


def request_message(request: Any) -> Message:
    """Return the message that a worker executes."""
    return Message(
        task_id=request.id,
        task=request.task,
        args=request.args or (),
        kwargs=request.kwargs or {},
        group=request.group,
        links=tuple(_chain_of({"chain": request.chain}) or _linked(request.callbacks)),
        chord=request.chord,
        callbacks=callbacks_of(vars(request), "callbacks", "errbacks"),
    )


def call_message(task: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Message:
    """Return the message that ``apply_async`` is about to make of its arguments."""
    return Message(
        task_id=options.get("task_id") or task,
        task=task,
        args=args or (),
        kwargs=kwargs or {},
        eta=_eta(options.get("eta"), options.get("countdown")),
        parent_id=options.get("parent_id"),
        group=options.get("group_id"),
        links=tuple(_chain_of(options) or _linked(options.get("link"))),
        chord=options.get("chord"),
        callbacks=callbacks_of(options, "link", "link_error"),
    )


def _eta(eta: datetime | str | None, countdown: float | None) -> str | None:
    if eta is None and countdown:
        eta = datetime.now(UTC) + timedelta(seconds=countdown)
    return eta.isoformat() if isinstance(eta, datetime) else eta


def callbacks_of(options: Mapping[str, Any], *keys: str) -> tuple[Any, ...]:
    """Return the signatures under these keys that are mere callbacks, not links of a chain."""
    found = (signature for key in keys for signature in maybe_list(options.get(key)) or ())
    return tuple(signature for signature in found if not signature["options"].get("task_id"))


def last_task(signature: Any) -> Any:
    """Return the task of a signature that runs last, whose options say what follows and what encloses the whole."""
    while signature["task"] in ("celery.chain", "celery.chord"):
        signature = _last_part(signature)
    return signature


def _last_part(signature: Any) -> Any:
    kwargs = signature["kwargs"]
    return kwargs["tasks"][-1] if signature["task"] == "celery.chain" else kwargs["body"]


def links_after(signature: Any) -> list[Any]:
    """Return the rest of a chain that hangs on a frozen signature, as on the body of a chord that begins the chain."""
    options = signature["options"]
    links = _chain_of(options) or _linked(options.get("link"))
    if links or signature["task"] not in ("celery.chain", "celery.chord"):
        return links
    return links_after(_last_part(signature))


def proto2_to_proto1(body: tuple[Any, Any, Mapping[str, Any]], headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of protocol 2 in the shape of protocol 1; the message itself is not changed.

    The rest of a chain, if any, is the last of the callbacks.
    """
    args, kwargs, embed = body
    embedded = extract_proto2_embed(**{**embed, "task_chain": _chain_of(embed)})
    links: Any = [maybe_signature(link) for link in embedded.pop("chain") or ()]
    if links:
        embedded["callbacks"] = [*embedded["callbacks"], chain(links)]
    return {**extract_proto2_headers(**headers), "args": args, "kwargs": kwargs, **embedded}


def extract_proto2_headers(  # noqa: PLR0917 - the headers, by their names in the message
    id: str,  # noqa: A002 - as Celery names it
    retries: int,
    eta: str | None,
    expires: str | None,
    group: str | None,
    timelimit: Sequence[float | None],
    task: str,
    **_: Any,
) -> dict[str, Any]:
    """Return those headers of protocol 2 that stand in the body of protocol 1."""
    return {
        "id": id,
        "task": task,
        "retries": retries,
        "eta": eta,
        "expires": expires,
        "utc": True,
        "taskset": group,
        "timelimit": timelimit,
    }


def extract_proto2_embed(
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    task_chain: Sequence[Any] | None = None,
    chord: Any = None,
    **_: Any,
) -> dict[str, Any]:
    """Return the embedded signatures of protocol 2."""
    return {"callbacks": callbacks or [], "errbacks": errbacks or [], "chain": task_chain, "chord": chord}


def _chain_of(embed: Mapping[str, Any]) -> list[Any] | None:
    """Return the rest of a chain in running order; Celery stores it reversed, under another name than ours."""
    if embed.get("task_chain"):
        return list(embed["task_chain"])
    return list(reversed(embed["chain"])) if embed.get("chain") else None


def _read_proto1(sender: str, body: Mapping[str, Any]) -> Message:
    return Message(
        task_id=body["id"],
        task=body.get("task") or sender,
        args=body.get("args") or (),
        kwargs=body.get("kwargs") or {},
        retries=body.get("retries") or 0,
        eta=body.get("eta"),
        group=body.get("taskset"),
        links=tuple(_linked(body.get("callbacks"))),
        chord=body.get("chord"),
        callbacks=callbacks_of(body, "callbacks", "errbacks"),
    )


def _linked(callbacks: Any) -> list[Mapping[str, Any]]:
    """Return a chain that protocol 1 stores as callbacks of callbacks; a mere callback has no id yet."""
    for callback in maybe_list(callbacks) or ():
        if callback["options"].get("task_id"):
            return [callback, *_linked(last_task(callback)["options"].get("link"))]
    return []
