"""The pages of the documentation: their links, commands, tables and versions are those of the code."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

import ppap
from ppap.cli.app import app
from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.workflow.layout import Layout
from tests.conftest import DIGITS, ROOT, SMOKE, SMOKE_TASKS
from tests.test_structure import LAYERS

README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "config/README.md"]
PRESETS = [DIGITS, SMOKE, ROOT / "config" / "imagenet256.yaml", ROOT / "config" / "cifar10.yaml",
           ROOT / "config" / "glide.yaml"]  # fmt: skip
NOT_IN_GIT = {"results/", "downloads/", "scratch/"}


def tracked() -> list[Path]:
    """This project's files, as git has them or would commit them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [Path(name) for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    _, _, below = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table, f"{page.name} has no table under {heading}"
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    broken = []
    for link in re.findall(r"(?:\]\(|src=\")([^)\"\s]+)", text):
        name, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)", README.read_text(encoding="utf-8")))
    assert {str(page.relative_to(ROOT)) for page in PAGES} - linked == {"README.md"}


def test_the_readme_names_every_folder_and_no_others() -> None:
    files = tracked()
    folders = {f"{path.parts[0]}/" for path in files if len(path.parts) > 1}
    folders |= {f"ppap/{p.parts[1]}/" for p in files if p.parts[0] == "ppap" and len(p.parts) > 2}
    named = {name for first, *_ in rows(README, "Where everything lies") for name in re.findall(r"`([^`]+/)`", first)}
    assert named - NOT_IN_GIT == folders


def test_every_command_of_the_pages_exists() -> None:
    command = typer.main.get_command(app)
    known = set(command.commands)  # type: ignore[attr-defined]
    written = {
        (page.name, name)
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for name in re.findall(r"(?:^|`|&& )ppap ([a-z][a-z-]*)", page.read_text("utf-8"), re.M)
    }
    assert len(written) > 20
    assert {(page, name) for page, name in written if name not in known} == set()


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "using.md"], ids=lambda page: page.name)
def test_the_python_of_the_pages_works_up_to_the_work_itself(page: Path) -> None:
    pytest.importorskip("ppap.workflow.steps")
    found = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    [code] = [block for block in found if "Layout(" in block]  # others are tests/test_api.py's
    *before, last = ast.parse(code).body
    names: dict[str, object] = {}
    exec(compile(ast.Module(before, []), page.name, "exec"), names)
    call = ast.unparse(last)
    job, _, arguments = call.rpartition(".run")
    made = eval(job, names)
    assert arguments == "(layout)"
    assert made in list(type(made).jobs(names["layout"]))


# -- architecture ----------------------------------------------------------------------------------


def test_the_ten_questions_are_answered_by_one_link_each() -> None:
    answers = [answer for _, answer in rows(ARCHITECTURE, "Where is ...?")]
    assert len(answers) == 10
    assert all(len(re.findall(r"\]\(\.\./ppap/\S+\.py\)", answer)) == 1 for answer in answers)


def targets_of_a_folder() -> Preset:
    """A preset whose guides look at pictures for their targets, for which they are needed first."""
    plain = yaml.safe_load(SMOKE_TASKS.read_text())
    plain["guides"]["depth"]["targets"] = {"folder": "pictures"}
    return presets.validate(plain, SMOKE_TASKS)


def test_the_table_of_steps_is_what_the_steps_say() -> None:
    pytest.importorskip("ppap.workflow.steps")
    steps, stages = (importlib.import_module(f"ppap.workflow.{m}") for m in ("steps", "stages"))
    layouts = [Layout(preset) for preset in [*map(presets.load, PRESETS), targets_of_a_folder()]]

    def folders(paths: list[Path]) -> set[str]:
        return {path.parts[2] for path in paths}

    found: list[tuple[str, set[str], set[str], set[str]]] = []
    for step in steps.STEPS:
        jobs = [(job, layout) for layout in layouts for job in step.jobs(layout)]
        found.append(
            (
                step.rule(),
                {stages.stage_of(job, layout) for job, layout in jobs},
                folders([path for job, layout in jobs for path in job.inputs(layout)]),
                folders([path for job, layout in jobs for path in job.outputs(layout)]),
            )
        )
    written = [
        (name.strip("`"), *({*filter(None, cell.split(", "))} for cell in cells[:3]))
        for name, *cells in rows(ARCHITECTURE, "Steps")
    ]
    assert written == found


def test_the_picture_of_the_datas_way_has_the_steps_of_the_table() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    arrows = re.findall(r'^    (\w+) -- "?([\w, ]+?)"? --> (\w+)$', text, re.MULTILINE)
    table = {name.strip("`"): cells for name, *cells in rows(ARCHITECTURE, "Steps")}
    drawn = {(name, a, b) for a, names, b in arrows for name in names.split(", ")}
    assert {name for name, _, _ in drawn} == set(table)
    for name, source, target in drawn:
        _, reads, writes, _ = table[name]
        assert source in [*reads.split(", "), "preset"] and target in writes.split(", ")


def test_the_layers_are_those_that_are_tested() -> None:
    text = " ".join(ARCHITECTURE.read_text(encoding="utf-8").split())
    rooms = [room for layer in LAYERS[1:-1] for room in layer]
    assert f"base modules, {', '.join(rooms)}." in text
    picture = re.findall(r"<b>([\w, ]+)</b>", text.split("## Layers")[1])
    drawn = [name for names in picture for name in names.split(", ")]
    assert set(drawn) == {*rooms, *LAYERS[0]} - {"ppap"}


# -- troubleshooting -------------------------------------------------------------------------------

TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"


def quoted_messages() -> list[str]:
    """What the page says that ppap prints: the first cell of every table that says why, and what to do."""
    ours, _, _ = TROUBLESHOOTING.read_text(encoding="utf-8").partition("## Messages of other")
    tables = re.findall(r"^\| message \| why .*\n\|.*\n((?:\|.*\n)+)", ours, re.MULTILINE)
    return [line.split("|")[1].strip().strip("`") for table in tables for line in table.splitlines()]


def texts_of_the_code() -> list[str]:
    """Every text of one line in the code; a NUL stands for what is filled in."""
    found = []
    for file in (ROOT / "ppap").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "\0" for p in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return [text for text in found if "\n" not in text]


def test_troubleshooting_quotes_what_the_code_says() -> None:
    messages, texts = quoted_messages(), texts_of_the_code()
    assert len(messages) > 60
    patterns = [".*?".join(map(re.escape, message.split("..."))) for message in messages]
    assert [m for m, p in zip(messages, patterns, strict=True) if not any(re.search(p, t, re.S) for t in texts)] == []


def test_no_message_is_explained_twice() -> None:
    assert len(set(quoted_messages())) == len(quoted_messages())


# -- how it works ----------------------------------------------------------------------------------


def test_code_that_how_it_works_names_is_where_it_says() -> None:
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    named = re.findall(r"\[`(ppap[\w.]+)`\]\(\.\./(\S+)\)", page)
    assert len(named) > 20
    for name, file in named:
        found = inspect.unwrap(pkgutil.resolve_name(name))
        assert Path(inspect.getfile(found)) == ROOT / file


# -- results ---------------------------------------------------------------------------------------


def test_results_has_every_table_and_figure_that_is_published() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    published = (ROOT / "published").glob("*/*/*")
    wanted = {f"../{path.relative_to(ROOT)}" for path in published if path.suffix in (".md", ".png")}
    included = re.findall(r"^```\{include\} (\S+)$", page, re.MULTILINE)
    shown = re.findall(r"^!\[[^]]+\]\((\S+)\)$", page, re.MULTILINE)
    assert {*included, *shown} == wanted


# -- versions --------------------------------------------------------------------------------------


def test_the_version_is_the_same_wherever_it_stands() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    headings = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert project["version"] == ppap.__version__ == citation["version"]
    assert headings[0] == (ppap.__version__, str(citation["date-released"]))


def test_the_paper_is_cited_as_in_the_readme() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    paper = citation["preferred-citation"]
    names = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    bibtex = " ".join(README.read_text("utf-8").split())
    assert f"author = {{{names}}}" in bibtex and f"title = {{{paper['title']}}}" in bibtex
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "MIT"
