"""Evaluators of the user's own: classes in modules beside the preset, whose answers are checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ppap.config import Preset
from ppap.evaluation.evaluator import Evaluator, Extractor, answers
from ppap.evaluation.settings import UserEvaluator
from ppap.utils import files, tensor_spec, user_code
from ppap.utils.device import device_of
from ppap.utils.errors import UserCodeError
from ppap.utils.settings import EVALUATOR
from ppap.utils.tensor_spec import TensorSpec
from ppap.workflow.artefacts import LOGITS, PREDICTED
from ppap.workflow.layout import Layout

_IMAGES = 2  # on trial
_EXPECTED = "features (B, D) and logits (B, K) were expected, and perhaps predicted classes (B,)"


class OfUser(Evaluator):
    """A class of the user's own, built with the preset's `options`.

    It is called with uint8 images (B, C, H, W) on the preset's device (where it is moved if it is a
    torch.nn.Module) and returns features (B, D) and logits (B, K) in float32, and, if it likes, predicted classes
    (B,). It may state `says_classes`, by default True: its logits are of the data set's classes. UserCodeError
    where it fails, or answers with anything else.
    """

    tried_on = "cpu"

    def __init__(self, name: str, found: Callable[..., Any], preset: Preset) -> None:
        super().__init__(preset)
        self.name, self.found = name, found
        self.says_classes = getattr(found, "says_classes", True)
        if not isinstance(self.says_classes, bool):
            raise UserCodeError(
                f"evaluator '{name}': says_classes is {self.says_classes!r}; True or False was expected"
            )

    @property
    def options(self) -> dict[str, Any]:
        return cast(UserEvaluator, self.preset.evaluator).options

    def load(self, layout: Layout) -> Extractor:
        return self._extractor(device_of(self.preset.runtime))

    def untrained(self, layout: Layout) -> Extractor:
        return self._extractor(torch.device(self.tried_on))

    def identity(self, layout: Layout) -> dict[str, str]:
        """A hash of its name, the file of its module, and its options: of modules that this one imports, nothing."""
        path = user_code.module_file(self.name, self.preset.module_folders)
        assert path is not None  # the class was found in it
        source = files.sha256(path)
        text = json.dumps([self.name, source, self.options], sort_keys=True)
        return {f"{EVALUATOR}_sha256": hashlib.sha256(text.encode()).hexdigest()}

    def describe(self, count: int | str) -> dict[str, TensorSpec]:
        logits = self.preset.dataset.classes if self.says_classes else LOGITS
        return self._described(count, "features", logits, None)

    def check(self) -> None:
        """It is built, and judges two images of noise."""
        shape = (_IMAGES, *self.preset.dataset.shape)
        self._extractor(torch.device(self.tried_on))(torch.randint(256, shape, dtype=torch.uint8))

    def _extractor(self, device: torch.device) -> Extractor:
        judge = self._built(device)

        def extract(images: Tensor) -> dict[str, Tensor]:
            with self._running():
                answer = judge(images)
            return self._checked(answer, len(images))

        return extract

    def _built(self, device: torch.device) -> Callable[[Tensor], Any]:
        """It, with the same random numbers each time, for evaluators that are random."""
        with self._running(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            judge = self.found(**self.options)
            if isinstance(judge, nn.Module):
                judge = judge.to(device).eval().requires_grad_(False)
        if not callable(judge):
            raise UserCodeError(f"evaluator '{self.name}': what it builds cannot be called")
        return judge

    def _running(self) -> Any:
        return user_code.running(self.name, EVALUATOR, torch.OutOfMemoryError)

    def _checked(self, answer: Any, count: int) -> dict[str, Tensor]:
        """Its answer for `count` images by names."""
        parts = answer if isinstance(answer, tuple | list) else ()
        if len(parts) not in (2, 3) or not all(isinstance(part, Tensor) for part in parts):
            raise UserCodeError(
                f"evaluator '{self.name}': answers with {_kind(answer)}; {_EXPECTED}"
            )
        found = answers(*parts[:2]) | ({PREDICTED: parts[2]} if len(parts) == 3 else {})
        problems = tensor_spec.differences(found, self.describe(count)) or [
            f"{name} is not finite" for name, value in found.items() if not value.isfinite().all()
        ]
        if problems:
            raise UserCodeError(f"evaluator '{self.name}': {'; '.join(problems)}; {_EXPECTED}")
        return found


def _kind(answer: Any) -> str:
    if isinstance(answer, tuple | list):
        return f"({', '.join(type(part).__name__ for part in answer)})"
    return f"a {type(answer).__name__}"
