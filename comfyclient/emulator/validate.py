"""Whether a prompt can run: ComfyUI's own checks, with its words, its error types and its coercion of values.

Only what an output needs is looked at, and an invalid output is dropped while the others run. Nodes are visited with a
stack of generators instead of recursion, so that ten thousand nodes in a row are no trouble.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any, Final, NamedTuple

from comfyclient.emulator.catalog_view import CatalogView
from comfyclient.emulator.folders import Folders
from comfyclient.emulator.nodes import Implementation
from comfyclient.emulator.schema import LiveInput, live_inputs, output_types

__all__ = ["ServerTroubleError", "Verdict", "error_body", "is_link", "validate"]

_LONG_LIST: Final = 20  # choices beyond it are not quoted
_COERCE: Final[dict[str, type]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
# Inputs that the server's own validators take: neither range nor choice is checked.
_UNCHECKED: Final[dict[str, frozenset[str]]] = {
    "ModelAttentionBackend": frozenset({"attention"}),
    "SelectModelDevice": frozenset({"device"}),
    "SelectCLIPDevice": frozenset({"device"}),
    "SelectVAEDevice": frozenset({"device"}),
}
_TRACEBACK: Final = ['  File "comfyclient/emulator/validate.py", in validate\n']

Error = dict[str, Any]
Result = tuple[bool, list[Error]]


class ServerTroubleError(Exception):
    """The body makes ComfyUI's handler raise: HTTP 500, in plain text."""


class Verdict(NamedTuple):
    """``error`` is set if nothing can run; ``outputs`` are the output nodes that will."""

    error: Error | None
    outputs: list[str]
    node_errors: dict[str, Any]


def error_body(kind: str, message: str, details: str, extra_info: Mapping[str, Any] | None = None) -> Error:
    """One error, as every answer about prompts has it."""
    return {"type": kind, "message": message, "details": details, "extra_info": dict(extra_info or {})}


def is_link(value: Any) -> bool:
    """Whether an input's value is a link: ``[node_id, slot]``."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) in {int, float}


def validate(
    prompt: Any,
    targets: Any,
    catalog: CatalogView,
    folders: Folders,
    implementations: Mapping[str, Implementation],
) -> Verdict:
    """Check a prompt and coerce its literals in place.

    Args:
        prompt: What the client sent under ``"prompt"``.
        targets: Its ``partial_execution_targets``, or ``None``.
        catalog: The definitions.
        folders: Where uploads are looked for.
        implementations: The nodes' own validators.

    Raises:
        ServerTroubleError: The prompt is not even shaped like one.
    """
    _check_shape(prompt, targets)
    missing = _missing_class(prompt, catalog)
    if missing is not None:
        return Verdict(missing, [], {})
    wanted = [
        node_id
        for node_id, node in prompt.items()
        if catalog.spec(node["class_type"]).is_output and (targets is None or node_id in targets)
    ]
    if not wanted:
        return Verdict(error_body("prompt_no_outputs", "Prompt has no outputs", ""), [], {})
    return _Validator(prompt, catalog, folders, implementations).outputs(wanted)


def _check_shape(prompt: Any, targets: Any) -> None:
    if not isinstance(prompt, dict) or not (targets is None or isinstance(targets, list | str | dict)):
        raise ServerTroubleError
    for node in prompt.values():
        if not isinstance(node, dict) or not isinstance(node.get("_meta", {}), dict):
            raise ServerTroubleError
        if "class_type" in node and isinstance(node["class_type"], list | dict):
            raise ServerTroubleError
        if "class_type" in node and not isinstance(node.get("inputs", {}), dict):
            raise ServerTroubleError


def _missing_class(prompt: Mapping[str, Any], catalog: CatalogView) -> Error | None:
    for node_id, node in prompt.items():
        title = node.get("_meta", {}).get("title")
        if "class_type" not in node:
            name = title or f"ID #{node_id}"
            text = f"Node '{name}' has no class_type. The workflow may be corrupted or a custom node is missing."
            class_type = None
        elif node["class_type"] not in catalog:
            class_type = node["class_type"]
            title = node.get("_meta", {}).get("title", class_type)
            text = f"Node '{title}' not found. The custom node may not be installed."
        else:
            continue
        info = {"node_id": node_id, "class_type": class_type, "node_title": title}
        return error_body("missing_node_type", text, f"Node ID '#{node_id}'", info)
    return None


class _Validator:
    def __init__(
        self,
        prompt: dict[str, Any],
        catalog: CatalogView,
        folders: Folders,
        implementations: Mapping[str, Implementation],
    ) -> None:
        self.prompt = prompt
        self.catalog = catalog
        self.folders = folders
        self.implementations = implementations
        self.done: dict[str, Result] = {}
        self.path: dict[str, None] = {}  # the nodes under way, from the output inwards

    def outputs(self, wanted: Iterable[str]) -> Verdict:
        good, lines = [], []
        node_errors: dict[str, Any] = {}
        for node_id in wanted:
            valid, errors = self._output(node_id)
            if valid:
                good.append(node_id)
                continue
            lines += [f"{error['message']}: {error['details']}" for error in errors]
            self._blame(node_id, node_errors)
        if good:
            return Verdict(None, good, node_errors)
        text = "Prompt outputs failed validation"
        return Verdict(error_body("prompt_outputs_failed_validation", text, "\n".join(lines)), [], node_errors)

    def _output(self, node_id: str) -> Result:
        try:
            return self._drive(node_id)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            info = {"exception_type": type(error).__qualname__, "traceback": _TRACEBACK}
            found = error_body("exception_during_validation", "Exception when validating node", str(error), info)
            self.done[node_id] = (False, [found])
            return self.done[node_id]

    def _blame(self, output_id: str, node_errors: dict[str, Any]) -> None:
        """Put everything wrong so far down to this output too, without nodes that are only behind a wrong one."""
        for node_id, (valid, errors) in self.done.items():
            if not valid and errors:
                class_type = self.prompt[node_id]["class_type"]
                entry = node_errors.setdefault(
                    node_id, {"errors": errors, "dependent_outputs": [], "class_type": class_type}
                )
                entry["dependent_outputs"].append(output_id)

    def _drive(self, root: str) -> Result:
        """Visit ``root`` and what it needs. Each visit is a generator that asks for another node's result."""
        self.path = {}
        stack = [self._visit(root)]
        answer: Result | Exception | None = None
        while True:
            try:
                wanted = _resume(stack[-1], answer)
            except StopIteration as finished:
                stack.pop()
                answer = finished.value
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                stack.pop()
                if not stack:
                    raise
                answer = error
            else:
                stack.append(self._visit(wanted))
                answer = None
                continue
            if not stack:
                assert not isinstance(answer, Exception)
                assert answer is not None
                return answer

    def _visit(self, node_id: str) -> Generator[str, Result, Result]:
        if node_id in self.done:
            return self.done[node_id]
        if node_id in self.path:
            return self._cycle(node_id)
        node = self.prompt[node_id]
        inputs, class_type = node["inputs"], node["class_type"]
        spec = self.catalog.spec(class_type)
        errors: list[Error] = []
        valid = True
        for declared in live_inputs(spec, inputs).values():
            if declared.name not in inputs:
                if declared.required:
                    errors.append(_required(declared))
                continue
            if isinstance(inputs[declared.name], list):
                found = self._check_link(declared, inputs[declared.name])
                if found is not None:
                    errors.append(found)
                    continue
                valid = (yield from self._follow(node_id, declared, inputs[declared.name])) and valid
            else:
                errors += self._check_literal(declared, inputs, class_type)
        errors += self._ask_node(class_type, inputs)
        before = self.done.get(node_id, (True, []))  # a cycle may have left its mark
        merged = before[1] + [error for error in errors if error not in before[1]]
        self.done[node_id] = (before[0] and valid and not errors, merged)
        return self.done[node_id]

    def _cycle(self, node_id: str) -> Result:
        path = list(self.path)
        cycle = path[path.index(node_id) :]
        shown = " -> ".join(f"{name} ({self.prompt[name]['class_type']})" for name in [*cycle, node_id])
        for name in cycle:
            info = {"node_id": name, "cycle_nodes": cycle}
            self.done[name] = (False, [error_body("dependency_cycle", "Dependency cycle detected", shown, info)])
        return self.done[node_id]

    def _check_link(self, declared: LiveInput, value: list[Any]) -> Error | None:
        info: dict[str, Any] = {"input_name": declared.name, "input_config": declared.config}
        if len(value) != 2:
            text = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return error_body("bad_linked_input", text, declared.name, info | {"received_value": value})
        source = self.catalog.spec(self.prompt[value[0]]["class_type"])
        received = output_types(source)[value[1]]
        if _fits(received, declared.type):
            return None
        info |= {"received_type": received, "linked_node": value}
        details = f"{declared.name}, received_type({received}) mismatch input_type({declared.type})"
        return error_body("return_type_mismatch", "Return type mismatch between linked nodes", details, info)

    def _follow(self, node_id: str, declared: LiveInput, link: list[Any]) -> Generator[str, Result, bool]:
        """Whether the linked node is valid. What it raises is put down to it."""
        self.path[node_id] = None
        try:
            result = yield link[0]
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            info = {
                "input_name": declared.name, "input_config": declared.config, "exception_message": str(error),
                "exception_type": type(error).__qualname__, "traceback": _TRACEBACK, "linked_node": link,
            }  # fmt: skip
            text = "Exception when validating inner node"
            found = error_body("exception_during_inner_validation", text, str(error), info)
            self.done[link[0]] = (False, [found])
            return False
        finally:
            del self.path[node_id]
        return result[0]

    def _check_literal(self, declared: LiveInput, inputs: dict[str, Any], class_type: str) -> list[Error]:
        value = inputs[declared.name]
        info: dict[str, Any] = {"input_name": declared.name, "input_config": declared.config}
        if isinstance(value, dict) and "__value__" in value:
            value = inputs[declared.name] = value["__value__"]
        coerce = _COERCE.get(declared.type) if isinstance(declared.type, str) else None
        if coerce is not None:
            try:
                value = inputs[declared.name] = coerce(value)
            except (TypeError, ValueError, OverflowError) as error:
                info |= {"received_value": value, "exception_message": str(error)}
                text = f"Failed to convert an input value to a {declared.type} value"
                return [error_body("invalid_input_type", text, f"{declared.name}, {value}, {error}", info)]
        if self._is_checked_by_node(class_type, declared.name):
            return []
        info["received_value"] = value
        least, most = declared.options.get("min"), declared.options.get("max")
        if least is not None and value < least:
            text = f"Value {value} smaller than min of {least}"
            return [error_body("value_smaller_than_min", text, declared.name, info)]
        if most is not None and value > most:
            return [
                error_body("value_bigger_than_max", f"Value {value} bigger than max of {most}", declared.name, info)
            ]
        return self._check_choice(declared, value, class_type, info)

    def _is_checked_by_node(self, class_type: str, name: str) -> bool:
        own = self.implementations.get(class_type)
        return name in _UNCHECKED.get(class_type, ()) or (own is not None and name in own.checked_inputs)

    def _check_choice(self, declared: LiveInput, value: Any, class_type: str, info: dict[str, Any]) -> list[Error]:
        if isinstance(declared.type, list):
            choices = declared.type
        elif declared.type == "COMBO":
            choices = declared.options.get("options", [])
        else:
            return []
        several = declared.options.get("multiselect", False) and isinstance(value, list)
        wrong = [one for one in (value if several else [value]) if one not in choices]
        if not wrong or self.catalog.takes_any(class_type, declared.name):
            return []
        shown = str(choices)
        if len(choices) > _LONG_LIST:
            shown, info = f"(list of length {len(choices)})", info | {"input_config": None}
        details = f"{declared.name}: {', '.join(repr(one) for one in wrong)} not in {shown}"
        return [error_body("value_not_in_list", "Value not in list", details, info)]

    def _ask_node(self, class_type: str, inputs: Mapping[str, Any]) -> list[Error]:
        """The node's own validator: one error for each of the inputs that it takes."""
        own = self.implementations.get(class_type)
        if own is None or own.check is None:
            return []
        taken = {name: inputs[name] for name in own.checked_inputs if name in inputs}
        literals = {name: None if is_link(value) else value for name, value in taken.items()}
        text = own.check(literals, self.folders) if taken else None
        if text is None:
            return []
        message = "Custom validation failed for node"
        return [
            error_body("custom_validation_failed", message, f"{name} - {text}", {"input_name": name}) for name in taken
        ]


def _resume(visit: Generator[str, Result, Result], answer: Result | Exception | None) -> str:
    if isinstance(answer, Exception):
        return visit.throw(answer)
    return next(visit) if answer is None else visit.send(answer)


def _required(declared: LiveInput) -> Error:
    details = declared.name.rsplit(".", 1)[-1]
    return error_body("required_input_missing", "Required input is missing", details, {"input_name": declared.name})


def _fits(received: Any, wanted: Any) -> bool:
    """Whether an output of one type may feed an input of another: equal, any, or one type in common."""
    if received == wanted or any(kind in ("*", "COMFY_MATCHTYPE_V3") for kind in (received, wanted)):
        return True
    if isinstance(received, list):
        return isinstance(wanted, str) and wanted == "COMBO"
    if not isinstance(received, str) or not isinstance(wanted, str):
        return False
    given, taken = ({part.strip() for part in kind.split(",")} for kind in (received, wanted))
    return "*" in given | taken or bool(given & taken)
