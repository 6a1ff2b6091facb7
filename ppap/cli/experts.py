"""Commands about folders of experts: `ppap experts` writes their cards, and pushes them to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ppap.cli.arguments import app

experts_app = typer.Typer(help="Write the card of a folder of experts, or push it to the hub.", no_args_is_help=True)
app.add_typer(experts_app, name="experts")

Folder = Annotated[Path, typer.Argument(help="a folder that `ExpertBank.save` wrote")]


@experts_app.command()
def card(folder: Folder) -> None:
    """Write a folder's card anew, README.md: what its experts are, for the hub and for people."""
    from ppap.experts.folder import write_card

    print(write_card(folder))


@experts_app.command()
def push(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="a model repository, made if it is not there")],
    private: Annotated[bool | None, typer.Option("--private", help="make it private")] = None,
) -> None:
    """Push a folder of experts to the Hugging Face hub, its card with it; `hf auth login` logs in.

    `ppap.load_experts` and `ppap guide --experts` then take USER/NAME.
    """
    from ppap.experts.folder import push_experts

    print(push_experts(folder, name, private))
