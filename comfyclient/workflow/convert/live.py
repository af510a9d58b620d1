"""A node's live lists of slots and widgets, and how they change while the page loads a file.

Dynamic combos, autogrow lists and dynamic groups change the lists when a value is set or a link is met, in the order in
which the page does it, because ``widgets_values`` is positional over the live list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from comfyclient.workflow.catalog import AUTOGROW, DYNAMIC_COMBO, DYNAMIC_GROUP, MOST_GROUPS
from comfyclient.workflow.convert.javascript import UNDEFINED, js_key_order
from comfyclient.workflow.convert.linktable import Held, Layout, LinkTable
from comfyclient.workflow.convert.model import Link, Node, Slot, Widget, unused_name
from comfyclient.workflow.convert.nodes import NodeModel, socket_type
from comfyclient.workflow.convert.releases import Rules
from comfyclient.workflow.convert.widgets import Declared, WidgetSpec, combo_options, declare, declared_inputs

__all__ = ["LiveNode", "build", "connect_existing", "set_value"]

_Item = TypeVar("_Item")


class _Autogrow:
    __slots__ = ("inputs", "max", "min", "names", "prefix")

    def __init__(self, declared: Declared) -> None:
        template = declared.options.get("template")
        template = template if isinstance(template, dict) else {}
        section = template.get("input")
        section = section if isinstance(section, dict) else {}
        names = template.get("names")
        least, most = template.get("min", 1), template.get("max", 100)
        self.names = [str(name) for name in names] if isinstance(names, list) else None
        self.min = min(least, MOST_GROUPS) if isinstance(least, int) else 1
        self.max = len(self.names) if self.names is not None else (most if isinstance(most, int) else 100)
        self.max = min(self.max, MOST_GROUPS)
        self.prefix = str(template.get("prefix") or "")
        self.inputs = [
            (key, spec, kind == "optional")
            for kind in ("required", "optional")
            for key, spec in declared_inputs(section.get(kind)).items()
        ]

    def slot_name(self, ordinal: int, key: str) -> str:
        if self.names is not None:
            return self.names[ordinal]
        return f"{self.prefix if len(self.inputs) == 1 else key}{ordinal}"

    def ordinal(self, name: str) -> int | None:
        if self.names is not None:
            return self.names.index(name) if name in self.names else None
        digits = len(name) - len(name.rstrip("0123456789"))
        return int(name[-digits:]) if 0 < digits < 6 else None


class LiveNode:
    """The dynamic side of one node: its autogrow lists and what a change of value does to its slots and widgets."""

    __slots__ = ("autogrow", "node", "rules", "table")

    def __init__(self, node: Node, rules: Rules) -> None:
        self.node = node
        self.rules = rules
        self.autogrow: dict[str, _Autogrow] = {}
        self.table: LinkTable | None = None

    def add_all(self, declared: Iterable[Declared]) -> None:
        """Add a class's inputs: the page adds all sockets first, then all widgets, each in declared order."""
        inputs = list(declared)
        for one in inputs:
            self.add_socket(one)
        for one in inputs:
            self.add_widget(one)

    def add_socket(self, declared: Declared) -> None:
        """Add what an input without a widget puts on the node: a socket, or the first sockets of an autogrow list."""
        if declared.has_widget:
            return
        if declared.type == AUTOGROW and self.rules.dynamic_inputs:
            group = self.autogrow[declared.name] = _Autogrow(declared)
            for ordinal in range(max(group.min, 0) + 1):
                self.grow(declared.name, ordinal)
            return
        self.node.inputs.append(Slot(declared.name, socket_type(declared, self.rules)))

    def add_widget(self, declared: Declared) -> None:
        """Add an input's widgets and its slot; a dynamic one adds its children too."""
        if not declared.has_widget:
            return
        first: Widget | None = None
        for spec in declared.specs:
            widget = self.append_widget(spec)
            if spec.declared is not None and first is None:
                first = widget
        if first is not None and declared.type in {DYNAMIC_COMBO, DYNAMIC_GROUP}:
            set_value(self.node, first, first.value)
        if not declared.options.get("socketless"):
            self.node.inputs.append(Slot(declared.name, declared.type, declared.name))

    def append_widget(self, spec: WidgetSpec) -> Widget:
        """Add one widget, under a name of its own where the release insists on that."""
        widget = Widget(spec)
        if self.rules.duplicate_names == "renamed":
            widget.name = unused_name(spec.name, {other.name for other in self.node.widgets}, "#")
        self.node.widgets.append(widget)
        return widget

    def grow(self, group_name: str, ordinal: int) -> None:
        """Add one group of an autogrow list, right after the one before it; existing slots of its names move there."""
        group = self.autogrow[group_name]
        if ordinal >= group.max or not group.inputs:
            return
        node = self.node
        before = self.table.take_down() if self.table is not None else None
        held = dict(before[1]) if before is not None else {}
        added: list[Slot] = []
        for key, spec, optional in group.inputs:
            name = f"{group_name}.{group.slot_name(ordinal, key)}"
            first = len(node.inputs)
            declared = declare(name, spec, optional, self.rules)
            self.add_socket(declared)
            self.add_widget(declared)
            created = _cut(node.inputs, first)
            for slot in created[-1:]:
                if len(group.inputs) != 1:
                    self.reserve(slot)
                added.append(slot)
        for slot in added:
            for existing in [other for other in node.inputs if other.name == slot.name]:
                node.inputs.remove(existing)
                if slot.saved_link is None:
                    slot.saved_link = existing.saved_link
                if id(existing) in held:
                    held.setdefault(id(slot), held[id(existing)])
                slot.label = existing.label or slot.label
        last = group.inputs[-1][0]
        previous = f"{group_name}.{group.slot_name(ordinal - 1, last)}" if ordinal else f"{group_name}.{last}"
        at = len(node.inputs)
        for index in range(len(node.inputs) - 1, -1, -1):
            if node.inputs[index].name.startswith(previous):
                at = index + 1
                break
        node.inputs[at:at] = added
        if self.table is not None and before is not None:
            self.table.write_back(before, held)

    def reserve(self, slot: Slot) -> None:
        """Keep a socket's place among the widget keys of the prompt."""
        if slot.widget is not None and any(w.name == slot.widget for w in self.node.widgets):
            return
        self.node.widgets.append(Widget(_PLACEHOLDER, slot.name))
        slot.widget = slot.name

    def connected(self, index: int) -> None:
        """A link was met on this slot while loading: the list it belongs to grows by one group."""
        slot = self.node.inputs[index]
        group_name = slot.name.rpartition(".")[0]
        group = self.autogrow.get(group_name)
        if group is None:
            return
        if slot.widget is not None:
            self.reserve(slot)
        ordinal = group.ordinal(slot.name[len(group_name) + 1 :])
        if ordinal is not None:
            self.grow(group_name, ordinal + 1)

    def rebuild(self, widget: Widget, children: list[Declared]) -> None:
        """Replace the slots and widgets below a dynamic widget; links survive on slots of the same name."""
        node = self.node
        before = self.table.take_down() if self.table is not None else None
        held = dict(before[1]) if before is not None else {}
        prefix = f"{widget.spec.name}."
        removed = [slot for slot in node.inputs if slot.name.startswith(prefix)]
        if removed:
            node.inputs = [slot for slot in node.inputs if not slot.name.startswith(prefix)]
        node.widgets[:] = [other for other in node.widgets if not other.name.startswith(prefix)]
        if not children:
            if self.table is not None and before is not None:
                self.table.write_back(before, held)
            return
        at = node.widgets.index(widget) + 1
        first_widget, first_input = len(node.widgets), len(node.inputs)
        for child in children:
            self.add_socket(child)
            self.add_widget(child)
        node.widgets[at:at] = _cut(node.widgets, first_widget)
        inputs_at = node.slot_index(widget.spec.name) + 1
        if inputs_at > 0:
            node.inputs[inputs_at:inputs_at] = _cut(node.inputs, first_input)
        if self.table is not None and before is not None:
            self._hand_over(self.table, before, held, removed)
            return
        for old in removed:
            index = node.slot_index(old.name)
            if index >= 0 and old.saved_link is not None:
                node.inputs[index].saved_link = old.saved_link
                self.connected(index)

    def _hand_over(self, table: LinkTable, before: Layout, held: Held, removed: list[Slot]) -> None:
        """Links go to the new slots of the same names; a list may grow for each, which moves the slots after it."""
        for old in removed:
            index = self.node.slot_index(old.name)
            if index >= 0 and id(old) in held:
                held[id(self.node.inputs[index])] = held[id(old)]
        for slot in table.write_back(before, held):
            index = next((at for at, other in enumerate(self.node.inputs) if other is slot), -1)
            if index >= 0:
                self.connected(index)

    def open_table(self, incoming: Iterable[Link], named: Mapping[str, list[str]]) -> None:
        """From now on links sit on slot numbers."""
        self.table = LinkTable(self.node, incoming, named)

    def realign_children(self, named: Mapping[str, list[str]], inputs: Iterable[str]) -> None:
        """Before values are restored: links of a dynamic widget's children, and of plain inputs, go to their names."""
        rest = {
            link: kept
            for link, names in named.items()
            if (kept := [name for name in names if name.rpartition(".")[0] not in self.autogrow])
        }
        widgets = {widget.name for widget in self.node.widgets}
        owners = {name.rpartition(".")[0] for name in inputs} - self.autogrow.keys()
        if self.table is not None and not owners.isdisjoint(widgets):
            self.table.realign(rest, self.connected)

    def close_table(self, named: Mapping[str, list[str]]) -> None:
        """After loading: links go to the slots of their names, and stay."""
        if self.table is not None:
            self.table.realign(named, self.connected)
            self.table.settle()


_PLACEHOLDER: Final = WidgetSpec("", "placeholder", UNDEFINED, stored=False)


def _cut(items: list[_Item], start: int) -> list[_Item]:
    tail = items[start:]
    del items[start:]
    return tail


def _children(section: Mapping[str, Any], prefix: str, rules: Rules) -> list[Declared]:
    return [
        declare(f"{prefix}.{key}", spec, kind == "optional", rules)
        for kind in ("required", "optional")
        for declared in (declared_inputs(section.get(kind)),)
        for key in js_key_order(declared)
        for spec in (declared[key],)
    ]


def build(node: Node, model: NodeModel, rules: Rules) -> None:
    """Put a class's sockets and widgets with their defaults on a new node."""
    node.spec = model
    node.outputs = list(model.outputs)
    if not model.dynamic:
        node.inputs = [Slot(name, kind) for name, kind in model.sockets]
        node.inputs += [Slot(name, kind, widget) for name, kind, widget in model.slots]
        node.widgets = [Widget(spec) for spec in model.widgets]
        return
    live = node.live = LiveNode(node, rules)
    live.add_all(model.inputs)


def set_value(node: Node, widget: Widget, value: Any) -> None:
    """Set a widget's value as the page does: a dynamic one rebuilds what hangs below it."""
    widget.value = value
    live = node.live
    if live is None:
        return
    kind = widget.spec.kind
    declared = widget.spec.declared
    if kind == DYNAMIC_COMBO and declared is not None:
        section = combo_options(declared).get(value) if isinstance(value, str) else None
        children = _children(section, declared.name, live.rules) if section else []
        live.rebuild(widget, children)
    elif kind == DYNAMIC_GROUP and declared is not None:
        live.rebuild(widget, _group_rows(declared, value, live.rules))


def _group_rows(declared: Declared, count: Any, rules: Rules) -> list[Declared]:
    template = declared.options.get("template")
    if not isinstance(template, dict):
        return []
    least, most = declared.options.get("min", 0), declared.options.get("max", 100)
    rows = int(count) if isinstance(count, int | float) and not isinstance(count, bool) else 0
    rows = max(least if isinstance(least, int) else 0, rows)
    rows = min(rows, most if isinstance(most, int) else 100, MOST_GROUPS)
    return [child for row in range(rows) for child in _children(template, f"{declared.name}.{row}", rules)]


def connect_existing(node: Node, links: Mapping[str, Link]) -> None:
    """Tell a dynamic node of the links that its saved inputs name, in slot order, while the list may grow."""
    live = node.live
    if live is None or not live.autogrow:
        return
    # With a links table the page goes by what the file says of each slot number, however the slots have moved.
    as_saved = [slot.saved_link for slot in node.inputs] if live.table is not None else None
    index = 0
    while index < len(node.inputs):
        if as_saved is None:
            saved = node.inputs[index].saved_link
        else:
            saved = as_saved[index] if index < len(as_saved) else None
        if saved is not None and saved in links:
            live.connected(index)
        index += 1
