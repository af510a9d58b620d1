"""A custom node for a real ComfyUI that tests may break: it does there what an emulator's faults do.

Copy this file into ``custom_nodes`` of a server that nobody else uses, and start the server again. It adds no nodes,
but routes with which whoever reaches the server can stop it. `stand.py` is what calls them.
"""

import asyncio
import os
import sys
import threading
import time
import uuid

import nodes
import torch
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}

_BOOT = uuid.uuid4().hex
_ERRORS = {"memory": torch.OutOfMemoryError("out of memory"), "value": ValueError("bad")}
_failing = {}
_holds = []
_spoilt = set()
_routes = PromptServer.instance.routes


class _Hold:
    def __init__(self, class_type):
        self.class_type = class_type
        self.reached, self.released = threading.Event(), threading.Event()
        self.deadly = False

    def stand(self):
        self.reached.set()
        self.released.wait()
        if self.deadly:
            raise SystemExit


def _spoil(class_type):
    """Let all nodes of a class do what is wished before what they do."""
    if class_type in _spoilt:
        return
    _spoilt.add(class_type)
    node = nodes.NODE_CLASS_MAPPINGS[class_type]
    proper = getattr(node, node.FUNCTION)

    def spoilt(self, *args, **values):
        for hold in [hold for hold in _holds if hold.class_type == class_type]:
            hold.stand()
        if class_type in _failing:
            raise _failing[class_type]
        return proper(self, *args, **values)

    setattr(node, node.FUNCTION, spoilt)


def _release():
    for hold in _holds:
        hold.released.set()
    _holds.clear()


@_routes.get("/comfyclient-tests")
async def boot(request):
    return web.json_response({"boot": _BOOT})


@_routes.post("/comfyclient-tests/hold/{class_type}")
async def hold(request):
    _spoil(request.match_info["class_type"])
    _holds.append(_Hold(request.match_info["class_type"]))
    return web.json_response({"number": len(_holds) - 1})


@_routes.get("/comfyclient-tests/hold/{number}")
async def reached(request):
    event = _holds[int(request.match_info["number"])].reached
    while not event.is_set():  # noqa: ASYNC110 - it is set in another thread
        await asyncio.sleep(0.01)
    return web.json_response({})


@_routes.post("/comfyclient-tests/release/{number}")
async def release(request):
    _holds[int(request.match_info["number"])].released.set()
    return web.json_response({})


@_routes.post("/comfyclient-tests/fail/{class_type}/{kind}")
async def fail(request):
    _spoil(request.match_info["class_type"])
    _failing[request.match_info["class_type"]] = _ERRORS[request.match_info["kind"]]
    return web.json_response({})


@_routes.post("/comfyclient-tests/clear")
async def clear(request):
    _failing.clear()
    _release()
    return web.json_response({})


@_routes.post("/comfyclient-tests/wedge")
async def wedge(request):
    """The worker dies in the node that is held."""
    for held in _holds:
        held.deadly = True
    _release()
    return web.json_response({})


@_routes.post("/comfyclient-tests/block/{seconds}")
async def block(request):
    """All requests and sockets wait."""
    time.sleep(float(request.match_info["seconds"]))  # noqa: ASYNC251 - that is the point
    return web.json_response({})


@_routes.post("/comfyclient-tests/restart")
async def restart(request):
    """Nothing is put in order, nobody is told: as after kill -9, but it comes back."""
    os.execv(sys.executable, [sys.executable, *sys.argv])
