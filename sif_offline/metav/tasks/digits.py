"""Handwritten digits: 1,797 pictures of 8 x 8 pixels, in scikit-learn's wheel (UCI, Alpaydin & Kaynak)."""

from functools import cache, partial

import numpy as np
import torch

from sif_offline.fingerprint.metav.pack import TensorInput
from sif_offline.metav.tasks.base import FitSettings, TaskData
from sif_offline.metav.tasks.classification import Classification
from sif_offline.metav.tasks.networks import logistic, small_networks

SHAPE, CLASSES = (1, 8, 8), 10
TEST = 397
"""Pictures that no model is trained on."""


@cache
def load_digits() -> TaskData:
    """Pixels in [0, 1]."""
    from sklearn.datasets import load_digits as load

    found = load()
    order = np.random.default_rng(0).permutation(len(found.target))
    inputs = torch.from_numpy((found.images[order] / 16).astype(np.float32)).reshape(-1, *SHAPE)
    targets = torch.from_numpy(found.target[order].astype(np.int64))
    return TaskData(inputs[TEST:], targets[TEST:], inputs[:TEST], targets[:TEST])


DIGITS = Classification(
    name="digits",
    input=TensorInput(shape=SHAPE, low=0, high=1),
    classes=CLASSES,
    architectures={"logistic": partial(logistic, SHAPE, CLASSES), **small_networks(SHAPE, CLASSES)},
    owner_architecture="mlp-64",
    fit=FitSettings(epochs=40, batch_size=64, learning_rate=3e-3),
    load=load_digits,
)
