"""SAM 2.1 small and base_plus against upstream's code; half a minute, so only ``make sam2-goldens`` runs it.

``make test`` checks tiny; these add several windowed blocks between two global ones, two heads from the first stage on,
and the coarse position table of 14 x 14.  Of ``large`` there are names, shapes and counts only (test_sam2.py).
"""

from __future__ import annotations

from golden_pyramid import PyramidSuite


class TestSmallGoldens(PyramidSuite):
    MODEL = "sam2.1_hiera_small"
    PICTURES = (("sam2.1_hiera_small.extra", 0),)


class TestBasePlusGoldens(PyramidSuite):
    MODEL = "sam2.1_hiera_base_plus"
    PICTURES = (("sam2.1_hiera_base_plus.extra", 0),)
