"""Downloading files of others: resumed, checked, remembered, placed by hand; and the public ADM format."""

import hashlib
import http.server
import json
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from ppap import config as presets
from ppap import models
from ppap.config import ADMArchitecture, Download
from ppap.diffusion_models.adm import ADM
from ppap.downloads import Downloads
from ppap.errors import DataError
from ppap.runs import Layout
from tests.conftest import ROOT, ppap

CONTENT = os.urandom(5 << 20)
SHA = hashlib.sha256(CONTENT).hexdigest()
IMAGENET = ROOT / "config" / "imagenet256.yaml"


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; breaks off as often and as early as `breaks` says, and knows ranges."""

    breaks: ClassVar[list[int]] = []
    served: ClassVar[list[str | None]] = []
    version = '"one"'

    def do_GET(self) -> None:
        if self.path == "/nothing.pt":
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        self.served.append(asked)
        start = 0
        if asked and self.headers.get("If-Range") == self.version:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.send_header("ETag", self.version)
        self.end_headers()
        end = self.breaks.pop(0) if self.breaks else len(CONTENT)
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server():
    Server.breaks, Server.served, Server.version = [], [], '"one"'
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/model.pt"
    running.shutdown()


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    return Downloads(tmp_path / "downloads", tmp_path / "downloads.lock")


def test_a_download_that_breaks_off_goes_on_where_it_stopped(server, downloads) -> None:
    Server.breaks = [2 << 20, 3 << 20]
    path = downloads.get(Download(url=server, sha256=SHA))
    assert path.read_bytes() == CONTENT
    assert Server.served == [None, f"bytes={2 << 20}-", f"bytes={3 << 20}-"]
    assert [p.name for p in downloads.folder.iterdir() if p.name != ".lock"] == ["model.pt"]


def test_a_partial_file_of_another_version_is_not_continued(server, downloads) -> None:
    downloads.folder.mkdir()
    (downloads.folder / "model.pt.part").write_bytes(b"old" * 1000)
    (downloads.folder / "model.pt.part.version").write_text('"zero"')
    assert downloads.get(Download(url=server, sha256=SHA)).read_bytes() == CONTENT


def test_a_partial_file_that_is_whole_already_is_downloaded_anew(server, downloads) -> None:
    downloads.folder.mkdir()
    (downloads.folder / "model.pt.part").write_bytes(CONTENT)
    (downloads.folder / "model.pt.part.version").write_text('"one"')
    assert downloads.get(Download(url=server, sha256=SHA)).read_bytes() == CONTENT


def test_a_file_is_downloaded_once_for_all_presets(server, downloads) -> None:
    for _ in range(2):
        downloads.get(Download(url=server))
    assert len(Server.served) == 1


def test_the_first_download_is_remembered_and_later_ones_must_be_the_same(
    server, downloads
) -> None:
    path = downloads.get(Download(url=server))
    assert json.loads(downloads.lock.read_text()) == {server: {"sha256": SHA, "size": len(CONTENT)}}
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(DataError, match=rf"model.pt: its sha256 is .*, but .*lock says {SHA}"):
        downloads.get(Download(url=server))


@pytest.mark.parametrize("printed", [SHA[:8], SHA], ids=["its first digits", "all of it"])
def test_what_the_publisher_prints_is_checked(server, downloads, printed: str) -> None:
    downloads.get(Download(url=server, sha256=printed))
    wrong = ("0" if printed[0] != "0" else "1") + printed[1:]
    with pytest.raises(DataError, match=f"but its publisher says {wrong}"):
        downloads.get(Download(url=server, sha256=wrong))


def test_without_network_the_error_says_where_to_place_the_file(downloads) -> None:
    wanted = Download(url="http://127.0.0.1:9/model.pt", sha256=SHA)
    place = downloads.folder / "model.pt"
    with pytest.raises(DataError, match=rf"place it as {re.escape(str(place))} and run the same"):
        downloads.get(wanted)
    place.write_bytes(CONTENT)
    assert downloads.get(wanted) == place


def test_a_file_that_its_publisher_has_moved_is_named(server, downloads) -> None:
    with pytest.raises(DataError, match=r"nothing\.pt: cannot be downloaded \(Not Found\)"):
        downloads.get(Download(url=server.replace("model", "nothing")))


def test_a_path_is_used_in_place_and_not_remembered(downloads, tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(CONTENT)
    assert downloads.get(Download(url=str(path))) == path
    assert downloads.get(Download(url=path.as_uri())) == downloads.folder / "mine.pt"
    assert not downloads.lock.exists()
    with pytest.raises(DataError, match=r"nowhere\.pt: no such file"):
        downloads.get(Download(url=str(tmp_path / "nowhere.pt")))


# -- the ADM checkpoint ----------------------------------------------------------------------------

TINY = {"model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_factors": [2],
        "head_channels": 16}  # fmt: skip


def adm_preset(preset_file, checkpoint: Path, **architecture) -> Path:
    """The imagenet256 preset with another checkpoint, and a small network unless told otherwise."""
    diffusion = {
        "architecture": architecture,
        "weights": {"url": checkpoint.as_uri()},
    }
    return preset_file(IMAGENET, diffusion=diffusion, runtime={"device": "cpu"})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_checkpoint_in_the_public_format_loads(preset_file, tmp_path: Path, dtype) -> None:
    torch.manual_seed(0)
    network = ADM(ADMArchitecture(**TINY))
    torch.save({k: v.to(dtype) for k, v in network.state_dict().items()}, tmp_path / "adm.pt")
    path = adm_preset(preset_file, tmp_path / "adm.pt", **TINY)
    ppap("download", path, "diffusion", cwd=tmp_path)
    config = presets.load(path)
    loaded = models.load_diffusion(config, Layout(config, tmp_path / "results"))
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([500])
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    torch.testing.assert_close(loaded(x, t), network(x, t), rtol=2e-2, atol=2e-2)


def test_a_checkpoint_of_another_network_names_the_first_differences(
    preset_file, tmp_path: Path
) -> None:
    state = ADM(ADMArchitecture(**TINY)).state_dict()
    state["out.2.weight"] = torch.zeros(3, 32, 3, 3)
    state["label_emb.weight"] = state.pop("out.0.bias")
    torch.save(state, tmp_path / "adm.pt")
    done = ppap(
        "download", adm_preset(preset_file, tmp_path / "adm.pt", **TINY), "diffusion",
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert (
        "adm.pt: has an unknown label_emb.weight; lacks out.0.bias; out.2.weight is" in done.stderr
    )
    assert not (tmp_path / "results").exists()


def test_a_checkpoint_with_code_in_it_is_not_unpickled(preset_file, tmp_path: Path) -> None:
    torch.save({"weight": Path("/")}, tmp_path / "adm.pt")
    done = ppap(
        "download", adm_preset(preset_file, tmp_path / "adm.pt", **TINY), "diffusion",
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "not in the expected format" in done.stderr


def test_the_full_size_checkpoint_loads(preset_file) -> None:
    """1.1 GB in float16, as published; about 15 seconds."""
    keys = json.loads((ROOT / "tests/golden/adm_imagenet256_uncond.keys.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "256x256_diffusion_uncond.pt")
        torch.save(
            {k: torch.full(v, 0.5, dtype=torch.float16) for k, v in keys.items()}, checkpoint
        )
        path = adm_preset(preset_file, checkpoint)
        ppap("download", path, "diffusion", cwd=Path(folder))
        config = presets.load(path)
        network = models.load_diffusion(config, Layout(config, Path(folder, "results")))
    network.requires_grad_(False)
    assert sum(p.numel() for p in network.parameters()) == 552_814_086
    assert all(float(p.flatten()[-1]) == 0.5 for p in network.parameters())


# -- the rest --------------------------------------------------------------------------------------


def test_what_is_not_to_be_downloaded_is_named(tmp_path: Path) -> None:
    done = ppap("download", IMAGENET, "resnet19", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert (
        "no 'resnet19' to download (there is diffusion, evaluator, resnet50, deit_s" in done.stderr
    )


def test_reference_archives_keep_their_statistics(tmp_path: Path) -> None:
    from ppap import realdata

    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "ref.npz", arr_0=images, mu=np.zeros(5), sigma=np.eye(5))
    found = realdata.read_archive(tmp_path / "ref.npz")
    assert (found["images"].numpy() == images).all()
    assert found["mu"].shape == (5,) and found["sigma"].dtype == torch.float64
    np.savez(tmp_path / "bad.npz", arr_0=images.astype(np.float32))
    with pytest.raises(DataError, match=r"bad\.npz: arr_0 is not uint8"):
        realdata.read_archive(tmp_path / "bad.npz")
