"""Vectors of words, by the text tower that CLIP, SigLIP and their like have beside the one that sees images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ppap.guides.libraries.transformers_input import quiet_transformers
from ppap.utils.errors import ConfigError, DataError, reason

TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "spiece.model")
"""The files of a tokenizer in a publisher's folder."""


@torch.no_grad()
def vectors_of(folder: Path, words: Sequence[str]) -> Tensor:
    """Return the vector of each text (N, D) in the space of the images' vectors, by the model in a publisher's folder.

    ConfigError if one has more tokens than the model reads; DataError if the folder holds no such model.
    """
    library = quiet_transformers()
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        network = library.AutoModel.from_pretrained(
            folder, dtype=torch.float32, weights_only=True, trust_remote_code=False, local_files_only=True
        ).eval()
    except Exception as error:  # whatever a stranger's files lead to
        raise DataError(f"{folder}: holds no model of words ({reason(error)})") from error
    most = network.config.text_config.max_position_embeddings
    vectors: list[Tensor] = []
    for text in words:
        # padded, as SigLIP learned; to CLIP that is the same
        tokens = tokenizer([text], padding="max_length", max_length=most, return_tensors="pt")
        if (count := tokens.input_ids.shape[1]) > most:
            raise ConfigError(f"words: {text!r:.40} has {count} tokens; the model reads {most} at most")
        vectors.append(network.get_text_features(**tokens).pooler_output)
    return torch.cat(vectors)
