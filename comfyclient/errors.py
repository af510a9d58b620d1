"""Every error that comfyclient raises, one tree.

::

    ComfyClientError
     ├── ConfigError              wrong settings, options or arguments
     │    ├── JournalError        the journal cannot be read or written
     │    ├── AddressRefused      a server must not connect to that address
     │    └── JournalError        the journal cannot be read or written
     ├── WorkflowError            a workflow cannot be read, converted, edited or is refused before sending
     │    ├── WorkflowUnreadable  not JSON, not a workflow, no such file, a picture without one
     │    ├── EditError           an address that fits nothing or too much, a value that does not fit
     │    ├── CatalogError        node definitions that cannot be read
     │    └── CheckFailed         the prompt would not run on that instance (carries every problem)
     ├── PromptRejected           the server refused the prompt (carries its node errors as problems)
     ├── AuthError                the instance did not let us in
     │    ├── AuthRequired        it wants a login and we have no credential
     │    ├── LoginRefused        the credential is wrong
     │    └── CredentialsExpired  it let us in before, and does not any more
     ├── InstanceUnavailable      nobody answers, or not in time
     │    ├── InstanceStarting    its proxy is there, ComfyUI behind it is not up yet
     │    └── CertificateUntrusted its certificate is not one that we trust
     ├── ProtocolError            something answers, and it is not what ComfyUI says
     │    └── NotComfyUI          it is not ComfyUI at all
     ├── JobFailed                a node raised (carries node, class, exception, traceback)
     │    └── OutOfMemory         because the instance has too little memory for it
     ├── JobCancelled             the job was interrupted or taken off the queue
     ├── JobLost                  the server answers and no longer knows the job
     ├── OutcomeUnknown           the deadline passed before anybody could say how the job ended
     └── TransferError            an input could not be uploaded or an output not fetched or written
          └── OutputExists        a file of that name is there already

Each class has a stable ``code`` (snake_case, for programs), the ``exit_code`` of the command line, the
``http_status`` of the REST API, and a ``hint`` that says what to do next. No message carries a secret: what a server
put into its answer is masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from comfyclient._redact import redact, redact_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "AddressRefused",
    "AuthError",
    "AuthRequired",
    "CatalogError",
    "CertificateUntrusted",
    "CheckFailed",
    "ComfyClientError",
    "ConfigError",
    "CredentialsExpired",
    "EditError",
    "InstanceStarting",
    "InstanceUnavailable",
    "JobCancelled",
    "JobFailed",
    "JobLost",
    "JournalError",
    "LoginRefused",
    "NotComfyUI",
    "OutOfMemory",
    "OutcomeUnknown",
    "OutputExists",
    "Problem",
    "PromptRejected",
    "ProtocolError",
    "TransferError",
    "WorkflowError",
    "WorkflowUnreadable",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a prompt, found by the check before sending or named by the server.

    ``code`` uses the server's own words where it has one (``value_not_in_list``, ``required_input_missing``, …).
    """

    code: str
    message: str
    node_id: str | None = None
    title: str | None = None
    class_type: str | None = None
    input: str | None = None
    details: str | None = None

    def __str__(self) -> str:
        where = ""
        if self.node_id is not None:
            name = self.title or self.class_type
            where = f"node {self.node_id}" + (f" ({name})" if name else "")
            if self.input:
                where += f", input {self.input}"
            where += ": "
        elif self.input:
            where = f"input {self.input}: "
        tail = f" ({self.details})" if self.details else ""
        return f"{where}{self.message}{tail}"

    def to_json(self) -> dict[str, str]:
        """The fields that are set, for ``--json`` and the REST API."""
        fields = ("code", "message", "node_id", "title", "class_type", "input", "details")
        return {name: value for name in fields if (value := getattr(self, name)) is not None}


class ComfyClientError(Exception):
    """The root. Catch it to catch everything that comfyclient raises on purpose."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    default_hint: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        message = redact(message)
        super().__init__(message)
        self.message = message
        hint = hint if hint is not None else self.default_hint
        self.hint = redact(hint) if hint else hint

    @final
    def __str__(self) -> str:
        return redact(self._text())

    @final
    def to_json(self) -> dict[str, Any]:
        """``{"code", "message", "hint"?, …}``: the error as data, and what its class adds."""
        body: dict[str, Any] = {"message": str(self)}
        if self.hint:
            body["hint"] = self.hint
        return {"code": self.code, **redact_json(body | self._details(), names=False)}

    def _text(self) -> str:
        return self.message

    def _details(self) -> dict[str, Any]:
        """What a class adds to `to_json`."""
        return {}


class ConfigError(ComfyClientError):
    """Settings, options or arguments make no sense."""

    code = "config_invalid"
    exit_code = 2
    http_status = 400


class JournalError(ConfigError):
    """The journal cannot be read or written: a full disk, a damaged file, somebody else's."""

    code = "journal_unusable"
    http_status = 503


class AddressRefused(ConfigError):
    """The url leads to an address that must not be connected to; nothing was sent. See `comfyclient.addresses`."""

    code = "address_refused"
    http_status = 403


class WorkflowError(ComfyClientError):
    """A workflow cannot be read, converted, edited, or would not run. ``node_id`` names the node if one is to blame."""

    code = "workflow_invalid"
    exit_code = 3
    http_status = 422

    def __init__(self, message: str, *, node_id: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.node_id = node_id


class WorkflowUnreadable(WorkflowError):
    """The bytes hold no workflow."""

    code = "workflow_unreadable"


class EditError(WorkflowError):
    """An edit cannot be applied. ``candidates`` lists the addresses that the writer may have meant."""

    code = "edit_invalid"

    def __init__(self, message: str, *, candidates: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.candidates = tuple(candidates)

    def _details(self) -> dict[str, Any]:
        return super()._details() | {"candidates": list(self.candidates)}


class CatalogError(WorkflowError):
    """Node definitions (``/object_info``) that cannot be read."""

    code = "catalog_unreadable"


class _WithProblems(ComfyClientError):
    def __init__(self, message: str, problems: Sequence[Problem] = (), *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)

    def _text(self) -> str:
        if not self.problems:
            return self.message
        if len(self.problems) == 1:
            return f"{self.message}: {self.problems[0]}"
        return "\n".join([f"{self.message}:", *(f"  - {problem}" for problem in self.problems)])

    def _details(self) -> dict[str, Any]:
        problems = [problem.to_json() for problem in self.problems]
        return super()._details() | {"message": self.message, "problems": problems}


class CheckFailed(_WithProblems, WorkflowError):
    """The check before sending found problems; nothing was queued. ``problems`` lists them all."""

    code = "check_failed"
    default_hint = "fix the workflow, set the inputs with --set, or send it anyway with --no-check"

    def __init__(self, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        count = len(problems)
        noun = "problem" if count == 1 else "problems"
        _WithProblems.__init__(self, f"the prompt would not run ({count} {noun})", problems, hint=hint)
        self.node_id = problems[0].node_id if problems else None


class PromptRejected(_WithProblems):
    """The server refused the prompt (HTTP 400); nothing was queued.

    ``problems`` is what it said, ``body`` its whole answer as received.
    """

    code = "prompt_rejected"
    exit_code = 3
    http_status = 422

    def __init__(
        self,
        message: str,
        problems: Sequence[Problem] = (),
        *,
        body: Mapping[str, Any] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, problems, hint=hint)
        self.body = dict(body or {})


class AuthError(ComfyClientError):
    """The instance did not let us in."""

    code = "auth_failed"
    exit_code = 4
    http_status = 401


class AuthRequired(AuthError):
    """The instance wants a login and no credential was given."""

    code = "auth_required"


class LoginRefused(AuthError):
    """The user name, password, token or key that was given is wrong."""

    code = "login_refused"


class CredentialsExpired(AuthError):
    """The instance let us in before; it does not any more, and logging in anew is not possible or did not help."""

    code = "credentials_expired"


class InstanceUnavailable(ComfyClientError):
    """Nobody answers at that address, or not in time."""

    code = "instance_unavailable"
    exit_code = 5
    http_status = 503


class InstanceStarting(InstanceUnavailable):
    """A proxy answers for the instance; ComfyUI behind it is not up yet, or not any more."""

    code = "instance_starting"
    default_hint = "--wait-ready SECONDS waits until it is up"


class CertificateUntrusted(InstanceUnavailable):
    """The certificate is self-signed, expired, of another name, or not the pinned one. Nothing was sent.

    ``fingerprint`` is that of the certificate, ``"sha256:…"``, if it was seen.
    """

    code = "certificate_untrusted"

    def __init__(self, message: str, *, fingerprint: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.fingerprint = fingerprint

    def _details(self) -> dict[str, Any]:
        return super()._details() | ({"fingerprint": self.fingerprint} if self.fingerprint else {})


class ProtocolError(ComfyClientError):
    """Something answers, and what it says is not what ComfyUI says."""

    code = "protocol_error"
    exit_code = 5
    http_status = 502


class NotComfyUI(ProtocolError):
    """Something answers, and it is not ComfyUI."""

    code = "not_comfyui"


class _JobError(ComfyClientError):
    def __init__(self, message: str, *, prompt_id: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.prompt_id = prompt_id

    def _details(self) -> dict[str, Any]:
        return super()._details() | {"prompt_id": self.prompt_id}


class JobFailed(_JobError):
    """A node raised while the job ran. The traceback is the server's."""

    code = "job_failed"
    http_status = 200

    def __init__(
        self,
        message: str,
        *,
        prompt_id: str,
        node_id: str | None = None,
        class_type: str | None = None,
        exception_type: str | None = None,
        traceback: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, prompt_id=prompt_id, hint=hint)
        self.node_id = node_id
        self.class_type = class_type
        self.exception_type = exception_type
        self.traceback = tuple(traceback)

    def _details(self) -> dict[str, Any]:
        return super()._details() | {
            "node_id": self.node_id,
            "class_type": self.class_type,
            "exception_type": self.exception_type,
            "traceback": list(self.traceback),
        }


class OutOfMemory(JobFailed):
    """A node raised because the instance's memory, or its GPU's, is too small. The instance goes on."""

    code = "out_of_memory"
    default_hint = "make the pictures or the batch smaller, or take a machine with more memory"


class JobCancelled(_JobError):
    """The job was interrupted while it ran, or taken off the queue by this client."""

    code = "job_cancelled"
    http_status = 200


class JobLost(_JobError):
    """The server answers and no longer knows the job: it restarted, or somebody deleted the job."""

    code = "job_lost"
    exit_code = 6
    http_status = 200
    default_hint = "the server restarted or the job was deleted there; queue it again if you still want it"


class OutcomeUnknown(_JobError):
    """The deadline passed before the server could say how the job ended. It may still run."""

    code = "outcome_unknown"
    exit_code = 6
    http_status = 200
    default_hint = "it may still run: ask again with `comfyclient jobs wait ID`"


class TransferError(ComfyClientError):
    """An input could not be uploaded, or an output could not be fetched or written."""

    code = "transfer_failed"
    exit_code = 7
    http_status = 502


class OutputExists(TransferError):
    """A file of that name is there already and was left alone."""

    code = "output_exists"
    http_status = 409
