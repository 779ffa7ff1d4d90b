"""The op that ends a classifier."""

import pytest
import torch

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS


def test_classify_names_the_best_class_and_all_probabilities() -> None:
    label, probabilities = OPS.lookup("classify", "iOS15")(torch.tensor([[0.25, 0.75]]), classes=["cat", "dog"])
    assert label == "dog"
    assert probabilities == {"cat": 0.25, "dog": 0.75}


def test_classify_keeps_integer_labels() -> None:
    assert OPS.lookup("classify", "iOS15")(torch.tensor([0.75, 0.25]), classes=[7, 3]) == (7, {7: 0.75, 3: 0.25})


def test_classify_refuses_a_wrong_number_of_classes() -> None:
    with pytest.raises(ProgramError, match="2 probabilities for 1 classes"):
        OPS.lookup("classify", "iOS15")(torch.tensor([0.5, 0.5]), classes=["cat"])
