"""The structure of the package: science takes values, imports go down, one word names a step everywhere."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

PACKAGE = ROOT / "ppap"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}

# From the lowest to the highest: a module imports from its own folder and from lower ones.
FOLDERS = (
    *("utils", "data", "training", "diffusion", "guides", "experts", "evaluation", "report"),
    *("config", "workflow", "cli"),
)
SCIENCE = FOLDERS[: FOLDERS.index("config")]


def folder_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules of the package that a module imports, within functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ppap":
            assert node.level == 0, "an import that is relative"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("ppap."))


def run_time(tree: ast.Module) -> ast.Module:
    """A module without what only type checkers see."""
    seen = [n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test))]
    return ast.Module(seen, [])


def imported_modules(tree: ast.Module) -> set[str]:
    """The modules that are imported: `from ppap.a import b` imports ppap.a.b if that is a module, else ppap.a."""
    known = {module_of(path) for path in TREES}
    return {
        module
        for name in imports(run_time(tree))
        for module in (name, name.rpartition(".")[0])
        if module in known and not (module != name and name in known)
    }


def test_every_folder_has_its_place() -> None:
    found = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert found == set(FOLDERS)


def test_no_import_goes_to_a_higher_folder() -> None:
    upwards = [
        f"{module_of(path)} imports {name}"
        for path, tree in TREES.items()
        if path.parent != PACKAGE
        for name in imports(tree)
        if len(name.split(".")) > 1 and name.split(".")[1] in FOLDERS
        if FOLDERS.index(name.split(".")[1]) > FOLDERS.index(folder_of(path))
    ]
    assert upwards == []


def test_science_knows_no_preset_and_no_layout() -> None:
    named = [
        f"{module_of(path)}:{node.lineno} {node.id}"
        for path, tree in TREES.items()
        if folder_of(path) in SCIENCE
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in ("Layout", "Preset")
    ]
    assert named == []


def test_no_imports_form_a_circle() -> None:
    graph = {module_of(path): imported_modules(tree) for path, tree in TREES.items()}
    graph.pop("ppap")  # which gives names of all folders, loaded when they are used
    circles: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            circles.append([*trail[trail.index(module) :], module])
        elif module not in done and module in graph:
            for other in sorted(graph[module]):
                visit(other, [*trail, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])
    assert circles == []


def test_a_step_has_one_word_for_its_class_its_module_its_rule_and_its_command() -> None:
    from ppap.cli.app import app
    from ppap.workflow.steps import STEPS

    commands = {
        command.name or command.callback.__name__.replace("_", "-")  # type: ignore[union-attr]
        for command in app.registered_commands
    }
    modules = {path.stem for path in (PACKAGE / "workflow" / "steps").glob("*.py")} - {"__init__"}
    assert {step.__module__.rpartition(".")[2] for step in STEPS} <= modules
    for step in STEPS:
        module = step.__module__.rpartition(".")[2]
        assert step.rule() == module
        assert step.__name__.lower() == module.replace("_", "")
        assert module.replace("_", "-") in commands


def test_a_job_starts_without_what_only_figures_need() -> None:
    code = "import sys, ppap.cli.steps, ppap.workflow.steps; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
