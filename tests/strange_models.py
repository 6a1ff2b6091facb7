"""Models of a user's own that are no guides, each in a way of its own, and one that is."""

from torch import Tensor, nn


class Means(nn.Module):
    """The model that is a guide."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images.mean((2, 3)))


def good(channels: int, classes: int) -> nn.Module:
    return Means(channels, classes)


def returns_none(channels: int, classes: int) -> None:
    return None


def _answering(answer):
    class Model(Means):
        def forward(self, images):
            return answer(super().forward(images))

    return lambda channels, classes: Model(channels, classes)


answers_with_nan = _answering(lambda logits: logits * float("nan"))
answers_with_a_class = _answering(lambda logits: logits.argmax(1))
answers_without_gradient = _answering(lambda logits: logits.detach())


def fails_on_images(channels: int, classes: int) -> nn.Module:
    return nn.Linear(3, classes)


def has_no_parameters(channels: int, classes: int) -> nn.Module:
    class Model(nn.Module):
        def forward(self, images):
            return images.flatten(1)[:, :10] + 0

    return Model()


def gives_features(channels: int, classes: int) -> nn.Module:
    """Build a model with the features that an evaluator needs."""

    class Model(Means):
        def forward_features(self, images):
            return images

        def forward_head(self, features, pre_logits=False):
            return features.mean((2, 3)) if pre_logits else self(features)

        def get_classifier(self):
            return self.body

    return Model(channels, classes)
