"""Values shared by two or more modules."""

SPEED_OF_LIGHT = 299_792_458.0
"""Speed of light in vacuum [m/s], exact by definition of the metre (SI)."""
AUGMENTATIONS = ("rotate", "symmetries", "tilt")
"""How training may turn samples, see `data.augmentation`."""
