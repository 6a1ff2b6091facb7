"""Damaged files of the workflow's own making: the right result or one line, and never anything else."""

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ppap.evaluation import metrics
from ppap.utils import files
from tests.conftest import IMAGENET, SMOKE, contents, ppap, refused

TRAIN = {"steps": 12, "batch_size": 32, "learning_rate": 3.0e-3}
RESULTS = Path("results") / "smoke"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A finished little folder: two shards of everything, two guides of one architecture, two methods alike."""
    where = tmp_path_factory.mktemp("made")
    data = yaml.safe_load(SMOKE.read_text())
    resnet = data["guides"]["resnet"]
    resnet |= {"train": TRAIN, "experts": TRAIN | {"steps": 24}}
    data["guides"] = {"resnet": resnet, "twin": resnet}
    data["evaluator"]["train"] = data["diffusion"]["train"] = TRAIN
    methods = data["methods"]
    data["methods"] = {name: methods[name] for name in ("none", "naive", "ppap_5")}
    data["methods"]["peer"] = methods["ppap_5"] | {"supervision": "labels"}
    data["clean_images"] |= {"label_shards": 1}
    data["sampling"] |= {"shard_size": 24}
    grid = {"guides": ["resnet", "twin"], "samplers": ["ddim25"], "methods": ["none", "naive", "ppap_5"]}
    data["tables"] = {"main": [grid]}
    (where / "preset.yaml").write_text(yaml.safe_dump(data))
    for model in ("diffusion", "evaluator", "resnet", "twin"):
        step(where, "pretrain", model)
    for shard in (0, 1):
        step(where, "generate", "--shard", shard)
    for part in (0, 1):
        step(where, "label", "resnet", "--part", part)
        step(where, "label", "twin", "--part", part)
    for guide, supervision in (("resnet", "teacher"), ("resnet", "labels"), ("twin", "teacher")):
        step(where, "warm-start", guide, f"{supervision}_adapter")
    for guide, method in (("resnet", "ppap_5"), ("resnet", "peer"), ("twin", "ppap_5")):
        for expert in (1, 2):
            step(where, "train-expert", guide, method, expert)
    for guide, method in (("unguided", "none"), ("resnet", "naive"), ("resnet", "ppap_5"),
                          ("twin", "naive"), ("twin", "ppap_5")):  # fmt: skip
        for shard in (0, 1):
            step(where, "sample", "ddim25", guide, method, "--shard", shard)
    step(where, "reference-features")
    for guide in ("unguided", "resnet", "twin"):
        step(where, "features", "ddim25", guide)
        step(where, "metrics", "ddim25", guide)
    step(where, "table", "main")
    shutil.rmtree(where / "scratch", ignore_errors=True)
    return where


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def step(where: Path, name: str, *arguments: object, check: bool = True) -> Any:
    return ppap(name, "preset.yaml", *arguments, cwd=where, check=check)


def refused_step(where: Path, name: str, *arguments: object) -> str:
    return refused(name, "preset.yaml", *arguments, cwd=where)


# -- damage at random --------------------------------------------------------------------------------


class Step(NamedTuple):
    """A step, the file that is looked at afterwards, and the files that it reads, by kind."""

    command: tuple[object, ...]
    out: str
    reads: tuple[str, ...]


LABEL = Step(("label", "resnet", "--part", 0), "labels/resnet/0000.safetensors",
             ("models/resnet.safetensors", "clean/0000.npy"))  # fmt: skip
TRAIN_EXPERT = Step(
    ("train-expert", "resnet", "ppap_5", 1), "experts/resnet/ppap_5/expert_1.safetensors",
    ("models/resnet.safetensors", "experts/resnet/warm_teacher_adapter.safetensors", "clean/0000.npy",
     "clean/0001.npy", "labels/resnet/0000.safetensors", "labels/resnet/0001.safetensors"),
)  # fmt: skip
SAMPLE = Step(
    ("sample", "ddim25", "resnet", "ppap_5"), "samples/ddim25/resnet/ppap_5/0000.npy",
    ("models/diffusion.safetensors", "models/resnet.safetensors",
     "experts/resnet/ppap_5/expert_1.safetensors", "experts/resnet/ppap_5/expert_2.safetensors"),
)  # fmt: skip
FEATURES = Step(
    ("features", "ddim25", "resnet"), "features/ddim25/resnet.safetensors",
    ("judges/evaluator.safetensors", "samples/ddim25/resnet/naive/0000.npy",
     "samples/ddim25/resnet/ppap_5/0001.npy", "samples/ddim25/resnet/naive/0001.safetensors",
     "samples/ddim25/resnet/ppap_5/0000.safetensors"),
)  # fmt: skip
REFERENCE = Step(("reference-features",), "features/reference.safetensors",
                 ("judges/evaluator.safetensors",))  # fmt: skip
METRICS = Step(("metrics", "ddim25", "resnet"), "metrics/ddim25/resnet.json",
               ("features/ddim25/resnet.safetensors", "features/reference.safetensors"))  # fmt: skip
TABLE = Step(("table", "main"), "tables/main.csv",
             ("metrics/ddim25/resnet.json", "metrics/ddim25/unguided.json",
              "experts/resnet/ppap_5/expert_1.safetensors"))  # fmt: skip
STEPS = (LABEL, TRAIN_EXPERT, SAMPLE, FEATURES, REFERENCE, METRICS, METRICS, TABLE, TABLE)

TENSORS = ("drop", "rename", "add", "retype", "reshape", "nan", "metadata")
BYTES = ("cut", "truncate", "head", "empty", "missing", "folder", "swap")
ARRAYS = ("retype", "reshape", "objects", "fortran")
VALUES = ("drop", "rename", "retype", "nan", "add")
KINDS = {".safetensors": TENSORS + BYTES, ".npy": ARRAYS + BYTES, ".json": VALUES + BYTES}
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)  # fmt: skip


def damage_tensors(path: Path, how: str, draw: Callable[[Any], Any]) -> None:
    """As another program would leave the file: with the metadata it had, or with none."""
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    if how == "metadata":
        about = json.loads(metadata["ppap"])
        key = draw(st.sampled_from(sorted(about)))
        about[key] = draw(st.sampled_from(["", "x", "7", "1e999", None, [1]]))
        metadata = {"ppap": draw(st.sampled_from([json.dumps(about), "", "[]", "3", "{"]))}
    else:
        name = draw(st.sampled_from(sorted(tensors)))
        value = tensors[name]
        if (how, path.parts[-3]) != ("retype", "labels"):  # either precision will do, if nothing is said
            metadata = draw(st.sampled_from([metadata, None]))
        if how == "drop":
            del tensors[name]
        elif how == "rename":
            tensors[draw(st.sampled_from([f"{name}x", "", "a/b", "naive/x"]))] = tensors.pop(name)
        elif how == "add":
            tensors["extra"] = torch.zeros(3)
        elif how == "retype":
            tensors[name] = value.to(draw(st.sampled_from(DTYPES)))
        elif how == "reshape":
            tensors[name] = draw(st.sampled_from([value[None], value.flatten(), value[:0], value[:-1]]
                                                 if value.dim() else [value[None]])).clone()  # fmt: skip
        else:
            floats = sorted(n for n, v in tensors.items() if v.is_floating_point() and v.numel())
            if floats:
                flat = tensors[draw(st.sampled_from(floats))].view(-1)
                worst = draw(st.sampled_from([torch.nan, torch.inf, -torch.inf]))
                flat[draw(st.integers(0, len(flat) - 1))] = worst
            else:
                tensors[name] = value - 3
    save_file(tensors, path, metadata)


def damage_array(path: Path, how: str, draw: Callable[[Any], Any]) -> None:
    array = np.load(path)
    if how == "retype":
        array = array.astype(draw(st.sampled_from(["f4", "i1", ">u2", "bool", "U3", "c8"])))
    elif how == "reshape":
        array = draw(st.sampled_from([array[None], array[:0], array[1:], array[..., 0], array.ravel()]))
    elif how == "fortran":
        array = np.asfortranarray(array)
    else:
        array = np.array([{"a": 1}], dtype=object)
    np.save(path, array, allow_pickle=True)


def damage_json(path: Path, how: str, draw: Callable[[Any], Any]) -> None:
    """Somewhere in the tree, but for the names of methods: any may be there."""
    data = json.loads(path.read_text())
    place = data
    for _ in range(draw(st.integers(0, 3))):
        inner = [key for key, value in place.items() if isinstance(value, dict)]
        if not inner:
            break
        place = place[draw(st.sampled_from(sorted(inner)))]
    if place is data["methods"]:
        place = data
    key = draw(st.sampled_from(sorted(place)))
    if how == "drop":
        del place[key]
    elif how == "rename":
        place[f"{key}x"] = place.pop(key)
    elif how == "add":
        place["extra"] = 3
    elif how == "retype":
        place[key] = draw(st.sampled_from(["text", None, [], {}, True, -7.5, ["x"]]))
    else:
        place[key] = draw(st.sampled_from([float("nan"), float("inf"), [float("nan")] * 2]))
    path.write_text(json.dumps(data))


def damage_bytes(path: Path, how: str, draw: Callable[[Any], Any]) -> None:
    """Anywhere in the file, but `head`: in its first bytes, which are all header."""
    data = path.read_bytes()
    start = draw(st.integers(0, len(data) - 1))
    if how == "cut":
        path.write_bytes(data[:start] + data[start + draw(st.integers(1, 64)) :])
    elif how == "truncate":
        path.write_bytes(data[:start])
    elif how == "head":
        start %= 60
        path.write_bytes(data[:start] + bytes([draw(st.integers(0, 255))]) + data[start + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()


def swap(root: Path, path: Path, draw: Callable[[Any], Any]) -> None:
    """With another file of its kind, from anywhere."""
    kind = path.relative_to(root).parts[0]
    kinds = {"models", "judges"} if kind in ("models", "judges") else {kind}
    others = sorted(p for k in kinds for p in (root / k).rglob(f"*{path.suffix}") if p != path)
    other = draw(st.sampled_from(others))
    mine = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(mine)


def outcome(path: Path) -> Any:
    """What a step has written, metadata aside."""
    if path.suffix == ".npy":
        return np.load(path).tolist()
    if path.suffix == ".safetensors":
        return {k: (str(v.dtype), v.tolist()) for k, v in sorted(load_file(path).items())}
    return path.read_text()


@given(st.data())
@settings(
    max_examples=25, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck), phases=[Phase.generate],
)  # fmt: skip
def test_damage_at_random_gets_the_right_result_or_one_line(made: Path, tmp_path_factory, data) -> None:
    command, out, reads = data.draw(st.sampled_from(STEPS))
    name = data.draw(st.sampled_from(reads))
    suffix = Path(name).suffix
    how = data.draw(st.sampled_from(KINDS[suffix]))
    if (command[0], suffix, how) == ("label", ".npy", "swap"):
        return  # the answers are then those for the other shard, and say so
    if (name.split("/")[0], how) == ("experts", "drop"):
        return  # an expert may change less than another
    if (command[0], how) == ("table", "missing"):
        return  # what was not computed stays empty
    where = tmp_path_factory.mktemp("case")
    shutil.copytree(made, where, dirs_exist_ok=True)
    root = where / RESULTS
    if how == "swap":
        swap(root, root / name, data.draw)
    elif how in BYTES:
        damage_bytes(root / name, how, data.draw)
    else:
        by_kind = {".safetensors": damage_tensors, ".npy": damage_array, ".json": damage_json}
        by_kind[suffix](root / name, how, data.draw)
    before = contents(where / "results")
    done = step(where, *command, check=False)
    said = re.findall("ppap: .*", done.stderr)
    if done.returncode == 0:
        assert outcome(root / out) == outcome(made / RESULTS / out), f"{command}: {how} {name}"
    else:
        assert (done.returncode, len(said)) == (2, 1), f"{command}: {how} {name}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        assert contents(where / "results") == before
    shutil.rmtree(where)


# -- what no hash of a header shows: the file is whole, but not the one that belongs there ------------


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of a file and write it as PPAP does, with a header that fits."""
    tensors, about = files.read_tensors(path), files.read_metadata(path)
    change(tensors)
    files.write_tensors(path, tensors, about)


def put(name: str, value: Any) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda tensors: tensors[name].view(-1).__setitem__(0, value)


@pytest.mark.parametrize(
    ("path", "change", "step_and_arguments", "message"),
    [
        ("models/resnet", lambda t: t.pop("fc.bias"), LABEL.command, "lacks fc.bias"),
        ("labels/resnet/0001", lambda t: t.update(image=t["image"][:, :9].clone()),
         TRAIN_EXPERT.command, "image is (50, 9), not (50, 10)"),
        ("samples/ddim25/resnet/naive/0000", put("target", 10), FEATURES.command,
         "sample 0 was guided to target 10, in the preset it is "),
        ("features/reference", lambda t: t.update({k: v[:3].clone() for k, v in t.items()}),
         METRICS.command, "features of 3 images; evaluator.neighbours needs 4"),
    ],
)  # fmt: skip
def test_a_whole_file_with_wrong_tensors_is_refused(
    copy: Path, path: str, change, step_and_arguments, message: str
) -> None:
    rewrite(copy / RESULTS / f"{path}.safetensors", change)
    line = refused_step(copy, *step_and_arguments)
    assert f"{path}.safetensors" in line and message in line


@pytest.mark.parametrize(
    ("into", "source", "step_and_arguments", "message"),
    [
        ("experts/resnet/ppap_5/expert_1", "experts/resnet/peer/expert_1", SAMPLE.command,
         "made for method peer, the run has ppap_5"),
        ("experts/resnet/ppap_5/expert_1", "experts/twin/ppap_5/expert_1", SAMPLE.command,
         "made for guide_sha256"),
        ("experts/resnet/ppap_5/expert_1", "experts/resnet/ppap_5/expert_2", SAMPLE.command,
         "covers timesteps [500, 1000), the run needs [0, 500)"),
        ("labels/resnet/0000", "labels/resnet/0001", TRAIN_EXPERT.command, "made for images"),
        ("judges/evaluator", "models/resnet", FEATURES.command, "made for model resnet, not evaluator"),
        ("samples/ddim25/resnet/naive/0000", "samples/ddim25/twin/naive/0000", FEATURES.command,
         "made for run ddim25 twin naive"),
    ],
)  # fmt: skip
def test_a_whole_file_of_something_else_is_refused(
    copy: Path, into: str, source: str, step_and_arguments, message: str
) -> None:
    root = copy / RESULTS
    shutil.copy(root / f"{source}.safetensors", root / f"{into}.safetensors")
    line = refused_step(copy, *step_and_arguments)
    assert f"{into}.safetensors: " in line and message in line


def test_a_sequential_start_is_the_expert_before(copy: Path) -> None:
    preset = yaml.safe_load((copy / "preset.yaml").read_text())
    preset["experts"]["warm_start"] = "sequential"
    (copy / "preset.yaml").write_text(yaml.safe_dump(preset))
    step(copy, "train-expert", "resnet", "ppap_5", 2)
    bank = copy / RESULTS / "experts" / "resnet"
    shutil.copy(bank / "peer" / "expert_1.safetensors", bank / "ppap_5")
    line = refused_step(copy, "train-expert", "resnet", "ppap_5", 2)
    assert "made for method peer, the run has ppap_5; use the preset that it was made with" in line
    shutil.copy(bank / "ppap_5" / "expert_2.safetensors", bank / "ppap_5" / "expert_1.safetensors")
    line = refused_step(copy, "train-expert", "resnet", "ppap_5", 2)
    assert "covers timesteps [500, 1000), the run needs [0, 500)" in line


@pytest.mark.parametrize("folder", ["clean", "samples/ddim25/resnet/naive"])
def test_shards_in_another_order_are_refused(copy: Path, folder: str) -> None:
    one, two = (copy / RESULTS / folder / f"000{shard}.npy" for shard in (0, 1))
    if folder != "clean":
        two = copy / RESULTS / "samples" / "ddim25" / "twin" / "naive" / "0000.npy"
    mine = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(mine)
    command = TRAIN_EXPERT.command if folder == "clean" else FEATURES.command
    assert "made for images" in refused_step(copy, *command)


def test_metrics_that_are_not_finite_are_not_written(copy: Path, monkeypatch) -> None:
    scores = dict.fromkeys(("fid", "is", "precision", "recall", "target_rate"), 0.5)
    monkeypatch.setattr(metrics, "metrics_of", lambda *_: scores | {"fid": float("nan")})
    line = refused_step(copy, *METRICS.command)
    assert "metrics/ddim25/resnet.json: not written: methods.naive." in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("seeds"), "seeds: Field required"),
        (lambda m: m["methods"]["naive"].pop("fid"), "naive has is, precision"),
    ],
)  # fmt: skip
def test_metrics_that_are_not_whole_are_not_put_into_a_table(copy: Path, change, message) -> None:
    path = copy / RESULTS / "metrics" / "ddim25" / "resnet.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    line = refused_step(copy, *TABLE.command)
    assert "metrics/ddim25/resnet.json: " in line and message in line


# -- reference archives of others ----------------------------------------------------------------------

PICTURES = np.zeros((5, 8, 8, 3), np.uint8)
MU, SIGMA = np.zeros(2048), np.eye(2048)


def npz(path: Path, **arrays: Any) -> None:
    np.savez(path, allow_pickle=True, **arrays)


def declares_183_gib(path: Path) -> None:
    """An array whose header says (1000000, 256, 256, 3), and which has a few bytes."""
    header = io.BytesIO()
    about = {"descr": "|u1", "fortran_order": False, "shape": (1_000_000, 256, 256, 3)}
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", header.getvalue() + bytes(100))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (declares_183_gib, "truncated or not in the expected format"),
        (lambda p: npz(p, images=PICTURES), "lacks arr_0"),
        (lambda p: npz(p, arr_0=PICTURES[:0]), "arr_0 is (0, 8, 8, 3), not (images, "),
        (lambda p: npz(p, arr_0=PICTURES, mu=MU, sigma=MU), "sigma is (2048,), not (2048, 2048)"),
        (lambda p: npz(p, arr_0=PICTURES, mu=MU, sigma=np.triu(SIGMA + 1)), "sigma is not symmetric"),
    ],
)  # fmt: skip
def test_what_is_no_reference_batch_is_refused_in_one_line(tmp_path: Path, preset_file, write, message: str) -> None:
    path = tmp_path / "reference.npz"
    write(path)
    inception = {"kind": "inception", "weights": {"url": "/none"}, "reference": {"archive": {"url": str(path)}}}  # fmt: skip
    preset = preset_file(IMAGENET, evaluator=inception)
    line = refused("download", preset, "reference", cwd=tmp_path)
    assert "reference.npz: " in line and message in line
