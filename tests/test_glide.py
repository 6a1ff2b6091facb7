"""GLIDE: its networks, its tokens, its prompts and its checkpoints, against numbers of the reference implementation."""

import json
import sys
from pathlib import Path

import pytest
import torch

from ppap.config import reading as presets
from ppap.data.downloads import Downloads
from ppap.diffusion.networks import tokens
from ppap.diffusion.networks.architectures import ADMArchitecture, TextArchitecture
from ppap.diffusion.networks.glide import Networks, Prompted, PromptedUpsampler
from ppap.diffusion.networks.glide_settings import BASE, UPSAMPLER
from ppap.diffusion.networks.tokens import Tokens
from ppap.utils import files
from ppap.utils.errors import ConfigError, DataError
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from ppap.workflow.reads import diffusion_keys, download_keys, upsampling_keys
from ppap.workflow.steps.download import Download
from ppap.workflow.steps.download import downloaded as taken_from_elsewhere
from tests.conftest import ppap, refused
from tests.glide import GOLDEN, STAGES, checkpoint, glide_preset, golden, golden_keys, save_vocabulary, tiny
from tests.recorder import keys_read

PROMPT = "a photo of a dog"  # the first of the golden batch; the second is empty


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    scale = expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * scale)


# -- networks --------------------------------------------------------------------------------------


@pytest.mark.fast
def test_the_base_gives_the_reference_output() -> None:
    networks, known = tiny("base"), golden("base")
    text = networks.told(Tokens(known["input/tokens"], known["input/mask"]))
    close(networks.unet(known["input/x"], known["input/t"], text), known["output/eps_and_var"])


@pytest.mark.fast
def test_the_upsampler_gives_the_reference_output() -> None:
    networks, known = tiny("upsample"), golden("upsample")
    text = networks.told(Tokens(known["input/tokens"], known["input/mask"]))
    network = PromptedUpsampler(networks.unet, text).upsampling(known["input/low_res"])
    close(network(known["input/x"], known["input/t"]), known["output/eps_and_var"])


@pytest.mark.parametrize(("name", "arch", "count"), [("base", BASE, 385_030_726), ("upsample", UPSAMPLER, 398_361_286)])
def test_full_size_networks_have_the_names_and_shapes_of_the_public_checkpoints(
    name: str, arch: ADMArchitecture, count: int
) -> None:
    with torch.device("meta"):
        networks = Networks.new(arch, TextArchitecture(), STAGES[name])
    assert {key: list(spec.shape) for key, spec in networks.spec.items()} == golden_keys(name)
    assert sum(p.numel() for network in networks for p in network.parameters()) == count


# -- tokens ----------------------------------------------------------------------------------------

ENCODED = json.loads((GOLDEN / "glide_tokens.json").read_text())


def ranks(folder: Path) -> dict[bytes, int]:
    vocabulary = tokens.read_vocabulary(save_vocabulary(folder / "gpt2.tiktoken"))
    return tokens.ranks_of(vocabulary.numpy().tobytes())


@pytest.mark.parametrize("prompt", ENCODED["padded_16"])
def test_tokens_are_those_of_the_reference(tmp_path: Path, prompt: str) -> None:
    found = tokens.tokens_of(prompt, ranks(tmp_path), 16)
    wanted, mask = ENCODED["padded_16"][prompt]
    assert found.tokens.tolist() == [wanted] and found.mask.int().tolist() == [mask]
    assert found.tokens.dtype == torch.int64 and found.mask.dtype == torch.bool


def test_the_empty_prompt_needs_neither_vocabulary_nor_tiktoken(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    wanted, mask = ENCODED["padded_16"][""]
    found = tokens.no_tokens(16)
    assert found.tokens.tolist() == [wanted] and found.mask.int().tolist() == [mask]


def test_a_prompt_fills_the_context_and_no_more(tmp_path: Path) -> None:
    known = ranks(tmp_path)
    assert tokens.tokens_of("!" * 16, known, 16).mask.all()
    with pytest.raises(ConfigError, match=r"glide\.prompt: 17 tokens, but at most 16 are read"):
        tokens.tokens_of("!" * 17, known, 16)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("#version: 0.2\nĠ t\n", "not in the expected format"), (None, "ranks are not different numbers below 50256")],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, text: str | None, reason: str) -> None:
    path = save_vocabulary(tmp_path / "gpt2.tiktoken")
    path.write_text(path.read_text() + "YWJj 60000\n" if text is None else text)
    with pytest.raises(DataError, match=rf"gpt2\.tiktoken: .*{reason}"):
        tokens.read_vocabulary(path)


# -- prompts ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks() -> Networks:
    return tiny("base")


@pytest.fixture(scope="module")
def prompts() -> dict[str, Tokens]:
    def of(prompt: str) -> Tokens:
        found, mask = ENCODED["padded_16"][prompt]
        return Tokens(torch.tensor([found]), torch.tensor([mask], dtype=torch.bool))

    return {"prompt": of("an oil painting of a corgi"), "empty": of("")}


@pytest.mark.fast
def test_a_prompt_guides_without_a_classifier(networks: Networks, prompts) -> None:
    """Against one call for each text, put together by GLIDE's equation."""
    text = networks.told(prompts["prompt"], prompts["empty"])
    calls: list[int] = []
    networks.unet.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    torch.manual_seed(0)
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([0, 400, 999])
    found = Prompted(networks.unet, text, 4.0)(x, t)
    assert calls == [6]
    alone = {name: networks.unet(x, t, networks.told(prompt)).chunk(2, dim=1) for name, prompt in prompts.items()}
    (eps, variance), (eps_empty, variance_empty) = alone["prompt"], alone["empty"]
    close(found[:, :3], eps_empty + 4 * (eps - eps_empty))
    close(found[:, 3:], variance)
    assert not torch.allclose(variance, variance_empty, rtol=1e-3)


# -- the source ------------------------------------------------------------------------------------


def downloaded(path: Path, folder: Path) -> Layout:
    ppap("download", path, "diffusion", cwd=folder)
    return Layout(presets.load(path), folder / "results")


def test_checkpoints_in_the_public_format_load(preset_file, tmp_path: Path) -> None:
    path = glide_preset(preset_file, tmp_path, dtype=torch.float16)
    layout = downloaded(path, tmp_path)
    stored = files.read_tensors(layout.model("diffusion"), "base.")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    known = golden("base")
    network = models.load_diffusion(layout)
    assert all(p.dtype == torch.float32 for p in network.parameters())
    with torch.no_grad():
        close(network(known["input/x"][1:], known["input/t"][1:]), known["output/eps_and_var"][1:])
    known = golden("upsample")
    upsampling = models.load_second_stage(layout).upsampling(known["input/low_res"][1:])
    close(upsampling(known["input/x"][1:], known["input/t"][1:]), known["output/eps_and_var"][1:])


def test_another_prompt_needs_no_other_download(preset_file, tmp_path: Path) -> None:
    layout = downloaded(glide_preset(preset_file, tmp_path), tmp_path)
    plain = layout.preset
    path = glide_preset(preset_file, tmp_path, prompt=PROMPT, prompt_scale=1.0)
    layout = Layout(presets.load(path), tmp_path / "results")
    assert download_keys(layout.preset, "diffusion") == download_keys(plain, "diffusion")
    assert "diffusion.glide.prompt" in diffusion_keys(layout.preset)
    known = golden("base")
    with torch.no_grad():
        found = models.load_diffusion(layout)(known["input/x"][:1], known["input/t"][:1])
    close(found, known["output/eps_and_var"][:1])
    known = golden("upsample")
    upsampling = models.load_second_stage(layout).upsampling(known["input/low_res"][:1])
    close(upsampling(known["input/x"][:1], known["input/t"][:1]), known["output/eps_and_var"][:1])


def test_a_prompt_is_read_from_the_workflows_file_alone(preset_file, tmp_path: Path, monkeypatch) -> None:
    import tiktoken.load

    monkeypatch.setattr(tiktoken.load, "read_file", lambda *_: pytest.fail("asks the network"))
    layout = downloaded(glide_preset(preset_file, tmp_path, prompt=PROMPT), tmp_path)
    for name in ("base.pt", "upsample.pt", "gpt2.tiktoken"):
        (tmp_path / name).unlink()
    models.load_diffusion(layout)


@pytest.mark.parametrize("given", [{"prompt": PROMPT}, {}])
def test_a_source_says_what_it_reads(preset_file, tmp_path: Path, given) -> None:
    preset = presets.load(glide_preset(preset_file, tmp_path, **given))
    layout = Layout(preset, tmp_path / "results", downloads=tmp_path / "downloads")
    downloads = Downloads(tmp_path / "downloads", tmp_path / "lock.json")
    read = keys_read(preset, lambda: taken_from_elsewhere(layout, downloads, "diffusion"))
    assert read == set(download_keys(preset, "diffusion"))
    Download("diffusion").run(layout)
    read = keys_read(preset, lambda: models.load_diffusion(layout))
    assert read == set(diffusion_keys(preset))
    how = preset.diffusion.upsampling
    read = keys_read(preset, lambda: (models.load_second_stage(layout), how.drawing([])))
    assert read == {*upsampling_keys(preset), "dataset.channels"}


def test_a_checkpoint_of_another_stage_names_key_file_and_first_differences(preset_file, tmp_path: Path) -> None:
    path = glide_preset(preset_file, tmp_path)
    torch.save(checkpoint("base"), tmp_path / "upsample.pt")
    said = refused("download", path, "diffusion", cwd=tmp_path)
    assert f"diffusion.glide.upsampler: {tmp_path}/upsample.pt: input_blocks.0.0.weight is" in said
    torch.save({k: v for k, v in checkpoint("base").items() if k != "final_ln.bias"},
               tmp_path / "base.pt")  # fmt: skip
    assert "base.pt: lacks final_ln.bias" in refused("download", path, "diffusion", cwd=tmp_path)


def test_a_file_without_the_second_stage_says_so(preset_file, tmp_path: Path) -> None:
    layout = downloaded(glide_preset(preset_file, tmp_path), tmp_path)
    path = layout.model("diffusion")
    part = {f"base.{k}": v for k, v in files.read_tensors(path, "base.").items()}
    files.write_tensors(path, part, {"model": "diffusion"})
    models.load_diffusion(layout)
    with pytest.raises(DataError, match=r"diffusion\.safetensors: holds nothing of upsampler;"):
        models.load_second_stage(layout)


def test_a_prompt_without_a_vocabulary_is_refused(preset_file, tmp_path: Path) -> None:
    path = glide_preset(preset_file, tmp_path, vocabulary=None, prompt=PROMPT)
    with pytest.raises(presets.PresetError, match="glide: prompt: needs a `vocabulary`"):
        presets.load(path)
    layout = downloaded(glide_preset(preset_file, tmp_path, vocabulary=None), tmp_path)
    later = presets.load(glide_preset(preset_file, tmp_path, prompt=PROMPT))
    with pytest.raises(DataError, match=r"diffusion\.safetensors: holds nothing of vocabulary;"):
        models.load_diffusion(Layout(later, layout.root.parent))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upsampling": {"image_size": 4}}, "upsampling.image_size: 4 is no more than"),
        ({"upsampling": {"steps": 999}}, "upsampling.steps: no integer stride keeps 999"),
        ({"text": {"width": 30, "heads": 4}}, "text: heads: 4 do not divide 30 channels"),
        ({"base_architecture": {"in_channels": 1}}, "base_architecture.in_channels: 1, but"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(preset_file, tmp_path: Path, changes, message: str) -> None:
    with pytest.raises(presets.PresetError) as error:
        presets.load(glide_preset(preset_file, tmp_path, **changes))
    assert any(f"diffusion.glide.{message}" in problem for problem in error.value.problems), error.value.problems


def test_a_diffusion_model_of_one_stage_does_not_upsample(smoke, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the diffusion model has no second stage"):
        models.load_second_stage(Layout(smoke, tmp_path))
