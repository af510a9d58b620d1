"""The release, where every module can read it without importing the package's public names."""

from typing import Final

__all__ = ["__version__"]

__version__: Final = "0.1.0"
