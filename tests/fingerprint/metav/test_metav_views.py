"""What an API lets through of an output."""

import numpy as np
import pytest

from sif_offline.fingerprint.metav.views import ViewError, check_view, seen_through

OUTPUT = [0.4567, 0.0449, 0.4567, 0.0417]


@pytest.mark.parametrize(
    ("view", "seen"),
    [
        ("full", OUTPUT),
        ("rounded-1", [0.5, 0.0, 0.5, 0.0]),
        ("rounded-3", [0.457, 0.045, 0.457, 0.042]),
        ("top-1", [0.4567, 0, 0, 0]),
        ("top-3", [0.4567, 0.0449, 0.4567, 0]),
        ("top-9", OUTPUT),
        ("label", [1, 0, 0, 0]),
    ],
)
def test_of_equal_values_the_first_counts_as_larger(view: str, seen: list[float]) -> None:
    np.testing.assert_allclose(seen_through(OUTPUT, view), seen)


@pytest.mark.parametrize("view", ["full", "rounded-2", "top-3", "label"])
def test_each_output_of_a_batch_is_seen_by_itself(view: str) -> None:
    batch = np.random.default_rng(0).dirichlet(np.ones(5), size=(3, 4))
    seen = seen_through(batch, view)
    for place in np.ndindex(3, 4):
        np.testing.assert_array_equal(seen[place], seen_through(batch[place], view))


@pytest.mark.parametrize("view", ["full", "rounded-2", "top-3", "label"])
def test_what_was_seen_looks_the_same_again(view: str) -> None:
    """An API that shows the label alone shows it of itself."""
    once = seen_through(np.random.default_rng(1).dirichlet(np.ones(6), size=20), view)
    np.testing.assert_array_equal(seen_through(once, view), once)


@pytest.mark.parametrize(
    "view",
    ["", "Full", "rounded", "rounded-0", "rounded-10", "top-0", "top-x", "top-10000", "label-1", "full\n"],
)
def test_other_words_are_refused(view: str) -> None:
    with pytest.raises(ViewError, match="rounded-DECIMALS"):
        check_view(view)
