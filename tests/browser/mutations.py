"""Workflows damaged at random, as old versions, other tools and hand edits leave them."""

import copy

VALUES = [0, 1.5, -3, True, "x", "", [1, 2], {"a": 1}, 12345678901234567890, "{a}", "%date:yyyy%"]


def mutate(workflow, rng):
    """A copy with one change; returns it with the change's name."""
    workflow = copy.deepcopy(workflow)
    change = rng.choice(CHANGES)
    graph = rng.choice([graph for graph in _graphs(workflow) if graph.get("nodes")])
    change(graph, rng.choice(graph["nodes"]), rng)
    return workflow, change.__name__.strip("_")


def _graphs(workflow):
    yield workflow
    yield from (workflow.get("definitions") or {}).get("subgraphs") or []


def _values(node):
    values = node.get("widgets_values")
    return values if isinstance(values, list) else []


def _mode(graph, node, rng):
    node["mode"] = rng.choice([0, 1, 2, 4])


def _value(graph, node, rng):
    if values := _values(node):
        values[rng.randrange(len(values))] = rng.choice(VALUES)


def _null_value(graph, node, rng):
    if values := _values(node):
        values[rng.randrange(len(values))] = None


def _fewer_values(graph, node, rng):
    if values := _values(node):
        del values[rng.randrange(len(values))]


def _more_values(graph, node, rng):
    if isinstance(node.get("widgets_values"), list):
        node["widgets_values"].append(rng.choice(["zz", 5, None]))


def _shifted_values(graph, node, rng):
    if values := _values(node):
        values.insert(rng.randrange(len(values) + 1), "randomize")


def _input_without_link(graph, node, rng):
    if linked := [slot for slot in node.get("inputs") or [] if slot.get("link") is not None]:
        rng.choice(linked)["link"] = None


def _swapped_names(graph, node, rng):
    if len(slots := node.get("inputs") or []) > 1:
        one, other = rng.sample(slots, 2)
        one["name"], other["name"] = other["name"], one["name"]


def _removed_node(graph, node, rng):
    ends = [n for n in graph["nodes"] if not any(out.get("links") for out in n.get("outputs") or [])]
    if ends:
        graph["nodes"].remove(rng.choice(ends))


def _title(graph, node, rng):
    node["title"] = rng.choice(["", "T", None])


def _stale_widget_input(graph, node, rng):
    stale = {"name": "gone", "type": "INT", "link": None, "widget": {"name": "gone"}}
    node["inputs"] = [*(node.get("inputs") or []), stale]


CHANGES = [
    _mode,
    _value,
    _null_value,
    _fewer_values,
    _more_values,
    _shifted_values,
    _input_without_link,
    _swapped_names,
    _removed_node,
    _title,
    _stale_widget_input,
]
