"""The registry of evaluators, by their kinds in presets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ppap.config import Preset
from ppap.evaluation.classifier import Classifier
from ppap.evaluation.evaluator import Evaluator
from ppap.evaluation.inception import Inception
from ppap.evaluation.user_evaluator import OfUser
from ppap.utils.registry import Registry
from ppap.utils.settings import EVALUATOR

EVALUATORS: Registry[Callable[[Preset], Evaluator]] = Registry(
    EVALUATOR,
    {"classifier": Classifier, "inception": Inception},
    of_user=lambda name, found: partial(OfUser, name, found),
)


def evaluator_of(preset: Preset) -> Evaluator:
    """The preset's evaluator; ConfigError if it is of the user's own and cannot be used."""
    return EVALUATORS.get(preset.evaluator.kind, preset.module_folders)(preset)
