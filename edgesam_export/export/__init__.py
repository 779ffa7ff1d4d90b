"""From a model to traced components with their contracts: what every export format starts from."""
