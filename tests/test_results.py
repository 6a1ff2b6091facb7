"""The published results of the digits preset: complete, and the same in the README."""

import pandas as pd

from tests.conftest import ROOT

TABLES = ROOT / "published" / "digits" / "tables"


def test_the_main_table_has_28_complete_rows() -> None:
    frame = pd.read_csv(TABLES / "main.csv")
    assert len(frame) == 28
    assert (
        frame[["fid", "fid_std", "is", "precision", "recall", "paper_fid"]].notna().all(axis=None)
    )
    assert frame.loc[frame["method"] != "none", "target_rate"].between(0, 1).all()
    trained = frame["method"].isin(["single_noise_aware", "multi_experts_5", "ppap_5", "ppap_10"])
    assert frame.loc[trained, "steps"].notna().all()
    assert frame.groupby("guide")["steps"].nunique().eq(1).all()


def test_the_readme_shows_the_published_table() -> None:
    table = (TABLES / "main.md").read_text()
    readme = (ROOT / "README.md").read_text()
    shown = readme.split("<!-- published/digits/tables/main.md: begin -->")[1].split("<!-- published/digits/tables/main.md: end -->")[0]
    assert shown.strip() == table.split("\n\n", 1)[1].strip()


def test_what_the_readme_claims_is_in_the_table() -> None:
    frame = pd.read_csv(TABLES / "main.csv").set_index(["guide", "sampler", "method"])
    for guide in ("resnet", "vit"):
        for sampler in ("ddim25", "ddpm250"):
            rows = frame.loc[guide].loc[sampler]
            for failing in ("naive", "x0_gradient"):
                assert rows.loc[failing, "fid"] > rows.loc["none", "fid"]
                assert rows.loc[failing, "is"] < rows.loc["none", "is"]
            for helping in ("single_noise_aware", "multi_experts_5", "ppap_5", "ppap_10"):
                assert rows.loc[helping, "fid"] < rows.loc["none", "fid"]
                assert rows.loc[helping, "is"] > rows.loc["none", "is"]
            for metric in ("is", "target_rate"):
                assert rows.loc["multi_experts_5", metric] > rows.loc["single_noise_aware", metric]
