"""The Makefile: where it installs, and where it uses the environment that is active."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("active", ["with the package", "with another clone's", "none"])
def test_make_installs_only_where_no_environment_with_the_package_is_active(active: str, tmp_path: Path) -> None:
    clone, programs = tmp_path / "clone", tmp_path / "bin"
    for folder in (clone, programs):
        folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, clone)
    if active != "none":
        found = clone if active == "with the package" else tmp_path / "other"
        (found / "ppap").mkdir(parents=True, exist_ok=True)
        (found / "ppap" / "__init__.py").touch()
        (programs / "python").write_text(f"#!/bin/sh\nPYTHONPATH='{found}' exec {sys.executable} -S \"$@\"\n")
        (programs / "python").chmod(0o755)
    env = os.environ | {"PATH": f"{programs}:/usr/bin:/bin"}
    for target in ("tables", "report", "test-fast"):
        done = subprocess.run(["make", "-n", target], cwd=clone, env=env, capture_output=True, text=True, check=True)
        assert ("pip" not in done.stdout) == (active == "with the package")
