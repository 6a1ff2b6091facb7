"""Figures: that they can be read at their size, that their pixels are sharp, and what their curves are."""

import math
import re
import shutil
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.text import Text
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo

from ppap.config import reading as presets
from ppap.config import runs
from ppap.config.preset import Preset
from ppap.config.runs import runs_seeing_x_t
from ppap.data.images import to_tensor
from ppap.evaluation import metrics
from ppap.evaluation.noisy_inputs import EmpiricalPosterior, calibration_error
from ppap.guides.tasks.classification import Classification
from ppap.report import pictures, style
from ppap.report.figures import tradeoff
from ppap.report.paper import printed
from ppap.report.titles import METHODS
from ppap.utils import files
from ppap.workflow import networks as models
from ppap.workflow import stored_images, targets
from ppap.workflow.figures import KINDS, figure_names, figure_of
from ppap.workflow.figures.noisy_inputs import draw_unguided, scores
from ppap.workflow.layout import Layout
from ppap.workflow.steps.figure import Figure
from tests.conftest import IMAGENET, SMOKE, SMOKE_TASKS

# -- of presets that have been run -------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(built_tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A copy of a preset's finished results."""
    copy = shutil.copytree(built_tasks / "results", tmp_path_factory.mktemp("done") / "results")
    return Layout(presets.load(SMOKE_TASKS), copy)


def test_each_figure_is_a_png_and_a_pdf_of_a_columns_or_a_pages_width(done: Layout) -> None:
    for name in figure_names(done.preset):
        with Image.open(done.figure(name)) as image:
            pixels, (dpi, _) = image.size, image.info["dpi"]
        width = pixels[0] / dpi
        assert width == pytest.approx(style.COLUMN, abs=0.02) or width == pytest.approx(style.FULL, abs=0.02), name
        page = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+)", done.figure_in_print(name).read_bytes())
        assert float(page[1]) == pytest.approx(72 * width, abs=1), name
        assert float(page[2]) == pytest.approx(72 * pixels[1] / dpi, abs=1), name


def test_a_figure_that_is_drawn_again_is_the_same_to_the_byte(done: Layout) -> None:
    job = Figure(f"gradients_{runs.main_guides(done.preset)[0]}")
    before = [path.read_bytes() for path in job.outputs(done)]
    job.run(done)
    assert [path.read_bytes() for path in job.outputs(done)] == before


def test_no_text_of_a_figure_touches_another_or_is_cut_off(done: Layout) -> None:
    for name in figure_names(done.preset):
        kind, guide = figure_of(done.preset, name)
        style.use()
        figure = kind.draw(done, guide)
        figure.canvas.draw()
        shown = visible(figure)
        whole = figure.bbox.padded(1)
        for text, box in shown:
            inside = whole.x0 <= box.x0 and box.x1 <= whole.x1 and box.y0 >= whole.y0
            assert inside and box.y1 <= whole.y1, (name, text)
        for (one, mine), (other, theirs) in combinations(shown, 2):
            assert not mine.padded(-1).overlaps(theirs.padded(-1)), (name, one, other)
        plt.close(figure)


def visible(figure: Plot) -> list[tuple[str, object]]:
    """Every text that is seen, with its place; ticks that lie outside of their axis are not drawn."""
    outside = set()
    for axis in figure.axes:
        for which, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            low, high = sorted(limits)
            for tick in [*which.get_major_ticks(), *which.get_minor_ticks()]:
                if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    outside |= {tick.label1, tick.label2}
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent()) for text in texts if text not in outside]


def test_noisy_inputs_are_scored_by_what_the_guide_says_of_x_t(built: Path) -> None:
    """Of all but no noise, the off-the-shelf guide's accuracy is that on the clean images."""
    done = Layout(presets.load(SMOKE), built / "results")
    preset, guide = done.preset, runs.main_guides(done.preset)[0]
    scored = list(scores(done, guide, None if done.knows_truth(guide) else draw_unguided(done)))
    kept = preset.schedule(preset.figures.sampler).timesteps
    data = stored_images.real(done, "holdout").first(preset.figures.images)
    network = models.load_guide(done, guide)
    with torch.inference_mode():
        right = network(to_tensor(data.images)).argmax(1) == data.classes
    for run in runs_seeing_x_t(preset, guide):
        mine = [each for each in scored if each.method == run.method]
        assert sorted(each.timestep for each in mine) == sorted(kept)
        assert all(0 <= each.score <= 1 for each in mine)
    naive = {s.timestep: s.score for s in scored if s.method == "naive"}
    assert naive[kept[0]] == pytest.approx(float(right.double().mean()), abs=0.03)


# -- style -------------------------------------------------------------------------------------------


def test_methods_are_told_apart_without_colour_and_look_alike_in_every_figure() -> None:
    everything = style.looks(METHODS)
    assert len({look.marker for look in everything.values()}) == len(METHODS)
    assert len({str(look.dashes) for look in everything.values()}) == len(METHODS)
    assert style.looks(["mine", "ppap_5"])["ppap_5"] == everything["ppap_5"]
    assert style.looks(["mine", "ppap_5"])["mine"] not in everything.values()


@pytest.mark.parametrize(("size", "count"), [(8, 10), (64, 10)])
def test_pictures_are_enlarged_by_a_whole_factor(tmp_path: Path, size: int, count: int) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    cells = [lambda axis, image=image: style.show(axis, image) for image in images]
    style.use()
    figure = pictures.sheet([pictures.Row("row", cells)], ["a"] * count, "title", size)
    boxes = [axis.get_position() for axis in figure.axes]
    path = tmp_path / "sheet.png"
    style.write(figure, [path])
    with Image.open(path) as opened:
        page = np.asarray(opened.convert("RGB"))
    for image, box in zip(images, boxes, strict=True):
        left, right = (round(x * page.shape[1]) for x in (box.x0, box.x1))
        top, bottom = (round((1 - y) * page.shape[0]) for y in (box.y1, box.y0))
        factor = (right - left) // size
        assert factor >= 1 and (right - left, bottom - top) == (factor * size, factor * size)
        sharp = image.repeat(factor, axis=0).repeat(factor, axis=1)
        inner = slice(2, -2)  # the frame lies on the outermost pixels
        np.testing.assert_array_equal(page[top:bottom, left:right][inner, inner], sharp[inner, inner])


@pytest.mark.parametrize("rates", [(0.1, 0.45, 0.97, 0.99, 0.995), (0.0, 0.5, 1.0), (0.961, 0.962), (0.9,)])
def test_every_rate_is_on_the_axis_of_rates_also_none_and_all(rates: tuple[float, ...]) -> None:
    (score,) = Classification.scores
    rows = {"guide": "resnet", "method": "ppap_5", score.name: rates, "fid": 3.0}
    style.use()
    figure = tradeoff.draw(pd.DataFrame(rows), {"resnet": score}, {"ppap_5": "PPAP-5"})
    figure.canvas.draw()
    (axis,) = figure.axes
    low, high = axis.get_xlim()
    shown = np.asarray(axis.collections[0].get_offsets())[:, 0]
    np.testing.assert_allclose(shown, rates, atol=0.001)
    assert ((low < shown) & (shown < high)).all()
    texts = {text.get_text(): place for text, place in zip(axis.get_xticklabels(), axis.get_xticks(), strict=True)}
    inside = {text for text, place in texts.items() if low < place < high}
    assert len(inside) >= 2 and all(float(text) == pytest.approx(100 * texts[text]) for text in inside)
    assert not overlap(axis.get_xticklabels())
    plt.close(figure)


# -- the exact posterior -----------------------------------------------------------------------------


def test_the_posterior_is_bayes_rule_with_the_training_images_as_prior(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    images, x = (torch.randn(n, 1, 3, 3, generator=generator) for n in (40, 7))
    classes, abar = torch.arange(40) % 3, 0.3
    expected = torch.zeros(7, 3, dtype=torch.float64)
    for i in range(7):
        for image, y in zip(images, classes.tolist(), strict=True):
            normal = torch.distributions.Normal(math.sqrt(abar) * image.double(), math.sqrt(1 - abar))
            expected[i, y] += normal.log_prob(x[i].double()).sum().exp()
    expected = (expected / expected.sum(1, keepdim=True)).log()
    posterior = EmpiricalPosterior(images, classes, 3)
    torch.testing.assert_close(posterior(x, abar), expected, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr("ppap.evaluation.noisy_inputs._CHUNK", 80)  # two images at a time
    torch.testing.assert_close(posterior(x, abar), expected, rtol=1e-4, atol=1e-4)


# -- at the paper's scale ----------------------------------------------------------------------------


@pytest.fixture
def imagenet(preset_file, tmp_path: Path) -> tuple[Preset, Layout]:
    """The paper's preset, with 500 small samples, and with names for its classes."""
    path = preset_file(
        IMAGENET, sampling={"samples": 500, "shard_size": 500, "classes": list(range(0, 1000, 2))},
        dataset__image_size=32,
        dataset__class_names=[name.partition(",")[0] for name in ImageNetInfo().label_descriptions()],
    )  # fmt: skip
    config = presets.load(path)
    style.use()
    return config, Layout(config, tmp_path / "results")


def overlap(texts: list[Text]) -> bool:
    """Whether texts of a drawn figure that stand side by side touch each other."""
    shown = [text for text in texts if text.get_text()]
    boxes = sorted((text.get_window_extent() for text in shown), key=lambda box: box.x0)
    return any(left.x1 >= right.x0 for left, right in pairwise(boxes))


def test_samples_show_classes_from_all_over_whose_names_do_not_touch(imagenet) -> None:
    config, layout = imagenet
    numbers = targets.numbers(layout, "resnet50")  # a half of the classes
    for guide in ("unguided", "resnet50"):
        for run in runs.group(config, "ddim25", guide):
            path = layout.samples(run, 0)
            files.write_tensors(path.with_suffix(".safetensors"), {"target": numbers})
            files.write_array(path, np.zeros((500, 32, 32, 3), np.uint8))
    figure = KINDS["samples"].draw(layout, "resnet50")
    title, *headings = figure.texts[:11]
    known = ["".join(name.split()) for name in config.dataset.class_names]
    classes = [known.index("".join(text.get_text().split())) for text in headings]
    assert classes == sorted(classes) and len(set(classes)) == 10
    assert classes[0] < 100 and classes[-1] > 900
    figure.canvas.draw()
    assert not overlap(headings)
    bottom = title.get_window_extent().y0
    assert all(text.get_window_extent().y1 <= bottom for text in headings)
    plt.close(figure)


@pytest.mark.parametrize("spread", [1, 1e-6])
def test_the_papers_values_have_readable_axes_and_so_have_nearly_equal_ones(imagenet, spread: float) -> None:
    config, layout = imagenet
    known = printed("main")
    for sampler in config.samplers:
        for guide in ("unguided", "resnet50", "deit_s"):
            methods = {}
            for run in runs.group(config, sampler, guide):
                row = ("resnet50" if guide == "unguided" else guide, sampler, run.method)
                if row in known:  # the group has the other tables' rows too
                    methods[run.method] = {
                        name: metrics.summarise([1 + spread * (value - 1)]) for name, value in known[row].items()
                    }
            counts = {"samples_per_seed": config.sampling.samples, "seeds": [0]}
            about = {"sampler": sampler, "guide": guide} | counts | {"methods": methods}
            files.write_json(layout.metrics(sampler, guide), about)
    for name in ("metrics", "parameters"):
        figure = KINDS[name].draw(layout, "")
        figure.canvas.draw()
        for axis in figure.axes:
            assert not overlap(ticks(axis))
            if axis.get_xlabel() not in ("Target class (%) ↑", "trained parameters, all experts"):
                assert 2 <= len(ticks(axis)) <= 7 or not axis.get_xlabel()
                assert all(len(text.get_text()) < 9 for text in ticks(axis))
        plt.close(figure)


def ticks(axis: Axes) -> list[Text]:
    """The labels of the ticks that are inside."""
    low, high = axis.get_xlim()
    return [text for text in axis.get_xticklabels() if low <= text.get_position()[0] <= high]


def test_calibration_is_shown_of_classifiers_alone() -> None:
    preset = presets.load(SMOKE_TASKS)
    for guide, there in (("class", True), ("depth", False)):
        row = preset.tables["main"][0].model_copy(update={"guides": [guide]})
        own = preset.model_copy(update={"tables": preset.tables | {"calibration": [row]}, "replicates": (0, 1)})
        assert ("calibration" in figure_names(own, of_replicates=True)) == there


@pytest.mark.parametrize(("sure", "right"), [(0.9, 60), (0.7, 70), (0.97, 100)])
def test_the_calibration_error_is_how_far_confidence_is_from_what_is_right(sure: float, right: int) -> None:
    logits = torch.tensor([sure, 1 - sure]).log().expand(100, 2)
    classes = (torch.arange(100) >= right).long()
    assert calibration_error(logits, classes) == pytest.approx(abs(sure - right / 100), abs=1e-6)
    doubtful = torch.tensor([0.5, 0.5 - 1e-6]).log().expand(100, 2)  # of another bin, right as often as it says
    both, truths = torch.cat([logits, doubtful]), torch.cat([classes, torch.arange(100) % 2])
    assert calibration_error(both, truths) == pytest.approx(abs(sure - right / 100) / 2, abs=1e-5)
