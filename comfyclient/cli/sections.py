"""Commands whose help shows some of their options under headings of their own."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["SectionCommand", "SectionOption"]


class SectionOption(click.Option):
    """An option that help shows under ``section``."""

    def __init__(self, *args: Any, section: str, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.section = section


class SectionCommand(click.Command):
    """A command that shows each section of its options after the other options.

    ``section_notes``: section → a text for its end; decorators put them there.
    """

    section_notes: dict[str, str]

    def __init__(self, *args: Any, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.section_notes = getattr(self.callback, "section_notes", {})

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections. Click calls it."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)
                if note := self.section_notes.get(name):
                    formatter.write_paragraph()
                    formatter.write_text(note)
