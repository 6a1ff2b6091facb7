"""Models of the user's own: functions in modules beside the preset, or in folders that it states."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ppap.guides.libraries.library import Library, Shape
from ppap.utils import user_code
from ppap.utils.errors import ConfigError


class UserModels(Library):
    """Functions MODULE.FUNCTION, which return a network with its weights."""

    written = "user:MODULE.FUNCTION"
    publishes_weights = False
    of_user = True

    def knows(self, name: str) -> bool:
        return user_code.is_well_named(f"{user_code.PREFIX}{name}")

    def build(self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path]) -> nn.Module:
        """Call the function with `options`, and with `channels`, `classes` and `task` if it has such arguments.

        ConfigError if no folder has such a function, or it returns no network; its own exceptions come as they are.
        """
        model = f"{user_code.PREFIX}{name}"
        with user_code.on_path(folders):
            function = user_code.find(model, "model", "function", folders)
            arguments = inspect.signature(function).parameters
            given = {k: v for k, v in shape._asdict().items() if k in arguments}
            user_code.check_options(f"model '{model}'", function, options)
            network = function(**given, **options)
        if not isinstance(network, nn.Module):
            kind = type(network).__name__
            raise ConfigError(f"model '{model}': returns a {kind}; a torch.nn.Module was expected")
        return network
