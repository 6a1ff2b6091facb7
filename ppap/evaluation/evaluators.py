"""The kinds of evaluators beside Inception: a classifier and a class of the user's own; and all kinds as one section."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema
from torch import Tensor, nn

from ppap.data.datasets import DatasetConfig
from ppap.data.settings import ReferenceConfig
from ppap.evaluation.evaluator import (
    COMPARED,
    EXPECTED,
    NEIGHBOURS,
    Evaluator,
    Extractor,
    check_answers,
    describe,
    predicted,
)
from ppap.evaluation.inception import InceptionEvaluator
from ppap.guides.guide import Guide, features_and_logits
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils import files, user_code
from ppap.utils.device import Runtime, device_of
from ppap.utils.errors import ConfigError
from ppap.utils.settings import EVALUATOR, TAG, Count, Section
from ppap.utils.tensor_spec import FEATURES, LOGITS, PREDICTED, TensorSpec

_USER = f"{user_code.PREFIX}MODULE.CLASS"


class ClassifierEvaluator(Evaluator, NetworkConfig):
    """The evaluator `kind: classifier`: an independent classifier of timm or of your own.

    Its penultimate features give FID, precision and recall, its logits the Inception Score and the target-class rate.
    The data set's training images are the reference.
    """

    kind: Literal["classifier"] = Field("classifier", description="an independent classifier")
    neighbours: Count = Field(3, description=NEIGHBOURS)
    compared: Count = Field(10_000, description=COMPARED)

    @property
    def networks(self) -> dict[str, NetworkConfig]:
        return {EVALUATOR: self}

    def problems(self, data: DatasetConfig) -> Iterator[str]:
        yield from super().problems(data)
        if not self.library.gives_features:
            yield f"model: '{self.model}': its library's models do not give their features"

    def extractor(
        self, networks: Mapping[str, nn.Module], runtime: Runtime, classes: int | None, folders: Sequence[Path]
    ) -> Extractor:
        guide = cast("Guide", networks[EVALUATOR])

        def answer(images: Tensor) -> dict[str, Tensor]:
            features, logits = features_and_logits(guide.network, guide.prepare(images.float() / 127.5 - 1))
            return {FEATURES: features.float(), LOGITS: logits.float()}

        return Extractor(answer)


def _named_rightly(kind: str) -> str:
    if not user_code.is_well_named(kind):
        raise ValueError(f"'{kind}': write {_USER}")
    return kind


class UserEvaluator(Evaluator, Section):
    """The evaluator `kind: user:MODULE.CLASS`: [your own class](../docs/extending.md), which gives features and logits."""

    kind: Annotated[
        str, AfterValidator(_named_rightly), WithJsonSchema({"pattern": user_code.PATTERN, "type": "string"})
    ] = Field(description="the class")
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of the class")
    reference: ReferenceConfig | None = Field(
        None, description="what samples are compared with; left out: the data set's training images"
    )
    neighbours: Count = Field(3, description=NEIGHBOURS)
    compared: Count = Field(10_000, description=COMPARED)

    counts_classes: ClassVar[bool] = True
    tried_on: ClassVar[str] = "cpu"
    reads: ClassVar[tuple[str, ...]] = ("options",)

    @property
    def compared_with(self) -> ReferenceConfig | None:
        return self.reference

    def identity(self, paths: Mapping[str, Path], folders: Sequence[Path]) -> dict[str, str]:
        """Hash its name, the file of its module, and its options: of modules that this one imports, nothing."""
        path = user_code.module_file(self.kind, folders)
        source = "" if path is None else files.sha256(path)
        text = json.dumps([self.kind, source, self.options], sort_keys=True)
        return {f"{EVALUATOR}_sha256": hashlib.sha256(text.encode()).hexdigest()}

    def extractor(
        self, networks: Mapping[str, nn.Module], runtime: Runtime, classes: int | None, folders: Sequence[Path]
    ) -> Extractor:
        """Build the class with its `options`, with the same random numbers each time.

        It is called with uint8 images (B, C, H, W) on the runtime's device (where it is moved if it is a
        torch.nn.Module) and returns features (B, D) and logits (B, K) in float32, and, if it likes, predicted classes
        (B,). Its class may state `says_classes = False`: its logits are not of the data set's classes.
        """
        own, name = user_code.find(self.kind, EVALUATOR, "class", folders), f"evaluator '{self.kind}'"
        user_code.check_options(name, own, self.options)
        says_classes = bool(getattr(own, "says_classes", True))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            built = own(**self.options)
            if isinstance(built, nn.Module):
                built = built.to(device_of(runtime)).eval().requires_grad_(False)

        def answer(images: Tensor) -> dict[str, Tensor]:
            parts = built(images)
            several = isinstance(parts, tuple | list) and len(parts) in (2, 3)
            if not several or not all(isinstance(part, Tensor) for part in parts):
                raise ConfigError(f"{name}: answers with a {type(parts).__name__}; {EXPECTED}")
            answers = dict(zip((FEATURES, LOGITS, PREDICTED), parts, strict=False))
            check_answers(name, answers, _described(len(images), classes, classes if says_classes else None))
            return answers

        return Extractor(answer, says_classes)

    def describe(self, count: int | str, classes: int) -> dict[str, TensorSpec]:
        return _described(count, classes)


def _described(count: int | str, classes: int | None, logits: int | None = None) -> dict[str, TensorSpec]:
    """Describe the answers of a user's evaluator; logits have this width, or any."""
    return describe(count, "features", logits or LOGITS) | predicted(count, classes, optional=True)


def _kind(evaluator: Any) -> str:
    kind = evaluator.get("kind") if isinstance(evaluator, dict) else getattr(evaluator, "kind", None)
    own = isinstance(kind, str) and user_code.is_named(kind)
    return f"{TAG}{_USER if own else kind or 'classifier'}"


EvaluatorConfig = Annotated[
    Annotated[ClassifierEvaluator, Tag(f"{TAG}classifier")]
    | Annotated[InceptionEvaluator, Tag(f"{TAG}inception")]
    | Annotated[UserEvaluator, Tag(f"{TAG}{_USER}")],
    Discriminator(_kind),
]
