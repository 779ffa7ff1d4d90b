"""EdgeSAM against what its authors' code computes on the same parameters and pictures; see tests/goldens/README.md."""

from __future__ import annotations

import pytest
from golden_picture import (
    IOU,
    LOGITS_STATS,
    STABILITY,
    GoldenSuite,
    assert_close,
    assert_logits,
    statistics,
)

from edgesam_export.modeling.common import stability_score

DRAWN = (
    *[("edge_sam", index) for index in range(3)],
    *[("edge_sam_bilinear", index) for index in range(3)],
)
SHRUNK = ("edge_sam.extra", 0)


class TestEdgeSamGoldens(GoldenSuite):
    MODEL = "edge_sam"
    PICTURES = (*DRAWN, SHRUNK)

    @staticmethod
    def options(golden):
        return {"upsample": "bilinear" if "bilinear" in golden else "bicubic"}

    def test_state_dict_has_the_released_order(self, pictures, manifest):
        for picture in pictures.values():
            assert list(picture.model.state_dict()) == list(manifest["state_dict"])

    @pytest.mark.parametrize("key", DRAWN, ids=str)
    def test_exported_decoder_of_upstream_gives_both_kinds_of_score(self, pictures, key):
        picture = pictures[key]
        logits, iou = picture.decode(picture.meta["export_point_coords"], picture.meta["export_point_labels"])
        assert_logits(logits, picture.array("export_iou/logits"))
        assert_logits(logits, picture.array("export_stability/logits"))
        assert_close(iou, picture.array("export_iou/scores"), IOU)
        assert_close(stability_score(logits), picture.array("export_stability/scores"), STABILITY)

    @pytest.mark.parametrize("name", ["one", "one_padded", "box", "box_bg", "sixteen"])
    def test_exported_decoder_of_upstream_on_further_point_sets(self, pictures, name):
        picture = pictures[SHRUNK]
        points = picture.meta["export"][name]
        logits, iou = picture.decode(points["point_coords"], points["point_labels"])
        assert_logits(logits, picture.array(f"export/{name}/logits"))
        assert_close(statistics(logits), picture.array(f"export/{name}/logits_stats"), LOGITS_STATS)
        assert_close(iou, picture.array(f"export/{name}/scores"), IOU)
        assert_close(stability_score(logits), picture.array(f"export/{name}/stability"), STABILITY)
