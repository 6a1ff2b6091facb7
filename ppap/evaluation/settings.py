"""The evaluator's section, one class a kind, and the facts that differ between kinds.

Behaviour of the same kinds, which needs torch, is in `ppap.evaluation.evaluators`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema

from ppap.data.settings import DatasetConfig, Download, ReferenceConfig
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils import user_code
from ppap.utils.settings import CLASSIFIER, EVALUATOR, REFERENCE, Count, Section

_NEIGHBOURS = "k of precision and recall, less than `sampling.samples`"
_COMPARED = (
    "how many of the data set's own images samples are compared with, at most: precision and recall hold every two "
    "against each other, which takes memory and time with the square"
)


class EvaluatorFacts:
    """Facts of an evaluator. Those here are of one that has no files, and the data set's images for comparison."""

    as_in_print: ClassVar[bool] = False  # the features whose FID papers report
    counts_classes: ClassVar[bool] = (
        False  # it is asked how many classes the data set has, networks aside
    )

    @property
    def compared_with(self) -> ReferenceConfig | None:
        """The images, downloaded as `reference`, that samples are compared with; None: the data set's own."""
        return None

    @property
    def most_compared(self) -> int | None:
        """How many of the data set's own images samples are compared with, at most; None: all."""
        return None

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
        """All of its files: those that judge, and the images that samples are compared with."""
        return (*self.judged_by, *((REFERENCE,) if self.compared_with else ()))

    @property
    def downloads(self) -> dict[str, Download | None]:
        """Files of somebody else's that its section names by key, but for those of `networks`."""
        return {"reference.archive": self.compared_with.archive} if self.compared_with else {}

    @property
    def reads(self) -> tuple[str, ...]:
        """Keys of its section that decide what it says of an image, beside `kind` and those of its `networks`."""
        return ()

    def problems(self, data: DatasetConfig) -> Iterator[str]:
        """Whether it can judge images of this data set: each problem begins with a key of its section."""
        if self.compared_with and data.channels != 3:
            yield f"reference: has images of 3 channels, not {data.channels}"
        if not self.compared_with and data.facts.streamed:
            yield (
                f"kind: compares samples with the data set's images, but those of kind {data.kind} "
                "are not read as a whole"
            )


class ClassifierEvaluator(EvaluatorFacts, NetworkConfig):
    """The evaluator `kind: classifier`: an independent classifier of timm or of your own.

    Its penultimate features give FID, precision and recall, its logits the Inception Score and the target-class rate.
    The data set's training images are the reference.
    """

    kind: Literal["classifier"] = Field("classifier", description="an independent classifier")
    neighbours: Count = Field(3, description=_NEIGHBOURS)
    compared: Count = Field(10_000, description=_COMPARED)

    @property
    def most_compared(self) -> int:
        return self.compared

    @property
    def networks(self) -> dict[str, NetworkConfig]:
        return {EVALUATOR: self}

    def problems(self, data: DatasetConfig) -> Iterator[str]:
        yield from super().problems(data)
        if not self.library.gives_features:
            yield f"model: '{self.model}': its library's models do not give their features"


class InceptionEvaluator(EvaluatorFacts, Section):
    """The evaluator `kind: inception`: torch-fidelity's Inception v3 of the original FID, for RGB images."""

    kind: Literal["inception"] = Field(description="Inception v3")
    weights: Download = Field(description="torch-fidelity's weights file")
    reference: ReferenceConfig = Field(description="what samples are compared with")
    classifier: NetworkConfig | None = Field(
        None,
        description="a network as for a guide, that no guide should be: it gives the target-class rate; left out: that "
        "column stays empty",
    )
    neighbours: Count = Field(3, description=_NEIGHBOURS)

    as_in_print: ClassVar[bool] = True

    @property
    def compared_with(self) -> ReferenceConfig:
        return self.reference

    @property
    def networks(self) -> dict[str, NetworkConfig]:
        return {CLASSIFIER: self.classifier} if self.classifier else {}

    @property
    def judged_by(self) -> tuple[str, ...]:
        return (EVALUATOR, *self.networks)

    @property
    def downloads(self) -> dict[str, Download | None]:
        return {"weights": self.weights, **super().downloads}

    def problems(self, data: DatasetConfig) -> Iterator[str]:
        if data.channels != 3:
            yield f"kind: inception sees 3 channels, not {data.channels}"


def _named_rightly(kind: str) -> str:
    if not user_code.is_well_named(kind):
        raise ValueError(f"'{kind}': write user:MODULE.CLASS")
    return kind


class UserEvaluator(EvaluatorFacts, Section):
    """The evaluator `kind: user:MODULE.CLASS`: [your own class](../docs/extending.md), which gives features and logits."""

    counts_classes: ClassVar[bool] = True

    kind: Annotated[
        str,
        AfterValidator(_named_rightly),
        WithJsonSchema({"pattern": user_code.PATTERN, "type": "string"}),
    ] = Field(description="the class")
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of the class")
    reference: ReferenceConfig | None = Field(
        None, description="what samples are compared with; left out: the data set's training images"
    )
    neighbours: Count = Field(3, description=_NEIGHBOURS)
    compared: Count = Field(10_000, description=_COMPARED)

    @property
    def most_compared(self) -> int:
        return self.compared

    @property
    def compared_with(self) -> ReferenceConfig | None:
        return self.reference

    @property
    def reads(self) -> tuple[str, ...]:
        return ("options",)


TAG = "kind="
_USER = f"{user_code.PREFIX}MODULE.CLASS"


def _kind(evaluator: Any) -> str:
    if isinstance(evaluator, dict):
        kind = evaluator.get("kind")
    else:
        kind = getattr(evaluator, "kind", None)
    own = isinstance(kind, str) and user_code.is_named(kind)
    return f"{TAG}{_USER if own else kind or 'classifier'}"


EvaluatorConfig = Annotated[
    Annotated[ClassifierEvaluator, Tag(f"{TAG}classifier")]
    | Annotated[InceptionEvaluator, Tag(f"{TAG}inception")]
    | Annotated[UserEvaluator, Tag(f"{TAG}{_USER}")],
    Discriminator(_kind),
]
