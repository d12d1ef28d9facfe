"""How good a model is on pictures whose classes are known: figures, comparisons, and what a calibration is made of."""
