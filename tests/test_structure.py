"""The structure of the package: rooms in layers, named by what is in them, each thing said in one place."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppap import config as presets
from ppap.workflow.layout import Layout
from tests.conftest import DIGITS, ROOT

PACKAGE = ROOT / "ppap"
MODULES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}

# From the lowest to the highest: a module imports from its own layer and from lower ones.
LAYERS = [
    {"ppap", "errors", "registry", "user_code", "seeds"},
    {"process"},
    {"storage"},
    {"diffusion"},
    {"tasks"},
    {"preset"},
    {"graph"},
    {"networks"},
    {"data"},
    {"training"},
    {"experts"},
    {"sampling"},
    {"api"},
    {"evaluation"},
    {"report"},
    {"steps"},
    {"plan"},
    {"status"},
    {"check"},
    {"results"},
    {"workflow"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, layer in enumerate(LAYERS) for room in layer}


def where(path: Path, node: ast.AST | None = None) -> str:
    line = f":{getattr(node, 'lineno', '')}" if node is not None else ""
    return f"{path.relative_to(ROOT)}{line}"


def lines(found: list[str]) -> str:
    return "\n".join(["", *found])


# -- layers ----------------------------------------------------------------------------------------


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return "ppap" if first == "__init__.py" else first.removesuffix(".py")


def imported_rooms(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The rooms that a module imports from, within functions too; modules that a string names are imports."""
    for node in nodes(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import that is relative"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = re.findall(r"^(ppap\.[a-z_.]+)(?:[:.]\w+)?$", node.value)
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "ppap":
                room = rest.split(".")[0]
                yield (room if room in LEVEL or (PACKAGE / room).is_dir() else "ppap"), node


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that type checkers alone see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from nodes(node)


def test_every_room_has_its_layer() -> None:
    assert {room_of(path) for path in MODULES} <= set(LEVEL)


def test_no_import_goes_to_a_higher_room() -> None:
    upwards = [
        f"{where(path, node)}: {room_of(path)} imports {room}"
        for path, tree in TREES.items()
        for room, node in imported_rooms(tree)
        if LEVEL.get(room, len(LAYERS)) > LEVEL[room_of(path)]
    ]
    assert not upwards, lines(upwards)


@pytest.mark.parametrize(
    "line",
    [
        "from ppap.cli import app",
        "from ppap import cli",
        "import ppap.cli.app",
        "def f():\n    from ppap.cli.app import run",
        "KIND = 'ppap.cli.app:run'",
    ],
)
def test_imports_are_found_in_every_form(line: str) -> None:
    assert [room for room, _ in imported_rooms(ast.parse(line))] == ["cli"]


# -- rooms and names -------------------------------------------------------------------------------


def test_no_room_holds_more_than_twelve_modules() -> None:
    counts: dict[Path, int] = {}
    for path in MODULES:
        if path.name != "__init__.py" and path.parent.name != "steps":  # one for each step
            counts[path.parent] = counts.get(path.parent, 0) + 1
    assert {where(folder): n for folder, n in counts.items() if n > 12} == {}


def test_every_room_is_a_package_that_is_installed() -> None:
    folders = {path.parent for path in MODULES}
    assert [where(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


QUESTIONS = {"what", "which", "where", "when", "why", "who", "whose", "how", "whether", "if"}
SENTENCES = {"it", "this", "these", "here", "there", "to"}
VERBS = {
    *("read", "write", "make", "check", "run", "train", "draw", "compute", "load", "build", "copy"),
    *("find", "say", "tell", "show", "define", "contain", "contains", "provides", "implements"),
}


def opens_with_a_noun_phrase(docstring: str) -> bool:
    """Whether a docstring begins with a name of something: no question, no sentence, no "reading x".

    An -ing form passes as a noun: "Training of one expert".
    """
    first, _, rest = docstring.partition(" ")
    word = first.strip(",.:;").lower()
    if word in QUESTIONS | SENTENCES | VERBS:
        return False
    return not word.endswith("ing") or first[-1] in ",:" or rest.startswith("of ")


def test_module_docstrings_open_with_a_noun_phrase() -> None:
    found = {path: ast.get_docstring(tree) for path, tree in TREES.items()}
    bare = [path for path, text in found.items() if not text and path.read_text(encoding="utf-8")]
    assert [where(path) for path in bare] == []
    wrong = {where(p): t for p, t in found.items() if t and not opens_with_a_noun_phrase(t)}
    assert wrong == {}


@pytest.mark.parametrize(
    ("docstring", "noun"),
    [
        ("The sampling loop.", True),
        ("Training of one expert.", True),
        ("`ppap config`: show or check a preset.", True),
        ("What a sampler asks.", False),
        ("How networks run.", False),
        ("Reading presets.", False),
        ("Read presets.", False),
        ("This module has samplers.", False),
    ],
)
def test_a_noun_phrase_is_told_from_others(docstring: str, noun: bool) -> None:
    assert opens_with_a_noun_phrase(docstring) == noun


# -- one place for each thing ----------------------------------------------------------------------

LAYOUT_MODULE = PACKAGE / "graph" / "layout.py"


def results_folders() -> set[str]:
    """The folders below results/PRESET, as published and as the layout names them."""
    layout = Layout(presets.load(DIGITS), Path("r"))
    paths = [layout.clean(0), layout.metrics("s", "g"), layout.table("t", "md"), layout.figure("f")]
    names = {path.relative_to(layout.root).parts[0] for path in paths}
    named = {
        node.right.value
        for node in ast.walk(TREES[LAYOUT_MODULE])
        if isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant)
        if ast.unparse(node.left) == "self.root" and "." not in str(node.right.value)
    }
    assert names <= named
    return {*map(str, named), "models", "judges"}


def result_paths(tree: ast.AST, folders: set[str]) -> Iterator[ast.AST]:
    """Literal paths below results/: "results/..." at the end of a string, or root / "samples"."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            name = node.right.value if isinstance(node.right, ast.Constant) else None
            folder = re.search(r"root|results|layout", ast.unparse(node.left))
            if folder and isinstance(name, str) and name.split("/")[0] in folders:
                yield node
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in said
            and re.search(r"\bresults/\S*$", node.value)
        ):
            yield node


def test_only_the_layout_names_paths_of_results() -> None:
    folders = results_folders()
    found = [
        f"{where(path, node)}: {ast.unparse(node)}"
        for path, tree in TREES.items()
        for node in result_paths(tree, folders)
        if path != LAYOUT_MODULE
    ]
    assert not found, lines(found)


def test_the_rules_name_no_paths_of_results() -> None:
    names = "|".join(sorted(results_folders() | {"logs", "benchmarks"}))
    literal = re.compile(rf"\bresults/|\{{?ROOT\}}?.*/|[\"'}}/]({names})/")
    rules = [ROOT / "workflow" / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*"))]
    found = [
        f"{where(path)}:{number}: {line.strip()}"
        for path in rules
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if literal.search(line) and not line.lstrip().startswith(("#", "include:"))
    ]
    assert not found, lines(found)


# -- kinds -----------------------------------------------------------------------------------------

# The registries, and the classes of the kinds themselves.
KINDS_MODULES: set[str] = set()
KIND_FIELDS = {"guidance", "kind"}
KIND_PREFIXES = {"user:", "timm:", "torchvision:"}
KIND_SECTIONS = re.compile(r"\w+(Evaluator|Source|Guidance|Sampler|Dataset)$")


def kinds_asked(tree: ast.AST) -> Iterator[ast.AST]:
    """Comparisons with a kind's name, and questions for the class of a kind's section."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            fields = [s for s in sides if isinstance(s, ast.Attribute) and s.attr in KIND_FIELDS]
            if fields and not all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
                yield node
        elif isinstance(node, ast.Match):
            if isinstance(node.subject, ast.Attribute) and node.subject.attr in KIND_FIELDS:
                yield node
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            said = [a.value for a in node.args if isinstance(a, ast.Constant)]
            if called.endswith(".startswith") and KIND_PREFIXES & set(said):
                yield node
            if called == "isinstance" and any(
                KIND_SECTIONS.match(name) for name in re.findall(r"\w+", ast.unparse(node.args[1]))
            ):
                yield node


def test_no_code_asks_for_a_kind_by_its_name() -> None:
    found = [
        f"{where(path, node)}: {ast.unparse(node)}"
        for path, tree in TREES.items()
        if str(path.relative_to(PACKAGE)) not in KINDS_MODULES
        for node in kinds_asked(tree)
    ]
    assert not found, lines(found)


@pytest.mark.parametrize(
    "code",
    [
        'x = method.guidance == "experts"',
        'x = "ddpm" != sampler.kind',
        'x = dataset.kind in ("digits", "registered")',
        "x = isinstance(preset.evaluator, InceptionEvaluator)",
        "x = isinstance(spec, (int, networks.ClassifierEvaluator))",
        'x = model.startswith("user:")',
    ],
)
def test_questions_for_a_kind_are_found(code: str) -> None:
    assert len(list(kinds_asked(ast.parse(code)))) == 1


# -- steps -----------------------------------------------------------------------------------------


def test_a_step_has_one_word_for_its_class_its_module_its_rule_and_its_command() -> None:
    steps = importlib.import_module("ppap.workflow.steps")
    commands = {
        command.name or command.callback.__name__.replace("_", "-")
        for command in importlib.import_module("ppap.cli.app").app.registered_commands
    }
    base = importlib.import_module("ppap.workflow.step").Step
    written = [
        (module, thing)
        for module in (info.name for info in pkgutil.iter_modules(steps.__path__))
        for thing in vars(importlib.import_module(f"ppap.workflow.steps.{module}")).values()
        if isinstance(thing, type) and issubclass(thing, base)
        if thing.__module__ == f"ppap.workflow.steps.{module}"
    ]
    assert {step for _, step in written} == set(steps.STEPS)
    for module, step in written:
        assert step.rule() == module
        assert step.__name__.lower() == module.replace("_", "")
        assert module.replace("_", "-") in commands
