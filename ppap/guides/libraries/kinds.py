"""Libraries of guides: how a preset names their models, and what is true of each library's models."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from ppap.utils import user_code
from ppap.utils.registry import Registry


@dataclass(frozen=True)
class Library:
    """A library of vision models: the facts that a preset is checked by.

    `code` is MODULE:CLASS in ppap.guides.libraries, a LibraryCode, which builds the models.
    """

    code: str
    written: str
    "How a preset names a model."
    knows: Callable[[str], bool]
    "Whether there may be a model of this name."
    ours: frozenset[str] = frozenset()
    "Arguments of its models that are no options: images, classes and weights are what the preset says elsewhere."
    publishes_weights: bool = True
    "Whether pretrained weights are files of their own; otherwise a model is built with them."
    gives_features: bool = True
    "Whether its classifiers give their penultimate features."
    of_user: bool = False
    "Whether its models are code of the user's own."
    needs: str | None = None
    "The package that it is, and the extra of ours that installs it, where not every installation has it."
    one_file: bool = True
    "Whether a model's weights are one file, in place of which a preset may name another one."
    download_reads: tuple[str, ...] = ()
    "Which keys of a network its download reads, besides those that build it."
    does: str = "classifies images"
    "What its models do."


@dataclass(frozen=True)
class MarkedFunctions:
    """Names of the functions that a library marks as building a model, read from the sources in its `models`.

    To import the library would take seconds. Which weights are meant may stand behind the name, after . or /.
    """

    library: str
    files: tuple[str, ...]
    mark: str

    def __call__(self, name: str) -> bool:
        return re.split("[./]", name)[0] in _marked(self)


@cache
def _marked(functions: MarkedFunctions) -> frozenset[str]:
    package = importlib.util.find_spec(functions.library)
    assert package is not None and package.origin is not None
    folder = Path(package.origin).parent / "models"
    paths = (path for pattern in functions.files for path in folder.glob(pattern))
    marked = re.compile(functions.mark, re.MULTILINE)
    return frozenset(
        name for path in paths for name in marked.findall(path.read_text(encoding="utf-8"))
    )


def _of_hub(name: str) -> bool:
    """Whether a folder, or a repository of the Hugging Face hub, may have this name."""
    return bool(name.strip()) and name.isprintable()


def _of_user(name: str) -> bool:
    return re.fullmatch(user_code.PATTERN, f"{user_code.PREFIX}{name}") is not None


_TIMM_OURS = (
    *("in_chans", "num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
    *("checkpoint_path", "cache_dir", "features_only"),
)
_TRANSFORMERS_OURS = (
    *("num_labels", "id2label", "label2id", "num_channels", "architectures"),
    *("auto_map", "dtype", "torch_dtype", "quantization_config"),
)
# timm's helper functions stand unmarked among the others. torchvision's other subfolders hold detectors and the like.
LIBRARIES = Registry(
    "library",
    {
        "timm": Library(
            "timm_models:TimmCode",
            "timm:NAME",
            MarkedFunctions("timm", ("**/*.py",), r"^@register_model\s*\n(?:@.*\n)*def (\w+)\("),
            ours=frozenset(_TIMM_OURS),
        ),
        "torchvision": Library(
            "torchvision_models:TorchvisionCode",
            "torchvision:NAME/WEIGHTS",
            MarkedFunctions(
                "torchvision",
                ("*.py", "segmentation/*.py"),
                r"^@register_model\([^)]*\)\n(?:@handle_legacy_interface\((?:.*\n)*?(?:.*\))?\n)?def (\w+)\(",
            ),
            ours=frozenset(
                ["num_classes", "pretrained", "weights", "weights_backbone", "progress", "aux_loss"]
            ),
            gives_features=False,
            does="classifies or segments images",
        ),
        "transformers": Library(
            "transformers_models:TransformersCode",
            "transformers:NAME_OR_FOLDER",
            _of_hub,
            ours=frozenset(_TRANSFORMERS_OURS),
            gives_features=False,
            needs="transformers",
            one_file=False,
            download_reads=("input_size", "mean", "std"),
        ),
        "user": Library(
            "user_models:UserCode",
            "user:MODULE.FUNCTION",
            _of_user,
            publishes_weights=False,
            of_user=True,
        ),
    },
)
_WRITTEN = [LIBRARIES.get(name).written for name in LIBRARIES]
WRITTEN = f"{', '.join(_WRITTEN[:-1])} or {_WRITTEN[-1]}"


def library_of(model: str) -> Library:
    """The library of a model that a preset names."""
    return LIBRARIES.get(model.partition(":")[0])


def _known_model(model: str) -> str:
    """Check LIBRARY:NAME without importing the library."""
    name, _, rest = model.partition(":")
    if name not in LIBRARIES:
        raise ValueError(f"'{model}': write {WRITTEN}")
    library = LIBRARIES.get(name)
    if library.needs and importlib.util.find_spec(library.needs) is None:
        raise ValueError(f"'{model}' needs {library.needs}: pip install 'ppap[{library.needs}]'")
    if not library.knows(rest):
        raise ValueError(
            f"'{model}': write {library.written}"
            if library.of_user
            else f"{name} has no model '{rest}' that {library.does}"
        )
    return model


ModelName = Annotated[
    str,
    AfterValidator(_known_model),
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(LIBRARIES)}):"}),
]
