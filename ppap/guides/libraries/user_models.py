"""Models of the user's own: functions in modules beside the preset, or in folders that it states."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ppap.guides.libraries.library import LibraryCode, Shape
from ppap.utils import user_code
from ppap.utils.errors import ModelError


class UserCode(LibraryCode):
    """Functions MODULE.FUNCTION, which return a network with its weights."""

    def build(
        self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path]
    ) -> nn.Module:
        """What the function in one of the folders returns for `options`.

        It is given `channels`, `classes` and `task` if it has arguments of these names. ConfigError if there is no such
        function; ModelError if it returns no network.
        """
        model, given = f"{user_code.PREFIX}{name}", shape._asdict()
        with user_code.on_path(folders):
            function = user_code.find(model, "model", "function", folders)
            wanted = inspect.signature(function).parameters
            network = function(**{k: v for k, v in given.items() if k in wanted}, **options)
        if not isinstance(network, nn.Module):
            found = (
                f"the class {network.__name__}"
                if isinstance(network, type)
                else repr(type(network).__name__)
            )
            raise ModelError(f"model '{model}': returns {found}; a torch.nn.Module was expected")
        return network
