"""What ``--set`` says: values by address, some of them out of files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from comfyclient.errors import EditError
from comfyclient.workflow.address import NodeIndex
from comfyclient.workflow.edit import RawValue, apply_edits, parse_assignment
from comfyclient.workflow.inputs import find_spec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from comfyclient.cli.app import App
    from comfyclient.workflow.catalog import Catalog, InputSpec
    from comfyclient.workflow.prompt import Prompt

__all__ = ["Assignments"]

_MAX_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class _Assigned:
    """A value as written, or with ``file`` the path of the file that holds it."""

    value: RawValue
    file: str | None = None


class Assignments:
    """The ``--set`` options of a command line.

    ``ADDR=@FILE`` takes the text in a file, apart from the line break at its end; if the input names a file that the
    instance is to be given (an image to load), it is the file itself. ``ADDR=@@text`` is the text ``@text``.

    Raises:
        EditError: One of them sets nothing, or sets what another one sets.
    """

    def __init__(self, app: App, texts: Iterable[str]) -> None:
        self._app = app
        self._assigned: dict[str, _Assigned] = {}
        errors = []
        for text in texts:
            try:
                address, value = parse_assignment(text)
                if address in self._assigned:
                    raise EditError(f"{address} is set twice", hint="set it once")
                self._assigned[address] = _read(value)
            except EditError as error:
                errors.append(error)
        if errors:
            raise _together(errors)

    def __bool__(self) -> bool:
        return bool(self._assigned)

    def edits(self, prompt: Prompt, catalog: Catalog) -> dict[str, Any]:
        """The values for this prompt, by address.

        Raises:
            EditError: A file cannot be read, or an address fits more than one node.
        """
        index = NodeIndex(prompt)
        return {
            address: self._value(address, assigned, _find(index, prompt, catalog, address))
            for address, assigned in self._assigned.items()
        }

    def _edit(self, prompt: Prompt, catalog: Catalog, addresses: Iterable[str]) -> Prompt:
        index = NodeIndex(prompt)
        values = {
            address: self._value(address, self._assigned[address], _find(index, prompt, catalog, address))
            for address in addresses
        }
        return apply_edits(prompt, values, catalog)

    def places(self, prompt: Prompt, catalog: Catalog) -> set[str]:
        """The inputs that are set, each by its node's id: ``{"3.seed"}``."""
        index = NodeIndex(prompt)
        found = (index.resolve(address, _InputTest(prompt, catalog)) for address in self._assigned)
        return {f"{place[0]}.{place[1]}" for place in found if place is not None}

    def apply(self, prompt: Prompt, catalog: Catalog) -> Prompt:
        """The prompt with the values set.

        Raises:
            EditError: An address or a value does not fit; all that do not, at once.
        """
        try:
            return self._edit(prompt, catalog, self._assigned)
        except EditError as error:
            raise _together(self._misfits(prompt, catalog) or [error]) from None

    def _misfits(self, prompt: Prompt, catalog: Catalog) -> list[EditError]:
        """What is wrong with each that is wrong by itself. One may fit only together with others that do."""
        good: list[str] = []
        left = list(self._assigned)
        while True:
            errors = {}
            for address in left:
                try:
                    self._edit(prompt, catalog, [*good, address])
                except EditError as error:
                    errors[address] = error
            if len(errors) == len(left) or not errors:
                return list(errors.values())
            good += [address for address in left if address not in errors]
            left = list(errors)

    def _value(self, address: str, assigned: _Assigned, spec: InputSpec | None) -> Any:
        uploads = spec is not None and spec.upload is not None
        if assigned.file is None:
            path = self._app.path(assigned.value.string) if uploads else None
            return str(path.absolute()) if path is not None and _is_file(path) else assigned.value
        path = self._app.path(assigned.file)
        if uploads:
            if not _is_file(path):
                raise EditError(f"{address}: there is no file {assigned.file}", hint="check the path")
            return str(path.absolute())
        text = _text(address, assigned.file, path)
        # What stands in a file is not read as JSON where a text belongs, not even if it stands in quotes.
        return text if spec is not None and spec.type == "STRING" else RawValue(text)


class _InputTest:
    """Whether a node has an input of a name: it holds one, or could."""

    def __init__(self, prompt: Prompt, catalog: Catalog) -> None:
        self._prompt, self._catalog = prompt, catalog

    def __call__(self, node_id: str, name: str) -> bool:
        node = self._prompt.nodes[node_id]
        return name in node["inputs"] or find_spec(node, self._catalog, name) is not None


def _together(errors: list[EditError]) -> EditError:
    """One error for all of them."""
    if len(errors) == 1:
        return errors[0]
    lines = [f"  - {error}" + (f" ({error.hint})" if error.hint else "") for error in errors]
    candidates = [candidate for error in errors for candidate in error.candidates]
    return EditError("\n".join([f"{len(errors)} of --set do not fit:", *lines]), candidates=candidates)


def _read(value: RawValue) -> _Assigned:
    if value.text.startswith("@@"):
        return _Assigned(RawValue(value.text[1:]))
    if value.text.startswith("@"):
        return _Assigned(value, value.text[1:])
    return _Assigned(value)


def _find(index: NodeIndex, prompt: Prompt, catalog: Catalog, address: str) -> InputSpec | None:
    place = index.resolve(address, _InputTest(prompt, catalog))
    return find_spec(prompt.nodes[place[0]], catalog, place[1]) if place is not None else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _text(address: str, name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise EditError(f"{address}: {name} is larger than {_MAX_BYTES >> 20} MiB")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EditError(f"{address}: {name} is no text in UTF-8") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise EditError(f"{address}: cannot read {name}: {reason.lower()}", hint="@@ is a plain @") from None
    return text.removesuffix("\n").removesuffix("\r")
