"""The one definition of a preset. The Snakefile, the command line and the JSON schema all use it."""

from ppap.config.base import (
    CLASSIFIER,
    DATASET,
    DIFFUSION,
    EVALUATOR,
    JUDGES,
    REFERENCE,
    UNGUIDED,
)
from ppap.config.data import DatasetConfig, Download, ReferenceConfig
from ppap.config.experiment import (
    ExpertsConfig,
    Grid,
    MethodConfig,
    SamplerConfig,
    SamplingConfig,
)
from ppap.config.networks import (
    AdapterConfig,
    ADMArchitecture,
    ClassifierEvaluator,
    DiffusionConfig,
    GuideConfig,
    InceptionEvaluator,
    NetworkConfig,
)
from ppap.config.preset import Config
from ppap.config.reading import PresetError, find, json_schema, load, validate
from ppap.config.running import JobResources, Resources, Runtime, Training

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
    "Config",
    "DatasetConfig",
    "DiffusionConfig",
    "Download",
    "ExpertsConfig",
    "Grid",
    "GuideConfig",
    "InceptionEvaluator",
    "JobResources",
    "MethodConfig",
    "NetworkConfig",
    "PresetError",
    "ReferenceConfig",
    "Resources",
    "Runtime",
    "SamplerConfig",
    "SamplingConfig",
    "Training",
    "find",
    "json_schema",
    "load",
    "validate",
]
