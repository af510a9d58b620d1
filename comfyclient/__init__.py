"""Run ComfyUI workflows on machines elsewhere, without a browser.

::

    from comfyclient import ComfyClient, Workflow

    async with ComfyClient("http://127.0.0.1:8188") as comfy:
        job = await comfy.queue(Workflow.load("wf.json"), {"6.text": "a red fox"}, seed=42)
        result = await job.result()
        await result.save("out/")

The same without an event loop is in `comfyclient.blocking`. Names are loaded when they are first used, so that
importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from comfyclient._version import __version__

if TYPE_CHECKING:
    from comfyclient.addresses import Addresses, AddressPolicy
    from comfyclient.auth import (
        TLS,
        ApiKey,
        Auth,
        BasicAuth,
        BearerToken,
        CloudflareAccess,
        Cookies,
        Credential,
        FormLogin,
        Headers,
        TokenLogin,
    )
    from comfyclient.auth.browser import BrowserLogin
    from comfyclient.client import ComfyClient
    from comfyclient.errors import (
        AddressRefused,
        AuthError,
        AuthRequired,
        CatalogError,
        CertificateUntrusted,
        CheckFailed,
        ComfyClientError,
        ConfigError,
        CredentialsExpired,
        EditError,
        InstanceStarting,
        InstanceUnavailable,
        JobCancelled,
        JobFailed,
        JobLost,
        JournalError,
        LoginRefused,
        NotComfyUI,
        OutcomeUnknown,
        OutOfMemory,
        OutputExists,
        Problem,
        PromptRejected,
        ProtocolError,
        TransferError,
        WorkflowError,
        WorkflowUnreadable,
    )
    from comfyclient.job import Job
    from comfyclient.journal import Journal
    from comfyclient.names import Template
    from comfyclient.prepare import Prepared
    from comfyclient.result import Output, Result
    from comfyclient.wire.answers import Device, SystemInfo, Uploaded
    from comfyclient.wire.events import (
        Finished,
        JobEvent,
        NodeFinished,
        NodeProgress,
        NodeStarted,
        OutputReady,
        Preview,
        Queued,
        Resubmitted,
        Stalled,
        Started,
    )
    from comfyclient.wire.outputs import OutputRef, TextOutput
    from comfyclient.wire.progress import JobProgress
    from comfyclient.wire.records import JobState
    from comfyclient.wire.summary import JobSummary
    from comfyclient.workflow.catalog import Catalog
    from comfyclient.workflow.check import check
    from comfyclient.workflow.convert import convert
    from comfyclient.workflow.document import Workflow
    from comfyclient.workflow.edit import apply_edits, apply_seed, find_seeds, list_inputs
    from comfyclient.workflow.prompt import ConversionWarning, Prompt

# Where each public name is defined.
_HOMES = {
    "addresses": ("Addresses", "AddressPolicy"),
    "auth": (
        "TLS",
        "ApiKey",
        "Auth",
        "BasicAuth",
        "BearerToken",
        "CloudflareAccess",
        "Cookies",
        "Credential",
        "FormLogin",
        "Headers",
        "TokenLogin",
    ),
    "auth.browser": ("BrowserLogin",),
    "client": ("ComfyClient",),
    "errors": (
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
    ),
    "job": ("Job",),
    "journal": ("Journal",),
    "names": ("Template",),
    "prepare": ("Prepared",),
    "result": ("Output", "Result"),
    "wire.answers": ("Device", "SystemInfo", "Uploaded"),
    "wire.events": (
        "Finished",
        "JobEvent",
        "NodeFinished",
        "NodeProgress",
        "NodeStarted",
        "OutputReady",
        "Preview",
        "Queued",
        "Resubmitted",
        "Stalled",
        "Started",
    ),
    "wire.outputs": ("OutputRef", "TextOutput"),
    "wire.progress": ("JobProgress",),
    "wire.records": ("JobState",),
    "wire.summary": ("JobSummary",),
    "workflow.catalog": ("Catalog",),
    "workflow.check": ("check",),
    "workflow.convert": ("convert",),
    "workflow.document": ("Workflow",),
    "workflow.edit": ("apply_edits", "apply_seed", "find_seeds", "list_inputs"),
    "workflow.prompt": ("ConversionWarning", "Prompt"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "TLS",
    "AddressPolicy",
    "AddressRefused",
    "Addresses",
    "ApiKey",
    "Auth",
    "AuthError",
    "AuthRequired",
    "BasicAuth",
    "BearerToken",
    "BrowserLogin",
    "Catalog",
    "CatalogError",
    "CertificateUntrusted",
    "CheckFailed",
    "CloudflareAccess",
    "ComfyClient",
    "ComfyClientError",
    "ConfigError",
    "ConversionWarning",
    "Cookies",
    "Credential",
    "CredentialsExpired",
    "Device",
    "EditError",
    "Finished",
    "FormLogin",
    "Headers",
    "InstanceStarting",
    "InstanceUnavailable",
    "Job",
    "JobCancelled",
    "JobEvent",
    "JobFailed",
    "JobLost",
    "JobProgress",
    "JobState",
    "JobSummary",
    "Journal",
    "JournalError",
    "LoginRefused",
    "NodeFinished",
    "NodeProgress",
    "NodeStarted",
    "NotComfyUI",
    "OutOfMemory",
    "OutcomeUnknown",
    "Output",
    "OutputExists",
    "OutputReady",
    "OutputRef",
    "Prepared",
    "Preview",
    "Problem",
    "Prompt",
    "PromptRejected",
    "ProtocolError",
    "Queued",
    "Resubmitted",
    "Result",
    "Stalled",
    "Started",
    "SystemInfo",
    "Template",
    "TextOutput",
    "TokenLogin",
    "TransferError",
    "Uploaded",
    "Workflow",
    "WorkflowError",
    "WorkflowUnreadable",
    "__version__",
    "apply_edits",
    "apply_seed",
    "check",
    "convert",
    "find_seeds",
    "list_inputs",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
