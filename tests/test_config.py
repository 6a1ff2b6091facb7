"""Presets: what is refused and how, and that schema, locks and documentation agree with the code."""

import json
import re
import runpy
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.version import Version

from ppap.config import reading as presets
from ppap.utils.errors import ConfigError
from ppap.utils.settings import Section
from tests.conftest import DIGITS, ROOT, SMOKE, SMOKE_TASKS, ppap
from tests.lowest import lowest

REFERENCE = runpy.run_path(str(ROOT / "workflow" / "scripts" / "preset_reference.py"))
# config.yaml is no preset: it names one.
PRESETS = [
    SMOKE,
    SMOKE_TASKS,
    *(path for path in sorted((ROOT / "config").glob("*.yaml")) if path.name != "config.yaml"),
]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid_under_the_models_and_under_the_schema(path: Path) -> None:
    """And without aliases but of a whole method (`<<`): `dvc exp run -S` does not change a value that one repeats."""
    presets.load(path)
    jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(presets.json_schema()))
    events = list(yaml.parse(path.read_text()))
    before = [events[i - 1] for i, event in enumerate(events) if isinstance(event, yaml.AliasEvent)]
    assert {getattr(event, "value", None) for event in before} <= {"<<"}


def test_the_committed_schema_is_the_models() -> None:
    committed = (ROOT / "workflow" / "schemas" / "config.schema.json").read_text()
    assert committed == presets.json_schema(), "run `make schema`"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling__smaples": 3}, "sampling.smaples: unknown key"),
        ({"replicates": [0, 1, 1]}, "replicates: 1 is given twice"),
        ({"replicates": [1, 2]}, r"replicates: give two or more, `seed` \(0\) among them"),
        ({"sampling__samples": 0}, "sampling.samples: Input should be greater than 0"),
        ({"diffusion__timesteps": 5}, r"samplers.ddpm250.steps: cannot keep 10 of 5 timesteps"),
        ({"methods__ppap_5__experts": None}, "methods.ppap_5: supervision, experts and trainable belong"),
        ({"sampling__classes": [3, 12]}, "sampling.classes: there is no class 12; the classes are 0 to 9"),
        ({"clean_images__sampler": "ddim9"}, "clean_images.sampler: samplers has no 'ddim9'"),
        ({"tables__capacity": [{"guides": ["vgg"], "samplers": ["ddim25"], "methods": ["none"]}]},
         "tables.capacity: guides has no 'vgg'"),
        ({"diffusion__variance": "learned_range"}, "learned_range goes with"),
        ({"guides__vit__model": "keras:vgg"}, "guides.vit.model: 'keras:vgg': write timm:NAME"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named_with_its_file(preset_file, changes, message) -> None:
    path = preset_file(**changes)
    with pytest.raises(ConfigError, match=re.escape(str(path)) + ".*" + message):
        presets.load(path)


def test_config_show_prints_a_preset_that_loads_to_the_same(tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(ppap("config", "show", DIGITS).stdout)
    assert presets.load(path).model_dump() == presets.load(DIGITS).model_dump()


def test_the_readme_of_config_explains_every_key_as_its_field_does() -> None:
    page = ROOT / "config" / "README.md"
    assert page.read_text() == REFERENCE["with_keys"](page.read_text()), "run `make schema`"


@pytest.mark.parametrize("kind", REFERENCE["sections"](), ids=lambda kind: kind.__name__)
def test_every_section_and_every_field_is_explained(kind: type[Section]) -> None:
    assert kind.__doc__ and kind.__doc__ != Section.__doc__
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


def test_locks_and_environment_agree_with_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", lock, re.M))
    for name, least in lowest().items():
        assert name in pinned, f"{name} is not in requirements.lock; run `make lock`"
        assert Version(pinned[name]) >= Version(least), f"{name} {pinned[name]} is older than {least}"
    assert lock.count("--hash=sha256:") >= len(pinned)
    assert "://" not in re.sub(r"^\s*#.*", "", lock, flags=re.M)
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert {"pip": ["-r requirements.lock"]} in environment["dependencies"]
    assert f"python {project['requires-python']}" in environment["dependencies"]
