"""Libraries that make the system fail as disks and sticks do, for processes started with them in LD_PRELOAD."""

import shutil
import subprocess
from pathlib import Path

import pytest


def built_shim(source: str, folder: Path) -> Path:
    """Build the library of a C file that stands here; the test is skipped where nothing builds it."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip(f"there is no gcc to build {source} with")
    library = folder / f"{source}.so"
    flags = ("-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library))
    subprocess.run([compiler, *flags, str(Path(__file__).with_name(source)), "-ldl"], check=True)
    return library
