"""The interface of evaluators: a section of the preset that turns images into features and logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from ppap.data.datasets import DatasetConfig
from ppap.data.downloads import Downloads
from ppap.data.settings import Download, ReferenceConfig
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils import files, tensor_spec
from ppap.utils.device import Runtime
from ppap.utils.errors import ConfigError
from ppap.utils.settings import REFERENCE
from ppap.utils.tensor_spec import FEATURES, LOGITS, PREDICTED, TensorSpec

EXPECTED = "features (B, D) and logits (B, K) were expected, and perhaps predicted classes (B,)"
NEIGHBOURS = "k of precision and recall, less than `sampling.samples`"
COMPARED = (
    "how many of the data set's own images samples are compared with, at most: precision and recall hold every two "
    "against each other, which takes memory and time with the square"
)


@dataclass(frozen=True)
class Extractor:
    """An evaluator ready for work: uint8 images (B, C, H, W) to its answers by name.

    These are `features` (B, D) and `logits` (B, K), in float32, and `predicted` (B,) if the evaluator predicts the
    data set's classes apart from its logits.
    """

    answer: Callable[[Tensor], dict[str, Tensor]]
    says_classes: bool = True
    """True if its logits are of the data set's classes, so that the largest is the class that it sees."""

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        return self.answer(images)

    def classes(self, answers: Mapping[str, Tensor]) -> Tensor | None:
        """Return the class that it sees in each image (N,); None if it does not speak of classes."""
        if PREDICTED in answers:
            return answers[PREDICTED]
        return answers[LOGITS].argmax(dim=1) if self.says_classes else None


class Evaluator:
    """A kind of evaluator. The defaults are those of one without files, which compares with the data set's images."""

    in_print: ClassVar[bool] = False  # its features are those whose FID, and reference statistics, papers use
    counts_classes: ClassVar[bool] = False  # it asks for the number of classes, networks aside
    tried_on: ClassVar[str] = "meta"  # the device on which it is tried without its files
    reads: ClassVar[tuple[str, ...]] = ()
    """Keys of its section that decide what it says of an image, beside `kind` and those of its `networks`."""

    # -- files -----------------------------------------------------------------------------------

    @property
    def compared_with(self) -> ReferenceConfig | None:
        """The images, downloaded as `reference`, that samples are compared with; None: the data set's own."""
        return None

    @property
    def most_compared(self) -> int | None:
        """The largest number of the data set's own images that samples are compared with; None: all."""
        return getattr(self, "compared", None)

    @property
    def networks(self) -> dict[str, NetworkConfig]:
        """The classifiers among its files, by name: they are trained, or taken from a library, as guides are."""
        return {}

    @property
    def judged_by(self) -> tuple[str, ...]:
        """The files that decide what it says of an image."""
        return tuple(self.networks)

    @property
    def files(self) -> tuple[str, ...]:
        """All of its files: those that it extracts with, and the images that samples are compared with."""
        return (*self.judged_by, *((REFERENCE,) if self.compared_with else ()))

    @property
    def downloads(self) -> dict[str, Download | None]:
        """Files of somebody else's that its section names by key, but for those of `networks`."""
        return {"reference.archive": self.compared_with.archive} if self.compared_with else {}

    def identity(self, paths: Mapping[str, Path], folders: Sequence[Path]) -> dict[str, str]:
        """Tell its features from another evaluator's: hashes of its files, which lie at `paths` by name."""
        return {f"{name}_sha256": files.sha256(path) for name, path in paths.items()}

    def problems(self, data: DatasetConfig) -> Iterator[str]:
        """Say why it cannot take images of this data set; each problem begins with a key of its section."""
        if self.compared_with and data.channels != 3:
            yield f"reference: has images of 3 channels, not {data.channels}"
        if not self.compared_with and not data.facts.whole:
            yield (
                f"kind: compares samples with the data set's images, but those of kind {data.kind} "
                "are not read as a whole"
            )

    # -- work ------------------------------------------------------------------------------------

    def download(self, downloads: Downloads) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Fetch the weights of its own network, and metadata about them; DataError if they are others."""
        raise ConfigError("evaluator: has no weights to download")

    def untrained(self) -> dict[str, nn.Module]:
        """Build its networks that are no classifiers of `networks`, by name, with untrained weights."""
        return {}

    def load(self, paths: Mapping[str, Path]) -> dict[str, nn.Module]:
        """Load those networks from their files; DataError if one is not what it should be."""
        return {}

    def extractor(
        self, networks: Mapping[str, nn.Module], runtime: Runtime, classes: int | None, folders: Sequence[Path]
    ) -> Extractor:
        """Put it together of its networks by name: those of `load`, and a Guide for each of `networks`.

        `classes` is the data set's number of classes, for one that `counts_classes`; `folders` are those of modules
        of the user's own.
        """
        raise NotImplementedError

    def describe(self, count: int | str, classes: int) -> dict[str, TensorSpec]:
        """Describe what it says of `count` images of a data set with so many classes."""
        return describe(count, "features", classes)


def describe(count: int | str, features: int | str, logits: int | str) -> dict[str, TensorSpec]:
    """Describe features and logits of these widths; a name instead of a width stands for any."""
    return {FEATURES: TensorSpec(("float32",), (count, features)), LOGITS: TensorSpec(("float32",), (count, logits))}


def predicted(count: int | str, classes: int | None, optional: bool = False) -> dict[str, TensorSpec]:
    """Describe the classes that an evaluator predicts beside its logits."""
    return {PREDICTED: TensorSpec(("int64",), (count,), below=classes, optional=optional)}


def check_answers(name: str, answers: Mapping[str, Tensor], spec: tensor_spec.Spec) -> None:
    """Raise ConfigError, naming the evaluator, unless its answers are finite and as they are described."""
    problems = tensor_spec.differences(answers, spec) or [
        f"{part} is not finite" for part, value in answers.items() if not value.is_meta and not value.isfinite().all()
    ]
    if problems:
        raise ConfigError(f"{name}: {'; '.join(problems)}; {EXPECTED}")
