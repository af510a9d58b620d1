"""What the REST API is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from comfyclient._redact import Secret
    from comfyclient.addresses import AddressPolicy
    from comfyclient.api.keys import ApiKeys

__all__ = ["ApiSettings", "Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one caller, and all together, may ask for.

    Attributes:
        body: Bytes of a JSON body that may bring a workflow.
        small_body: Bytes of any other JSON body.
        fields: Fields of all objects together in such a body.
        upload: Bytes of an uploaded file.
        depth: How deep JSON may be nested.
        head_seconds: How long the head of a request may take to arrive.
        body_seconds: How long its body may.
        sessions: Sessions at a time, for each key, with those that have ended and whose jobs have not.
        jobs: Unfinished jobs at a time, for each key.
        kept_jobs: Jobs that are remembered after their end, for each key; the oldest go first.
        uploads: Uploaded workflows that are kept, for each session.
        kept_bytes: Bytes of all uploaded workflows of a key, compressed.
        uploading: Uploads at a time, for each key.
        streams: Event streams at a time, for each key.
        rate: Requests a second that a key may make in the long run; ``burst``: at once.
        work_seconds: How long dealing with one workflow may take; it may wait three times as long for its turn.
        idle: Seconds without a request and without an unfinished job after which a session ends; 0: never.
    """

    body: int = 16 * 2**20
    small_body: int = 256 * 2**10
    fields: int = 1000
    upload: int = 100 * 2**20
    depth: int = 200
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    sessions: int = 256
    jobs: int = 10_000
    kept_jobs: int = 10_000
    uploads: int = 32
    kept_bytes: int = 64 * 2**20
    uploading: int = 8
    streams: int = 1000
    rate: float = 100.0
    burst: int = 1000
    work_seconds: float = 20.0
    idle: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """How the server is to be.

    Attributes:
        host: Where it listens: an address, or a name.
        port: The same; 0 for any that is free.
        keys: Who may use it; without any, everybody who reaches it.
        basic: Whether a key may come as the password of HTTP Basic.
        hosts: Names that it goes by besides ``localhost`` and its address: ``"name"`` or ``"name:port"``.
        origins: Web pages that may call it: ``"https://page.example"``.
        addresses: Which addresses it connects to; ``None``: any.
        workflows: Its own folder of workflows.
        journal: The folder of its journal; ``None``: it keeps none, and forgets its jobs when it ends.
        webhook_secret: What webhooks are signed with; without it there are none.
        drain: Seconds that unfinished jobs are waited for at the end.
        limits: What callers may ask for.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: ApiKeys
    basic: bool = False
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    addresses: AddressPolicy | None = None
    workflows: Path | None = None
    journal: Path | None = None
    webhook_secret: Secret | None = None
    drain: float = 10.0
    limits: Limits = field(default_factory=Limits)
