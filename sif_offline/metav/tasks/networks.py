"""Small networks, ``(n, channels, height, width)`` to ``(n, size)``."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import prod

from torch import nn

Shape = tuple[int, int, int]


def logistic(shape: Shape, size: int) -> nn.Module:
    """One linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), size))


def mlp(shape: Shape, size: int, widths: tuple[int, ...]) -> nn.Module:
    """Linear layers of these widths with ReLU between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for wide, out in pairwise((prod(shape), *widths)):
        layers += [nn.Linear(wide, out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], size))


def cnn(shape: Shape, size: int, channels: int) -> nn.Module:
    """Two 3 x 3 convolutions, halved in size between them, and a linear layer."""
    depth, height, width = shape
    return nn.Sequential(
        nn.Conv2d(depth, channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * channels * (height // 2) * (width // 2), size),
    )


def small_networks(shape: Shape, size: int) -> dict[str, Callable[[], nn.Module]]:
    """Name -> a fresh network: what the tasks on 8 x 8 pixels have in common. Recipes hold the names."""
    return {
        "mlp-32": partial(mlp, shape, size, (32,)),
        "mlp-64": partial(mlp, shape, size, (64,)),
        "mlp-128": partial(mlp, shape, size, (128,)),
        "mlp-64-32": partial(mlp, shape, size, (64, 32)),
        "cnn-8": partial(cnn, shape, size, 8),
    }


def image_cnn(shape: Shape, channels: int) -> nn.Module:
    """Three 3 x 3 convolutions to one picture of the same height and width, flattened."""
    depth, _height, _width = shape
    return nn.Sequential(
        nn.Conv2d(depth, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 1, 3, padding=1),
        nn.Flatten(),
    )
