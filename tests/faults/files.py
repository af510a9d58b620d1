"""Files that transfers are tested with, and what can go wrong with one answer that holds a file."""

import contextlib
import io
import os
import re
from dataclasses import dataclass, field

from PIL import Image

from comfyclient import ComfyClient, OutputRef
from comfyclient.patience import Patience

from .events import Head, Part
from .http_toxics import HttpToxic, edit_head
from .toxics import Cut, Hang, Send

QUICK = Patience(idle=20, retries=3, first=0)


def noise(width=300, height=200):
    """A picture that nobody has seen before: a PNG of some 180 KB."""
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), os.urandom(width * height * 3)).save(file, "PNG")
    return file.getvalue()


def names(folder):
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


@contextlib.asynccontextmanager
async def client(url, patience=QUICK):
    """A client without pauses."""
    async with ComfyClient(url) as comfy:
        comfy._transfers.patience = patience
        yield comfy


async def put(url, data, *, name=None, kind="temp"):
    """Have a file on the server, past any proxy."""
    async with ComfyClient(url) as comfy:
        name = name or f"{os.urandom(8).hex()}.bin"
        sent = await comfy.upload(data, name=name, type=kind, subfolder="comfyclient-tests", overwrite=True)
    return OutputRef("1", "images", sent.name, sent.subfolder, sent.type)


@dataclass(frozen=True)
class Meanwhile(Patience):
    """Does something in place of each pause."""

    action: object = None

    async def pause(self, failures):
        await self.action()


@dataclass
class Chunked(HttpToxic):
    """The answer comes in chunks, up to ``at`` bytes of its body, then what ``end`` says."""

    at: int = 2**60
    end: str = "whole"  # "cut": the connection ends; "garbage": the next chunk has no size

    def begin(self):
        self.left = self.at

    def response(self, event):
        if isinstance(event, Head):
            return [Send(edit_head(event.raw, headers={"Content-Length": None, "Transfer-Encoding": "chunked"}))]
        if event.part is Part.BODY:
            sent = event.raw[: self.left]
            self.left -= len(sent)
            steps = [Send(b"%x\r\n%s\r\n" % (len(sent), sent))] if sent else []
            return steps if self.left else [*steps, *self._ended()]
        return [Send(b"0\r\n\r\n")] if event.part is Part.END else []

    def _ended(self):
        return [Cut("close")] if self.end == "cut" else [Send(b"no size\r\n"), Cut("close")]


def without_range(event):
    """A request, or a piece of one, that asks for all of a file."""
    return re.sub(rb"(?i)\r\nrange:[^\r]*", b"", event.raw) if isinstance(event, Head) else event.raw


@dataclass
class Unframed(HttpToxic):
    """The answer does not tell its length, and the connection ends behind ``at`` bytes of its body.

    ``without``: headers that are left out too. ``ranges``: whether the server knows them.
    """

    at: int = 2**60
    how: str = "close"
    without: tuple = ()
    ranges: bool = True

    def begin(self):
        self.left = self.at

    def request(self, event):
        return [Send(event.raw if self.ranges else without_range(event))]

    def response(self, event):
        if isinstance(event, Head):
            gone = dict.fromkeys(("Content-Length", *self.without))
            return [Send(edit_head(event.raw, headers={**gone, "Connection": "close"}))]
        sent = event.raw[: self.left]
        self.left -= len(sent)
        ended = self.left == 0 or event.part is Part.END
        return [Send(sent), Cut(self.how)] if ended else [Send(sent)]


@dataclass
class Stall(HttpToxic):
    """The body stops in the middle, and the connection stays open."""

    at: int

    def begin(self):
        self.left = self.at

    def response(self, event):
        if isinstance(event, Head):
            return [Send(event.raw)]
        sent = event.raw[: self.left]
        self.left -= len(sent)
        return [Send(sent)] if self.left else [Send(sent), Hang()]


@dataclass
class NoRanges(HttpToxic):
    """The server knows no ranges; each answer is cut behind ``at`` bytes of its body, if that is given.

    ``without``: headers that are left out. ``headers``: those that are put in their place.
    """

    at: int | None = None
    without: tuple = field(default=())
    headers: dict = field(default_factory=dict)

    def begin(self):
        self.left = self.at

    def request(self, event):
        return [Send(without_range(event))]

    def response(self, event):
        if isinstance(event, Head):
            return [Send(edit_head(event.raw, headers={**dict.fromkeys(self.without), **self.headers}))]
        if self.left is None or event.part is not Part.BODY:
            return [Send(event.raw)]
        sent = event.raw[: self.left]
        self.left -= len(sent)
        return [Send(sent)] if self.left else [Send(sent), Cut("close")]
