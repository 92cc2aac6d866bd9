"""Back-projection: a localizer that carries the geometry and gives a posterior."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import layers, ops

from sionna_loc.checks import (
    check,
    check_bool,
    check_list,
    check_not_negative,
    check_positive,
    check_positive_int,
)
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers.angle_delay import AngleDelay
from sionna_loc.layers.cell_refiner import CellRefiner, component
from sionna_loc.layers.cir_scaling import CirScaling
from sionna_loc.layers.coarse_map import CoarseMap
from sionna_loc.layers.map_grid import MapGrid
from sionna_loc.layers.mixture import PositionMixture
from sionna_loc.layers.tap_evidence import TapEvidence
from sionna_loc.layers.token_set import TokenSet
from sionna_loc.losses import PositionLikelihood
from sionna_loc.models.base import Localizer

_GRID_MULTIPLE = 2  # what `GridEncoder` folds
_NUM_COARSE = 4  # logit, x, y, deviation of a coarse cell
_LOGIT_OF_NONE = -1e9  # of a cell whose parts speak for it
_SMALLEST_HEIGHT = 0.1  # half the height of a flat region, for the scale of z [m]


@keras.saving.register_keras_serializable(package="sionna_loc")
class BackProjectionLocalizer(Localizer):
    """Judges the cells of a map by what each CIR holds at their distance.

    Nothing has to learn that a delay is a distance. The CIR of each TRP becomes
    evidence at each of its taps (`TapEvidence`); a coarse map gathers for each cell the
    evidence at the delays at which it would hear the TRPs (`CoarseMap`); the best cells
    are divided and judged more finely (`CellRefiner`), once or several times. Cost and
    memory of the fine part grow with the candidates and not with the area, those of
    the coarse map with `num_cells` squared.

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
        num_cells: int > 0. Coarse cells along the region's longer side.
        num_candidates: int > 0. Cells that are divided.
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
        use_map: bool. Whether the coarse map learns the place, see `CoarseMap`;
            without, nothing depends on where the region is.
        map_units: int > 0. Learned features of each coarse cell.
        estimate: `"mean"` of the density, which makes the mean squared error small, or
            its `"mode"`. While training it is the mean.
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
        "compact": {"use_map": True},
        "agnostic": {"use_map": False},
    }
    DEFAULT_PRESET = "compact"
    default_recipe = "backprojection"

    def __init__(
        self,
        region: Any,
        num_taps: int,
        sampling_rate: float,
        num_ant: int = 1,
        array_shape: Sequence[int] | None = None,
        num_cells: int = 28,
        num_candidates: int = 8,
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
        use_map: bool = True,
        map_units: int = 8,
        estimate: str = "mean",
        position_weight: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(region, **kwargs)
        for name, value in (
            ("num_taps", num_taps),
            ("num_ant", num_ant),
            ("num_candidates", num_candidates),
            ("coarse_channels", coarse_channels),
            ("fine_channels", fine_channels),
            ("cell_channels", cell_channels),
        ):
            check_positive_int(name, value)
        check_positive("sampling_rate", sampling_rate)
        check_list("divisions", divisions)
        array_shape = tuple(array_shape or (1, num_ant))
        check(
            len(array_shape) == 2 and array_shape[0] * array_shape[1] == num_ant,
            f"`array_shape` must be rows x columns of the {num_ant} antennas.",
            array_shape=array_shape,
        )
        check_bool("use_map", use_map)
        check(
            estimate in ("mean", "mode"),
            "`estimate` must be 'mean' or 'mode'.",
            estimate=estimate,
        )
        check_not_negative("position_weight", position_weight)
        check(
            fine_channels > 1,
            "`fine_channels` must be more than 1: a range, and how far to trust it.",
            fine_channels=fine_channels,
        )
        self.num_taps = num_taps
        self.sampling_rate = sampling_rate
        self.num_ant = num_ant
        self.array_shape = array_shape
        self.num_cells = num_cells
        self.num_candidates = num_candidates
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
        self.use_map = use_map
        self.map_units = map_units
        self.estimate = estimate
        self.position_weight = position_weight
        self.grid = MapGrid.over(self.region, num_cells, _GRID_MULTIPLE)
        check(
            num_candidates <= self.grid.num_cells,
            f"`num_candidates` must be at most the map's {self.grid.num_cells} cells.",
            num_candidates=num_candidates,
        )
        self._create_layers()
        self._likelihood = PositionLikelihood()
        self.built = True

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Set the reference level of the CIR scaling from the first batches.

        Args:
            dataset: batches of (inputs, targets).
        """
        self.scaling.adapt_to_inputs(dataset)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> dict:
        """Locate, see the class."""
        tokens = TokenSet.of_cirs(inputs, self.num_ant, self.num_taps)
        cir = tokens.cir if self.to_beams is None else self.to_beams(tokens.cir)
        response = ops.transpose(self.scaling(cir), (0, 2, 1, 3))
        response = ops.reshape(response, (-1, self.num_taps, 3 * self.num_ant))
        evidence = self.tap_evidence(response)
        maps = self._locate(*tokens.densify(evidence, tokens.trp_position))
        density = PositionMixture.from_map(maps[-1])
        by_mode = self.estimate == "mode" and not training
        outputs = {
            "position": density.mode() if by_mode else density.center(),
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
            "num_taps sampling_rate num_ant array_shape num_cells num_candidates "
            "divisions evidence_units evidence_window evidence_stride coarse_channels "
            "fine_channels grid_units grid_blocks cell_channels refiner_units use_map "
            "map_units estimate position_weight"
        ).split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _create_layers(self) -> None:
        """Create and build all layers; their shapes follow from the arguments."""
        taps_per_metre = self.sampling_rate / SPEED_OF_LIGHT
        height = float(self._center[2])
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
        links = (None, None, 3), (None, None)  # positions and mask of the TRPs
        self.coarse_map = CoarseMap(
            *self.grid,
            height=height,
            taps_per_metre=taps_per_metre / self.evidence_stride,
            units=self.grid_units,
            num_blocks=self.grid_blocks,
            channels=_NUM_COARSE + self.cell_channels,
            use_map=self.use_map,
            map_units=self.map_units,
        )
        self.coarse_map.build((*taps, self.coarse_channels), *links)
        self.height_head = layers.Dense(2, kernel_initializer="zeros")
        self.height_head.build((None, self.cell_channels))
        self.refiners = []
        side, num_cells = self.grid.spacing, self.num_candidates
        for parts in self.divisions:
            refiner = CellRefiner(
                side,
                parts,
                height,
                taps_per_metre,
                self.evidence_stride,
                self.refiner_units,
                self.cell_channels,
            )
            cells = (None, num_cells, 2), (None, num_cells, self.cell_channels)
            refiner.build((*taps, self.fine_channels), *links, *cells)
            self.refiners.append(refiner)
            side /= parts

    def _locate(
        self,
        evidence: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, ...]:
        """Return the map of each stage, [batch, num_components, 8] each."""
        # The fine evidence first: it begins with the range of `TapEvidence`.
        fine, coarse = ops.split(evidence, [self.fine_channels], axis=-1)
        cells = self.coarse_map(coarse, trp_position, trp_mask)
        logit, features = cells[..., 0], cells[..., _NUM_COARSE:]
        center = ops.convert_to_tensor(self.grid.centers())[None]
        center = ops.broadcast_to(center, (ops.shape(logit)[0], *center.shape[1:]))
        height = self._height(ops.mean(features, axis=1))
        horizontal = self._coarse_gaussians(center, cells[..., 1:_NUM_COARSE])
        open_cells = component(logit, horizontal, height)
        settled = None
        maps = [open_cells.normalised().to_map()]
        for refiner in self.refiners:
            logit = open_cells.log_weight
            best, index = ops.top_k(logit, self.num_candidates)
            # Parts speak for these cells from now on.
            taken = ops.sum(ops.one_hot(index, logit.shape[1], dtype=logit.dtype), 1)
            rest = open_cells._replace(log_weight=logit + _LOGIT_OF_NONE * taken)
            settled = rest if settled is None else settled.joined(rest)
            part, center, features, horizontal = refiner(
                fine,
                trp_position,
                trp_mask,
                _select(center, index),
                _select(features, index),
            )
            parts = refiner.num_divisions**2
            logit = part + ops.repeat(best - math.log(parts), parts, axis=1)
            open_cells = component(logit, horizontal, height)
            maps.append(settled.joined(open_cells).normalised().to_map())
        return tuple(maps)

    def _coarse_gaussians(
        self, center: keras.KerasTensor, values: keras.KerasTensor
    ) -> tuple[Any, ...]:
        """Return round Gaussians of coarse cells, as `component` takes them."""
        side = self.grid.spacing
        x, y = (center[..., k] + side * ops.tanh(values[..., k]) for k in range(2))
        # From an eighth of a side to eight sides, half a side without training.
        deviation = side * ops.exp(2.1 * ops.tanh(values[..., 2] - 0.35))
        return (x, y), (deviation, deviation), ops.zeros_like(deviation)

    def _height(self, features: keras.KerasTensor) -> tuple[Any, Any]:
        """Return mean and deviation of the UE's height [m], [batch, 1] each."""
        half = max(float(np.ptp(np.asarray(self.region)[:, 2])) / 2, _SMALLEST_HEIGHT)
        mean, deviation = ops.split(self.height_head(features), 2, axis=-1)
        deviation = 0.1 + ops.softplus(deviation - 1)
        return float(self._center[2]) + half * mean, half * deviation


def _select(values: keras.KerasTensor, index: keras.KerasTensor) -> keras.KerasTensor:
    """Return rows `index` [batch, k] of values [batch, n, m], [batch, k, m]."""
    batch, count = ops.shape(values)[0], values.shape[1]
    first = ops.arange(batch, dtype="int32")[:, None] * count
    flat = ops.reshape(values, (-1, values.shape[-1]))
    return ops.take(flat, first + ops.cast(index, "int32"), axis=0)
