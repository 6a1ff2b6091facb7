"""The page docs/your-own-model.md, word for word: its files, its commands, and the tables at their ends."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, ppap
from tests.repository import Repository, copy_project

PAGE = (ROOT / "docs" / "your-own-model.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def follow(repository: Repository, line: str) -> str:
    """Do what a line says; of Snakemake its jobs, one after the other in this process. Returns what it printed."""
    words = shlex.split(line)
    if words[0] == "ppap":
        return ppap(*words[1:], cwd=repository.where).stdout
    if words[0] != "snakemake":
        return repository.run(*words).stdout
    listed = repository.run("snakemake", "-n", "-p", "--cores", "1", *words[1:]).stdout
    for job in re.findall(r"^Shell command: ppap (.*) > \S+ 2>&1$", listed, re.M):
        ppap(*shlex.split(job), cwd=repository.where)
    return listed


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder in which the page has been followed, and what each command printed."""
    where = tmp_path_factory.mktemp("own") / "ppap"
    copy_project(where)
    for text in [*blocks("python"), *blocks("yaml")]:
        (where / text.split("\n")[0].removeprefix("# ")).write_text(text)
    repository = Repository(where)
    return where, {line: follow(repository, line) for block in blocks("sh") for line in block.splitlines()}


@pytest.mark.parametrize(("preset", "guide", "sheet"), [("mine", "mine", "blue"), ("pictures", "small", "red")])
def test_the_commands_end_with_the_table(followed, preset: str, guide: str, sheet: str) -> None:
    where, printed = followed
    table = printed[f"cat results/{preset}/tables/main.md"]
    rows = [line for line in table.splitlines() if line.startswith(f"| {guide}")]
    assert len(rows) == 2 and "data-free" in rows[1]
    unguided, guided = (float(re.findall(r"([\d.]+)%", row)[-1]) for row in rows)
    assert guided > unguided + 10
    images = np.load(where / f"results/{preset}/samples/ddim10/{guide}/ppap_2/0000.npy")
    assert images.shape == (60, 8, 8, 3) and images.std() > 10
    with Image.open(where / f"{sheet}.png") as drawn:
        red, _, blue = np.asarray(drawn.convert("RGB")).astype(int).mean((0, 1))
    assert (sheet == "red") == (red > blue)  # by the names of classes, which are numbered otherwise in either half
