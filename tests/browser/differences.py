"""Two prompts compared, node by node and input by input."""

import json

# Values that the browser makes: a picture, a camera, a recording, the state of a viewer or a canvas.
BROWSER_MADE = {
    ("Load3D", "image"),
    ("Load3DAdvanced", "viewport_state"),
    ("Preview3DAdvanced", "viewport_state"),
    ("Save3DAdvanced", "viewport_state"),
    ("PreviewGaussianSplat", "viewport_state"),
    ("PreviewPointCloud", "viewport_state"),
    ("SaveGaussianSplat", "viewport_state"),
    ("SavePointCloud", "viewport_state"),
    ("RecordAudio", "audio"),
    ("WebcamCapture", "image"),
    ("Painter", "mask"),
}


def differences(ours, theirs):
    """One line a difference; an empty list if the prompts are equal, the order of keys included."""
    found = [f"{node_id}: {_class(theirs, node_id)} is missing" for node_id in theirs if node_id not in ours]
    found += [f"{node_id}: {_class(ours, node_id)} is not in theirs" for node_id in ours if node_id not in theirs]
    for node_id in ours.keys() & theirs.keys():
        found += [f"{node_id} ({_class(theirs, node_id)}): {text}" for text in _node(ours[node_id], theirs[node_id])]
    if not found and list(ours) != list(theirs):
        found.append("the nodes come in another order")
    return sorted(found)


def _class(prompt, node_id):
    return prompt[node_id].get("class_type") or "a class that the catalog lacks"


def _node(ours, theirs):
    if theirs.get("class_type") and ours["class_type"] != theirs["class_type"]:
        yield f"class {ours['class_type']!r}, theirs {theirs['class_type']!r}"
    if _meta(ours) != _meta(theirs):
        yield f"_meta {_meta(ours)}, theirs {_meta(theirs)}"
    mine, other = dict(ours["inputs"]), dict(theirs["inputs"])
    for class_type, name in BROWSER_MADE:
        if theirs.get("class_type") == class_type and name in mine and name in other:
            mine[name] = other[name]
    for name in other.keys() - mine.keys():
        yield f"{name} is missing, theirs {_short(other[name])}"
    for name in mine.keys() - other.keys():
        yield f"{name} = {_short(mine[name])} is not in theirs"
    changed = [name for name in mine.keys() & other.keys() if json.dumps(mine[name]) != json.dumps(other[name])]
    for name in changed:
        yield f"{name} = {_short(mine[name])}, theirs {_short(other[name])}"
    if list(mine) != list(other) and mine.keys() == other.keys():
        yield f"inputs come as {list(mine)}, theirs {list(other)}"


def _meta(node):
    return {key: value for key, value in (node.get("_meta") or {}).items() if value is not None}


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 90 else f"{text[:90]}…"
