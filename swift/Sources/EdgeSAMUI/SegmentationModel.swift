import EdgeSAM

/// What a user selects on one image; knows no user interface.
enum SegmentationModel {}
