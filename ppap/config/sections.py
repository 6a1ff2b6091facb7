"""The sections of a preset that no science reads as a whole: guides, judges, images and samples, resources."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from ppap.experts.settings import AdapterConfig
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.tasks.registry import TASKS
from ppap.guides.tasks.task import Maps
from ppap.training.settings import Training
from ppap.utils.registry import kind_of
from ppap.utils.settings import CLASSIFICATION, FREE, Count, LocalPath, Name, Scale, Section, Seed, each_once

TaskName = Annotated[str, *kind_of(TASKS)]
_TASK_OPTIONS: Any = Field(
    default_factory=dict,
    description="arguments by name of a task of your own; of `embedding` the size of the vectors, `dimensions`, and of "
    "`score` the number to reach, `target`",
)


class TargetsConfig(Section):
    """Pictures whose depth, labels, vectors and the like samples are guided to show, in place of classes.

    Labels are whole numbers from 0, and 255 for pixels that may show anything. Files are not watched: after a change,
    `snakemake --forcerun targets`. `ppap config check PRESET --files` says what is wrong with one.
    """

    count: Count = Field(
        100,
        description="how many held-out real pictures, whose depth or labels the data set knows, or at which guide and "
        "judge look themselves (`embedding`)",
    )
    folder: LocalPath | None = Field(
        None,
        description="instead of these: a folder of files, of any depth, one target each. A map (.npy, .npz of one array, "
        ".pfm, or a .png or .tiff that is grey, or for labels indexed) is the target itself, of any size: its middle square "
        "is taken. A picture, in colour or .jpg, is looked at by the guide, and what it sees there is the target",
    )
    maps: Maps = Field(
        "nearness",
        description="what depth maps there hold: `nearness`, larger where nearer (MiDaS, Depth Anything); `depth`, the "
        "contrary, up to scale and shift (Marigold); or `metres`, of any unit (ZoeDepth, NYU, KITTI), whose inverse is "
        "taken",
    )
    words: tuple[Annotated[str, Field(min_length=1)], ...] | LocalPath | None = Field(
        None,
        description="instead of a folder, of a task `embedding` whose model reads words (CLIP, SigLIP): texts, one target each, "
        "as a list, or a text file (UTF-8) of one a line. Samples are held against what the judge itself reads in them; of a "
        "judge that reads no words there is no score",
    )

    @property
    def held_out(self) -> bool:
        """True if held-out real pictures show them."""
        return self.folder is None and self.words is None

    @model_validator(mode="after")
    def one_is_given(self) -> TargetsConfig:
        if self.folder is not None and self.words is not None:
            raise ValueError("give one of folder and words")
        if self.words == ():
            raise ValueError("words: give one at least")
        return self


class JudgeConfig(NetworkConfig):
    """An independent network, by a name of your choice, that judges the samples of the guides with its task.

    There is one for each task but classification, at most, and no guide should be the same network. Without a judge of
    its task, a guide's rows have FID, precision and recall, and no score of the task.
    """

    task: TaskName = Field(description="of the guides whose samples it judges")
    task_options: dict[str, Any] = _TASK_OPTIONS


class GuideConfig(NetworkConfig):
    """An off-the-shelf model that guides, by a name of your choice, and how it is adapted to noise."""

    task: TaskName = Field(
        CLASSIFICATION,
        description="what it says of an image, see [Tasks](#tasks); `user:MODULE.CLASS` is "
        "[your own](../docs/extending.md#a-task)",
    )
    task_options: dict[str, Any] = _TASK_OPTIONS
    targets: TargetsConfig = Field(
        TargetsConfig(), description="where the pictures come from whose depth or labels samples are guided to"
    )
    scales: dict[Name, Scale] = Field(
        default_factory=dict,
        description="its guidance scale by sampler, in place of the sampler's own: `{ddim25: 0.5}`. One for every "
        "method",
    )
    stands_for: Literal["resnet50", "deit_s", "resnet18", "resnet152"] | None = Field(
        None, description="the architecture in the paper's tables whose printed values stand beside it"
    )
    adapter: AdapterConfig = Field(description="which few parameters an expert trains")
    experts: Training = Field(description="noise-aware training")


class PromptsConfig(Section):
    """Prompts of a pipeline's images: one for all, or one of a file for each.

    Of a file each prompt has as many images as others, but for a remainder, in a seeded order. A job encodes those of its
    own images, once each.
    """

    file: LocalPath | None = Field(
        None, description="a text file (UTF-8) of prompts, one a line; blank lines are left out"
    )
    text: str | None = Field(None, min_length=1, description="instead: the prompt of all images")
    guidance_scale: Annotated[float, Field(ge=1, le=10_000)] | None = Field(
        None, description="of classifier-free guidance; 1: none; left out: the pipeline's own"
    )
    negative: str | None = Field(
        None, description="the prompt that classifier-free guidance leads away from; left out: the pipeline's own"
    )

    @model_validator(mode="after")
    def one_is_given(self) -> PromptsConfig:
        if (self.file is None) == (self.text is None):
            raise ValueError("give one of file and text")
        return self


class CleanImagesConfig(Section):
    """The images that the diffusion model draws without guidance; teachers label them."""

    count: Count = Field(description="how many")
    sampler: Name = Field(description="a key of `samplers`, whose scale is not used")
    seed: Seed = Field(1_000_000, description="their seed")
    batch_size: Count = Field(250, json_schema_extra=FREE, description="images at a time")
    shard_size: Count = Field(1000, description="images of one job; does not change them")
    estimates: Annotated[int, Field(gt=0, le=1000)] = Field(
        25, description="stored estimates of each, at as many levels of noise, where a method asks for them"
    )
    prompts: PromptsConfig | None = Field(
        None, description="what a pipeline is told that draws by prompts: those that will be used"
    )
    label_shards: Count = Field(50, description="shards that one labelling job takes")


class SamplingConfig(Section):
    """The samples of a run."""

    samples: Count = Field(description="images of one sampling seed")
    seeds: tuple[Seed, ...] = Field(
        (0,),
        min_length=1,
        max_length=1000,
        description="sampling seeds, each once; tables give mean and deviation over them",
    )
    batch_size: Count | Literal["auto"] = Field(
        250,
        json_schema_extra=FREE,
        description="images at a time; does not change them; `auto`: each job tries doubled sizes for a step, as long as "
        "they fit into the GPU's free memory (on the processor, into `resources.sample.mem_mb`) and get faster, and "
        "takes the fastest; images are the same but for rounding",
    )
    shard_size: Count = Field(1000, description="images of one job; does not change them")
    prompts: PromptsConfig | None = Field(None, description="what a pipeline is told that draws by prompts")
    checkpoint_every: Count = Field(50, json_schema_extra=FREE, description="sampling steps between checkpoints")
    classes: tuple[NonNegativeInt, ...] | None = Field(
        None, min_length=1, description="target classes of classifiers, each once; left out: all"
    )

    _each_once = field_validator("seeds", "classes")(each_once)

    @property
    def judged_at_once(self) -> int:
        """Images in a batch of finished samples, where networks only look at them."""
        return 64 if self.batch_size == "auto" else self.batch_size

    @property
    def total(self) -> int:
        return self.samples * len(self.seeds)


class FiguresConfig(Section):
    """Figures show the guides of the table `main`.

    Each needs a row there with the figures' sampler and with guidance `off_the_shelf` or `experts`. A table `scales`
    adds the figures `scales` and `tradeoff`.
    """

    sampler: Name = Field(description="the sampler of the runs that are shown")
    target_class: NonNegativeInt = Field(0, description="of the gradient maps")
    timesteps: tuple[NonNegativeInt, ...] = Field(
        (920, 720, 520, 320, 120),
        min_length=1,
        max_length=20,
        description="of the gradient maps, less than T; the nearest kept ones are shown",
    )
    samples: Count = Field(100, description="images behind the confidence curves")
    images: Count = Field(
        400,
        description="images, at most, behind the curves of noisy inputs: held-out ones, or, where none with labels are "
        "in memory, as many that are drawn for it",
    )


class JobResources(Section):
    """A job of a step asks for these resources.

    One that failed asks for twice as much memory and time when it is retried, then for three times as much.
    """

    mem_mb: Count = Field(2000, description="memory in MB")
    runtime: Count = Field(60, description="minutes")
    threads: Count = Field(1, description="CPU cores, loader processes included")


class Resources(Section):
    """Jobs ask the machine for resources, by step. Nothing here changes a result."""

    download: JobResources = Field(JobResources(), description="weights and images of others")
    pretrain: JobResources = Field(JobResources(), description="training of what the preset trains itself")
    generate: JobResources = Field(JobResources(), description="clean images")
    upsample: JobResources = Field(JobResources(), description="the second stage of a cascade")
    label: JobResources = Field(JobResources(), description="teachers' answers, and targets")
    train_expert: JobResources = Field(JobResources(), description="experts, and shared starts")
    sample: JobResources = Field(JobResources(runtime=120), description="guided samples")
    features: JobResources = Field(JobResources(), description="the evaluator's features, of real images too")
    metrics: JobResources = Field(JobResources(), description="metrics")
    table: JobResources = Field(JobResources(mem_mb=1000, runtime=10), description="tables")
    figure: JobResources = Field(JobResources(runtime=30), description="figures")
