"""All goldens of SAM 2.1 that ``make test`` has no time for: a minute of one core, by ``make sam2-goldens``.

``make test`` checks one image of tiny. Small and base_plus add several windowed blocks between two global ones, two
heads from the first stage on, and the coarse position table of 14 x 14. Of ``large`` there are names, shapes and counts
only (test_sam2.py).
"""

from __future__ import annotations

from golden_pyramid import PyramidSuite


class TestTinyGoldens(PyramidSuite):
    MODEL = "sam2.1_hiera_tiny"
    PICTURES = tuple(("sam2.1_hiera_tiny", index) for index in range(3))


class TestSmallGoldens(PyramidSuite):
    MODEL = "sam2.1_hiera_small"
    PICTURES = (("sam2.1_hiera_small.extra", 0),)


class TestBasePlusGoldens(PyramidSuite):
    MODEL = "sam2.1_hiera_base_plus"
    PICTURES = (("sam2.1_hiera_base_plus.extra", 0),)
