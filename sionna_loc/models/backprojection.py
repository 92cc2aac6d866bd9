"""Back-projection: a localizer that carries the geometry and gives a posterior."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import keras
from keras import layers, ops

from sionna_loc.antennas import PlanarArray, checked_shape
from sionna_loc.checks import (
    check,
    check_bool,
    check_known,
    check_list,
    check_not_negative,
    check_not_negative_int,
    check_positive,
    check_positive_int,
)
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers.angle_delay import AngleDelay
from sionna_loc.layers.angle_spectrum import AngleSpectrum, num_terms
from sionna_loc.layers.cell_agreement import CellAgreement
from sionna_loc.layers.cell_refiner import refiner_stack
from sionna_loc.layers.cir_scaling import CirScaling
from sionna_loc.layers.coarse_map import CoarseMap
from sionna_loc.layers.map_cells import NUM_VALUES, MapCells, divided, height_of
from sionna_loc.layers.map_grid import MapGrid
from sionna_loc.layers.mixture import ESTIMATES, PositionMixture
from sionna_loc.layers.set_summary import UNITS_MULTIPLE, SetSummary
from sionna_loc.layers.tap_evidence import TapEvidence
from sionna_loc.layers.token_set import TokenSet
from sionna_loc.layers.wall_images import WallImages, learn_other_walls, learn_walls
from sionna_loc.losses import PositionLikelihood
from sionna_loc.models.base import Localizer

_GRID_MULTIPLE = 2  # what `GridEncoder` folds
_FINE_WINDOW = 5  # taps around a part whose directions count: a pulse and the part
_COARSE_TOLERANCES, _FINE_TOLERANCES = (1.5,), (1.5, 0.5)  # [taps]
"""From the paths of a cell, and of a part, to those of the UE."""


@keras.saving.register_keras_serializable(package="sionna_loc")
class BackProjectionLocalizer(Localizer):
    """Judges the cells of a map by what each CIR holds at their distance.

    Nothing has to learn that a delay is a distance. The CIR of each TRP becomes
    evidence at each of its taps (`TapEvidence`); a coarse map gathers for each cell the
    evidence at the delays at which it would hear the TRPs (`CoarseMap`); the best cells
    are divided and judged more finely (`CellRefiner`), once or several times. Cost and
    memory of the fine part grow with the candidates and not with the area, those of
    the coarse map with `num_cells` squared.

    With `num_images`, cells and parts are judged besides by whether the delays of all
    paths, reflected ones too, are those that they would have there (`PathAgreement`);
    with `image_ranges`, reflections tell besides where in a part the UE is, as lines of
    sight do. So the walls of a place, which are found before training (`WallImages`),
    do not have to be learned, and places are told apart from which few TRPs are in line
    of sight. A model that has been trained in many places, without walls, takes them
    for what they are as soon as few samples of one place have shown them (`remember`).

    The answer is a probability density, not a point: each part of the candidates and
    each cell that is none is a Gaussian with a weight. Training maximises the density
    at the true position, after each division, and so trains all of it from the first
    step on.

    Args:
        region: [2, 3], float [m]. Box of the UEs; the map covers its ground plan, at
            the box's middle height.
        num_taps: int > 0. Taps of each CIR, tap 0 at the time of sending: TRPs and UE
            share a time base.
        sampling_rate: float > 0 [Hz]. Of the taps.
        num_ant: int > 0. UE antennas.
        array_shape: (rows, columns), ints > 0, of the UE's planar array; one row by
            default. Several antennas enter as beams, see `AngleDelay`.
        array_spacing: float > 0 [wavelengths]. Of neighbours in the array.
        use_angles: bool. Whether, with several antennas, cells are judged besides by
            what is received from where they would see each TRP, see `AngleSpectrum`.
            The array must lie flat and be turned as `antennas.PlanarArray` says.
        num_cells: int > 0. Coarse cells along the region's longer side.
        num_candidates: int > 0, or several. Cells that are divided, each time, or one
            entry for each of `divisions`.
        divisions: ints > 0. Parts along each side of a candidate, one entry for each
            time that cells are divided.
        evidence_units, evidence_window, evidence_stride: of the network that judges
            taps, see `TapEvidence`; every other one by default, as taps that are
            sampled at twice the bandwidth are half as many numbers.
        coarse_channels: int > 0. Evidence for the coarse map.
        fine_channels: int > 1. Evidence for the parts.
        grid_units, grid_blocks: of the convolutions over the coarse map.
        cell_channels: int > 0. Features that cells hand down to their parts.
        refiner_units: int > 0. See `CellRefiner`.
        finds_height: bool. Whether ranges tell the UE's height, too, see `CellRefiner`;
            else it is what the coarse map says of it, for all parts alike.
        use_map: bool. Whether the coarse map learns the place, see `CoarseMap`;
            without, and without images, nothing depends on where the region is.
        map_units: int >= 0. Learned features of each coarse cell, 0 for none.
        view_rank: int >= 0. Rank of what each coarse cell learns of TRPs by where they
            are, 0 for nothing.
        num_images: int >= 0. Images of each TRP in the walls of a place, 0 for none.
            Of several antennas only the delays are compared with theirs, but for those
            of `image_ranges`.
        image_ranges: int >= 0. Of these, those that were found first, as many at most,
            that give ranges where cells are divided for the last time, as TRPs do, see
            `CellRefiner`.
        seeks_walls: bool. Whether `adapt` finds walls, before training, which is of a
            place that stays the same; else they are unknown until `remember`, where
            the trained model goes on with samples of such a place.
        condition_units: int >= 0, a multiple of 16. Width of the tokens of a
            transformer over the TRPs, whose [LOC] token conditions the coarse map, see
            `SetSummary`; 0 for none. Tokens hold the TRPs' positions with `use_map`.
        condition_blocks: int > 0. Blocks of that transformer.
        estimate: `"mean"` of the density, which makes the mean squared error small, its
            geometric `"median"`, which makes the mean error small, or its `"mode"`.
            While training it is the mean.
        position_weight: float >= 0 [1/m]. Of the loss of the position that the model is
            compiled with, beside the negative log-likelihood.

    Call arguments: see `Localizer`.

    Returns: dict with `position` [batch, 3] [m]; `covariance` [batch, 3, 3] [m^2], of
        the density about its mean; `map` [batch, num_components, 8], the density, see
        `layers.mixture.MAP_COLUMNS`; and in training `stages`, the maps before the
        last.
    Raises: UserError (a ValueError) if a size is not positive or does not fit.
    References: McCorkle and Rofheart, "An order N^2 log(N) backprojector algorithm"
        (the geometry); Bishop, "Mixture Density Networks" (the loss); Zaheer et al.,
        "Deep Sets" (the pooling).
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "compact": {
            "use_map": True,
            "num_images": 12,
            "image_ranges": 4,
            "num_candidates": (16, 8),
            "divisions": (4, 4),
        },
        "agnostic": {
            "use_map": False,
            "num_images": 12,
            "seeks_walls": False,
            "num_candidates": (16, 8),
            "divisions": (4, 4),
        },
    }
    DEFAULT_PRESET = "compact"
    default_recipe = "backprojection"
    gives_density = True
    wall_options: ClassVar[tuple[str, ...]] = ("num_images",)
    estimates: ClassVar[tuple[str, ...]] = ESTIMATES
    arguments_before: ClassVar[dict[str, Any]] = {
        "use_angles": False,
        "finds_height": False,
    }

    def __init__(
        self,
        region: Any,
        num_taps: int,
        sampling_rate: float,
        num_ant: int = 1,
        array_shape: Sequence[int] | None = None,
        array_spacing: float = 0.5,
        use_angles: bool = True,
        num_cells: int = 28,
        num_candidates: int | Sequence[int] = 8,
        divisions: Sequence[int] = (4,),
        evidence_units: int = 32,
        evidence_window: int = 15,
        evidence_stride: int = 2,
        coarse_channels: int = 16,
        fine_channels: int = 16,
        grid_units: int = 64,
        grid_blocks: int = 2,
        cell_channels: int = 16,
        refiner_units: int = 32,
        finds_height: bool = True,
        use_map: bool = True,
        map_units: int = 8,
        view_rank: int = 8,
        num_images: int = 0,
        image_ranges: int = 0,
        seeks_walls: bool = True,
        condition_units: int = 0,
        condition_blocks: int = 2,
        estimate: str = "mean",
        position_weight: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(region, **kwargs)
        for name, value in (
            ("num_taps", num_taps),
            ("num_ant", num_ant),
            ("coarse_channels", coarse_channels),
            ("fine_channels", fine_channels),
            ("cell_channels", cell_channels),
            ("condition_blocks", condition_blocks),
        ):
            check_positive_int(name, value)
        check_positive("sampling_rate", sampling_rate)
        check_list("divisions", divisions)
        for parts in divisions:
            check_positive_int("divisions", parts)
        check_positive("array_spacing", array_spacing)
        check_bool("use_angles", use_angles)
        check_bool("finds_height", finds_height)
        check_bool("use_map", use_map)
        check_not_negative_int("num_images", num_images)
        check_not_negative_int("image_ranges", image_ranges)
        check_bool("seeks_walls", seeks_walls)
        check_not_negative_int("condition_units", condition_units)
        check(
            condition_units % UNITS_MULTIPLE == 0,
            f"`condition_units` must be a multiple of {UNITS_MULTIPLE}, or 0.",
            condition_units=condition_units,
        )
        check_known("estimate", estimate, self.estimates)
        check_not_negative("position_weight", position_weight)
        check(
            fine_channels > 1,
            "`fine_channels` must be more than 1: a range, and how far to trust it.",
            fine_channels=fine_channels,
        )
        self.num_taps = num_taps
        self.sampling_rate = sampling_rate
        self.num_ant = num_ant
        self.array_shape = checked_shape(array_shape, num_ant)
        self.array_spacing = array_spacing
        self.use_angles = use_angles
        self.num_cells = num_cells
        self.divisions = tuple(divisions)
        self.evidence_units = evidence_units
        self.evidence_window = evidence_window
        self.evidence_stride = evidence_stride
        self.coarse_channels = coarse_channels
        self.fine_channels = fine_channels
        self.grid_units = grid_units
        self.grid_blocks = grid_blocks
        self.cell_channels = cell_channels
        self.refiner_units = refiner_units
        self.finds_height = finds_height
        self.use_map = use_map
        self.map_units = map_units
        self.view_rank = view_rank
        self.num_images = num_images
        self.image_ranges = image_ranges
        self.seeks_walls = seeks_walls
        self.condition_units = condition_units
        self.condition_blocks = condition_blocks
        self.estimate = estimate
        self.position_weight = position_weight
        self.grid = MapGrid.over(self.region, num_cells, _GRID_MULTIPLE)
        self.num_candidates = _counts(num_candidates, divisions, self.grid.num_cells)
        self._create_layers()
        self._likelihood = PositionLikelihood()
        self.built = True

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Set the level of the CIR scaling and find walls, from the first batches.

        Args:
            dataset: batches of (inputs, targets).
        """
        learn_walls(self.images if self.seeks_walls else None, self.scaling, dataset)

    def remember(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Find the walls of the place where training goes on.

        Args:
            dataset: batches of (inputs, targets).
        """
        learn_other_walls(self.images, dataset)

    def forget(self) -> None:
        """Forget all walls."""
        if self.images is not None:
            self.images.forget()

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> dict:
        """Locate, see the class."""
        tokens = TokenSet.of_cirs(inputs, self.num_ant, self.num_taps)
        cir = tokens.cir if self.to_beams is None else self.to_beams(tokens.cir)
        response = self.scaling(cir)  # [num_tokens, num_ant, num_taps, 3]
        magnitude = ops.max(response[..., 2], axis=1)
        response = ops.transpose(response, (0, 2, 1, 3))
        response = ops.reshape(response, (-1, self.num_taps, 3 * self.num_ant))
        evidence = self.tap_evidence(response)
        spectra = () if self.spectrum is None else self.spectrum(tokens.cir)
        evidence, magnitude, trp_position, *spectra, trp_mask = tokens.densify(
            evidence, magnitude, tokens.trp_position, *spectra
        )
        maps = self._locate(
            evidence, spectra, trp_position, trp_mask=trp_mask, magnitude=magnitude
        )
        density = PositionMixture.from_map(maps[-1])
        estimate = "mean" if training else self.estimate
        outputs = {
            "position": density.estimate(estimate),
            "covariance": density.covariance(),
            "map": maps[-1],
        }
        return {**outputs, "stages": maps[:-1]} if training else outputs

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return what is minimised when training, the compiled loss otherwise.

        The first is `position_weight` times the compiled loss plus the negative
        log-likelihood of the true position, averaged over all stages.
        """
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        maps = (*y_pred["stages"], y_pred["map"])
        likelihood = [self._likelihood(y["position"], m, sample_weight) for m in maps]
        return self.position_weight * loss + sum(likelihood) / len(maps)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = (
            "num_taps sampling_rate num_ant array_shape array_spacing use_angles "
            "num_cells num_candidates divisions evidence_units evidence_window "
            "evidence_stride coarse_channels fine_channels grid_units grid_blocks "
            "cell_channels refiner_units finds_height use_map map_units view_rank "
            "num_images image_ranges seeks_walls condition_units condition_blocks "
            "estimate position_weight"
        ).split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "BackProjectionLocalizer":
        """Rebuild from `get_config`, see `arguments_before`."""
        return super().from_config({**cls.arguments_before, **config}, custom_objects)

    def _create_layers(self) -> None:
        """Create and build all layers; their shapes follow from the arguments."""
        self.scaling = CirScaling()
        self.to_beams = None
        if self.num_ant > 1:
            self.to_beams = AngleDelay(*self.array_shape)
        channels = self.coarse_channels + self.fine_channels
        self.tap_evidence = TapEvidence(
            self.evidence_units, channels, self.evidence_window, self.evidence_stride
        )
        response = (None, self.num_taps, 3 * self.num_ant)
        self.tap_evidence.build(response)
        taps = None, *self.tap_evidence.compute_output_shape(response)[:2]
        self.spectrum, array = None, None
        if self.use_angles and self.num_ant > 1:
            windows = self.evidence_window, _FINE_WINDOW
            self.spectrum = AngleSpectrum(
                *self.array_shape, windows, self.evidence_stride
            )
            array = PlanarArray(*self.array_shape, self.array_spacing)
        self._create_maps(taps, array)

    def _create_maps(
        self, taps: tuple[int | None, ...], array: PlanarArray | None
    ) -> None:
        """Create and build what judges cells; evidence is [*taps, channels]."""
        height = float(self._center[2])
        links = (None, None, 3), (None, None)  # positions and mask of the TRPs
        terms = 0 if array is None else num_terms(array)
        array = array and array.to_dict()
        taps_per_metre = self.sampling_rate / SPEED_OF_LIGHT
        self.images, agreement, num_values = None, None, 0
        if self.num_images:
            self.images = WallImages(self.num_images, taps_per_metre)
            place = taps_per_metre, height
            self.cell_agreement = CellAgreement(*place, _COARSE_TOLERANCES)
            self.part_agreement = CellAgreement(*place, _FINE_TOLERANCES)
            agreement = None, self.grid.num_cells, len(_COARSE_TOLERANCES)
            num_values = len(_FINE_TOLERANCES)
        self.loc_token, condition = None, None
        if self.condition_units:
            region = self.region if self.use_map else None
            self.loc_token = SetSummary(
                self.condition_units, self.condition_blocks, region
            )
            channels = self.coarse_channels + self.fine_channels
            self.loc_token.build((*taps, channels), *links)
            condition = (None, self.condition_units)
        judged_rate = self.sampling_rate / self.evidence_stride
        self.coarse_map = CoarseMap(
            *self.grid,
            height=height,
            taps_per_metre=judged_rate / SPEED_OF_LIGHT,
            units=self.grid_units,
            num_blocks=self.grid_blocks,
            channels=NUM_VALUES + self.cell_channels,
            use_map=self.use_map,
            map_units=self.map_units,
            view_rank=self.view_rank,
            array=array,
        )
        self.coarse_map.build(
            (*taps, self.coarse_channels + terms), *links, condition, agreement
        )
        self.height_head = layers.Dense(2, kernel_initializer="zeros")
        self.height_head.build((None, self.cell_channels))
        self.refiners = refiner_stack(
            self.divisions,
            ((*taps, self.fine_channels + terms), *links),
            spacing=self.grid.spacing,
            num_values=num_values,
            num_images=min(self.image_ranges, self.num_images),
            height=height,
            taps_per_metre=taps_per_metre,
            stride=self.evidence_stride,
            units=self.refiner_units,
            channels=self.cell_channels,
            array=array,
            finds_height=self.finds_height,
        )

    def _locate(
        self,
        evidence: keras.KerasTensor,
        spectra: Sequence[keras.KerasTensor],
        trp_position: keras.KerasTensor,
        *,
        trp_mask: keras.KerasTensor,
        magnitude: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, ...]:
        """Return the map of each stage, [batch, num_components, 8] each.

        Args:
            evidence: [batch, num_trps, num_taps, channels], float.
            spectra: for the coarse map and for parts, as `AngleSpectrum` gives them,
                [batch, num_trps, num_taps, ...] each; empty without angles.
            trp_position: [batch, num_trps, 3], float [m].
            trp_mask: [batch, num_trps], bool. TRPs that are heard.
            magnitude: [batch, num_trps, num_taps], float. See `PathAgreement`.
        """
        # The fine evidence first: it begins with the range of `TapEvidence`.
        fine, coarse = ops.split(evidence, [self.fine_channels], axis=-1)
        if spectra:
            coarse = ops.concatenate([coarse, spectra[0]], axis=-1)
            fine = ops.concatenate([fine, spectra[1]], axis=-1)
        condition = None
        if self.loc_token is not None:
            condition = self.loc_token(evidence, trp_position, trp_mask)
        agree, agreement, ranged = None, None, None
        if self.images is not None:
            images = self.images(trp_position)
            paths = magnitude, trp_position, images, trp_mask
            if self.image_ranges:
                ranged = images[:, :, : self.image_ranges]
            cells = ops.convert_to_tensor(self.grid.centers()[None])
            agreement = self.cell_agreement(cells, *paths, side=self.grid.spacing)

            def agree(center: Any, side: float) -> Any:
                return self.part_agreement(center, *paths, side=side)

        values = self.coarse_map(coarse, trp_position, trp_mask, condition, agreement)
        height = self.height_head(ops.mean(values[..., NUM_VALUES:], axis=1))
        height = height_of(height, self.region)
        cells = MapCells.of_grid(self.grid, values, height)
        links = fine, trp_position, trp_mask
        return divided(
            cells, self.refiners, self.num_candidates, links, height, agree, ranged
        )


def _counts(
    num_candidates: int | Sequence[int], divisions: Sequence[int], num_cells: int
) -> tuple[int, ...]:
    """Return how many of `num_cells` cells, and then of their parts, are divided.

    Raises: UserError if there are not as many numbers as divisions, or a number is not
        positive, or more than there are cells.
    """
    several = isinstance(num_candidates, list | tuple)
    if not several:
        check_positive_int("num_candidates", num_candidates)
    counts = num_candidates if several else [num_candidates] * len(divisions)
    check(
        len(counts) == len(divisions),
        "`num_candidates` must be a whole number, or a list with one for each of "
        "`divisions`.",
        num_candidates=num_candidates,
        divisions=divisions,
    )
    for count, parts in zip(counts, divisions, strict=True):
        check_positive_int("num_candidates", count)
        check(
            count <= num_cells,
            f"`num_candidates` must be at most the {num_cells} cells there are.",
            num_candidates=num_candidates,
        )
        num_cells = count * parts**2
    return tuple(counts)
