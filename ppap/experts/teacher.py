"""A teacher's answers on the clean images, computed once for every image and its mirror image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ppap.data import augmentation, loading
from ppap.data.images import to_tensor
from ppap.data.loading import Images
from ppap.guides.guide import Guide
from ppap.utils.errors import NumericalError
from ppap.utils.progress import Bar


class TeacherAnswers(NamedTuple):
    """Answers (N, ...) on images, and on the mirror images where these are as valid."""

    plain: Tensor
    mirror: Tensor | None = None

    def take(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Return float32 answers (B, ...) on these images, on the mirror image where `mirrored` (B,) is true."""
        answers = self.plain[indices]
        if self.mirror is not None:
            answers = augmentation.where(mirrored, self.mirror[indices], answers)
        return answers.float()


@torch.inference_mode()
def answers_on(
    guide: Guide,
    images: Images,
    batches: Sequence[Tensor],
    *,
    mirror: bool,
    pictures: Callable[[Tensor], Tensor] = lambda images: images,
    dtype: torch.dtype = torch.float32,
    name: str = "",
) -> TeacherAnswers:
    """Return the guide's answers on images, whose indices come in batches, and on their mirror images if asked for.

    A teacher sees `pictures` of the images: what latents decode to. Answers are kept in the precision `dtype`;
    NumericalError, with the name, if one is not finite in it. With a name, progress is shown.
    """
    plain, mirrored = [], []
    bar = Bar(total=len(batches), name=f"labels of {name}", unit="batch", disable=not name)
    with bar:
        for batch in loading.batches(images, batches, guide.device):
            x0 = pictures(to_tensor(batch))
            plain.append(guide(x0).to("cpu", dtype))
            if mirror:
                mirrored.append(guide(x0.flip(-1)).to("cpu", dtype))
            bar.update()
    with torch.autocast("cpu", enabled=False):  # which joins no tensors of a third precision
        answers = TeacherAnswers(torch.cat(plain), torch.cat(mirrored) if mirror else None)
    for part in answers:
        if part is not None and not torch.isfinite(part).all():
            raise NumericalError(f"labels of {name or guide.name}: an answer is not finite in {dtype}")
    return answers
