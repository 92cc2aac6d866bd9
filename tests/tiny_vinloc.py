"""How small a VIn-Loc may be that has all its parts."""

SIZES = {
    "unet_filters": [4, 8],
    "cir_units": 12,
    "position_units": 8,
    "num_blocks": 1,
    "num_heads": 2,
    "mlp_units": 16,
    "head_units": 16,
}
REFINER = {"refiner_spacings": [2.0], "refiner_units": 8, "refiner_blocks": 1}
