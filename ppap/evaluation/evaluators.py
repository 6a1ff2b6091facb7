"""The kinds of evaluators: the preset's section `evaluator` is one of them, told apart by its key `kind`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from ppap.evaluation.classifier import ClassifierEvaluator
from ppap.evaluation.inception import InceptionEvaluator
from ppap.evaluation.own import UserEvaluator
from ppap.utils import user_code

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
