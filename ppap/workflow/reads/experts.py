"""Keys that decide what is trained: how networks learn, what experts learn from, and which experts are meant."""

from __future__ import annotations

from ppap.config.preset import Preset
from ppap.experts.settings import AdapterConfig
from ppap.training.settings import Training
from ppap.utils.settings import keys_of
from ppap.workflow.reads.networks import IMAGE, SCHEDULE, answer_keys, data_keys, network_keys

CLEAN = ["clean_images.count", "clean_images.shard_size"]


def training_keys(prefix: str) -> list[str]:
    """The keys that an optimisation reads of its section of the preset, augmentation aside."""
    return keys_of(Training, prefix, "shift")


def bank_keys(preset: Preset, guide: str, method: str) -> list[str]:
    """The keys that tell whether expert files are those of a guide and method."""
    own = [f"methods.{method}.{key}" for key in ("experts", "supervision", "trainable")]
    adapter = [f"guides.{guide}.adapter.{key}" for key in ("rank", "alpha")]
    adapted = preset.methods[method].trainable == "adapter"
    purpose = [f"guides.{guide}.model", *SCHEDULE, *(adapter if adapted else [])]
    return [*own, *purpose, "experts.allocation"]


def lesson_keys(preset: Preset, guide: str, supervision: str) -> list[str]:
    """The keys that decide what an expert learns: real images with labels, or clean ones with a teacher's answers."""
    if supervision == "labels":
        return [*data_keys(preset), "dataset.mirror"]
    loss = [f"experts.{key}" for key in preset.task(guide).distils_with]
    own = [*CLEAN, "clean_images.label_shards", *loss]
    return [*own, *IMAGE, *answer_keys(preset, guide), "dataset.mirror"]


def student_keys(preset: Preset, guide: str, trainable: str) -> list[str]:
    """The keys that the training of an expert of a guide reads, what it learns aside."""
    keys = ["seed", *SCHEDULE, *network_keys(preset, guide)]
    training = training_keys(f"guides.{guide}.experts")
    if trainable == "adapter":
        keys += keys_of(AdapterConfig, f"guides.{guide}.adapter")
        if preset.guides[guide].adapter.learning_rate is not None:
            training.remove(f"guides.{guide}.experts.learning_rate")
    return keys + training
