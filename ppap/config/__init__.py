"""The one definition of a preset. The Snakefile, the command line and the JSON schema all use it."""

from ppap.config.preset import Preset
from ppap.config.reading import PresetError, find, json_schema, load, section, validate
from ppap.config.sections.experiment import (
    Grid,
    MethodConfig,
    SamplerConfig,
    SamplingConfig,
)
from ppap.config.sections.networks import (
    GuideConfig,
    JudgeConfig,
    TargetsConfig,
)
from ppap.config.sections.running import JobResources, Resources
from ppap.data.datasets import DatasetConfig
from ppap.data.settings import Download, ReferenceConfig
from ppap.diffusion.networks.architectures import ADMArchitecture, TextArchitecture
from ppap.diffusion.networks.glide_settings import GlideConfig, UpsamplingConfig
from ppap.diffusion.settings import DiffusionConfig
from ppap.evaluation.classifier import ClassifierEvaluator
from ppap.evaluation.inception import InceptionEvaluator
from ppap.evaluation.own import UserEvaluator
from ppap.experts.settings import AdapterConfig, ExpertsConfig
from ppap.guides.libraries.settings import NetworkConfig
from ppap.training.settings import Training
from ppap.utils.device import Runtime
from ppap.utils.settings import (
    CLASSIFIER,
    DATASET,
    DIFFUSION,
    EVALUATOR,
    JUDGES,
    REFERENCE,
    UNGUIDED,
)

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
