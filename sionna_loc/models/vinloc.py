"""VIn-Loc: a transformer over the set of TRPs that a UE hears."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from sionna_loc.antennas import PlanarArray, checked_shape
from sionna_loc.checks import (
    check_bool,
    check_list,
    check_not_negative,
    check_not_negative_int,
    check_positive,
    check_positive_int,
)
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers.angle_delay import AngleDelay
from sionna_loc.layers.angle_spectrum import AngleSpectrum
from sionna_loc.layers.cir_scaling import CirScaling
from sionna_loc.layers.compiled import compiled
from sionna_loc.layers.covariance_head import CovarianceHead
from sionna_loc.layers.dense_stack import dense_stack
from sionna_loc.layers.feasible import longest_range
from sionna_loc.layers.fingerprint_memory import FingerprintMemory, Neighbours
from sionna_loc.layers.mixture import PositionMixture
from sionna_loc.layers.neighbour_vote import NeighbourVote
from sionna_loc.layers.place_map import PlaceMap
from sionna_loc.layers.position_embedding import PositionEmbedding
from sionna_loc.layers.refiner_chain import (
    HeardTrps,
    NearTrps,
    refined,
    refined_each,
    refiner_chain,
)
from sionna_loc.layers.second_look import SecondLook
from sionna_loc.layers.token_set import TokenSet
from sionna_loc.layers.transformer import LocTokenEncoder
from sionna_loc.layers.trp_anchor import TrpAnchor
from sionna_loc.layers.unet import UNet1D, UNet2D
from sionna_loc.layers.wall_images import WallImages, learn_other_walls, learn_walls
from sionna_loc.losses import PositionLikelihood
from sionna_loc.models.base import Localizer

_SPECTRUM_WINDOW = 3  # taps that a path covers
_MOST_REFERENCES = 50_000  # 3 kB each, with 18 TRPs
_SMALLEST_AREA = 1e-4  # of a region, scaled: one may have no width


@keras.saving.register_keras_serializable(package="sionna_loc")
class VInLoc(Localizer):
    """View-independent localizer: UNet of each CIR, TRP positions, transformer.

    The CIR of each TRP goes through a UNet and an MLP, the TRP's position through an
    MLP; both embeddings, concatenated, are the TRP's token. A transformer over the
    tokens and a learnable [LOC] token gives the position through an output MLP. The
    number and the places of the TRPs are free.

    Beyond the paper, in its preset too, the CIRs are compressed to dB by default:
    `input_scaling="linear"` leaves them linear. The preset `compact` goes further:
    `anchor_on_trps` makes the output MLP give the offset from a weighted mean of
    the TRP positions, the weights learned as those of an attention, so that a UE in a
    rarely seen place is at least found near TRPs that it hears; and
    `refiner_spacings` adds steps that look at each CIR around the delay that the
    estimate so far predicts (`PositionRefiner`).

    Args:
        region: [2, 3], float [m]. Box of the UEs.
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz]. Of the taps.
        num_ant: int > 0. UE antennas.
        array_shape: (rows, columns), ints > 0, of the UE's planar array; one row by
            default.
        array_spacing: float > 0 [wavelengths]. Of neighbours in the array.
        aoa_tof: bool. Whether antennas are transformed to beams, see `AngleDelay`.
        fold_antennas: bool. Whether antennas (or beams) enter the UNet as channels of
            `UNet1D` instead of as an axis of `UNet2D`, which costs ten times as much.
        unet_filters: ints > 0. Channels of the UNet's levels.
        unet_fold: int > 0. Neighbouring taps that enter the UNet as channels.
        cir_units: int > 0. Size of the CIR embedding.
        position_units: int > 3. Size of the TRP position embedding.
        num_blocks, num_heads, mlp_units, norm: of the transformer, see
            `LocTokenEncoder`.
        head_units: int > 0. Width of the output MLP of 4 layers.
        input_scaling: `"log"` or `"linear"`, see `CirScaling`.
        use_trp_positions: bool. Without, neither tokens nor what goes beyond the paper
            see where the TRPs are, and the CIR embedding fills the whole token.
        anchor_on_trps: bool. See above.
        refiner_spacings: floats > 0 [taps]. One refinement step for each.
        refiner_units, refiner_blocks, refiner_window, refiner_rays: of these steps.
        refiner_images: int >= 0. Images of each TRP in walls that these steps look at,
            see `WallImages`. `adapt` finds the walls. For places that stay the same.
        refiner_peaks: int >= 0. With `"log"` inputs, peaks of each CIR whose measured
            delays the last of these steps takes for ranges, see `PositionRefiner`.
        second_look_cells: int >= 0. With images and `"log"` inputs, and not while
            training, refinement also begins at the best place of a grid of so many
            cells along the region's longer side, and both estimates are refined again
            from beside them: the surer one is the answer, see `SecondLook`. A few
            samples in a thousand, which the transformer takes for others, are found so,
            and all of them a little better, for three times the time. 0 for no second
            look.
        refiner_trps: int > 0, or None for all. So many TRPs, the strongest, are looked
            at by these steps, whose cost is in proportion. Among dozens, the weak ones
            are hardly ever in line of sight.
        use_angles: bool. Whether, with `aoa_tof` and several antennas, these steps and
            the second look also see what arrives from where the TRPs and their images
            are, see `AngleSpectrum`. The array must lie flat and be turned as
            `antennas.PlanarArray` says.
        map_cells: ints > 0, or none. Cells along the region's longer side, of each map
            of learned features, see `PlaceMap`, which these steps look up where the
            estimate lies. For places that stay the same: without line of sight, what
            the links are like there tells more than their delays.
        map_units: int > 0. Features of each cell.
        num_neighbours: int >= 0. Samples of the training set, those most like the one
            to locate, that have the last word, see `NeighbourVote`. `adapt` remembers
            the training set. For TRPs, too, that stay where they are. 0 to remember
            nothing.
        neighbour_units: int > 0. Of what learns to weigh them.
        num_references: int > 0. Samples that are remembered; at most 50,000 are.
        num_sites: int > 0. TRPs of the site.
        gaussian_head: bool. Whether the answer is a Gaussian instead of a point: the
            position is its mean, `CovarianceHead` gives its covariance. The likelihood
            trains the covariance for the position as it is, and moves it only through
            what both are made of: with a gradient to the mean, samples that are hard
            would be given up, their errors explained by a large covariance.
        likelihood_weight: float >= 0 [m]. Of the mean negative log-likelihood, beside
            the loss of the position.

    Call arguments: see `Localizer`.

    Returns: dict with `position` [batch, 3] [m], and, with refinement or a memory,
        `stages` [batch, num_stages, 3] [m], the estimates before the last; with
        `gaussian_head`, `covariance` [batch, 3, 3] [m^2].
    Raises: UserError (a ValueError) if a size is not positive or does not fit.
    References: Balaji et al., "VIn-Loc: Towards Deep Learning-Based Environment
        Agnostic Localization", Sec. 3, Fig. 2, Table 1; Seitzer et al., "On the
        Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic Neural
        Networks" (the gradient).
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "unet_filters": (16, 32, 64, 128, 256),
            "fold_antennas": False,
            "unet_fold": 1,
            "cir_units": 256,
            "position_units": 256,
            "num_blocks": 4,
            "num_heads": 4,
            "mlp_units": 1024,
            "head_units": 256,
            "anchor_on_trps": False,
            "refiner_spacings": (),
        },
        "compact": {
            "unet_filters": (32, 32, 32, 32, 32),
            "fold_antennas": True,
            "unet_fold": 8,
            "cir_units": 96,
            "position_units": 32,
            "num_blocks": 3,
            "num_heads": 4,
            "mlp_units": 512,
            "head_units": 256,
            "anchor_on_trps": True,
            "refiner_spacings": (3.0, 2.0, 1.0),
            "refiner_blocks": 1,
            "refiner_images": 6,
            "refiner_peaks": 6,
            "second_look_cells": 40,
            "refiner_trps": 24,
            "use_angles": True,
        },
    }
    DEFAULT_PRESET = "compact"
    wall_options: ClassVar[tuple[str, ...]] = ("refiner_images",)
    place_options: ClassVar[dict[str, Any]] = {
        "map_cells": (12, 48, 96),
        "num_neighbours": 24,
    }
    widening_options: ClassVar[tuple[str, ...]] = ("use_angles", "refiner_peaks")
    added_layers: ClassVar[dict[tuple[str, ...], tuple[str, ...]]] = {
        ("map_cells", "map_units"): ("place_map", "place_view"),
        ("num_neighbours", "neighbour_units", "num_sites"): ("neighbour_vote",),
    }
    memory_layers: ClassVar[dict[tuple[str, ...], tuple[str, ...]]] = {
        ("num_references",): ("fingerprint_memory",)
    }

    def __init__(
        self,
        region: Any,
        num_taps: int,
        sampling_rate: float,
        num_ant: int = 1,
        array_shape: Sequence[int] | None = None,
        array_spacing: float = 0.5,
        aoa_tof: bool = True,
        fold_antennas: bool = True,
        unet_filters: Sequence[int] = (32, 32, 32, 32, 32),
        unet_fold: int = 8,
        cir_units: int = 96,
        position_units: int = 32,
        num_blocks: int = 3,
        num_heads: int = 4,
        mlp_units: int = 512,
        norm: str = "pre",
        head_units: int = 256,
        input_scaling: str = "log",
        use_trp_positions: bool = True,
        anchor_on_trps: bool = True,
        refiner_spacings: Sequence[float] = (3.0, 2.0, 1.0),
        refiner_units: int = 128,
        refiner_blocks: int = 1,
        refiner_window: int = 49,
        refiner_rays: int = 3,
        refiner_images: int = 0,
        refiner_peaks: int = 0,
        second_look_cells: int = 0,
        refiner_trps: int | None = None,
        use_angles: bool = False,
        map_cells: Sequence[int] = (),
        map_units: int = 64,
        num_neighbours: int = 0,
        neighbour_units: int = 64,
        num_references: int = 18_000,
        num_sites: int = 18,
        gaussian_head: bool = False,
        likelihood_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(region, **kwargs)
        for name, value in (
            ("num_taps", num_taps),
            ("num_ant", num_ant),
            ("cir_units", cir_units),
            ("position_units", position_units),
            ("head_units", head_units),
        ):
            check_positive_int(name, value)
        check_positive("sampling_rate", sampling_rate)
        check_positive("array_spacing", array_spacing)
        check_list("unet_filters", unet_filters)
        check_list("refiner_spacings", refiner_spacings)
        check_list("map_cells", map_cells)
        for cells in map_cells:
            check_positive_int("map_cells", cells)
        check_positive_int("map_units", map_units)
        check_not_negative_int("num_neighbours", num_neighbours)
        check_positive_int("neighbour_units", neighbour_units)
        check_positive_int("num_references", num_references)
        check_positive_int("num_sites", num_sites)
        check_not_negative_int("refiner_images", refiner_images)
        check_not_negative_int("refiner_peaks", refiner_peaks)
        check_not_negative_int("second_look_cells", second_look_cells)
        if refiner_trps is not None:
            check_positive_int("refiner_trps", refiner_trps)
        check_bool("aoa_tof", aoa_tof)
        check_bool("fold_antennas", fold_antennas)
        check_bool("use_trp_positions", use_trp_positions)
        check_bool("anchor_on_trps", anchor_on_trps)
        check_bool("use_angles", use_angles)
        check_bool("gaussian_head", gaussian_head)
        check_not_negative("likelihood_weight", likelihood_weight)
        self.num_taps = num_taps
        self.sampling_rate = sampling_rate
        self.num_ant = num_ant
        self.array_shape = checked_shape(array_shape, num_ant)
        self.array_spacing = array_spacing
        self.aoa_tof = aoa_tof
        self.fold_antennas = fold_antennas
        self.unet_filters = tuple(unet_filters)
        self.unet_fold = unet_fold
        self.cir_units = cir_units
        self.position_units = position_units
        self.num_blocks = num_blocks
        self.num_heads = num_heads
        self.mlp_units = mlp_units
        self.norm = norm
        self.head_units = head_units
        self.input_scaling = input_scaling
        self.use_trp_positions = use_trp_positions
        self.anchor_on_trps = anchor_on_trps
        self.refiner_spacings = tuple(refiner_spacings)
        self.refiner_units = refiner_units
        self.refiner_blocks = refiner_blocks
        self.refiner_window = refiner_window
        self.refiner_rays = refiner_rays
        self.refiner_images = refiner_images
        self.refiner_peaks = refiner_peaks
        self.second_look_cells = second_look_cells
        self.refiner_trps = refiner_trps
        self.use_angles = use_angles
        self.map_cells = tuple(map_cells)
        self.map_units = map_units
        self.num_neighbours = num_neighbours
        self.neighbour_units = neighbour_units
        self.num_references = num_references
        self.num_sites = num_sites
        self.gaussian_head = gaussian_head
        self.likelihood_weight = likelihood_weight
        self._likelihood = PositionLikelihood()
        self._create_layers()
        self._locate = compiled(self._locate_dense)
        self.built = True

    @property
    def gives_density(self) -> bool:
        """Whether it says how sure it is."""
        return self.gaussian_head

    @property
    def num_adapt_samples(self) -> int | None:
        """Samples of the training set that `adapt` asks for."""
        return None if self.memory is None else self.memory.num_adapt_samples

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Set the level of the CIR scaling and find walls; remember the training set.

        Args:
            dataset: batches of (inputs, targets); can be read more than once.

        Raises: UserError if samples are to be remembered whose TRPs are at more places
            than the site has.
        """
        if self.memory is not None:
            self.memory.adapt(dataset)
        learn_walls(self.images, self.scaling, dataset)

    def remember(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Remember other samples than those of before, and find walls in them.

        Args and Raises: see `adapt`.
        """
        if self.memory is not None:
            self.memory.remember(dataset)
        learn_other_walls(self.images, dataset)

    def forget(self) -> None:
        """Forget all samples and walls."""
        if self.memory is not None:
            self.memory.forget()
        if self.images is not None:
            self.images.forget()

    def call(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> dict[str, keras.KerasTensor]:
        """Locate, see the class."""
        tokens = TokenSet.of_cirs(inputs, self.num_ant, self.num_taps)
        cir = tokens.cir if self.to_beams is None else self.to_beams(tokens.cir)
        response = self.scaling(cir)  # [num_tokens, num_ant, num_taps, 3]
        by_tap = ops.transpose(response, (0, 2, 1, 3))
        by_tap = ops.reshape(by_tap, (-1, self.num_taps, 3 * self.num_ant))
        embedding = self._embed_cir(by_tap if self._is_flat else response)
        center = ops.array(self._center)
        position = (tokens.trp_position - center) / self._scale
        envelope = ops.max(response, axis=1)  # [num_tokens, num_taps, 3]
        range_per_tap = SPEED_OF_LIGHT / (self.sampling_rate * self._scale)
        longest = longest_range(envelope, range_per_tap)
        heard = HeardTrps(*tokens.densify(embedding, position, longest))
        strength = ops.max(envelope[..., 2], axis=1)  # [num_tokens]
        near, near_cir = self._near(tokens, strength, embedding, position, by_tap)
        alike = self._alike(tokens, bool(training))
        found = self._locate(heard, near, near_cir, alike, bool(training))
        estimates = center + self._scale * found.pop("estimates")
        outputs = {"position": estimates[:, -1], **found}
        if estimates.shape[1] > 1:
            outputs["stages"] = estimates[:, :-1]
        return outputs

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return what is minimised when training, the loss of the position otherwise.

        The first is the mean over all stages of the loss of the position, and with
        `gaussian_head` the weighted negative log-likelihood besides.
        """
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        if "stages" in y_pred:
            stages = y_pred["stages"]
            for stage in range(stages.shape[1]):
                early = {"position": stages[:, stage]}
                loss += super().compute_loss(x, y, early, sample_weight, training)
            loss /= 1 + stages.shape[1]
        if "covariance" in y_pred:
            mean = ops.stop_gradient(y_pred["position"])
            belief = PositionMixture.gaussian(mean, y_pred["covariance"]).to_map()
            likelihood = self._likelihood(y["position"], belief, sample_weight)
            loss += self.likelihood_weight * likelihood
        return loss

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = (
            "num_taps sampling_rate num_ant array_shape array_spacing aoa_tof "
            "fold_antennas unet_filters unet_fold cir_units position_units num_blocks "
            "num_heads mlp_units norm head_units input_scaling use_trp_positions "
            "anchor_on_trps refiner_spacings refiner_units refiner_blocks "
            "refiner_window refiner_rays refiner_images refiner_peaks "
            "second_look_cells refiner_trps use_angles map_cells map_units "
            "num_neighbours neighbour_units num_references num_sites gaussian_head "
            "likelihood_weight"
        ).split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _create_layers(self) -> None:
        """Create and build all layers; their shapes follow from the arguments."""
        self.scaling = CirScaling(self.input_scaling)
        self.to_beams = None
        if self.aoa_tof and self.num_ant > 1:
            self.to_beams = AngleDelay(*self.array_shape)
        self.spectrum, array = None, None
        spacings = self.refiner_spacings if self.use_trp_positions else ()
        if self.use_angles and spacings and self.to_beams is not None:
            self.spectrum = AngleSpectrum(*self.array_shape, [_SPECTRUM_WINDOW])
            array = PlanarArray(*self.array_shape, self.array_spacing).to_dict()
        unet = UNet1D if self._is_flat else UNet2D
        self.unet = unet(self.unet_filters, fold=self.unet_fold)
        flat_shape = (None, self.num_taps, 3 * self.num_ant)
        deep_shape = (None, self.num_ant, self.num_taps, 3)
        self.unet.build(flat_shape if self._is_flat else deep_shape)
        width = self.cir_units + self.position_units
        cir_units = self.cir_units if self.use_trp_positions else width
        rows = 1 if self._is_flat else self.num_ant
        flat = rows * self.num_taps * self.unet.out_channels
        self.cir_mlp = dense_stack((None, flat), [cir_units, cir_units])
        if self.use_trp_positions:
            self.position_embedding = PositionEmbedding(self.position_units)
            self.position_embedding.build((None, None, 3))
        self.encoder = LocTokenEncoder(
            self.num_blocks, self.num_heads, self.mlp_units, self.norm
        )
        self.encoder.build((None, None, width))
        self.head = dense_stack((None, width), [self.head_units] * 3 + [3])
        self._anchor = None
        if self.use_trp_positions and self.anchor_on_trps:
            self._anchor = TrpAnchor()
            self._anchor.build((None, width), (None, None, width))
        taps_per_metre = self.sampling_rate / SPEED_OF_LIGHT
        in_db = self.input_scaling == "log"
        self.images = None
        if self.refiner_images and spacings:
            self.images = WallImages(self.refiner_images, taps_per_metre)
        self.place_map, place_units = None, 0
        if self.map_cells and spacings:
            region = [corner.tolist() for corner in self._box]
            self.place_map = PlaceMap(region, self.map_cells, self.map_units)
            self.place_map.build((None, 3))
            place_units = len(self.map_cells) * self.map_units
        self.memory = self.neighbour_vote = None
        if self.num_neighbours and self.use_trp_positions:
            self.memory = FingerprintMemory(
                self.num_sites,
                self.num_taps,
                min(self.num_references, _MOST_REFERENCES),
                self.num_neighbours,
            )
            self.memory.build(None)
            # As if what is remembered lay evenly in the region.
            area = np.prod(np.ptp(np.asarray(self._box), axis=0)[:2])
            area = max(float(area), _SMALLEST_AREA)
            self.neighbour_vote = NeighbourVote(
                self.num_sites,
                self.neighbour_units,
                (area / self.memory.num_references) ** 0.5,
            )
            self.neighbour_vote.build(None, (None, 3))
        self._refiners = refiner_chain(
            spacings,
            (None, None, self.num_taps, 3 * self.num_ant),
            width,
            units=self.refiner_units,
            num_blocks=self.refiner_blocks,
            num_heads=self.num_heads,
            window=self.refiner_window,
            num_rays=self.refiner_rays,
            num_images=self.refiner_images,
            num_peaks=self.refiner_peaks if in_db else 0,
            array=array,
            taps_per_metre=taps_per_metre,
            scale=self._scale,
            place_units=place_units,
        )
        self.second_look = None
        if self.images is not None and self.second_look_cells and in_db:
            self.second_look = SecondLook(
                [corner.tolist() for corner in self._box],
                self.second_look_cells,
                taps_per_metre * self._scale,
                array,
            )
        self._covariance_head = self._state_norm = None
        if self.gaussian_head:
            extent = np.ptp(np.asarray(self.region), axis=0).tolist()
            self._covariance_head = CovarianceHead(self.head_units, extent)
            known = width + 3 + len(self._refiners) + (self.memory is not None)
            if self._refiners:
                # Weight decay lets what only the likelihood reads become small.
                self._state_norm = keras.layers.LayerNormalization(epsilon=1e-6)
                self._state_norm.build((None, self.refiner_units))
                known += self.refiner_units
            self._covariance_head.build((None, known))

    @property
    def _is_flat(self) -> bool:
        """Whether the UNet sees taps only, antennas being channels."""
        return self.num_ant == 1 or self.fold_antennas

    def _embed_cir(self, response: keras.KerasTensor) -> keras.KerasTensor:
        """Scaled CIRs as the UNet takes them -> [num_tokens, cir_units]."""
        features = self.unet(response)
        flat = int(np.prod(features.shape[1:]))
        return self.cir_mlp(ops.reshape(features, (-1, flat)))

    def _near(
        self, tokens: TokenSet, strength: keras.KerasTensor, *values: keras.KerasTensor
    ) -> tuple[NearTrps | None, keras.KerasTensor | None]:
        """Return what refinement knows of the TRPs that it looks at.

        Args:
            tokens: all TRPs.
            strength: [num_tokens], float. The more, the stronger.
            values: embedding, position, scaled, and response of the tokens.

        Returns: `values` of these TRPs, and their CIRs [batch, num_trps, num_ant,
            num_taps, 2] if directions are to be seen; `None` without.
        """
        if not self._refiners:
            return None, None
        if self.spectrum is not None:
            values = *values, tokens.cir
        if self.refiner_trps is None:
            *dense, mask = tokens.densify(*values)
        else:
            count = self.refiner_trps
            *dense, mask = tokens.densify_strongest(strength, count, *values)
        cir = dense.pop() if self.spectrum is not None else None
        return NearTrps(*dense, mask), cir

    def _alike(self, tokens: TokenSet, training: bool) -> Neighbours | None:
        """Return the remembered samples that are most like each, positions scaled."""
        if self.memory is None:
            return None
        alike = self.memory(tokens, training=training)
        center = ops.array(self._center)
        return alike._replace(position=(alike.position - center) / self._scale)

    def _locate_dense(
        self,
        heard: HeardTrps,
        near: NearTrps | None,
        near_cir: keras.KerasTensor | None,
        alike: Neighbours | None,
        training: bool,
    ) -> dict[str, keras.KerasTensor]:
        """Return scaled `estimates` [batch, num_stages, 3], and `covariance` [m^2]."""
        tokens = self._tokens(heard.embedding, heard.position)
        loc = self.encoder(tokens, heard.mask)
        first = self.head(loc)
        if self._anchor is not None:
            first = first + self._anchor(loc, tokens, heard.position, heard.mask)
        if near is not None:
            near = near._replace(
                embedding=self._tokens(near.embedding, near.position),
                image=self._images_of(near.position),
                spectrum=self._spectrum_of(near_cir),
            )
        known = self._refiners, heard, near, loc, self._box, self.place_map
        if self.second_look is None or training:
            estimates, state = refined(first, *known)
        else:
            magnitude = ops.max(near.response[..., 2::3], axis=-1)
            links = magnitude, near.position, near.image, near.mask, near.spectrum
            estimates, state = self.second_look.look(
                first,
                links,
                lambda starts: refined_each(starts, *known),
                num_stages=1 + len(self._refiners),
                units=self.refiner_units,
            )
        if alike is not None:
            vote = self.neighbour_vote(alike, estimates[:, -1])
            estimates = ops.concatenate([estimates, vote[:, None]], axis=1)
        found = {"estimates": estimates}
        if self._covariance_head is not None:
            found["covariance"] = self._covariance(loc, state, estimates)
        return found

    def _images_of(self, trp_position: keras.KerasTensor) -> keras.KerasTensor | None:
        """Return images [batch, num_trps, num_images, 3] of TRPs, all scaled."""
        if self.images is None:
            return None
        center = ops.array(self._center)
        return (self.images(center + self._scale * trp_position) - center) / self._scale

    def _spectrum_of(self, cir: keras.KerasTensor | None) -> keras.KerasTensor | None:
        """Return the directions of arrival [batch, num_trps, num_taps, num_terms]."""
        if self.spectrum is None:
            return None
        (spectrum,) = self.spectrum(ops.reshape(cir, (-1, *cir.shape[2:])))
        return ops.reshape(spectrum, (*ops.shape(cir)[:2], *spectrum.shape[1:]))

    def _tokens(
        self, embedding: keras.KerasTensor, trp_position: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Return tokens [batch, num_trps, width] of CIR embeddings and positions."""
        if not self.use_trp_positions:
            return embedding
        positions = self.position_embedding(trp_position)
        return ops.concatenate([embedding, positions], axis=-1)

    def _covariance(
        self, loc: keras.KerasTensor, state: Any, estimates: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Return the covariance [batch, 3, 3] [m^2] of the last estimate.

        Args:
            loc: [batch, width]. The [LOC] token.
            state: [batch, refiner_units]. Of the last refinement, `None` without.
            estimates: [batch, num_stages, 3], scaled.
        """
        known = [loc] if state is None else [loc, self._state_norm(state)]
        # No way for the likelihood to the estimates, see the class.
        estimates = ops.stop_gradient(estimates)
        steps = self._scale * (estimates[:, 1:] - estimates[:, :-1])
        log_steps = 0.5 * ops.log(ops.sum(ops.square(steps), axis=-1) + 1e-4)
        known += [estimates[:, -1], log_steps]
        return self._covariance_head(ops.concatenate(known, axis=-1))
