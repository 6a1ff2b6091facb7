"""Experts travel: to the hub and back, with all that makes their guide, and to pipelines without a preset."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import HfApi, ModelCard, RepoUrl
from huggingface_hub.utils import filter_repo_objects
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

import ppap
from ppap.guides.tasks.score import ENDLESS, Scoring
from ppap.report import sheet
from ppap.utils import files
from tests.conftest import ppap as command
from tests.conftest import refused
from tests.test_diffusers import save_pipeline
from tests.test_embedding_models import reading, saved
from tests.tiny_pipelines import tiny

NAME = "timm:test_resnet.r160_in1k"
FILE = "timm--test_resnet.r160_in1k--model.safetensors"
MODEL = ppap.DiffusionModel(nn.Identity(), (3, 16, 16), ppap.Schedule.create("cosine", 1000))
LOG_SNR = MODEL.schedule.log_snr[300]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def trained(guide: ppap.Guide, experts: int = 1) -> ppap.ExpertBank:
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    training = {"steps": 4, "batch_size": 4, "learning_rate": 1e-2}
    return ppap.train_experts(guide, MODEL, images, experts=experts, training=training)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of downloads, in which a file lies as timm publishes them, of random weights."""
    folder = tmp_path_factory.mktemp("travel")
    torch.manual_seed(0)
    folder.joinpath("downloads").mkdir()
    save_file(timm.create_model(NAME.removeprefix("timm:")).state_dict(), folder / "downloads" / FILE)
    return folder


@pytest.fixture(scope="module")
def bank(place: Path) -> ppap.ExpertBank:
    guide = ppap.load_guide(NAME, outputs=1000, image_size=16, input_size=32, folder=place / "downloads")
    return trained(guide, experts=2)


@pytest.fixture
def folder(bank: ppap.ExpertBank, tmp_path: Path) -> Path:
    bank.save(tmp_path / "bank")
    return tmp_path / "bank"


@pytest.fixture
def hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The hub, as what was asked of it: what is uploaded lies in its cache, as if fetched; else it is out of reach."""
    asked: list[Any] = []

    def create(self: HfApi, repo_id: str, **how: Any) -> RepoUrl:
        asked.append((repo_id, how))
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload(self: HfApi, *, repo_id: str, folder_path: Path, allow_patterns: list[str], **how: Any) -> None:
        kept = place / "downloads" / "huggingface" / f"models--{repo_id.replace('/', '--')}"
        names = filter_repo_objects([p.name for p in folder_path.iterdir()], allow_patterns=allow_patterns)
        contents = {name: (folder_path / name).read_bytes() for name in names}
        for name, content in contents.items():
            path = kept / "snapshots" / COMMIT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for revision in ("main", "v1"):
            files.write_text(kept / "refs" / revision, COMMIT)
        asked.append((sorted(contents), how))

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return asked


def test_a_bank_goes_to_the_hub_and_comes_back_by_its_name_alone(bank, place: Path, hub) -> None:
    assert bank.push_to_hub("some/experts", private=True) == "https://huggingface.co/some/experts"
    (_, made), (uploaded, replaced) = hub
    assert made == {"private": True, "exist_ok": True}
    assert uploaded == ["README.md", "expert_1.safetensors", "expert_2.safetensors", "guide.json"]
    assert replaced == {"delete_patterns": ["expert_*.safetensors", "guide.json", "README.md"]}
    x = torch.randn(2, 3, 16, 16)
    for name in ("some/experts", "some/experts@v1"):
        again = ppap.load_experts(name, downloads=place / "downloads")
        assert torch.equal(again.at(x, LOG_SNR), bank.at(x, LOG_SNR)) and again.guide.name == NAME


def test_a_card_is_a_model_card_of_the_hub(bank, folder: Path) -> None:
    (folder / "README.md").write_text("an older card")
    assert command("experts", "card", str(folder)).stdout.split() == [str(folder / "README.md")]
    card = ModelCard.load(folder / "README.md")
    about = card.data.to_dict()
    assert about["library_name"] == "ppap" and about["base_model"] == "timm/test_resnet.r160_in1k"
    assert about["base_model_relation"] == "adapter" and "license" not in about
    assert {"classification", "data-free", "lora"} < {*about["tags"]}
    assert card.data.eval_results and [each.metric_value for each in card.data.eval_results] == [
        pytest.approx(expert.header.held_out_loss, rel=1e-5) for expert in bank.experts
    ]
    assert "`ppap.load_experts(FOLDER_OR_NAME)`" in card.text and "| Input size | 32 |" in card.text


def test_a_folder_is_pushed_with_nothing_else_that_lies_there(folder: Path, hub) -> None:
    (folder / "secret.txt").write_text("mine")
    printed = command("experts", "push", str(folder), "some/others").stdout
    assert printed == "https://huggingface.co/some/others\n" and "secret.txt" not in hub[1][0]


def test_weights_of_ones_own_are_named_and_known_by_their_hash(place: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network, task = timm.create_model("test_resnet", num_classes=1), partial(Scoring, target=2.5)
    own, other = tmp_path / "own.pt", place / "downloads" / FILE
    torch.save(network.state_dict(), own)
    about = {"input_size": 32, "folder": tmp_path, "mean": (0.4,), "std": (0.3,)}
    trained(guide := ppap.load_guide("timm:test_resnet", task, weights=own, **about)).save(tmp_path / "bank")
    again = ppap.load_experts(tmp_path / "bank", weights=own, downloads=tmp_path).guide
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(again(x), guide(x)) and again.task.target == 2.5
    with pytest.raises(ppap.PPAPError, match="has weights of its own; give their file as weights, or the guide"):
        ppap.load_experts(tmp_path / "bank", downloads=tmp_path)
    with pytest.raises(ppap.PPAPError, match="weights: leave them out, or the guide"):
        ppap.load_experts(tmp_path / "bank", guide, weights=own)
    torch.save({name: value + value.is_floating_point() for name, value in network.state_dict().items()}, own)
    with pytest.raises(ppap.PPAPError, match=r"expert_1.safetensors: made of another guide than 'timm:test_resnet'"):
        ppap.load_experts(tmp_path / "bank", weights=own, downloads=tmp_path)
    assert "base_model" not in ModelCard.load(tmp_path / "bank" / "README.md").data.to_dict()
    with pytest.raises(ppap.PPAPError, match=f"{FILE}: "):
        ppap.load_experts(tmp_path / "bank", weights=other, downloads=tmp_path)


def test_a_model_of_transformers_may_lie_elsewhere_by_now(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = ViTForImageClassification(ViTConfig(image_size=32, patch_size=16, num_labels=4, **sizes))
    network.save_pretrained(tmp_path / "vit")
    about = {"outputs": 4, "image_size": 16, "input_size": 32, "mean": (0.5,), "std": (0.5,)}
    guide = ppap.load_guide(f"transformers:{tmp_path / 'vit'}", folder=tmp_path, **about)
    trained(guide).save(tmp_path / "bank")
    (tmp_path / "vit").rename(tmp_path / "elsewhere")
    with pytest.raises(ppap.PPAPError, match="its guide 'transformers:vit' has weights of its own; give their file"):
        ppap.load_experts(tmp_path / "bank", downloads=tmp_path)
    again = ppap.load_experts(tmp_path / "bank", weights=tmp_path / "elsewhere", downloads=tmp_path / "other").guide
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(again(x), guide(x))


@pytest.mark.parametrize(("said", "name"), [("some/vit", "some/vit"), ("/home/me/vit", "own"), (None, "own")])
def test_no_file_of_experts_says_the_path_of_their_guides_folder(
    bank: ppap.ExpertBank, tmp_path: Path, said: str | None, name: str
) -> None:
    files.write_text(tmp_path / "own" / "config.json", json.dumps({"_name_or_path": said}))
    header = bank.experts[0].header.model_copy(update={"guide": f"transformers:{tmp_path / 'own'}"})
    ppap.ExpertBank(bank.guide, [e._replace(header=header) for e in bank.experts[:1]]).save(tmp_path / "bank")
    assert not [p for p in (tmp_path / "bank").iterdir() if str(tmp_path).encode() in p.read_bytes()]
    assert f"| Guide | `transformers:{name}` |" in (tmp_path / "bank" / "README.md").read_text()


def test_code_that_experts_name_is_not_run(folder: Path, place: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs.py").write_text("open('ran', 'w')\n")
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    guide = ppap.wrap_guide(network, outputs=4, image_size=16, name="user:theirs.network")
    trained(guide).save(tmp_path / "theirs")
    recipe = json.loads((folder / "guide.json").read_text())
    (folder / "guide.json").write_text(json.dumps(recipe | {"task": "user:theirs.Task"}))
    for theirs in (tmp_path / "theirs", folder):
        with pytest.raises(ppap.PPAPError, match="code of its maker's own; give the guide"):
            ppap.load_experts(theirs, downloads=place / "downloads")
    assert len(ppap.load_experts(tmp_path / "theirs", guide).experts) == 1
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"checkpoint_path": "/etc/passwd"}}, "options.checkpoint_path"),
        ({"input_size": "32"}, "guide.json: is no recipe of a guide (input_size: "),
        (None, "has no guide.json, which would make its guide; give the guide"),
    ],
)
def test_a_recipe_that_makes_no_guide_is_refused(folder: Path, place: Path, change, message: str) -> None:
    path = folder / "guide.json"
    recipe = json.loads(path.read_text())
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(recipe | change))
    with pytest.raises(ppap.PPAPError) as error:
        ppap.load_experts(folder, downloads=place / "downloads")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_the_hub_has_not_is_named(place: Path, hub) -> None:
    files.write_text(place / "downloads/huggingface/models--some--thing/refs/main", COMMIT)
    files.write_text(place / f"downloads/huggingface/models--some--thing/snapshots/{COMMIT}/README.md", "a thing")
    for name, message in (("some/thing", "has no experts (expert_*"), ("some/none", "save its folder elsewhere")):
        with pytest.raises(ppap.PPAPError) as error:
            ppap.load_experts(name, downloads=place / "downloads")
        assert message in str(error.value) and "\n" not in str(error.value)


class Refusing(BaseHTTPRequestHandler):
    """A hub that knows no revision, and takes nothing without a token."""

    def do_GET(self) -> None:
        self.answer(404, "RevisionNotFound")

    def do_HEAD(self) -> None:
        self.answer(404, "RevisionNotFound")

    def do_POST(self) -> None:
        self.answer(401, "no token")

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, code: int, error: str) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(code)
        self.send_header("X-Error-Code", error)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_a_hub_that_refuses_says_why(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(ppap.PPAPError, match="experts 'some/experts@v9': the hub has no revision 'v9'"):
            ppap.load_experts("some/experts@v9", downloads=tmp_path)
        line = refused("experts", "push", folder, "some/experts", cwd=tmp_path)
        server.shutdown()
    assert "some/experts: cannot be pushed to the hub" in line and "hf auth login" in line


# -- ppap guide, by a pipeline -----------------------------------------------------------------------


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the sheets show that are written from now on: what was asked for, and the images."""
    shown: list[Any] = []
    write = sheet.write_sheet

    def noted(path: Path, wanted: Any, images: np.ndarray) -> None:
        shown.append((wanted, images))
        write(path, wanted, images)

    monkeypatch.setattr(sheet, "write_sheet", noted)
    return shown


def guide(place: Path, *options: object) -> Any:
    return command("--downloads", place / "downloads", "guide", *options)


def test_a_pipeline_and_experts_draw_without_a_preset(folder: Path, place: Path, tmp_path: Path, sheets) -> None:
    save_pipeline(tmp_path / "pipeline")
    photo, out = tmp_path / "photo.png", tmp_path / "sheet.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)).save(photo)
    asked = ("--pipeline", tmp_path / "pipeline", "--steps", 2, "-n", 1, "--seed", 5, "--device", "cpu", "--out", out)
    both = ("--experts", folder, "--target", "goldfish", "--scale", 30)
    both += ("--experts", folder, "--target", photo, "--scale", 10)
    assert guide(place, *asked, *both).stdout == f"{out}\n"
    ((number, seen), images), model = sheets[0], ppap.load_pipeline(tmp_path / "pipeline")
    assert (number.title, seen.title) == (f"{NAME}: goldfish", f"{NAME}: photo.png") and int(number.target) == 1
    bank = ppap.load_experts(folder, downloads=place / "downloads")
    goals = [ppap.Goal(bank, 1, 30.0), ppap.Goal(bank, photo, 10.0)]
    assert torch.equal(seen.target, goals[1].targets(1, (3, 32, 32))[0]) and seen.picture.shape == (32, 32, 3)
    np.testing.assert_array_equal(images, ppap.sample(model, 1, goals, steps=2, seed=5))
    assert (images != ppap.sample(model, 1, steps=2, seed=5)).any()
    with Image.open(out) as drawn:
        assert np.asarray(drawn).std() > 1


def test_a_prompt_and_experts_of_latents_draw_together(bank, place: Path, tmp_path: Path, sheets) -> None:
    tiny("StableDiffusionPipeline").save_pretrained(tmp_path / "pipeline")
    model = ppap.load_pipeline(tmp_path / "pipeline").prompted("a red cup")
    latents = ppap.sample(model, 8, steps=2, decode=False)
    given = ppap.load_guide(NAME, outputs=1000, image_size=16, input_size=32, folder=place / "downloads")
    training = {"steps": 2, "batch_size": 4}
    ppap.train_experts(given, model, latents, experts=1, training=training).save(tmp_path / "bank")
    again = ppap.load_experts(tmp_path / "bank", model=model, downloads=place / "downloads")
    for scale in (0.0, 50.0):
        guide(
            place, "--pipeline", tmp_path / "pipeline", "--experts", tmp_path / "bank", "--target", 7, "-n", 1,
            "--prompt", "a red cup", "--scale", scale, "--steps", 2, "--out", tmp_path / "sheet.png",
        )  # fmt: skip
        drawn = ppap.sample(model, 1, ppap.Goal(again, 7, scale), steps=2)
        np.testing.assert_array_equal(sheets.pop()[1], drawn)


def test_words_and_a_score_to_raise_are_targets(place: Path, tmp_path: Path, sheets) -> None:
    save_pipeline(tmp_path / "pipeline")
    saved("CLIPModel CLIP", tmp_path / "clip")
    reading(tmp_path / "clip")
    torch.save(timm.create_model("test_resnet", num_classes=1).state_dict(), tmp_path / "score.pt")
    reader = ppap.load_guide(f"transformers:{tmp_path / 'clip'}", "embedding", folder=tmp_path)
    about = {"weights": tmp_path / "score.pt", "input_size": 32, "mean": (0.5,), "std": (0.5,)}
    score = ppap.load_guide("timm:test_resnet", "score", **about, folder=tmp_path)
    for name, given in (("words", reader), ("score", score)):
        trained(given).save(tmp_path / name)
    guide(
        place, "--pipeline", tmp_path / "pipeline", "--steps", 1, "-n", 1, "--out", tmp_path / "sheet.png",
        "--experts", tmp_path / "words", "--target", "a red car", "--weights", tmp_path / "clip",
        "--experts", tmp_path / "score", "--target", "", "--weights", tmp_path / "score.pt",
    )  # fmt: skip
    ((words, highest), _) = sheets[0]
    assert words.title.endswith(": a red car") and torch.equal(words.target, reader.text("a red car")[0])
    assert float(highest.target) == torch.tensor(ENDLESS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("digits", "--pipeline", "p"), "--pipeline: not together with the preset digits"),
        (("--pipeline", "p", "--target", 3), "--experts: name one at least"),
        (("--pipeline", "p", "--guide", "resnet", "--target", 3), "--guide: goes with a preset"),
        (("PIPELINE", "--target", 3, "--weights", "w", "--weights", "w"), "--weights: 2 files for 1 guides"),
        (("PIPELINE", "--target", 1000), "knows 0 to 999, not 1000"),
        (("PIPELINE", "--target", 3, "--prompt", "a cup"), "prompts: the diffusion model draws without them"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(
    folder: Path, place: Path, tmp_path: Path, options, message
) -> None:
    save_pipeline(tmp_path / "pipeline")
    named = ("--pipeline", tmp_path / "pipeline", "--experts", folder)
    given = [each for option in options for each in (named if option == "PIPELINE" else (option,))]
    asked = ("--downloads", place / "downloads", "guide", *given, "--out", tmp_path / "sheet.png")
    assert message in refused(*asked, cwd=tmp_path)
    assert not (tmp_path / "sheet.png").exists()
