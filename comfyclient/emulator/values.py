"""What flows along the links of a running prompt.

Pictures and masks are real pixels; everything that only a model could make is a token that remembers a digest of all
that it came from, so that what is painted at the end depends on every input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, overload

__all__ = ["Audio", "Blocked", "Frames", "Image", "Latent", "Model3D", "Token", "Video"]


class Frames(Sequence[bytes]):
    """Pixels that are made when somebody looks at them: a long video costs nothing until it is saved."""

    def __init__(self, count: int, make: Callable[[int], bytes]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Frames: ...

    def __getitem__(self, index: int | slice) -> bytes | Frames:
        if isinstance(index, slice):
            picked = range(self._count)[index]
            return Frames(len(picked), lambda at: self._make(picked[at]))
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._make(index % self._count)

    def __iter__(self) -> Iterator[bytes]:
        return (self._make(index) for index in range(self._count))


@dataclass(frozen=True, slots=True)
class Image:
    """A batch of pictures of one size: 3 (RGB) or 4 (RGBA) channels, or 1 for a mask (255 is inside).

    ``frames`` holds ``width * height * channels`` bytes each. ``simulated`` says that a model should have painted it.
    """

    width: int
    height: int
    channels: int
    frames: Sequence[bytes]
    simulated: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @property
    def pixels(self) -> int:
        """How many pixels there are in all frames: what work on it will cost."""
        return self.width * self.height * len(self.frames)

    @property
    def is_mask(self) -> bool:
        """Whether it is a mask."""
        return self.channels == 1

    def map(
        self,
        change: Callable[[bytes], bytes],
        *,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
    ) -> Self:
        """Every frame changed; at once for one frame, when looked at for more."""
        width, height = size or self.size
        frames: Sequence[bytes]
        if len(self.frames) == 1:
            frames = (change(self.frames[0]),)
        else:
            source = self.frames
            frames = Frames(len(source), lambda index: change(source[index]))
        return replace(self, width=width, height=height, channels=channels or self.channels, frames=frames)

    def __str__(self) -> str:
        kind = "mask" if self.is_mask else "image"
        return f"<{kind} {self.width}x{self.height}, {self.channels} channels, batch of {len(self.frames)}>"


@dataclass(frozen=True, slots=True)
class Latent:
    """Where a sampler works: the size in pixels that it decodes to, and the digest of what went into it."""

    width: int
    height: int
    batch: int
    digest: str
    channels: int = 4
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"<latent for {self.width}x{self.height}, batch of {self.batch}, simulated {self.digest[:12]}>"


@dataclass(frozen=True, slots=True)
class Audio:
    """Sound: a tone whose pitch stands for its digest, or silence (``frequency`` 0)."""

    rate: int
    channels: int
    seconds: float
    frequency: float = 0.0
    source: bytes | None = None

    def __str__(self) -> str:
        return f"<audio {self.seconds:g} s, {self.rate} Hz, {self.channels} channels>"


@dataclass(frozen=True, slots=True)
class Video:
    """Pictures in time; ``source`` keeps the bytes of a file that was loaded as it is."""

    images: Image
    fps: float
    audio: Audio | None = None
    source: bytes | None = None

    def __str__(self) -> str:
        return f"<video {self.images.width}x{self.images.height}, {len(self.images.frames)} frames, {self.fps:g} fps>"


@dataclass(frozen=True, slots=True)
class Model3D:
    """A 3D file: its bytes and its extension without the dot."""

    data: bytes
    extension: str
    digest: str

    def __str__(self) -> str:
        return f"<3D model .{self.extension}, {len(self.data)} bytes>"


@dataclass(frozen=True, slots=True)
class Token:
    """Anything else: a model, a conditioning, a sampler. ``hints`` carry what later nodes ask for (size, steps, …)."""

    kind: str
    digest: str
    hints: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"<{self.kind.lower()}, simulated {self.digest[:12]}>"


@dataclass(frozen=True, slots=True)
class Blocked:
    """A value that stops the nodes behind it from running; with a message it is reported once."""

    message: str | None = None
