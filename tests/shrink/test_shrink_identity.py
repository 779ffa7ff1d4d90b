"""What an interrupted search goes on with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgesam_export.families import load_model
from edgesam_export.shrink.images import BundledImage
from edgesam_export.shrink.search import Goal
from edgesam_export.shrink.shrinking import Images, ShrinkConfig, identity_of
from edgesam_export.spec import CoreMLConfig

CONFIG = ShrinkConfig(goal=Goal(min_iou=0.98))


@pytest.fixture(scope="module")
def model():
    return load_model("edge_sam_tiny", random_weights=0)


def images(level: int = 0) -> Images:
    shown = BundledImage(name="grey", image=np.full((4, 5, 3), level, np.uint8), masks=np.zeros((0, 4, 5), bool))
    return Images(name="some", search=[shown], held_out=[shown])


def test_another_goal_or_comparison_goes_on_with_the_same_steps(model):
    other = ShrinkConfig(goal=Goal(max_bytes=5), uniform=(), curve=0, verify=False)
    assert identity_of(model, images(), other) == identity_of(model, images(), CONFIG)


def test_whatever_steps_depend_on_makes_another_search(model):
    same = identity_of(model, images(), CONFIG)
    others = [
        identity_of(model, images(1), CONFIG),
        identity_of(load_model("edge_sam_tiny", random_weights=1), images(), CONFIG),
        identity_of(load_model("edge_sam_tiny", random_weights=0, upsample="bilinear"), images(), CONFIG),
        *(
            identity_of(model, images(), replace(CONFIG, **change))
            for change in (
                {"schemes": ("palettize4",)},
                {"export": CoreMLConfig(target="iOS18")},
                {"export": CoreMLConfig(mask_input=True)},
                {"sensitivity_images": 2},
            )
        ),
    ]
    assert len(others) == 7 and same not in others
