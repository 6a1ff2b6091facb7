"""Models of timm by name; a pretrained tag stands after a dot, as in timm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ppap.data.settings import Download
from ppap.guides.libraries.library import Input, Library, Pretrained, Shape, refuse_task
from ppap.utils.errors import ConfigError, DataError, reason
from ppap.utils.settings import CLASSIFICATION, EMBEDDING
from ppap.utils.weights import check_numbers, read_weights


class TimmModels(Library):
    """Classifiers of timm, and these without their heads."""

    written = "timm:NAME"
    ours = frozenset(
        [
            *("in_chans", "num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
            *("checkpoint_path", "cache_dir", "features_only", "scriptable", "exportable", "no_jit"),
        ]
    )

    def build(self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path]) -> nn.Module:
        import timm

        _check(name, shape.task)
        classes = 0 if shape.task == EMBEDDING else shape.classes
        return timm.create_model(name, in_chans=shape.channels, num_classes=classes, **options)

    def pretrained(self, name: str) -> Pretrained:
        from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
        from timm.models import get_pretrained_cfg

        _check(name)
        try:
            known: Any = get_pretrained_cfg(name)
        except RuntimeError as error:
            raise ConfigError(f"timm:{name}: {error}") from None
        if known is None:
            raise ConfigError(f"timm:{name}: timm does not say what its input is")
        subset = infer_imagenet_subset({"num_classes": known.num_classes})
        names = ImageNetInfo(subset).label_descriptions() if subset else ()
        seen = Input(known.input_size[-1], known.mean, known.std, known.interpolation)
        return Pretrained(_source(known), seen, tuple(names), known.num_classes)

    def hub_name(self, name: str) -> str | None:
        from timm.models import get_pretrained_cfg

        known: Any = get_pretrained_cfg(name)
        return known.hf_hub_id if known else None

    def load(self, name: str, shape: Shape, options: dict[str, Any], weights: Path) -> nn.Module:
        """Load as in `Library`, converted as timm does.

        timm is given tensors, never a file: not every version of it reads files without running them.
        """
        import timm

        _check(name, shape.task)
        state = read_weights(weights)
        # with its classes, or timm would make up another head
        classes = self.pretrained(name).classes if shape.task == EMBEDDING else shape.classes
        overlay = {"state_dict": dict(state), "num_classes": classes, "custom_load": False}
        try:
            network: Any = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=shape.channels,
                num_classes=classes, **options,
            )  # fmt: skip
        except Exception as error:  # each model converts the names in its own way
            raise DataError(f"{weights}: not the weights of timm:{name} ({reason(error)})") from error
        network.pretrained_cfg.pop("state_dict", None)  # a second copy
        check_numbers(network, state, weights)
        if shape.task == EMBEDDING:
            network.reset_classifier(0)
        return network


def _source(known: Any) -> Download | None:
    """Say where the weights of one of timm's configurations lie, if there are any."""
    from huggingface_hub import hf_hub_url

    if known.hf_hub_id:
        file = known.hf_hub_filename or "model.safetensors"
        named = f"{known.hf_hub_id.replace('/', '--')}--{file}"
        return Download(url=hf_hub_url(known.hf_hub_id, file), file=named)
    return Download(url=str(known.url)) if known.url else None


def _check(name: str, task: str = CLASSIFICATION) -> None:
    """Raise ConfigError unless this is one of timm's models, and for this task."""
    import timm

    if not timm.is_model(name.partition(".")[0]):
        raise ConfigError(f"timm has no model '{name}'")
    refuse_task(f"timm:{name}", task, CLASSIFICATION)
