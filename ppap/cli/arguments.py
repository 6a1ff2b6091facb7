"""The app, arguments that its commands share, words that a shell completes, and the preset that commands speak of.

What takes seconds to import is imported inside functions, here and in all commands, so that `--help` and completion are
quick.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ppap.workflow.layout import Layout

app = typer.Typer(
    help="Off-the-shelf vision models guide pretrained diffusion models (PPAP, CVPR 2023).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Started:
    """The command that runs, and the folders that it was given."""

    step = ""
    results = Path("results")
    scratch = Path("scratch")
    downloads = Path("downloads")
    replicate: int | None = None


def open_preset(preset: str) -> Layout:
    """Load a preset for work with its networks, and say where its files lie."""
    from ppap.config import reading as presets
    from ppap.config.replicates import replicate
    from ppap.utils.device import keep_compiled, keep_freed_memory
    from ppap.workflow.layout import Layout

    loaded = presets.load(presets.find(preset))
    if Started.replicate is not None:
        loaded = replicate(loaded, Started.replicate)
    layout = Layout(loaded, Started.results, Started.scratch, Started.downloads)
    keep_freed_memory()
    keep_compiled(layout.compiled)
    return layout


# -- completion --------------------------------------------------------------------------------------


def preset_names(incomplete: str) -> list[str]:
    """List the presets in config/; paths of others are completed by the shell itself."""
    paths = sorted(Path("config").glob("*.yaml"))
    return [p.stem for p in paths if p.stem.startswith(incomplete) and "diffusion" in _read(p)]


def names_in(section: str, *others: str) -> Callable[[typer.Context, str], list[str]]:
    """Complete by the keys of a section of the preset that was named before."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        # an option whose value is being typed keeps the arguments before it from being told apart
        preset = str(context.params.get("preset") or next(iter(context.args), ""))
        path = Path(preset) if preset.endswith((".yaml", ".yml")) else Path(f"config/{preset}.yaml")
        keys = [*(_read(path).get(section) or ()), *others]
        return [key for key in map(str, keys) if key.startswith(incomplete)]

    return complete


def _read(path: Path) -> dict[str, Any]:
    """Read a preset as plain YAML; nothing, if it is none."""
    import yaml

    with contextlib.suppress(OSError, yaml.YAMLError):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


# -- arguments ---------------------------------------------------------------------------------------

PresetName = Annotated[
    str, typer.Argument(help="a name in config/, or the path of a preset file", autocompletion=preset_names)
]
Guide = Annotated[
    str,
    typer.Argument(
        help="a key of `guides`; `unguided` with method none", autocompletion=names_in("guides", "unguided")
    ),
]
Sampler = Annotated[str, typer.Argument(help="a key of `samplers`", autocompletion=names_in("samplers"))]
Method = Annotated[str, typer.Argument(help="a key of `methods`", autocompletion=names_in("methods"))]
