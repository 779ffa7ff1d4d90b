"""The search for the smallest package that keeps its masks: sensitivities, an allocation of bits, a check by masks."""
