"""The page docs/your-own-model.md, word for word: its files, its commands, and the table at their end."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.repository import Repository, copy_project

PAGE = (ROOT / "docs" / "your-own-model.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder in which the page has been followed, and what each command printed."""
    where = tmp_path_factory.mktemp("own") / "ppap"
    copy_project(where)
    for text in [*blocks("python"), *blocks("yaml")]:
        (where / text.split("\n")[0].removeprefix("# ")).write_text(text)
    repository, printed = Repository(where), {}
    (commands,) = blocks("sh")
    for line in commands.splitlines():
        words = shlex.split(line)
        extra = ["--cores", "2"] if words[0] == "snakemake" else []
        printed[line] = repository.run(words[0], *extra, *words[1:]).stdout
    return where, printed


def test_the_commands_end_with_the_table(followed) -> None:
    where, printed = followed
    table = printed["cat results/mine/tables/main.md"]
    rows = [line for line in table.splitlines() if line.startswith("| mine")]
    assert len(rows) == 3 and "data-free" in rows[2]
    rates = [float(re.findall(r"([\d.]+)%", row)[0]) for row in rows]
    assert rates[2] > rates[0] + 10  # experts guide
    with Image.open(where / "blue.png") as sheet:
        assert min(sheet.size) > 100


def test_the_samples_are_pictures_of_the_pipelines_kind(followed) -> None:
    where, _ = followed
    images = np.load(where / "results/mine/samples/ddim25/mine/ppap_3/0000.npy")
    assert images.shape == (100, 16, 16, 3) and images.std() > 10
