"""Embeddings of timm, torchvision and transformers are these libraries' own, on the same picture and the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from torchvision import models as zoo
from torchvision.models import WeightsEnum
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedTokenizerFast

import ppap
from ppap.experts import lora
from ppap.experts.ensemble import DEFAULT_ADAPTER
from ppap.guides.libraries.library import Shape
from ppap.guides.libraries.registry import build_network
from ppap.utils.errors import ConfigError
from tests.test_libraries import CROPPED, SQUARE, TINY, WHOLE, check, further, shaken


@pytest.mark.parametrize("name", ["test_resnet", *further("test_vit", "test_convnext")])
def test_timm_without_its_head(name: str, tmp_path: Path) -> None:
    state = shaken(timm.create_model(name))
    save_file({key: value.contiguous() for key, value in state.items()}, path := tmp_path / "published.safetensors")
    theirs: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})
    see = create_transform(**resolve_model_data_config(theirs) | {"crop_pct": 1.0, "crop_mode": "squash"})
    theirs.forward = lambda x: theirs.forward_head(theirs.forward_features(x), pre_logits=True)
    guide = ppap.load_guide(f"timm:{name}", "embedding", weights=path, folder=tmp_path)
    assert guide.own_task.shape == (theirs.head_hidden_size,) and guide.reader is None
    check(guide, theirs, see, 96)


@pytest.mark.parametrize("name", ["resnet18", *further("mobilenet_v3_small", "densenet121")])
def test_torchvision_without_its_head(name: str, tmp_path: Path) -> None:
    weights, path = next(iter(zoo.get_model_weights(name))), tmp_path / "published.pth"
    torch.save(shaken(zoo.get_model(name, weights=None)), path)
    with mock.patch.object(WeightsEnum, "get_state_dict", lambda *args, **how: torch.load(path)):
        theirs = zoo.get_model(name, weights=weights)
    head = [each for each in theirs.modules() if isinstance(each, nn.Linear)][-1]
    head.forward = lambda features: features
    guide = ppap.load_guide(
        f"torchvision:{name}/{weights.name}", "embedding", input_size=64, weights=path, folder=tmp_path
    )
    assert guide.own_task.shape == (head.in_features,)
    check(guide, theirs, weights.transforms(resize_size=64, crop_size=64), 96)


# -- transformers --------------------------------------------------------------------------------------

TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        "max_position_embeddings": 6, "vocab_size": 8, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 7}  # fmt: skip
CONVNEXT = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "image_size": 32}
# a model and its processor; its configuration, the processor's, and with what that shows the whole image
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "CLIPModel CLIP": ({"vision_config": TINY, "text_config": TEXT, "projection_dim": 12}, CROPPED, WHOLE),
    "SiglipModel Siglip": ({"vision_config": TINY, "text_config": TEXT | {"projection_size": 16}}, SQUARE, {}),
    "Dinov2Model Bit": (TINY, CROPPED, WHOLE),
    "DINOv3ViTModel DINOv3ViT": (TINY | {"num_register_tokens": 2}, SQUARE, {}),
    "DINOv3ConvNextModel DINOv3ViT": (CONVNEXT, SQUARE, {}),
}


def saved(case: str, folder: Path) -> tuple[Any, Any]:
    """A model of random weights and its processor, as their publisher saves them, and as transformers loads them."""
    (kind, processor), (settings, seen, _) = case.split(), MODELS[case]
    whole = getattr(transformers, kind)
    network = whole(whole.config_class(**settings))
    shaken(network)
    network.save_pretrained(folder)
    getattr(transformers, f"{processor}ImageProcessor")(**seen).save_pretrained(folder)
    return whole.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)


class Images(nn.Module):
    """The vector of images that a model of transformers gives."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        if hasattr(self.model, "get_image_features"):
            return self.model.get_image_features(images).pooler_output
        return self.model(images).pooler_output


@pytest.mark.parametrize("case", MODELS)
def test_a_model_of_transformers(case: str, tmp_path: Path) -> None:
    theirs, own = saved(case, tmp_path / "model")
    guide = ppap.load_guide(f"transformers:{tmp_path / 'model'}", "embedding", folder=tmp_path)
    assert not any("text" in name for name, _ in guide.network.named_parameters())
    see = lambda x: own(list(255 * x), return_tensors="pt", **MODELS[case][2]).pixel_values  # noqa: E731
    check(guide, Images(theirs), see, 48)


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "dinov3_vit"])
def test_default_adapters_train_a_quarter_of_published_sizes_at_most(kind: str) -> None:
    with torch.device("meta"):
        network = build_network(f"transformers:{kind}", {"model_type": kind}, Shape(3, 1, "embedding"))
        whole = sum(parameter.numel() for parameter in network.parameters())
        lora.attach(network, DEFAULT_ADAPTER)
    assert 0.01 < lora.trainable_parameters(network) / whole < 0.25


def reading(folder: Path) -> None:
    """Save a tokenizer of a few words beside a model."""
    words = {word: i for i, word in enumerate(["[", "_", "a", "red", "blue", "car", "?", "]"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[ $A ]", special_tokens=[("[", 0), ("]", 7)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="_", unk_token="?", bos_token="[", eos_token="]"
    )
    fast.save_pretrained(folder)


@pytest.mark.parametrize("case", ["CLIPModel CLIP", "SiglipModel Siglip"])
def test_words_are_vectors_beside_those_of_images(case: str, tmp_path: Path) -> None:
    theirs, _ = saved(case, folder := tmp_path / "model")
    reading(folder)
    guide = ppap.load_guide(f"transformers:{folder}", "embedding", folder=tmp_path)
    padding: Any = "max_length" if "Siglip" in case else False
    tokens = AutoTokenizer.from_pretrained(folder)(["a red car"], padding=padding, max_length=6, return_tensors="pt")
    with torch.no_grad():
        wanted = theirs.get_text_features(**tokens).pooler_output
    found = guide.text("a red car")
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found, guide.text("a blue car"))
    assert torch.equal(ppap.Goal(guide, found).targets(3, (3, 8, 8)), found.expand(3, -1))
    with pytest.raises(ConfigError, match=r"^words: 'a red car a red car' has 8 tokens; the model reads 6 at most$"):
        guide.text("a red car a red car")
    with pytest.raises(
        ConfigError, match=r"^a red car: no such file, .*; words are a target as `guide.text\(WORDS\)`$"
    ):
        ppap.Goal(guide, "a red car").targets(3, (3, 8, 8))
