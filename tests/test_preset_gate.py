"""One gate for what a preset says: `ppap config check` accepts what jobs can do, and refuses the rest in one line."""

import copy
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ppap.config import reading as presets
from ppap.data import datasets
from ppap.workflow import networks as models
from ppap.workflow.check import problems
from ppap.workflow.layout import Layout
from tests.conftest import IMAGENET, ROOT, SMOKE, Done, ppap
from tests.repository import Repository

# but for config.yaml, which names one
SHIPPED = [SMOKE, *(p for p in (ROOT / "config").glob("*.yaml") if p.stem != "config")]


def checked(preset: Path, *options: str) -> Done:
    return ppap("config", "check", preset, *options, check=False)


def lines_of(done: Done, preset: Path) -> list[str]:
    """The lines that refuse a preset, without its name; AssertionError if they are anything else."""
    assert done.returncode == 2, done
    lines = done.stderr.splitlines()
    assert lines and all(line.startswith(f"ppap: {preset}: ") for line in lines), done.stderr
    return [line.removeprefix(f"ppap: {preset}: ") for line in lines]


@pytest.mark.parametrize("preset", SHIPPED, ids=lambda path: path.stem)
def test_the_presets_pass_the_full_check_without_a_download(preset: Path) -> None:
    done = checked(preset)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{preset}: fine")


# -- what YAML is accepted ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"preset: a\nseed: 1\npreset: b\n", "line 3: key 'preset' is given twice"),
        (b"preset: a\n# caf\xe9\n", "not YAML: "),
        (b"preset: !!python/name:os.system", "line 1: could not determine a constructor for the tag"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_yaml_or_has_a_key_twice_is_refused_in_one_line(
    tmp_path: Path, text: bytes, message: str
) -> None:
    preset = tmp_path / "preset.yaml"
    preset.write_bytes(text)
    (line,) = lines_of(checked(preset), preset)
    assert line.startswith(message)


def test_a_preset_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch) -> None:
    for name, wanted in (("nowhere", "No such file or directory"), ("folder", "Is a directory")):
        preset = tmp_path / f"{name}.yaml"
        if name == "folder":
            preset.mkdir()
        (line,) = lines_of(checked(preset), preset)
        assert line.startswith(wanted)
    preset = tmp_path / "secret.yaml"
    shutil.copy(SMOKE, preset)

    def forbidden(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    assert lines_of(checked(preset), preset) == ["Permission denied"]


# -- rules that names and numbers decide -------------------------------------------------------------

ROW = {"guides": ["resnet"], "samplers": ["ddim25"], "methods": ["naive"]}
RGB = {"kind": "registered", "name": "cifar10-train", "image_size": 8, "channels": 3}
INCEPTION = {
    "kind": "inception",
    "weights": {"url": "https://a.org/w.pth"},
    "reference": {"archive": {"url": "https://a.org/r.npz"}},
}
UNET = "diffusion__architecture__"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluator__neighbours": 20}, "evaluator.neighbours: 20, but a sampling seed has no more than 20"),
        ({"evaluator__model": "torchvision:resnet18"}, "evaluator.model: 'torchvision:resnet18': its library's models"),
        ({"tables": {"capacity": [ROW]}}, "tables: lack the table `main`"),
        ({"tables": {"main": [ROW, ROW]}}, "tables.main: the row ddim25, resnet, naive stands there twice"),
        ({"tables__main": [ROW | {"methods": ["none", "x0_gradient"]}]},
         "figures.sampler: tables.main has no row of resnet with ddim25 that is guided by"),
        ({"dataset__image_size": 16}, "dataset.image_size: 16, but digits have 8"),
        ({"dataset__class_names": ["a", "b"]}, "dataset: class_names: 2 names for 10 classes"),
        ({f"{UNET}norm_groups": 3}, "diffusion.architecture: norm_groups: 3 does not divide 8 channels"),
        ({f"{UNET}learn_sigma": True, "diffusion__variance": "learned_range"}, "diffusion: train: learns no variance"),
        ({"guides__resnet__mean": [0.5, 0.5, 0.5]}, "guides.resnet.mean: 3 numbers for images of 1 channel"),
        ({"guides__resnet__options": {"pretrained": True}}, "guides.resnet: options.pretrained: follows from the rest"),
        ({"guides__resnet__train__shift": 8}, "guides.resnet.train.shift: 8 pixels move an image of 8 out of sight"),
        ({"figures__timesteps": [500, 1000]}, "figures.timesteps: there is no timestep 1000"),
        ({"guides__vit__stands_for": "deits"}, "guides.vit.stands_for: Input should be 'resnet50', 'deit_s'"),
        ({"sampling__seeds": [1, 1]}, "sampling.seeds: 1 is given twice"),
        ({"samplers__ddim25__scale": "inf"}, "samplers.ddim25.scale: Input should be a finite number"),
        ({"methods__ppap_5__overrides": {"experts.taus": 1}}, "methods.ppap_5.overrides: experts.taus: unknown key"),
        ({"methods__ppap_5__overrides": {"experts.tau": 0}},
         "methods.ppap_5.overrides: experts.tau: Input should be greater than or equal to 0.001"),
        ({"methods__ppap_5__overrides": {"guides.vgg.adapter.rank": 1}},
         "methods.ppap_5.overrides: guides.vgg.adapter.rank: guides has no 'vgg'"),
        ({"methods__ppap_5__overrides": {"guides.vit.input_size": 1}},
         "methods.ppap_5.overrides: guides.vit.input_size: no key of `experts`, nor of a guide's `adapter` or `experts`"),
        ({"methods__naive__overrides": {"experts.tau": 1}}, "methods.naive.overrides: belongs to guidance: experts"),
        ({"methods__ppap_5__overrides": {"guides.resnet.experts.steps": 3}},
         "guides.resnet.experts.steps: 3 are too few for 2 experts (ppap_5)"),
        ({"methods__single_noise_aware__taught_on": "real"},
         "methods.single_noise_aware.taught_on: real images have answers of a teacher"),
        ({"guides__resnet__experts__steps": 3}, "guides.resnet.experts.steps: 3 are too few for 2 experts"),
        ({"methods__ppap_5__sees": "x0_hat", "methods__ppap_5__estimates": "stored", "clean_images__estimates": 1},
         "clean_images.estimates: 1 are too few; none is at timesteps 0 to 499 (ppap_5)"),
        ({"experts__warm_share": 0.01}, "experts.warm_share: leaves the shared start of resnet none of its 40 steps"),
        ({"dataset": RGB, f"{UNET}in_channels": 3,
          "evaluator": INCEPTION | {"weights": {"url": "https://b.org/r.npz"}}},
         "evaluator.reference.archive: another download is called r.npz too"),
    ],
)  # fmt: skip
def test_what_would_fail_after_hours_is_refused_before_the_graph(preset_file, changes, message) -> None:
    """By `presets.load`, which is all that Snakemake calls before it builds the graph."""
    preset = preset_file(**changes)
    with pytest.raises(presets.PresetError) as error:
        presets.load(preset)
    assert any(problem.startswith(f"{preset}: {message}") for problem in error.value.problems), error.value.problems
    assert lines_of(checked(preset), preset) == [
        problem.removeprefix(f"{preset}: ") for problem in error.value.problems
    ]


def test_all_that_is_wrong_is_said_at_once(preset_file) -> None:
    preset = preset_file(evaluator__neighbours=50, figures__timesteps=[1000], guides__resnet__mean=[0.1, 0.2])
    said = [line.split(":")[0] for line in lines_of(checked(preset), preset)]
    assert said == ["figures.timesteps", "guides.resnet.mean", "evaluator.neighbours"]


@pytest.mark.parametrize("share", [0.02, 0.9])
def test_every_digit_is_on_both_sides_of_the_smallest_and_the_largest_holdout(preset_file, share: float) -> None:
    """Figures show a held-out image of a class."""
    config, sizes = (presets.load(preset_file(dataset__holdout=share)), datasets.DATASETS.get("digits").sizes)
    for split in ("train", "holdout"):
        data = datasets.load(config.dataset, split)
        assert data.images.shape[1:] == (*[sizes["image_size"]] * 2, sizes["channels"])
        assert set(data.classes.tolist()) == set(range(sizes["classes"]))


# -- networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guides__vit__options__img_size": 16}, r"guides\.vit: model 'timm:vit\S+' cannot be used .*Input height"),
        ({"guides__vit__model": "torchvision:resnet18", "guides__vit__options": {}},
         r"guides\.vit: torchvision:resnet18 takes 3 channels, the images have 1"),
        ({"guides__vit__adapter__layers": ["*.nothing"]},
         r"guides\.vit\.adapter\.layers: '\*\.nothing' matches no convolution or linear layer"),
        ({"guides__vit__adapter__freeze": ["*"]}, r"guides\.vit\.adapter\.freeze: leaves nothing to train"),
        ({"guides__resnet__input_size": 1, "guides__resnet__experts__batch_size": 1},
         r"guides\.resnet: .*more than 1 value per channel"),
        ({"dataset": RGB | {"name": "mnist"}, f"{UNET}in_channels": 3}, r"dataset\.name: torch-fidelity has no data set"),
    ],
)  # fmt: skip
def test_a_network_that_jobs_could_not_use_is_refused(preset_file, changes, message) -> None:
    preset = preset_file(**changes)
    presets.load(preset)
    (line,) = lines_of(checked(preset), preset)
    assert re.match(message, line), line


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("timm:vit_base_patch16_clip_224.openai", r"the weights of \S+ know 512 classes, the preset has 1000"),
        ("torchvision:resnet18/IMAGENET1K_V9", r".*has no weights 'IMAGENET1K_V9'"),
    ],
)  # fmt: skip
def test_library_weights_must_be_there_and_fit(tmp_path: Path, model: str, message: str) -> None:
    data = one_imagenet_guide()
    data["guides"]["resnet18"]["model"] = model
    (preset := tmp_path / "preset.yaml").write_text(yaml.safe_dump(data))
    (line,) = lines_of(checked(preset), preset)
    assert re.match(rf"guides\.resnet18: .*{message}", line), line


def one_imagenet_guide() -> dict[str, Any]:
    """The preset imagenet256 with one guide and without a classifier: its full check takes less time."""
    data = yaml.safe_load(IMAGENET.read_text())
    data["guides"] = {"resnet18": data["guides"]["resnet18"]}
    row = {"guides": ["resnet18"], "samplers": ["ddim25"], "methods": list(data["methods"])}
    data["tables"] = {"main": [row]}
    data["diffusion"]["architecture"] = {"model_channels": 64, "channel_mult": [1], "attention_factors": []}
    del data["evaluator"]["classifier"]
    return data


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A folder with presets and, beside them, models of the user's own."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copy(ROOT / "tests" / "strange_models.py", folder)
    return folder


def own_preset(folder: Path, function: str, key: str = "guides.resnet", **changes: Any) -> Path:
    data = yaml.safe_load(SMOKE.read_text())
    spec = data["guides"]["resnet"] if key.startswith("guides") else data["evaluator"]
    spec |= {"model": f"user:strange_models.{function}", "options": {}, "input_size": 8} | changes
    if "adapter" in spec:
        spec["adapter"] = {"layers": ["body"], "rank": 2, "freeze": []}
    preset = folder / f"{function}.yaml"
    preset.write_text(yaml.safe_dump(data))
    return preset


def test_a_model_of_the_users_own_that_guides_passes(own: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(own)
    for preset in (own_preset(own, "good"), own_preset(own, "gives_features", "evaluator")):
        done = checked(preset)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("returns_none", "returns a NoneType"),
        ("answers_with_nan", "not finite"),
        ("answers_with_a_class", r"answers with \(2,\)"),
        ("answers_without_gradient", "no gradient"),
        ("has_no_parameters", "no parameters to train|matches no"),
    ],
)
def test_a_model_of_the_users_own_that_is_no_guide_is_named(
    own: Path, monkeypatch, function: str, message: str
) -> None:
    monkeypatch.syspath_prepend(own)
    preset = own_preset(own, function)
    (line,) = lines_of(checked(preset), preset)
    assert line.startswith("guides.resnet") and re.search(message, line), line
    assert f"user:strange_models.{function}" in line or ".adapter." in line


def test_what_a_model_of_the_users_own_raises_comes_as_it_is(own: Path) -> None:
    layout = Layout(presets.load(own_preset(own, "fails_on_images")))
    with pytest.raises(RuntimeError):
        problems(layout)


@pytest.mark.parametrize(
    "change", [{"guides__resnet__task": "user:failing.thing"}, {"samplers__ddim25__kind": "user:failing.thing"}]
)
def test_a_module_of_the_users_own_that_fails_shows_its_own_traceback(preset_file, tmp_path: Path, change) -> None:
    """ValueError too, which pydantic takes for its own where a validator raises it."""
    (tmp_path / "failing.py").write_text("x = 1\nraise ValueError('of my own')\n")
    done = checked(preset_file(**change))
    assert done.returncode == 1
    assert 'failing.py", line 2, in <module>' in done.stderr and done.stderr.endswith("ValueError: of my own\n")


def test_what_the_preset_names_by_path_is_looked_for_when_asked(tmp_path: Path) -> None:
    data = one_imagenet_guide()
    data["dataset"]["path"] = str(tmp_path / "imagenet")
    data["evaluator"]["weights"] = {"url": str(tmp_path / "w.pth")}
    (preset := tmp_path / "preset.yaml").write_text(yaml.safe_dump(data))
    assert checked(preset).returncode == 0
    hint = "`supervised: false` leaves out the rows that need it"
    assert lines_of(checked(preset, "--files"), preset) == [
        f"evaluator.weights.url: {tmp_path}/w.pth: is not there",
        f"dataset.path: {tmp_path}/imagenet: is not there; {hint}",
    ]


# -- under Snakemake ---------------------------------------------------------------------------------


def test_snakemake_checks_in_full_before_its_first_job(tmp_path: Path, preset_file) -> None:
    repository = Repository.create(tmp_path / "ppap")
    preset = preset_file(sampling__smaples=3)
    done = repository.snakemake(preset=str(preset), check=False)
    assert done.returncode == 2 and f"ppap: {preset}: sampling.smaples: unknown key" in done.stderr
    assert not (repository.where / "results").exists()
    preset = preset_file(guides__vit__options__img_size=16)
    done = repository.snakemake(preset=str(preset), check=False)
    said = [line for line in done.stderr.splitlines() if line.startswith("ppap: ")]
    assert done.returncode == 2
    assert len(said) == 1 and said[0].startswith(f"ppap: {preset}: guides.vit: ")
    assert "Traceback" not in done.stderr
    assert not list((repository.where / "results").rglob("*.safetensors"))
    assert not list((repository.where / ".snakemake").glob("locks/*"))


# -- presets damaged at random -----------------------------------------------------------------------


def tiny() -> dict[str, Any]:
    """The smoke preset with one small guide: its full check takes little time."""
    data = yaml.safe_load(SMOKE.read_text())
    vit = data["guides"]["vit"]
    data["guides"] = {"vit": vit}
    data["evaluator"] = {key: vit[key] for key in ("model", "options", "input_size", "train")}
    for grids in data["tables"].values():
        for grid in grids:
            grid["guides"] = ["vit"]
    data["tables"]["main"] = [{"guides": ["vit"], "samplers": ["ddim25"], "methods": list(data["methods"])}]
    return data


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value of a preset."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [*([path] if path else []), *(p for k, child in children for p in places(child, (*path, k)))]


STRANGE: list[Any] = [
    None, True, "", "a", "none", "reference", "timm:resnet18", "user:nowhere.f", 0, 1, 2, 3, 7, -1, 0.5, -0.5, 1e-300,
    1e300, math.inf, -math.inf, math.nan, 10**6, 10**12, 10**30, -(10**30), [], {}, [1], ["a"], {"a": 1}, [[]], "0x10",
    "1e5", "inf", "../../etc", "a b", "$(touch pwned)", "é", "..",
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A preset with one to three things done to it, as the bytes of a file."""
    data = tiny()
    for _ in range(draw(st.integers(0, 3))):
        damage(draw, data)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode()
    kind = draw(st.sampled_from(["none", "none", "none", "none", "cut", "byte", "twice", "tab"]))
    where = draw(st.integers(0, len(text) - 1))
    if kind == "cut":
        return text[:where]
    if kind == "byte":
        return text[:where] + bytes([draw(st.integers(0, 255))]) + text[where + 1 :]
    lines = text.splitlines(keepends=True)
    line = lines[where % len(lines)]
    return text.replace(line, line * 2 if kind == "twice" else b"\t" + line, kind != "none")


def damage(draw: st.DrawFn, data: Any) -> None:
    """Drop, retype, swap, rename or repeat something."""
    everywhere = places(data)
    (*parents, last), other = (draw(st.sampled_from(everywhere)) for _ in range(2))
    parent = at(data, parents)
    kind = draw(st.sampled_from(["drop", "set", "set", "set", "scale", "swap", "rename", "repeat"]))
    if kind == "drop":
        del parent[last]
    elif kind == "scale" and isinstance(parent[last], int | float):
        parent[last] *= draw(st.sampled_from([-1, 0, 2, 10, 1000, 10**9, 1e-9, 0.5]))
    elif kind == "swap":
        parent[last] = copy.deepcopy(at(data, other))
    elif kind == "rename" and isinstance(parent, dict):
        parent[draw(st.sampled_from(["a", "reference", "A b", "diffusion"]))] = parent.pop(last)
    elif kind == "repeat" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[last]))
    else:
        parent[last] = copy.deepcopy(draw(st.sampled_from(STRANGE)))


def at(data: Any, path: Any) -> Any:
    for key in path:
        data = data[key]
    return data


@pytest.fixture(scope="module")
def damaged_file(tmp_path_factory) -> Callable[[bytes], Path]:
    folder = tmp_path_factory.mktemp("damaged")

    def write(text: bytes) -> Path:
        path = folder / "preset.yaml"
        path.write_bytes(text)
        return path

    return write


@settings(
    max_examples=50, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(text=damaged())
def test_a_damaged_preset_is_fine_or_refused_line_by_line(text: bytes, damaged_file) -> None:
    preset = damaged_file(text)
    done = checked(preset)
    if done.returncode:
        assert lines_of(done, preset)
        assert done.stdout == ""
        return
    assert done.stderr == ""
    config = presets.load(preset)
    assert presets.validate(json.loads(config.model_dump_json()), preset) == config
    with torch.device("meta"):
        for name in config.guides:
            models.new_guide(Layout(config), name)
