"""The Python API: the README's lines, the same numbers as the workflow's, what is kept, and what is refused."""

import itertools
import re
import sys
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import ppap
from ppap.config.runs import Run
from ppap.diffusion.guidance import NoGuidance
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.workflow.targets import numbers
from tests.conftest import ROOT, SMOKE
from tests.test_diffusers import save_pipeline

MODELS = """
import torch
from torch import nn

torch.manual_seed(0)
classifier = nn.Sequential(
    nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
)
"""
SHAPE = (1, 8, 8)
QUICK = ppap.Training(steps=60, batch_size=16, learning_rate=1e-2)


# -- the README --------------------------------------------------------------------------------------


def test_the_lines_in_the_readme_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import ppap\n.*?)```", readme, re.S)
    save_pipeline(tmp_path / "my-pipeline")
    (tmp_path / "my_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    made: dict = {}
    exec(lines, made)
    assert made["clean"].shape == (256, 32, 32, 3) and made["clean"].dtype == np.uint8
    assert made["images"].shape == (8, 32, 32, 3)
    names = {path.name for path in (tmp_path / "experts").iterdir()}
    assert names == {"README.md", "guide.json", *(f"expert_{n}.safetensors" for n in range(1, 6))}


def test_the_names_are_there() -> None:
    assert set(ppap.__all__) <= set(dir(ppap))
    for name in ppap.__all__:
        assert getattr(ppap, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'draw'"):
        ppap.draw  # noqa: B018


# -- the workflow's numbers --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(built: Path) -> ppap.FinishedRun:
    return ppap.open_run(SMOKE, built / "results")


@pytest.mark.parametrize("method", ["ppap_5", "x0_gradient"])
def test_samples_are_those_of_the_workflow(run, method: str) -> None:
    """Both draw by the same functions: for the same seeds and targets, the same pixels."""
    guide = run.guide("resnet") if method == "x0_gradient" else run.experts("resnet", "ppap_5")
    wanted = np.load(run.layout.samples(Run("ddim25", "resnet", method), 0))
    targets, per_seed = numbers(run.layout, "resnet"), run.preset.sampling.samples
    found = [
        ppap.sample(
            run.diffusion(), per_seed, [ppap.Goal(guide, targets[i * per_seed :][:per_seed], 4.0)],
            steps=5, seed=seed, batch_size=7,
            guidance="x0_gradient" if method == "x0_gradient" else "experts",
        )
        for i, seed in enumerate(run.preset.sampling.seeds)
    ]  # fmt: skip
    np.testing.assert_array_equal(np.concatenate(found), wanted)


def test_clean_images_are_those_of_the_workflow(run) -> None:
    seed = run.preset.clean_images.seed
    np.testing.assert_array_equal(ppap.sample(run.diffusion(), 100, steps=5, seed=seed), run.clean_images())


def test_samples_and_real_pictures_of_a_run_are_there(run) -> None:
    images, targets = run.samples("ddim25", "resnet", "ppap_5")
    np.testing.assert_array_equal(images, np.load(run.layout.samples(Run("ddim25", "resnet", "ppap_5"), 0)))
    assert torch.equal(targets, numbers(run.layout, "resnet")) and images.shape == (40, 8, 8, 1)
    real = run.real_images()
    assert len(real.images) == 359 and set(real.truths) == {"classification"}
    x = ppap.to_tensor(real.images)
    assert x.shape == (359, 1, 8, 8) and x.min() == -1
    np.testing.assert_array_equal(ppap.to_uint8(x), real.images)


def test_a_bank_of_the_workflow_is_a_bank_here(run, tmp_path: Path) -> None:
    folder = run.layout.expert("resnet", "ppap_5", 1).parent
    bank = ppap.load_experts(folder, run.guide("resnet"))
    x = torch.randn(2, *SHAPE)
    log_snr = run.diffusion().schedule.log_snr[900]
    torch.testing.assert_close(bank.at(x, log_snr), run.experts("resnet", "ppap_5").at(x, log_snr))
    bank.save(tmp_path / "copy")
    alone = ppap.load_experts(tmp_path / "copy", weights=run.layout.model("resnet"), downloads=tmp_path)
    for again in (alone, ppap.load_experts(tmp_path / "copy", run.guide("resnet"))):
        torch.testing.assert_close(again.at(x, log_snr), bank.at(x, log_snr))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: run.guide("vgg"), "guides: preset smoke has no 'vgg' (it has resnet, vit)"),
        (lambda run: run.table("sizes"), "tables: preset smoke has no 'sizes' (it has main"),
        (lambda run: run.experts("resnet", "naive"), "methods.naive: has no experts"),
        (lambda run: run.experts("vit", "ppap_5"), "expert_1.safetensors: no such file"),
    ],
)
def test_what_a_run_has_not_is_named(run, ask, message: str) -> None:
    with pytest.raises(ppap.PPAPError, match=re.escape(message)):
        ask(run)


# -- sampling ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> ppap.DiffusionModel:
    """A small ADM with random weights."""
    torch.manual_seed(0)
    network = ADM(architecture()).eval().requires_grad_(False)
    return ppap.DiffusionModel(network, SHAPE, ppap.Schedule.create("cosine", 1000))


def architecture() -> ADMArchitecture:
    return ADMArchitecture(
        in_channels=1, model_channels=8, channel_mult=(1,), num_res_blocks=1, attention_factors=(),
        head_channels=8, norm_groups=4, learn_sigma=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def guide() -> ppap.Guide:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 4))
    return ppap.wrap_guide(network, outputs=4, image_size=8)


@pytest.mark.parametrize("options", [{}, {"eta": 0.7}, {"sampler": "ddpm", "steps": 12}])
def test_the_steps_end_with_the_samples(model, guide, options) -> None:
    goals = [ppap.Goal(guide, 2, 1.5)]
    steps = list(ppap.sampling_steps(model, 3, goals, seed=4, **options))
    count = options.get("steps", 25)
    assert len(steps) == count and [s.timestep for s in steps] == sorted({s.timestep for s in steps}, reverse=True)
    for before, after in itertools.pairwise(steps):
        assert torch.equal(before.x, after.x_t)
    assert all(s.x0_hat.abs().max() <= 1 and s.gradient.shape == (3, *SHAPE) for s in steps)
    drawn = ppap.sample(model, 3, goals, seed=4, batch_size=2, **options)
    np.testing.assert_array_equal(ppap.to_uint8(steps[-1].x), drawn)


def test_guidance_raises_what_it_is_asked_to_raise(model, guide) -> None:
    free = ppap.sample(model, 16)
    guided = ppap.sample(model, 16, [ppap.Goal(guide, 1, 30.0)])
    each = ppap.sample(model, 16, [ppap.Goal(guide, torch.arange(16) % 4, 30.0)])

    def share(images: np.ndarray, targets: Tensor) -> float:
        return float((guide(ppap.to_tensor(images)).argmax(1) == targets).float().mean())

    ones = torch.ones(16, dtype=torch.int64)
    assert share(guided, ones) > share(free, ones) + 0.2
    assert share(each, torch.arange(16) % 4) > share(free, torch.arange(16) % 4) + 0.2


@pytest.mark.parametrize("target", [np.int64(2), [2, 2, 2], np.array([2, 2, 2]), torch.tensor(2), torch.full((3,), 2)])
def test_a_class_may_be_written_in_any_way(guide, target) -> None:
    assert ppap.Goal(guide, target).targets(3, SHAPE).tolist() == [2, 2, 2]


def test_pixels_of_a_target_may_have_no_label() -> None:
    guide = ppap.wrap_guide(nn.Conv2d(1, 3, 1), "segmentation", outputs=3, image_size=2)
    for label, refused in ((-1, False), (-2, True), (3, True)):
        goal = ppap.Goal(guide, [[0, 1], [2, label]])
        with pytest.raises(ppap.PPAPError, match="0 to 2") if refused else nullcontext():
            assert goal.targets(1, (1, 2, 2)).shape == (1, 2, 2)


def depth_model() -> ppap.Guide:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 1))
    return ppap.wrap_guide(nn.Sequential(network, nn.Flatten(1, 2)), "depth", image_size=8)


def test_depth_and_labels_guide_to_maps_and_to_pictures(model, tmp_path: Path) -> None:
    depth = depth_model()
    np.save(tmp_path / "map.npy", np.linspace(0, 1, 144, dtype=np.float32).reshape(12, 12))
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).convert("RGB").save(tmp_path / "photo.png")
    by_tensor = torch.linspace(0, 1, 64).view(8, 8)
    for target in (by_tensor, tmp_path / "map.npy", str(tmp_path / "photo.png")):
        goal = ppap.Goal(depth, target, 3.0)
        wanted = goal.targets(4, SHAPE)
        assert wanted.shape == (4, 8, 8)
        close = [
            depth.task.belief(depth(ppap.to_tensor(images)), wanted).mean()
            for images in (ppap.sample(model, 4), ppap.sample(model, 4, [goal]))
        ]
        assert close[1] > close[0]
    torch.manual_seed(3)
    labels = ppap.wrap_guide(nn.Conv2d(1, 3, 3, padding=1), "segmentation", outputs=3, image_size=8)
    goal = ppap.Goal(labels, torch.arange(64).view(8, 8) % 3, 0.5)
    assert ppap.sample(model, 2, [goal, ppap.Goal(depth, by_tensor, 1.0)]).shape == (2, 8, 8, 1)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m, g: ppap.sample(m, 1, steps=600), "no integer stride keeps 600 of 1000"),
        (lambda m, g: ppap.sample(m, 1, [ppap.Goal(g, 4)]), "knows 0 to 3, not 4"),
        (lambda m, g: ppap.sample(m, 1, ppap.Goal(g, [object()])), "a target is a list; a class, numbers, or a file"),
        (lambda m, g: ppap.sample(m, 2, seeds=[(0, 1)]), "seeds: 1 for 2 images"),
        (lambda m, g: ppap.Goal(g), "goal: give a target, or an objective"),
        (lambda m, g: ppap.Goal(None, 3), "goal: a target needs a guide that sees it"),
        (lambda m, g: ppap.sample(m, 2, ppap.Goal(None, objective=lambda x: x.new_ones(2))), "has no gradient"),
        (lambda m, g: ppap.sample(m, 2, guidance=partial(NoGuidance, 3)), "give options by name"),
        (lambda m, g: ppap.wrap_guide(nn.Identity(), "sound", image_size=8), "task 'sound': write"),
        (lambda m, g: ppap.load_guide("timm:no_such", outputs=2, image_size=8), "no_such"),
        (lambda m, g: ppap.load_pipeline("/nowhere"), "'/nowhere' cannot be read"),
        (lambda m, g: ppap.train_experts(g, m, np.zeros((4, 8, 8, 1)), training=QUICK), "float64"),
        (
            lambda m, g: ppap.train_experts(
                ppap.Guide(nn.Flatten(), 8, (0.5,), (0.5,)), m, np.zeros((4, 8, 8, 1), np.uint8),
                training=QUICK,
            ),
            "was wrapped without a task",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(model, guide, ask, message: str) -> None:
    with pytest.raises(ppap.PPAPError) as refused:
        ask(model, guide)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def refused_before_it_is_asked(network: nn.Module, model, message: str) -> None:
    def asked(*arguments: object) -> None:
        raise AssertionError("the guide was asked")

    guide = ppap.wrap_guide(network, outputs=4, image_size=8)
    network.register_forward_hook(asked)
    with pytest.raises(ppap.PPAPError, match=message):
        ppap.train_experts(guide, model, np.zeros((4, 8, 8, 1), np.uint8), training=QUICK)


def test_what_takes_no_adapter_is_said_before_any_training(model) -> None:
    normed = nn.utils.parametrizations.spectral_norm(nn.Linear(64, 4))
    refused_before_it_is_asked(nn.Sequential(nn.Flatten(), normed), model, "no layer that LoRA can adapt")
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    refused_before_it_is_asked(quantised, model, r"guide 'guide': its 1\.\S+ is no plain tensor")


KINDS = """
from ppap.diffusion.guidance import NoisyInputGuidance
from ppap.diffusion.samplers import ddim

class Late:
    def __init__(self, guide, objective, scale, below=500):
        self.how, self.below = NoisyInputGuidance(guide, objective, scale), below

    def __call__(self, denoiser, x, step):
        late = denoiser.schedule.timesteps[step] < self.below
        return self.how(denoiser, x, step) if late else (denoiser(x, step), None)

def noisy(denoiser, guidance, state, noise, eta, by=1.0):
    yield from ddim(denoiser, guidance, state, lambda step: by * noise(step), eta)

noisy.eta, noisy.timesteps = 1.0, ddim.timesteps

def brightness(images, power=1):
    return (images**power).mean(dim=(1, 2, 3))
"""


def test_kinds_of_ones_own_work_by_name_as_they_are_and_with_options(model, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "own_kinds.py").write_text(KINDS)
    monkeypatch.chdir(tmp_path)
    goal = ppap.Goal(None, objective="user:own_kinds.brightness", scale=50.0)
    named = list(ppap.sampling_steps(model, 2, goal, guidance="user:own_kinds.Late", sampler="user:own_kinds.noisy"))
    assert [step.gradient is None for step in named] == [step.timestep >= 500 for step in named]
    own = sys.modules.pop("own_kinds")
    goal = ppap.Goal(None, objective=partial(own.brightness, power=1), scale=50.0)
    late, noisy = partial(own.Late, below=1000), partial(own.noisy, by=0.0)
    np.testing.assert_array_equal(
        ppap.sample(model, 2, goal, guidance=own.Late, sampler=own.noisy), ppap.to_uint8(named[-1].x)
    )
    np.testing.assert_array_equal(
        ppap.sample(model, 2, goal, guidance=late, sampler=own.noisy), ppap.sample(model, 2, goal, eta=1.0)
    )
    assert ppap.sample(model, 2, goal).mean() > ppap.sample(model, 2).mean() + 2
    assert all(step.gradient is not None for step in ppap.sampling_steps(model, 2, goal, guidance=late, sampler=noisy))


# -- experts -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(model) -> np.ndarray:
    return ppap.sample(model, 64, steps=5)


@pytest.fixture(scope="module")
def bank(model, guide, images) -> ppap.ExpertBank:
    adapter = ppap.AdapterConfig(layers=("*",), freeze=(), rank=4)
    return ppap.train_experts(guide, model, images, experts=3, training=QUICK, adapter=adapter)


def test_a_bank_is_a_folder_that_says_what_it_is(model, guide, bank, tmp_path: Path) -> None:
    x = torch.randn(3, *SHAPE)
    levels = model.schedule.log_snr[[0, 500, 999]]
    expected = [bank.at(x, log_snr) for log_snr in levels]
    bank.save(tmp_path / "bank")
    again = ppap.load_experts(tmp_path / "bank", guide)
    for wanted, log_snr in zip(expected, levels, strict=True):
        torch.testing.assert_close(again.at(x, log_snr), wanted, rtol=0, atol=0)
    card = (tmp_path / "bank" / "README.md").read_text()
    assert (
        "| `expert_2.safetensors` | 334 to 666 | -1.12 to 1.05 | 10 |" in card and "| Task | classification |" in card
    )
    assert (
        "| Input size | 8 |" in card and "| Mean, deviation | [0.5], [0.5] |" in card and "| Options | none |" in card
    )
    with pytest.raises(ppap.PPAPError, match=r"expert_3.safetensors: is of a larger bank"):
        two = ppap.ExpertBank(deepcopy(guide), bank.experts[:2])
        two.save(tmp_path / "bank")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "expert_2.safetensors").unlink(), "expert_3.safetensors: begins at timestep 667"),
        (lambda f: (f / "expert_3.safetensors").unlink(), "own timesteps 0 to 667, not 0 to 1000"),
        (lambda f: [p.unlink() for p in f.glob("*.safetensors")], "has no experts"),
    ],
)  # fmt: skip
def test_a_bank_that_is_not_whole_is_refused(bank, guide, tmp_path: Path, harm, message) -> None:
    bank.save(tmp_path / "bank")
    harm(tmp_path / "bank")
    with pytest.raises(ppap.PPAPError, match=re.escape(message)):
        ppap.load_experts(tmp_path / "bank", guide)


def test_a_bank_of_another_guide_is_refused(bank, guide, tmp_path: Path) -> None:
    bank.save(tmp_path / "bank")
    other = deepcopy(guide)
    next(iter(other.parameters())).add_(0.1)
    with pytest.raises(ppap.PPAPError, match="made of another guide than 'guide'"):
        ppap.load_experts(tmp_path / "bank", other)


def test_the_same_seed_trains_the_same_bank_and_labels_teach_too(model, guide, images) -> None:
    def trained(**options) -> ppap.ExpertBank:
        return ppap.train_experts(guide, model, images, experts=2, training=QUICK, **options)

    one, same, other = trained(), trained(), trained(seed=1)
    labelled = trained(truths=torch.arange(64) % 4, adapter=None, warm_share=0.0)
    x = torch.randn(2, *SHAPE)
    assert torch.equal(one.at(x, 9.0), same.at(x, 9.0))
    assert not torch.equal(one.at(x, 9.0), other.at(x, 9.0))
    header = labelled.experts[0].header
    assert (header.supervision, header.trainable, header.steps) == ("labels", "all", 30)
    assert header.trainable_parameters == header.guide_parameters == 64 * 32 + 32 + 32 * 4 + 4


# -- models and guides from files ---------------------------------------------------------------------
