// One import gives an app images, prompts and masks together with the predictor.
@_exported import EdgeSAMCore
