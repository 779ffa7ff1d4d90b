"""SAM 2.1 small and base_plus against upstream's code: half a minute of one core, so ``make sam2-goldens`` runs it alone.

``make test`` checks tiny; these add a second global block per pair of windows, two heads from the start, and the
coarse position table of 14 x 14.  Of ``large`` there are names, shapes and counts only (test_sam2.py).
"""

from __future__ import annotations

from golden_pyramid import PyramidSuite


class TestSmallGoldens(PyramidSuite):
    MODEL = "sam2.1_hiera_small"
    PICTURES = (("sam2.1_hiera_small.extra", 0),)


class TestBasePlusGoldens(PyramidSuite):
    MODEL = "sam2.1_hiera_base_plus"
    PICTURES = (("sam2.1_hiera_base_plus.extra", 0),)
