"""Shell completion, asked as a shell asks: through environment variables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import DIGITS, ROOT, SMOKE, ppap

PROGRAM = Path(sys.executable).with_name("ppap")
ENVIRONMENT = os.environ | {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two presets, what is none, and one that is no YAML."""
    (tmp_path / "config").mkdir()
    shutil.copy(DIGITS, tmp_path / "config")
    shutil.copy(SMOKE, tmp_path / "config")
    shutil.copy(ROOT / "config" / "config.yaml", tmp_path / "config")
    (tmp_path / "broken.yaml").write_text("methods: {a: [}")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ppap sta", {"status"}),
        ("ppap sample ", {"digits", "smoke"}),
        ("ppap sample smoke ddim25 ", {"resnet", "vit", "unguided"}),
        ("ppap features smoke ddim25 resnet naive x", {"x0_gradient"}),
        ("ppap guide smoke --guide vit --sampler ", {"ddim25", "ddpm250"}),
        ("ppap sample broken.yaml ddim25 ", {"unguided"}),
    ],
)
def test_a_word_is_completed_by_what_the_preset_has(folder: Path, line: str, words: set, monkeypatch) -> None:
    number = str(len(line.split(" ")) - 1)
    for name, value in {"COMP_WORDS": line, "COMP_CWORD": number, "_PPAP_COMPLETE": "complete_bash"}.items():
        monkeypatch.setenv(name, value)
    done = ppap(cwd=folder)
    assert (set(done.stdout.split()), done.stderr) == (words, "")


def test_completion_and_help_do_without_torch(folder: Path) -> None:
    code = (
        "import sys\nfrom ppap.cli.app import run\nsys.argv = ['ppap', *sys.argv[1:]]\nassert run() == 0\n"
        "assert not {'torch', 'numpy', 'ppap.config'} & sys.modules.keys()"
    )
    asked = {"COMP_WORDS": "ppap sample smoke ", "COMP_CWORD": "3", "_PPAP_COMPLETE": "complete_bash"}
    for words, environment in (([], asked), (["sample", "--help"], {})):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_itself_completes(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    script = (
        "ppap --install-completion > /dev/null && . ~/.bashrc && "
        "COMP_WORDS=(ppap sample smoke ddp) COMP_CWORD=3 && _ppap_completion ppap && "
        'echo "${COMPREPLY[@]}"; complete -p ppap'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=folder, env=ENVIRONMENT | {"HOME": str(home)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "ddpm250\ncomplete -o default -F _ppap_completion ppap\n", done.stderr
