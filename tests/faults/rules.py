"""Which fault meets whom: rules for connections, requests and messages, with chances that a seed decides."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .book import Book, below
from .frames import CLOSE, FrameToxic, Message
from .http_toxics import HttpToxic
from .toxics import Toxic


@dataclass(eq=False)
class Rule:
    """One fault and those it meets. Made by `FaultProxy.on` and its like; ``hits`` counts how often it struck."""

    toxic: Toxic | FrameToxic
    seed: str
    nth: int = 1
    times: int | None = 1
    probability: float = 1.0
    connection: int | None = None
    method: str | None = None
    path: str | re.Pattern[str] | None = None
    message: str | int | Callable[[Message], bool] | None = None
    seen: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def strikes(self) -> bool:
        """Whether it meets this one, of those that it is for."""
        self.seen += 1
        chosen = self.probability >= 1 or self._chance.random() < self.probability
        if not chosen or self.seen < self.nth or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True

    def fresh(self):
        """The toxic for one use. Its chances depend on nothing but the seed, the rule and the number of the use."""
        return self.toxic.fresh(random.Random(f"{self.seed}/{self.hits}"))

    def is_for(self, connection: int, method: str, path: str, *, reused: bool) -> bool:
        """Whether it is for this request."""
        return (
            self.connection in {None, connection}
            and self.method in {None, method}
            and (reused or not self.toxic.only_reused)
            and self._path_fits(path)
        )

    def _path_fits(self, path: str) -> bool:
        if self.path is None:
            return True
        return below(path, self.path) if isinstance(self.path, str) else self.path.search(path) is not None

    def is_for_message(self, connection: int, message: Message) -> bool:
        """Whether it is for this message. Control frames are shown to functions only."""
        if self.connection not in {None, connection}:
            return False
        if callable(self.message):
            return self.message(message)
        return message.opcode < CLOSE and self.message in {None, message.kind}


class Rules:
    """All rules of a proxy."""

    def __init__(self, seed: int, book: Book) -> None:
        self._seed = seed
        self._book = book
        self._made = 0
        self.connections: list[Rule] = []
        self.requests: list[Rule] = []
        self.frames: list[Rule] = []

    def add(self, rules: list[Rule], toxic: Toxic | FrameToxic, **facts) -> Rule:
        """Make a rule the last of a list."""
        self._made += 1
        rule = Rule(toxic, f"{self._seed}/{self._made}", **facts)
        rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Let it strike no more."""
        for rules in (self.connections, self.requests, self.frames):
            if rule in rules:
                rules.remove(rule)

    def for_connection(self, number: int) -> list[Toxic]:
        """What is wrong with a new connection."""
        struck = [rule for rule in self.connections if rule.connection in {None, number} and rule.strikes()]
        for rule in struck:
            self._book.note(f"connection {number}", rule.toxic)
        return [rule.fresh() for rule in struck]

    def for_request(
        self, connection: int, method: str, path: str, *, reused: bool
    ) -> tuple[HttpToxic | None, list[Toxic]]:
        """What is wrong with a request: the first HTTP toxic that strikes, and every toxic for its bytes."""
        special: HttpToxic | None = None
        plain: list[Toxic] = []
        number = self._book.requests[method, path]
        for rule in self.requests:
            is_special = isinstance(rule.toxic, HttpToxic)
            if (is_special and special is not None) or not rule.is_for(connection, method, path, reused=reused):
                continue
            if rule.strikes():
                self._book.note(f"{method} {path} no. {number} on connection {connection}", rule.toxic)
                if is_special:
                    special = rule.fresh()
                else:
                    plain.append(rule.fresh())
        return special, plain
