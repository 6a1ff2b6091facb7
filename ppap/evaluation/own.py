"""An evaluator of the user's own: a class in a module beside the preset, called plainly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, Field, WithJsonSchema
from torch import Tensor, nn

from ppap.data.settings import ReferenceConfig
from ppap.evaluation.evaluator import COMPARED, NEIGHBOURS, Evaluator, Extractor, check_answers, describe, predicted
from ppap.utils import files, user_code
from ppap.utils.device import Runtime, device_of
from ppap.utils.errors import ConfigError
from ppap.utils.settings import EVALUATOR, Count, Section
from ppap.utils.tensor_names import FEATURES, LOGITS, PREDICTED
from ppap.utils.tensor_spec import TensorSpec


def _named_rightly(kind: str) -> str:
    if not user_code.is_well_named(kind):
        raise ValueError(f"'{kind}': write user:MODULE.CLASS")
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

    @property
    def most_compared(self) -> int:
        return self.compared

    @property
    def compared_with(self) -> ReferenceConfig | None:
        return self.reference

    @property
    def reads(self) -> tuple[str, ...]:
        return ("options",)

    def identity(self, paths: Mapping[str, Path], folders: Sequence[Path]) -> dict[str, str]:
        """Hash its name, the file of its module, and its options: of modules that this one imports, nothing."""
        path = user_code.module_file(self.kind, folders)
        source = "" if path is None else files.sha256(path)
        text = json.dumps([self.kind, source, self.options], sort_keys=True)
        return {f"{EVALUATOR}_sha256": hashlib.sha256(text.encode()).hexdigest()}

    def extractor(
        self,
        networks: Mapping[str, nn.Module],
        runtime: Runtime,
        classes: int | None = None,
        folders: Sequence[Path] = (),
    ) -> Extractor:
        """Build the class with its `options`, with the same random numbers each time.

        It is called with uint8 images (B, C, H, W) on the runtime's device (where it is moved if it is a
        torch.nn.Module) and returns features (B, D) and logits (B, K) in float32, and, if it likes, predicted classes
        (B,). Its class may state `says_classes = False`: its logits are not of the data set's classes.
        """
        own = user_code.find(self.kind, EVALUATOR, "class", folders)
        says_classes = bool(getattr(own, "says_classes", True))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            built: Callable[[Tensor], Any] = own(**self.options)
            if isinstance(built, nn.Module):
                built = built.to(device_of(runtime)).eval().requires_grad_(False)

        def answer(images: Tensor) -> dict[str, Tensor]:
            answers = self._named(built(images))
            spec = _described(len(images), classes, classes if says_classes else None)
            check_answers(f"evaluator '{self.kind}'", answers, spec)
            return answers

        return Extractor(answer, says_classes)

    def describe(self, count: int | str, classes: int) -> dict[str, TensorSpec]:
        return _described(count, classes)

    def _named(self, parts: Any) -> dict[str, Tensor]:
        if (
            not isinstance(parts, tuple | list)
            or len(parts) not in (2, 3)
            or not all(isinstance(part, Tensor) for part in parts)
        ):
            raise ConfigError(
                f"evaluator '{self.kind}': answers with a {type(parts).__name__}; features (B, D) and "
                "logits (B, K) were expected, and perhaps predicted classes (B,)"
            )
        return dict(zip((FEATURES, LOGITS, PREDICTED), parts, strict=False))


def _described(count: int | str, classes: int | None, logits: int | None = None) -> dict[str, TensorSpec]:
    """Describe its answers; logits have this width, or any."""
    return describe(count, "features", logits or LOGITS) | predicted(count, classes, optional=True)
