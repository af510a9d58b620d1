"""A client in a process of its own: run as a program by the tests, which want to know how much memory a call takes.

Arguments: the url, then what to call. Says on stdout, as JSON: the error, and by how many bytes the most memory that
the process ever had grew during the call.
"""

import asyncio
import json
import resource
import sys
import tempfile

from comfyclient import ComfyClient, OutputRef, Prompt
from comfyclient.errors import ComfyClientError

JOB = "11111111-2222-4333-8444-555555555555"
REF = OutputRef("1", "images", "bomb.png")


async def save(comfy):
    with tempfile.TemporaryDirectory() as folder:
        await comfy.download(REF, f"{folder}/bomb.png")


CALLS = {
    "read": lambda comfy: comfy.read(REF),
    "save": save,
    "history": lambda comfy: comfy.job(JOB),
    "catalog": lambda comfy: comfy.catalog(),
    "error": lambda comfy: comfy.jobs(),
    "refusal": lambda comfy: comfy.submit(Prompt({"1": {"class_type": "EmptyImage", "inputs": {}}})),
    "upload": lambda comfy: comfy.upload(bytes(2 * 2**20)),
}


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


async def main(url, call):
    async with ComfyClient(url) as comfy:
        await comfy.info()
        before, error = peak(), None
        try:
            await CALLS[call](comfy)
        except ComfyClientError as caught:
            error = {**caught.to_json(), "kind": type(caught).__name__}
        print(json.dumps({"error": error, "grown": peak() - before}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
