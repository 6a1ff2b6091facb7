"""The one definition of a preset. The Snakefile, the command line and the JSON schema all use it."""

from ppap.preset.preset import Preset
from ppap.preset.reading import PresetError, find, json_schema, load, section, validate
from ppap.preset.sections.architectures import ADMArchitecture, TextArchitecture
from ppap.preset.sections.base import (
    CLASSIFIER,
    DATASET,
    DIFFUSION,
    EVALUATOR,
    JUDGES,
    REFERENCE,
    UNGUIDED,
)
from ppap.preset.sections.data import DatasetConfig, Download, ReferenceConfig
from ppap.preset.sections.diffusion import DiffusionConfig
from ppap.preset.sections.evaluators import ClassifierEvaluator, InceptionEvaluator, UserEvaluator
from ppap.preset.sections.experiment import (
    ExpertsConfig,
    Grid,
    MethodConfig,
    SamplerConfig,
    SamplingConfig,
)
from ppap.preset.sections.glide import GlideConfig, UpsamplingConfig
from ppap.preset.sections.networks import (
    AdapterConfig,
    GuideConfig,
    JudgeConfig,
    NetworkConfig,
    TargetsConfig,
)
from ppap.preset.sections.running import JobResources, Resources, Runtime, Training

__all__ = [
    "CLASSIFIER",
    "DATASET",
    "DIFFUSION",
    "EVALUATOR",
    "JUDGES",
    "REFERENCE",
    "UNGUIDED",
    "ADMArchitecture",
    "AdapterConfig",
    "ClassifierEvaluator",
    "DatasetConfig",
    "DiffusionConfig",
    "Download",
    "ExpertsConfig",
    "GlideConfig",
    "Grid",
    "GuideConfig",
    "InceptionEvaluator",
    "JobResources",
    "JudgeConfig",
    "MethodConfig",
    "NetworkConfig",
    "Preset",
    "PresetError",
    "ReferenceConfig",
    "Resources",
    "Runtime",
    "SamplerConfig",
    "SamplingConfig",
    "TargetsConfig",
    "TextArchitecture",
    "Training",
    "UpsamplingConfig",
    "UserEvaluator",
    "find",
    "json_schema",
    "load",
    "section",
    "validate",
]
