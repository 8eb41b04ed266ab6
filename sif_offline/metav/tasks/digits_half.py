"""The right half of a digit from its left half: 32 numbers, on scikit-learn's 1,797 pictures.

The left half does not settle what the right one is, so that models guess, and may guess differently. The
wheel's own sets for regression have 442 rows (diabetes, one number) and 20.
"""

from functools import cache, partial

from torch import Tensor

from sif_offline.fingerprint.metav.pack import TensorInput
from sif_offline.metav.tasks.base import FitSettings, TaskData
from sif_offline.metav.tasks.digits import load_digits
from sif_offline.metav.tasks.networks import logistic, small_networks
from sif_offline.metav.tasks.regression import Regression

SHAPE, SIZE = (1, 8, 4), 32


@cache
def load_halves() -> TaskData:
    """Pixels in [0, 1] on both sides."""
    whole = load_digits()

    def halves(pictures: Tensor) -> tuple[Tensor, Tensor]:
        return pictures[..., :4].contiguous(), pictures[..., 4:].flatten(1)

    return TaskData(*halves(whole.train_inputs), *halves(whole.test_inputs))


DIGITS_HALF = Regression(
    name="digits-half",
    input=TensorInput(shape=SHAPE, low=0, high=1),
    size=SIZE,
    architectures={"linear": partial(logistic, SHAPE, SIZE), **small_networks(SHAPE, SIZE)},
    owner_architecture="mlp-64",
    fit=FitSettings(epochs=40, batch_size=64, learning_rate=3e-3),
    load=load_halves,
)
