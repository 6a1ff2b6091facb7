"""The pages of the documentation: their links, commands, tables and versions are those of the code."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest
import typer
import yaml

import ppap
from ppap.cli.app import app
from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.workflow import stages
from ppap.workflow.layout import Layout
from ppap.workflow.steps import STEPS
from tests.conftest import DIGITS, ROOT, SMOKE, SMOKE_TASKS

DOCS = ROOT / "docs"
README = ROOT / "README.md"
ARCHITECTURE = DOCS / "architecture.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md")), ROOT / "config/README.md"]
NOT_IN_GIT = {"results/", "downloads/", "scratch/"}


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", read(page), flags=re.M | re.S)


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    _, _, below = read(page).partition(f"\n## {heading}\n")
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table, f"{page.name} has no table under {heading}"
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in table[0].splitlines()[2:]]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# -- all pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    broken = []
    for link in re.findall(r"(?:\]\(|src=\")([^)\"\s]+)", prose(page)):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
            broken.append(link)
    assert broken == []


def test_every_page_stands_in_the_contents() -> None:
    index = read(DOCS / "index.md")
    entries = [
        line
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.M | re.S)
        for line in block.splitlines()
        if line and not line.startswith(":")
    ]
    named = {re.sub(r"^.*<(.+)>$", r"\1", entry) for entry in entries}
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert named == {*pages, "/README", "/CONTRIBUTING", "/CHANGELOG", "/config/README"}


def test_every_command_of_the_pages_exists() -> None:
    commands: dict[str, click.Command] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    known = set(commands) | {f"config {name}" for name in commands["config"].commands}  # type: ignore[attr-defined]
    written = {
        (page.name, name)
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for name in re.findall(r"(?:^|`|&& )ppap ((?:config )?[a-z][a-z-]*)", read(page), re.M)
    }
    assert len(written) > 20
    assert {(page, name) for page, name in written if name not in known} == set()


def test_modules_that_the_pages_name_exist() -> None:
    pages = {*PAGES, *(DOCS / "api").glob("*.md")} - {ROOT / "CHANGELOG.md"}
    named = {
        (page.name, name.replace(".", "/") + ".py" if dotted else name)
        for page in pages
        for dotted, pattern in (
            (True, r"(?:from|automodule::) (ppap\.[\w.]+)"),
            (False, r"\b(?:ppap|tests)/[\w/]+\.py\b"),
        )
        for name in re.findall(pattern, read(page))
        if "NAME" not in name
    }
    assert len(named) > 50
    assert {(page, name) for page, name in named if not (ROOT / name).exists()} == set()


# -- README ----------------------------------------------------------------------------------------


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)", read(README)))
    assert {str(page.relative_to(ROOT)) for page in PAGES} - linked == {"README.md"}


def test_the_readme_names_every_folder_and_no_others() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [Path(name) for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    folders = {f"{path.parts[0]}/" for path in files if len(path.parts) > 1}
    folders |= {f"ppap/{p.parts[1]}/" for p in files if p.parts[0] == "ppap" and len(p.parts) > 2}
    named = {name for first, *_ in rows(README, "Where everything lies") for name in re.findall(r"`([^`]+/)`", first)}
    assert named - NOT_IN_GIT == folders


# -- using -----------------------------------------------------------------------------------------


def test_the_python_that_runs_a_step_works_up_to_the_work_itself() -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", read(DOCS / "using.md"), re.M | re.S)
    *before, last = ast.parse(code).body
    names: dict[str, object] = {}
    exec(compile(ast.Module(before, []), "using.md", "exec"), names)
    job, _, arguments = ast.unparse(last).rpartition(".run")
    made = eval(job, names)
    assert arguments == "(layout)"
    assert made in list(type(made).jobs(names["layout"]))


# -- architecture ----------------------------------------------------------------------------------


def test_the_questions_are_answered_by_names_in_one_file_each() -> None:
    *answers, kinds = [answer for _, answer in rows(ARCHITECTURE, "Where is ...?")]
    assert len(answers) == 25
    for answer in answers:
        [file] = re.findall(r"\]\(\.\./(ppap/\S+\.py)\)", answer)
        module = pkgutil.resolve_name(file.removesuffix(".py").replace("/", "."))
        named = [name for name in re.findall(r"`([\w.]+)`", answer) if name != "keys"]
        assert named and all(pkgutil.resolve_name(f"{module.__name__}:{name}") for name in named)
    assert len(re.findall(r"\]\(\.\./ppap/\S+\.py\)", kinds)) == 9


def targets_of_a_folder() -> Preset:
    """A preset whose guides look at pictures for their targets, for which they are needed first."""
    plain = yaml.safe_load(SMOKE_TASKS.read_text())
    plain["guides"]["depth"]["targets"] = {"folder": "pictures"}
    return presets.validate(plain, SMOKE_TASKS)


def what_steps_say() -> list[tuple[str, set[str], set[str], set[str]]]:
    """Each step's stages, and the folders of results that its jobs read and write."""
    files = [
        DIGITS,
        SMOKE,
        *(
            ROOT / "config" / f"{name}.yaml"
            for name in ("imagenet256", "cifar10", "glide", "latents", "study", "questions", "scales")
        ),
    ]
    layouts = [Layout(preset) for preset in [*map(presets.load, files), targets_of_a_folder()]]

    def folders(paths: list[Path]) -> set[str]:
        return {path.parts[2] for path in paths}

    said = []
    for step in STEPS:
        jobs = [(job, layout) for layout in layouts for job in step.jobs(layout)]
        stage = {stages.stage_of(job, layout) for job, layout in jobs}
        reads = folders([path for job, layout in jobs for path in job.inputs(layout)])
        writes = folders([path for job, layout in jobs for path in job.outputs(layout)])
        said.append((step.rule(), stage, reads, writes))
    return said


def test_the_table_and_the_picture_of_steps_are_what_the_steps_say() -> None:
    said = what_steps_say()
    table = [
        (name.strip("`"), *({*filter(None, cell.split(", "))} for cell in cells[:2]))
        for name, *cells in rows(ARCHITECTURE, "Steps")
    ]
    assert table == [(name, stage, reads) for name, stage, reads, _ in said]

    arrows = re.findall(r'^    (\w+) -- "?([\w, ]+?)"? --> (\w+)$', read(ARCHITECTURE), re.MULTILINE)
    drawn = {(name, source, target) for source, names, target in arrows for name in names.split(", ")}
    assert {name for name, _, _ in drawn} == {name for name, *_ in said}
    known = {name: (reads | {"preset"}, writes) for name, _, reads, writes in said}
    assert [a for a in drawn if a[1] not in known[a[0]][0] or a[2] not in known[a[0]][1]] == []


# -- troubleshooting -------------------------------------------------------------------------------


def quoted_messages() -> list[str]:
    """What the page says that ppap prints: the first cell of every table that says why, and what to do."""
    ours, _, _ = read(DOCS / "troubleshooting.md").partition("## Messages of other")
    tables = re.findall(r"^\| message \| why .*\n\|.*\n((?:\|.*\n)+)", ours, re.MULTILINE)
    return [line.split("|")[1].strip().strip("`") for table in tables for line in table.splitlines()]


def texts_of_the_code() -> list[str]:
    """Every text of one line in the code; a NUL stands for what is filled in."""
    texts = []
    for file in (ROOT / "ppap").rglob("*.py"):
        for node in ast.walk(ast.parse(read(file))):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "\0" for p in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return [text for text in texts if "\n" not in text]


def test_troubleshooting_quotes_what_the_code_says() -> None:
    messages, texts = quoted_messages(), texts_of_the_code()
    assert len(set(messages)) == len(messages) > 50
    patterns = [".*?".join(map(re.escape, message.split("..."))) for message in messages]
    assert [m for m, p in zip(messages, patterns, strict=True) if not any(re.search(p, t, re.S) for t in texts)] == []


# -- results ---------------------------------------------------------------------------------------


def test_results_has_every_table_and_figure_that_is_published() -> None:
    page = read(DOCS / "results.md")
    repeated = [
        ROOT / "published" / name for name in ("study", "questions", "scales")
    ]  # what matters there is of all replicates
    published = (path for path in (ROOT / "published").glob("*/*/*") if path.parents[1] not in repeated)
    wanted = {f"../{path.relative_to(ROOT)}" for path in published if path.suffix in (".md", ".png")}
    included = re.findall(r"^```\{include\} (\S+)$", page, re.MULTILINE)
    shown = re.findall(r"^!\[[^]]+\]\((\S+)\)$", page, re.MULTILINE)
    assert {*included, *shown} == wanted


# -- versions --------------------------------------------------------------------------------------


def test_the_version_is_the_same_wherever_it_stands() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load(read(ROOT / "CITATION.cff"))
    headings = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", read(ROOT / "CHANGELOG.md"), re.M)
    assert project["version"] == ppap.__version__ == citation["version"]
    assert headings[0] == (ppap.__version__, str(citation["date-released"]))
