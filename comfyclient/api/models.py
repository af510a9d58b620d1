"""What the REST API takes and gives, as its OpenAPI document shows it. No answer has a field for a secret."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema, model_validator

__all__ = [
    "CheckAnswer",
    "CheckRequest",
    "ConvertAnswer",
    "ConvertRequest",
    "Credentials",
    "Done",
    "Event",
    "FilePlaced",
    "Index",
    "Job",
    "JobList",
    "JobRequest",
    "JobsQueued",
    "LegacyCredentials",
    "OpenRequest",
    "OutputList",
    "Problem",
    "QueueRequest",
    "Ready",
    "SeedChoice",
    "Session",
    "SessionList",
    "SessionRequest",
    "SessionStatus",
    "StartRequest",
    "Uploaded",
    "WorkflowList",
]

_Text = Annotated[str, Field(max_length=4096)]
_Name = Annotated[str, Field(min_length=1, max_length=1024)]
_Iterations = Annotated[int, Field(ge=1, le=100, description="How many jobs, as the page's batch count.")]
SeedChoice = Annotated[int, Field(ge=0, le=2**64 - 1)] | Literal["random", "keep"]


_CREDENTIAL_MOST: Final = 64 * 2**10  # bytes of all its parts
_PORTS: Final = range(2**16)


def _or_text(pattern: str, low: int, high: int, *others: dict[str, str]) -> tuple[Any, Any]:
    """A number that programs of an older server may also send as a text, or as a number with a point."""
    shape = re.compile(pattern)

    def read(value: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return int(value) if isinstance(value, str) and shape.fullmatch(value) else value

    number = {"type": "integer", "minimum": low, "maximum": high}
    either = {"anyOf": [number, {"type": "string", "pattern": f"^({pattern})$"}, *others]}
    return BeforeValidator(read), WithJsonSchema(either)


def _some_port(value: Any) -> Any:
    """A text of five digits may say more than a port can be: it has no effect, and was always taken."""
    if isinstance(value, int | float) and value not in _PORTS:
        raise ValueError("a port is a number from 0 to 65535")
    return value


def _letters(word: str) -> str:
    return "".join(f"[{letter.upper()}{letter}]" for letter in word)


_WORDS: Final = "|".join(map(_letters, ("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n")))
_OldIterations = Annotated[_Iterations, *_or_text("[1-9][0-9]?|100", 1, 100)]
_OldPort = Annotated[int | None, *_or_text("[0-9]{1,5}", 0, 65535, {"type": "null"}), BeforeValidator(_some_port)]
_OldBool = Annotated[
    bool,
    Field(strict=False),
    WithJsonSchema(
        {"anyOf": [{"type": "boolean"}, {"enum": [0, 1]}, {"type": "string", "pattern": f"^({_WORDS}|0|1)$"}]}
    ),
]


class _Given(BaseModel):
    """What is asked. A field that is not known is refused, so that no typing error goes unnoticed."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Lenient(BaseModel):
    """What programs of an older server send: fields that are not known are left aside."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Credentials(_Given):
    """How to be let in at the instance. It is kept in memory, for that instance only, while the session lasts."""

    username: _Text | None = None
    password: Annotated[SecretStr, Field(max_length=4096)] | None = None
    token: Annotated[SecretStr, Field(max_length=16384)] | None = None
    api_key: Annotated[SecretStr, Field(max_length=4096)] | None = None
    access_id: _Text | None = None
    access_secret: Annotated[SecretStr, Field(max_length=4096)] | None = None
    headers: Annotated[dict[str, Annotated[SecretStr, Field(max_length=16384)]], Field(max_length=32)] | None = None
    cookies: Annotated[SecretStr, Field(max_length=65536)] | None = None

    @model_validator(mode="after")
    def _is_of_bounded_size(self) -> Self:
        """Whatever is masked in texts later costs time by its size."""
        headers = self.headers or {}
        parts = [getattr(self, name) for name in type(self).model_fields if name != "headers"]
        parts += [*headers, *headers.values()]
        texts = (part.get_secret_value() if isinstance(part, SecretStr) else part for part in parts)
        if sum(len(text.encode()) for text in texts if text) > _CREDENTIAL_MOST:
            raise ValueError("a credential may have 64 KiB in all")
        return self


class SessionRequest(_Given):
    """A session at an instance."""

    url: Annotated[str, Field(min_length=1, max_length=4096, examples=["http://127.0.0.1:8188"])]
    credentials: Credentials | None = None
    tls_fingerprint: Annotated[str, Field(max_length=256)] | None = None
    comfy_user: Annotated[str, Field(max_length=256)] | None = None
    wait_ready: Annotated[
        float, Field(ge=0, le=900, description="Seconds to wait for an instance that is still starting.")
    ] = 0.0


class LegacyCredentials(_Lenient):
    """Who is let in, and where."""

    url: Annotated[str, Field(min_length=1, max_length=4096, examples=["http://127.0.0.1:8188"])]
    username: _Text | None = None
    password: Annotated[SecretStr, Field(max_length=4096)] | None = None
    workflow_path: _Text | None = None


class StartRequest(_Lenient):
    """``port`` and ``headless`` belonged to a browser; they are accepted and have no effect."""

    credentials: LegacyCredentials
    port: Annotated[_OldPort, Field(description="Accepted, without effect.")] = 9999
    headless: Annotated[_OldBool, Field(description="Accepted, without effect.")] = True
    auto_open_workflow: Annotated[_OldBool, Field(description="Open `workflow_path`, if it is given.")] = True


class OpenRequest(_Lenient):
    """A workflow that is saved on the instance, or in the server's own folder."""

    workflow_path: Annotated[str, Field(min_length=1, max_length=1024, examples=["workflows/my_workflow.json"])]


class QueueRequest(_Lenient):
    """How often the open workflow is queued: 1 to 100 times."""

    iterations: _OldIterations = 1


class JobRequest(_Given):
    """What to queue: exactly one of ``workflow``, ``workflow_path`` and ``workflow_id``; or none, for the open one."""

    workflow: Annotated[
        dict[str, Any] | None, Field(description="A workflow, in UI or in API format.", examples=[None])
    ] = None
    workflow_path: Annotated[
        _Name | None, Field(description="One that is saved on the instance, or in the server's folder.")
    ] = None
    workflow_id: Annotated[_Name | None, Field(description="One that was uploaded: see `POST /workflows`.")] = None
    set: Annotated[
        dict[str, Any],
        Field(max_length=1000, description="Values by address.", examples=[{"6.text": "a red fox"}]),
    ] = Field(default_factory=dict)
    seed: Annotated[
        SeedChoice | None,
        Field(description="For all seeds: a number (each iteration adds 1), `random`, or `keep`."),
    ] = None
    iterations: _Iterations = 1
    front: Annotated[bool, Field(description="Before all jobs that wait on the instance.")] = False
    check: Annotated[bool, Field(description="Look for what would not run before anything is queued.")] = True
    resubmit: Annotated[
        Literal["never", "lost"],
        Field(
            description="`lost`: queue a job once more if the instance restarts and forgets it. This does not outlast a"
            " restart of the server, or an outage of many minutes: such a job is then told as `lost`."
        ),
    ] = "never"
    webhook: Annotated[
        str | None,
        Field(max_length=2048, description="Where the end of each job is posted, signed.", examples=[None]),
    ] = None


class ConvertRequest(_Given):
    """A workflow in UI or API format, and what is to be set in it."""

    workflow: dict[str, Any]
    set: Annotated[dict[str, Any], Field(max_length=1000)] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0, le=2**64 - 1)] | Literal["random"] | None = None
    session_id: Annotated[
        str | None, Field(max_length=64, description="Whose instance's nodes; else those of a bundled catalog.")
    ] = None


class CheckRequest(ConvertRequest):
    """The same; what would not run is looked for."""


class Invalid(BaseModel):
    """One thing that is wrong with a request."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(BaseModel):
    """Why not. ``detail`` says what happened, or is a list of what does not validate; ``hint`` what to do next."""

    model_config = ConfigDict(extra="allow")

    detail: str | list[Invalid]
    code: Annotated[str, Field(description="For programs; it does not change.")]
    hint: str | None = None


class Done(BaseModel):
    """It was done."""

    success: Literal[True] = True
    message: str
    details: dict[str, Any] | None = None


class SessionStatus(BaseModel):
    """The default session. ``port`` is always the one that was given at its start, and has no meaning."""

    active: bool
    port: int | None = None
    url: str | None = None
    session_id: str | None = None
    workflow: str | None = None


class Session(BaseModel):
    """A session at an instance."""

    id: str
    url: str
    scheme: Annotated[str, Field(description="How it is let in; never the credential.")]
    created_at: str
    default: bool
    connected: Annotated[bool, Field(description="Whether the instance's websocket is open.")]
    workflow: Annotated[str | None, Field(description="The workflow that is open.")] = None
    unfinished: Annotated[int, Field(description="Its jobs that have not ended.")]


class SessionList(BaseModel):
    """The sessions of a key."""

    sessions: list[Session]


class Progress(BaseModel):
    """How far a job is."""

    value: Annotated[float, Field(description="Overall, 0 to 1.")]
    nodes_done: int
    nodes_total: int
    node_id: str | None = None
    title: str | None = None
    node_value: float = 0
    node_max: float = 0
    queue_position: int | None = None


class Job(BaseModel):
    """A job. A job's state is what the instance's own record says; ``unknown`` if nobody could be asked."""

    id: str
    prompt_id: Annotated[str, Field(description="Its id on the instance; another than `id` if it was queued again.")]
    session_id: str
    url: str
    workflow: str | None = None
    state: Literal[
        "submitting", "pending", "running", "succeeded", "failed", "cancelled", "lost", "unknown", "stalled", "refused"
    ]
    reason: Annotated[str | None, Field(description="For people, if the state needs it.")] = None
    created_at: str
    ended_at: str | None = None
    seeds: dict[str, int]
    warnings: list[str]
    progress: Progress | None = None
    error: Annotated[dict[str, Any] | None, Field(description="Why it has not succeeded, as data.")] = None
    webhook: Annotated[str | None, Field(description="What became of the webhook.")] = None


class JobList(BaseModel):
    """Jobs, the newest first."""

    jobs: list[Job]
    next: Annotated[str | None, Field(description="What `after` must be for those that follow.")] = None


class JobsQueued(BaseModel):
    """The jobs that were queued, in order."""

    jobs: list[Job]


class Output(BaseModel):
    """A file that a job produced; its bytes are at ``url``."""

    number: int
    node_id: str
    title: str
    class_type: str
    kind: str
    filename: str
    subfolder: str
    type: str
    url: str


class Text(BaseModel):
    """A text that a node showed."""

    node_id: str
    kind: str
    text: str
    index: int


class OutputList(BaseModel):
    """What a job that succeeded has produced."""

    outputs: list[Output]
    texts: list[Text]


class Event(BaseModel):
    """Something that happened to a job: the ``data`` of a server-sent event, and a message of the websocket."""

    model_config = ConfigDict(extra="allow")

    event: str
    prompt_id: str


class Workflow(BaseModel):
    """A workflow that is saved on the instance, or in the server's own folder."""

    path: str
    where: Literal["instance", "server"]
    size: int | None = None
    modified: float | None = None


class WorkflowList(BaseModel):
    """Those there are."""

    workflows: list[Workflow]


class Uploaded(BaseModel):
    """A workflow that the server keeps while the session lasts."""

    workflow_id: str
    format: Literal["ui", "api"]
    nodes: int
    name: str | None = None


class FilePlaced(BaseModel):
    """A file on the instance; ``value`` is what an input that loads it must say."""

    value: str
    name: str
    subfolder: str
    type: str


class ConvertAnswer(BaseModel):
    """The prompt that the page would send, and what there is to say about it."""

    prompt: dict[str, Any]
    warnings: list[str]
    seeds: dict[str, int]


class Trouble(BaseModel):
    """Something that would not run."""

    code: str
    message: str
    node_id: str | None = None
    title: str | None = None
    class_type: str | None = None
    input: str | None = None
    details: str | None = None


class CheckAnswer(BaseModel):
    """Whether it would run."""

    ok: bool
    problems: list[Trouble]
    warnings: list[str]


class Index(BaseModel):
    """What this is."""

    name: str
    version: str
    endpoints: dict[str, str]


class Ready(BaseModel):
    """Whether it takes work."""

    status: Literal["ok", "draining"]
