"""Prompts that run on the emulator and on a real ComfyUI without any model."""

import itertools
import random

from comfyclient import Prompt

_COLOURS = itertools.count(random.randrange(1 << 23))
FOLDER = f"comfyclient-tests/{random.randrange(16**8):08x}"


def image(*, batch=1, width=64, height=48, colour=None):
    """A node that gives pictures of one colour, a new one each time, so that nothing is cached."""
    colour = next(_COLOURS) % (1 << 24) if colour is None else colour
    inputs = {"width": width, "height": height, "batch_size": batch, "color": colour}
    return {"class_type": "EmptyImage", "inputs": inputs}


def save(source="1", prefix="x", title=None):
    """A node that saves pictures."""
    node = {"class_type": "SaveImage", "inputs": {"images": [source, 0], "filename_prefix": f"{FOLDER}/{prefix}"}}
    return node | {"_meta": {"title": title}} if title else node


def picture(**options):
    """A prompt that saves a picture."""
    return Prompt({"1": image(**options), "2": save(title="Save it")})


def failing():
    """A prompt whose second node raises, after another output was made."""
    return Prompt({
        "1": image(),
        "2": save(),
        "3": {"class_type": "RegexReplace", "inputs": {
            "string": "x", "regex_pattern": "(", "replace": "", "case_insensitive": True, "multiline": False,
            "dotall": False, "count": 0}},
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}, "_meta": {"title": "Show"}},
    })  # fmt: skip


def slow(steps=40, size=1024):
    """A prompt that runs for some seconds and can be interrupted after each of many nodes."""
    nodes = {"1": image(width=size, height=size)}
    for n in range(2, steps + 2):
        inputs = {"image": [str(n - 1), 0], "blur_radius": 15, "sigma": 1.0}
        nodes[str(n)] = {"class_type": "ImageBlur", "inputs": inputs}
    nodes["end"] = save(str(steps + 1))
    return Prompt(nodes)
