"""The figure `noisy_inputs`: how well every guide answers on held-out images, at the noise of each timestep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ppap.config import Preset
from ppap.config.runs import Run, heard_runs, main_guides
from ppap.report.figures.kind import FigureKind, heard
from ppap.utils.settings import DIFFUSION
from ppap.workflow.layout import Layout
from ppap.workflow.reads.networks import IMAGE, SCHEDULE, answer_keys, data_keys
from ppap.workflow.reads.sampling import drawing_keys, guiding_keys
from ppap.workflow.reads.tables import drawn_keys

from ppap.evaluation.noisy_inputs import Scored
from ppap.guides.tasks.task import Score
from ppap.report import style
from ppap.report.titles import axis_title, method_title


class NoisyInputs(FigureKind):
    name = "noisy_inputs"

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        networks = [path for run in heard(layout.preset) for path in layout.networks(run)]
        known = [layout.knows_truth(name) for name in main_guides(layout.preset)]
        data = layout.dataset if any(known) else []
        return [*data, *([] if all(known) else [layout.model(DIFFUSION)]), *networks]

    def keys(self, preset: Preset, guide: str) -> list[str]:
        sampler, layout = preset.figures.sampler, Layout(preset)
        own = ["figures.images", f"samplers.{sampler}.kind", f"samplers.{sampler}.steps"]
        own += SCHEDULE
        for name in main_guides(preset):
            own += [*drawn_keys(preset, name), *answer_keys(preset, name)]
            if layout.knows_truth(name):
                own += [*data_keys(preset), *IMAGE]
            else:
                own += [*drawing_keys(preset, sampler), "sampling.seeds"]
        runs = heard(preset)
        return own + [k for run in runs for k in guiding_keys(preset, run.guide, run.method)]

    def cost(self, costs: Costs, guide: str) -> Cost:
        """The answers of every guide; of drawn images, their drawing too. The posterior takes next to nothing."""
        from ppap.evaluation.noisy_inputs import TIMESTEPS

        preset, known = costs.preset, map(costs.layout.knows_truth, main_guides(costs.preset))
        steps = len(preset.schedule(preset.figures.sampler))
        answers = sum(costs.guide(run.guide).forward for run in heard(preset))
        drawing = 0 if all(known) else steps * costs.diffusion.forward
        each = min(TIMESTEPS, steps) * answers + drawing
        return costs.nothing()._replace(flops=preset.figures.images * each)

    def draw(self, layout: Layout, guide: str) -> Figure:
        """A panel for each guide, a curve for each method; where classes are known, the exact posterior that the
        training images give, as far as these stand for others (`ppap.evaluation.noisy_inputs.scores`)."""
        from ppap.evaluation.noisy_inputs import HeldOut
        from ppap.report import style

        held_out = HeldOut(layout)
        guides = main_guides(layout.preset)
        figure, axes = style.grid(1, len(guides), 2.5, style.width_of(len(guides)))
        for axis, name in zip(axes[0], guides, strict=True):
            _draw_panel(axis, held_out, name, heard_runs(layout.preset, name))
        style.legend_below(figure, axes, 3)
        return figure


def _draw_panel(axis: Axes, scored: Sequence[Scored], score: Score) -> None:
    frame = pd.DataFrame(scored)
    frame["score"] *= score.factor
    exact = frame[frame["method"].isna()]
    if len(exact):
        axis.plot(
            exact["timestep"], exact["score"], color="black", linewidth=0.9, linestyle=(0, (2, 1)),
            label="Bayes, training images as prior",
        )  # fmt: skip
    for method, look in style.looks(frame["method"].dropna()).items():
        mine = frame[frame["method"] == method]
        if len(mine):
            style.line(axis, mine["timestep"], mine["score"], look, method_title(method), False)
    named = score._replace(title=score.of_truth or score.title)
    axis.set(xlabel=style.TIME, ylabel=axis_title(named))
