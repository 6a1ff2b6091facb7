"""Images held out of experts' training, what is said of the experts there, and their batch-norm statistics."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import ppap
from ppap.config import reading as presets
from ppap.config.runs import streams_data
from ppap.data.loading import ImagesInMemory
from ppap.diffusion.schedules import Schedule
from ppap.experts.distillation import average_statistics, train_expert
from ppap.experts.examples import AnsweredImages, apart
from ppap.experts.expert import ExpertHeader, read_expert
from ppap.experts.settings import ExpertsConfig
from ppap.experts.teacher import answers_on
from ppap.guides.libraries.library import Shape
from ppap.guides.libraries.registry import build_network
from ppap.report import tables
from ppap.training.loop import TrainingRun
from ppap.utils import files
from ppap.utils.checkpoint import Checkpoint
from ppap.workflow.layout import Layout
from ppap.workflow.steps.train_expert import TrainExpert
from tests.conftest import IMAGENET, ROOT
from tests.recorder import keys_read

SMALL = {"layers": [1] * 4, "channels": [8] * 4, "stem_width": 4}
COUNT = 60
UNSEEN = [0, 20, 40]  # of 60, if 3 are asked for
FEW = ppap.Training(steps=12, batch_size=8, learning_rate=1e-3, checkpoint_every=5)


def new_network(momentum: float = 0.1) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=momentum), nn.ReLU(), nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4, momentum=momentum), nn.Flatten(), nn.Linear(64, 3),
    ).eval()  # fmt: skip


def new_guide(momentum: float = 0.1) -> ppap.Guide:
    return ppap.wrap_guide(new_network(momentum), outputs=3, image_size=8)


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 1), np.uint8)


MODEL = ppap.DiffusionModel(nn.Identity(), (1, 8, 8), Schedule.create("cosine", 1000))


def trained(guide: ppap.Guide, of: np.ndarray, training: ppap.Training = FEW, **options) -> ppap.ExpertBank:
    return ppap.train_experts(guide, MODEL, of, experts=2, training=training, held_out=3, **options)


@pytest.mark.parametrize(("count", "wanted", "share"), [(5000, 256, 256), (100, 256, 10), (9, 256, 0), (50, 0, 0)])
def test_a_tenth_of_the_images_at_most_is_held_out_spread_evenly(count: int, wanted: int, share: int) -> None:
    rest, unseen = apart(count, wanted)
    assert len(unseen) == share and sorted([*rest.tolist(), *unseen.tolist()]) == list(range(count))
    assert share == 0 or unseen.diff().max() - unseen.diff().min() <= 1


@pytest.mark.parametrize("truths", [None, torch.arange(COUNT) % 3])
def test_experts_learn_nothing_from_images_that_are_held_out(truths) -> None:
    def changed(place: int) -> ppap.ExpertBank:
        of = images()
        of[place] = 255 - of[place]
        return trained(new_guide(), of, truths=truths)

    first, *others = (changed(place).experts for place in (*UNSEEN, 1))
    for number, expert in enumerate(first):
        delta, header = expert.changed, expert.header
        for other in (bank[number] for bank in others[:2]):
            assert all(map(torch.equal, delta.values(), other.changed.values()))
            assert other.header.held_out_loss != header.held_out_loss
        assert not all(map(torch.equal, delta.values(), others[-1][number].changed.values()))


def test_the_loss_on_held_out_images_is_the_mean_at_random_timesteps_of_the_range() -> None:
    """An expert of all timesteps; the loss of the guide itself, from 200 draws of the noise of each image."""
    guide, of = new_guide(), np.tile(images(), (10, 1, 1, 1))
    (expert,) = ppap.train_experts(guide, MODEL, of, experts=1, training=FEW).experts
    x0 = ppap.to_tensor(of)[apart(len(of), 256)[1]]
    teacher = (guide(x0) / 0.25).log_softmax(1)
    drawn = []
    for _ in range(200):
        abar = torch.tensor(MODEL.schedule.alphas_cumprod)[torch.randint(1000, (len(x0), 1, 1, 1))].float()
        answers = guide(abar.sqrt() * x0 + (1 - abar).sqrt() * torch.randn_like(x0))
        drawn.append(float(F.kl_div(answers.log_softmax(1), teacher, log_target=True, reduction="batchmean")))
    assert abs(expert.header.off_the_shelf_loss - np.mean(drawn)) < 4 * np.std(drawn)


def test_pictures_that_are_read_as_they_are_drawn_are_held_out_too(preset_file, tmp_path: Path) -> None:
    """The job of an expert that labels teach, from a folder: it reads the keys that it declares."""
    pictures, rng = tmp_path / "pictures", np.random.default_rng(0)
    for place in range(30):
        path = pictures / "abc"[place // 10] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), np.uint8)).save(path)
    layout = Layout(presets.load(preset_file(
        IMAGENET, runtime={"device": "cpu"}, dataset__path=str(pictures), dataset__classes=3, dataset__image_size=32,
        figures__target_class=0, guides__resnet50__model="timm:resnet18d", guides__resnet50__input_size=32,
        guides__resnet50__options=SMALL,
        guides__resnet50__experts={"steps": 10, "batch_size": 4, "learning_rate": 1e-3},
        experts={"held_out": 3, "warm_start": "none"},
    )), tmp_path / "results")  # fmt: skip
    torch.manual_seed(0)
    network = build_network("timm:resnet18d", SMALL, Shape(3, 3))
    files.write_tensors(layout.model("resnet50"), network.state_dict())
    job, found = TrainExpert("resnet50", "single_noise_aware", 1), []

    def trained(white: str | None = None) -> tuple[dict[str, torch.Tensor], ExpertHeader]:
        content = (pictures / white).read_bytes() if white else b""
        if white:
            Image.new("RGB", (40, 36), "white").save(pictures / white)
        found.append(keys_read(layout.preset, lambda: job.run(layout)))
        if white:
            (pictures / white).write_bytes(content)
        (path,) = job.outputs(layout)
        return files.read_tensors(path), read_expert(path).header

    first, unseen, seen = trained(), trained("b/10.png"), trained("b/11.png")
    decides_inputs = keys_read(layout.preset, lambda: streams_data(layout.preset)) | {"dataset.path"}
    assert found[0] - decides_inputs == set(job.keys(layout.preset)) - decides_inputs
    assert all(map(torch.equal, first[0].values(), unseen[0].values()))
    assert not all(map(torch.equal, first[0].values(), seen[0].values()))
    before = [header.off_the_shelf_loss for _, header in (first, unseen, seen)]
    assert before[0] == before[2] != before[1]
    assert unseen[1].held_out_loss != first[1].held_out_loss
    none = layout.preset.model_copy(update={"experts": ExpertsConfig(held_out=0)})
    job.run(replace(layout, preset=none))
    assert read_expert(*job.outputs(layout)).header.off_the_shelf_loss is None


@pytest.mark.parametrize(("rate", "worse"), [(3.0, True), (1e-2, False)])
def test_an_expert_worse_than_its_guide_is_warned_of_and_both_losses_are_stated(
    rate: float, worse: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    guide = new_guide()
    guide.network[-1].weight.data *= 10
    alike = images() // 32 + 100  # which all have the same answer
    bank = trained(guide, alike, FEW.model_copy(update={"learning_rate": rate, "steps": 200}), adapter=None)
    bank.save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    for number, expert in enumerate(ppap.load_experts(tmp_path, guide).experts, 1):
        own, before = expert.header.held_out_loss, expert.header.off_the_shelf_loss
        assert (own > before) is worse is expert.header.worse
        assert f" {own:.4g} | {before:.4g} |" in card
        assert (f"`expert_{number}.safetensors` is worse than the guide" in card) is worse
        said = [r for r in caplog.records if r.getMessage().startswith(f"expert {number} of 2: loss on held-out")]
        assert [r.levelname for r in said] == ["WARNING" if worse else "INFO"]
        assert f"{own:.4g}, off-the-shelf model {before:.4g}" in said[0].getMessage()


def test_batch_norm_statistics_are_plain_averages_and_momentum_stays() -> None:
    guide, batches = new_guide(momentum=0.01), [ppap.to_tensor(images()[i::5]) for i in range(5)]
    guide.network[4].running_mean.fill_(7)
    guide.network[1].train()  # the second one is frozen: training does not move it
    average_statistics(guide, batches)
    conv, norm, _, _, frozen, *_ = guide.network
    with torch.no_grad():
        each = [conv(guide.prepare(x)).transpose(0, 1).flatten(1) for x in batches]
    torch.testing.assert_close(norm.running_mean, torch.stack([of.mean(1) for of in each]).mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(norm.running_var, torch.stack([of.var(1) for of in each]).mean(0), rtol=0, atol=1e-5)
    assert (norm.momentum, norm.training) == (0.01, False) and (frozen.running_mean == 7).all()


@pytest.mark.parametrize("killed_at", [9, 14])  # the last while statistics are averaged
def test_an_expert_that_is_killed_ends_with_the_same_tensors_and_losses(killed_at: int, tmp_path: Path) -> None:
    stored, (kept, unseen) = ImagesInMemory(images()), apart(COUNT, 3)
    answers = answers_on(new_guide(), stored, torch.arange(COUNT).split(9), mirror=False)

    class Killed(AnsweredImages):
        def batches(self, *about):
            batch = super().batches(*about)

            def at(step: int):
                if step == killed_at:
                    raise KeyboardInterrupt
                return batch(step)

            return at

    def expert(kind: type[AnsweredImages], **of):
        examples, held = kind(stored, answers, False, kept), AnsweredImages(stored, answers, False, unseen)
        return train_expert(
            new_guide(0.01), examples, schedule=MODEL.schedule, timesteps=range(200), training=FEW, adapter=None,
            settings=ExpertsConfig(), run=TrainingRun("expert", 5, **of), held_out=held,
        )  # fmt: skip

    expected, checkpoint = expert(AnsweredImages), Checkpoint(tmp_path / "expert.ckpt", "m")
    with pytest.raises(KeyboardInterrupt):
        expert(Killed, checkpoint=checkpoint)
    found = expert(AnsweredImages, checkpoint=checkpoint)
    assert found.facts == expected.facts and found.delta.keys() == expected.delta.keys()
    assert all(torch.equal(found.delta[name], value) for name, value in expected.delta.items())


def test_a_table_says_what_is_known_of_the_experts_losses() -> None:
    frame = pd.read_csv(ROOT / "published" / "digits" / "tables" / "main.csv").head(3)
    frame = frame.assign(held_out_loss=[None, 0.5, 2], off_the_shelf_loss=[None, 1.25, 1], worse_experts=[None, 0, 2])
    cells = tables.for_people(frame, (), {})["Held-out loss"].tolist()
    assert cells == ["", "0.5 (1.25)", "2 (1), 2 worse"]
