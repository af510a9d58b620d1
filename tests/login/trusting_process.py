"""A client in a process of its own, since what the system trusts (``SSL_CERT_FILE``) is read once in a process.

Reads the steps from its standard input and writes what came of each: see `run`.
"""

import asyncio
import json
import logging
import sys
import traceback

from hurry import hurried  # beside this file

from comfyclient import (
    TLS,
    ApiKey,
    BearerToken,
    CloudflareAccess,
    ComfyClient,
    ComfyClientError,
    Cookies,
    Headers,
    OutputRef,
    Prompt,
)

SECONDS = 60
NODES = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "trusting"}},
}


def credentials():
    """All that can go with a request."""
    access = CloudflareAccess("access-id-0123", "access-secret-0123")
    own, cookies = Headers({"X-Own": "own-header-0123"}), Cookies("session=cookie-0123")
    return [BearerToken("bearer-0123"), ApiKey("api-key-0123"), access, own, cookies]


async def run(step):
    """Take a step: ``{"url", "what", "tls"?, "trust_env"?, "bare"?, "hurried"?}``.

    ``bare`` is for a client without a credential, ``hurried`` how much faster its clock goes.

    Returns:
        ``{"read"}``, ``{"connected"}`` or ``{"error", …}``.
    """
    with hurried(step.get("hurried", 1)):
        return await _run(step)


async def _run(step):
    tls = TLS(**step["tls"]) if step.get("tls") else None
    given = {} if step.get("bare") else {"auth": credentials(), "comfy_user": "ada"}
    async with ComfyClient(step["url"], tls=tls, trust_env=step.get("trust_env", False), **given) as comfy:
        try:
            if step["what"] == "view":
                return {"read": (await comfy.read(OutputRef("1", "images", "picture.png"))).decode()}
            await comfy.login()
            if step["what"] == "job":
                job = await comfy.submit(Prompt(NODES))
                await job.result(SECONDS)
        except ComfyClientError as error:
            text = "".join(traceback.format_exception(error))
            return {"error": type(error).__name__, "code": error.code, "said": str(error), "trace": text}
        else:
            return {"connected": comfy.connected}


async def main():
    """All steps, one after the other."""
    logging.disable(logging.CRITICAL)
    print(json.dumps([await run(step) for step in json.load(sys.stdin)]))


if __name__ == "__main__":
    asyncio.run(main())
