"""Figures at the paper's scale: a thousand named classes, and the paper's own range of values."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from timm.data.imagenet_info import ImageNetInfo

from ppap import preset as presets
from ppap.evaluation import metrics
from ppap.graph import targets
from ppap.graph.layout import Layout
from ppap.preset import Preset, runs
from ppap.report import figures
from ppap.report.paper import PrintedRow, printed
from ppap.storage import files
from tests.conftest import ROOT


@pytest.fixture
def imagenet(preset_file, tmp_path: Path) -> tuple[Preset, Layout]:
    """The paper's preset, with 500 small samples, and with names for its classes."""
    path = preset_file(
        ROOT / "config" / "imagenet256.yaml", sampling={"samples": 500, "shard_size": 500, "classes": list(range(0, 1000, 2))},
        dataset__image_size=32,
        dataset__class_names=[name.partition(",")[0] for name in ImageNetInfo().label_descriptions()],
    )  # fmt: skip
    config = presets.load(path)
    return config, Layout(config, tmp_path / "results")


def overlap(texts: list[Text], figure: Figure) -> bool:
    """Whether texts that stand side by side touch each other."""
    figure.canvas.draw()
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
    figure = figures.samples(layout, "resnet50")
    axes = figure.axes[:10]
    known = ["".join(name.split()) for name in config.dataset.class_names]
    classes = [known.index("".join(axis.get_title().split())) for axis in axes]
    assert classes == sorted(classes) and len(set(classes)) == 10
    assert classes[0] < 100 and classes[-1] > 900
    assert not overlap([axis.title for axis in axes], figure)
    title = next(text for text in figure.texts if text.get_text() == figure.get_suptitle())
    bottom = title.get_window_extent().y0
    assert all(axis.title.get_window_extent().y1 <= bottom for axis in axes)
    plt.close(figure)


@pytest.mark.parametrize("spread", [1, 1e-6])
def test_the_papers_values_have_readable_axes_and_so_have_nearly_equal_ones(
    imagenet, spread: float
) -> None:
    config, layout = imagenet
    known = printed("main")
    for sampler in config.samplers:
        for guide in ("unguided", "resnet50", "deit_s"):
            methods = {}
            for run in runs.group(config, sampler, guide):
                row = PrintedRow("resnet50" if guide == "unguided" else guide, sampler, run.method)
                if row in known:  # the group has the other tables' rows too
                    methods[run.method] = {
                        name: metrics.summarise([1 + spread * (value - 1)])
                        for name, value in known[row].items()
                    }
            counts = {"samples_per_seed": config.sampling.samples, "seeds": [0]}
            about = {"sampler": sampler, "guide": guide} | counts | {"methods": methods}
            files.write_json(layout.metrics(sampler, guide), about)
    figure = figures.metrics(layout)
    for axis in figure.axes:
        assert not overlap(ticks(axis), figure)
        if axis.get_xlabel() != "Target class (%)":
            assert 2 <= len(ticks(axis)) <= 7
            assert all(len(text.get_text()) < 8 for text in ticks(axis))
    plt.close(figure)


def ticks(axis: Axes) -> list[Text]:
    """The labels of the ticks that are inside."""
    axis.figure.canvas.draw()
    low, high = axis.get_xlim()
    return [text for text in axis.get_xticklabels() if low <= text.get_position()[0] <= high]
