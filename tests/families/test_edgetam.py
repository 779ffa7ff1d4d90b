"""EdgeTAM's image part against upstream's."""

from __future__ import annotations

from golden_pyramid import PyramidSuite


class TestEdgeTamGoldens(PyramidSuite):
    MODEL = "edgetam"
    PICTURES = (*[("edgetam", index) for index in range(3)], ("edgetam.extra", 0))
