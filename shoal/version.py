"""The version of this program, as it introduces itself."""

from importlib.metadata import version

VERSION = version("shoal")
PROGRAM = f"shoal/{VERSION}"
