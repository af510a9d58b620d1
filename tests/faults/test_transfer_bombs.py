"""Answers of a megabyte that would be a gigabyte in memory: each ends with an error, before that."""

import asyncio
import json
import sys
import zlib
from pathlib import Path

import pytest

from .http_toxics import Answer

MOST = 50 * 2**20  # bytes by which the client may grow
SIZE = 2**30


def bomb():
    """A gigabyte of zeros, as gzip, without its last checksum."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * (SIZE // 2**20)


async def called(url, call):
    """Make a call in another process. Returns its error and by how much it grew."""
    program = Path(__file__).with_name("bomb_process.py")
    process = await asyncio.create_subprocess_exec(sys.executable, str(program), url, call, stdout=-1, stderr=-1)
    said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    told = json.loads(said)
    return told["error"], told["grown"]


@pytest.mark.parametrize(
    ("call", "path", "status", "words"),
    [
        ("read", "/view", 200, "grows without end"),
        ("save", "/view", 200, "grows without end"),
        ("read", "/view", 404, "no longer has"),
        ("read", "/view", 500, "HTTP 500"),
        ("upload", "/upload/image", 200, "larger than 1 MiB"),
        ("upload", "/upload/image", 413, "larger than the instance"),
        ("error", "/queue", 503, "HTTP 503"),
        ("error", "/queue", 200, "grows without end"),
        ("history", "/history", 200, "grows without end"),
        ("catalog", "/object_info", 200, "grows without end"),
        ("refusal", "/prompt", 400, "HTTP 400"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
async def test_a_bomb_costs_no_memory(faults, call, path, status, words):
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    faults.on(None, path, Answer(status, headers, bomb()), times=None)
    error, grown = await called(faults.url, call)
    assert words in error["message"]
    assert grown < MOST


async def test_limits_that_explode_are_no_limits(faults):
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    faults.on("GET", "/features", Answer(200, headers, bomb()), times=None)
    error, grown = await called(faults.url, "upload")
    assert error is None
    assert grown < MOST
