"""Stored sets of samples, written and read by TensorFlow Datasets (TFDS).

The only module of the package that imports `tensorflow_datasets`. A recipe of a stored
set, `datasets/<name>/<name>_dataset_builder.py`, subclasses `SampleSetBuilder`.

A set holds paths, not taps: bandwidth, antennas, features and the TRPs of a sample are
chosen when it is read. Each example is one UE with the links to all sites of its drop,
those without a path included (`num_paths` 0). The examples are in the order of
`data.stored_drops`, so that a shard is a run of whole drops and can be drawn by
whoever, and whenever: one after the other, in the processes of an Apache Beam
pipeline, or after the process that drew the other shards was killed.
"""

import dataclasses
import hashlib
import itertools
import json
import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow as tf

try:
    import tensorflow_datasets as tfds
except ImportError as error:
    raise ImportError(
        f"Stored sets need TensorFlow Datasets: pip install 'sionna-loc[datasets]' "
        f"({error})."
    ) from error

import sionna_loc
from sionna_loc.checks import UserError, check, check_positive_int
from sionna_loc.data import stored_drops
from sionna_loc.data.checksums import write_checksums
from sionna_loc.data.shards import Shard, link_or_copy, scenario_of_worker
from sionna_loc.sample import FIELDS, FieldSpec

_UNFINISHED = ".unfinished"


@dataclasses.dataclass(eq=False)
class SampleSetConfig(tfds.core.BuilderConfig):
    """Which samples a set holds; the scenario is the recipe's.

    Args:
        options: arguments of the scenario.
        num_train: int >= 0. UEs of the training split.
        num_val: int >= 0. UEs of the validation split.
        num_test: int >= 0. UEs of the test split.
        seed: int >= 0. With 0 the set has the samples of training runs with seed 0
            that draw them themselves.
        shard_size: int > 0. Samples of a shard, up to a whole number of drops.
    """

    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_train: int = 0
    num_val: int = 0
    num_test: int = 0
    seed: int = 0
    shard_size: int = 4096

    def sizes(self) -> dict[str, int]:
        """Return the number of samples of each split that is not empty."""
        sizes = (self.num_train, self.num_val, self.num_test)
        splits = zip(("train", "validation", "test"), sizes, strict=True)
        return {split: size for split, size in splits if size}


class SampleSetBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """What the recipes of all scenarios have in common.

    A subclass is called `Builder`; it states `VERSION`, which is the scenario's
    `data_version`, `RELEASE_NOTES` and `BUILDER_CONFIGS`. README.md and CITATIONS.bib
    lie in its folder. `name`, which TFDS takes from the file, is the scenario's key.

    While a set is written, finished shards are kept in a hidden folder beside it, from
    where writing it again, with the same configuration, takes them.
    """

    BUILDER_CONFIGS: ClassVar[list[SampleSetConfig]]

    report: Callable[[str, bool], None] | None = None
    """Called for each sample that is written, with its split and whether it was kept
    from an earlier attempt; to be left `None` with Apache Beam."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Say where README.md and CITATIONS.bib are, wherever a recipe comes from."""
        super().__init_subclass__(**options)
        cls.pkg_dir_path = tfds.core.Path(sys.modules[cls.__module__].__file__).parent

    @property
    def scenario(self) -> Any:
        """The scenario that the samples are of."""
        return scenario_of_worker(self.name, json.dumps(self.builder_config.options))

    @property
    def unfinished_path(self) -> Path:
        """Where finished shards are kept until all are."""
        text = json.dumps(self._metadata(), sort_keys=True)
        text += f" {self.builder_config.shard_size}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.data_path.parent / f"{_UNFINISHED}-{digest}"

    def _info(self) -> tfds.core.DatasetInfo:
        """Describe the set; see `tfds.core.DatasetBuilder`."""
        return self.dataset_info_from_configs(
            features=features_of(self.scenario.num_paths),
            metadata=tfds.core.MetadataDict(self._metadata()),
            disable_shuffling=True,
        )

    def _metadata(self) -> dict[str, Any]:
        """Return what a reader compares with its own scenario, JSON-able."""
        scenario, config = self.scenario, self.builder_config
        return {
            "scenario": self.name,
            "version": str(self.version),
            "options": config.options,
            "seed": config.seed,
            "splits": {
                split: {
                    "num_samples": size,
                    "drops": stored_drops.kind(scenario, split),
                }
                for split, size in config.sizes().items()
            },
            "fingerprint": scenario.fingerprint(),
            "config": scenario.config(),
            "units": {name: spec.unit for name, spec in FIELDS.items()},
            "sionna_loc": sionna_loc.__version__,
        }

    def _shard_iterators_per_split(self, dl_manager: Any) -> Mapping[str, list[Shard]]:
        """Return what draws each shard; see `tfds.core.ShardBasedBuilder`."""
        shards = {s: list(self._shards(s)) for s in self.builder_config.sizes()}
        for shard in itertools.chain(*shards.values()):
            self._remove_damaged(shard)
        return shards

    def _shards(self, split: str) -> Iterator[Shard]:
        """Cut a split into runs of whole drops."""
        config, size = self.builder_config, self.builder_config.sizes()[split]
        stored_drops.check_size(self.scenario, split, size)
        num_ues = stored_drops.num_ues(self.scenario, split)
        step = num_ues * max(1, config.shard_size // num_ues)
        num_shards = math.ceil(size / step)
        template = self._get_filename_template(split_name=split)
        for index in range(num_shards):
            path = template.sharded_filepath(shard_index=index, num_shards=num_shards)
            yield Shard(
                scenario=self.name,
                options=json.dumps(config.options),
                split=split,
                seed=config.seed,
                first=index * step,
                stop=min((index + 1) * step, size),
                size=size,
                path=os.fspath(path),
                kept=os.fspath(self.unfinished_path / path.name),
                report=self.report,
            )

    def _remove_damaged(self, shard: Shard) -> None:
        """Remove a kept shard that is not whole, as a power failure may leave it."""
        if not tf.io.gfile.exists(shard.kept):
            return
        adapter = tfds.core.file_adapters.ADAPTER_FOR_FORMAT[self.info.file_format]
        try:
            if adapter.num_examples(shard.kept) == shard.num_samples:
                return
        except tf.errors.DataLossError:
            pass
        tf.io.gfile.remove(shard.kept)

    def _example_writer(self) -> "_KeepingWriter":
        """Return what writes a shard; see `tfds.core.ShardBasedBuilder`."""
        return _KeepingWriter(self.info.file_format, os.fspath(self.unfinished_path))

    def _download_and_prepare(
        self, dl_manager: Any, download_config: Any = None
    ) -> None:
        """Write the shards and their checksums; see `tfds.core.ShardBasedBuilder`."""
        check(bool(self.builder_config.sizes()), "The set is empty.", sizes={})
        check_positive_int("shard_size", self.builder_config.shard_size)
        if download_config is None or not (
            download_config.beam_options or download_config.beam_runner
        ):
            super()._download_and_prepare(dl_manager, download_config)
        else:
            self._write_with_beam(download_config)
        write_checksums(os.fspath(self.data_path))

    def _write_with_beam(self, download_config: Any) -> None:
        """Write the shards with Apache Beam.

        The shards of all splits are the elements of one collection, which any runner
        spreads over its workers. TFDS by itself would make each shard a step of the
        pipeline; the direct runner does steps one after the other.
        """
        import apache_beam as beam
        from apache_beam.options.pipeline_options import StandardOptions

        writer = tfds.core.writer.ShardWriter(
            features=self.info.features,
            serializer=tfds.core.example_serializer.ExampleSerializer(
                self.info.features.get_serialized_info()
            ),
            example_writer=self._example_writer(),
        )
        shards = self._shard_iterators_per_split(None)
        options = download_config.beam_options
        runner = download_config.beam_runner
        if runner is None:
            runner = options.view_as(StandardOptions).runner or "DirectRunner"
        with beam.Pipeline(runner=runner, options=options) as pipeline:
            (
                pipeline
                | "Shards" >> beam.Create([*itertools.chain(*shards.values())])
                | "Spread" >> beam.Reshuffle()
                | "Write" >> beam.Map(_write_shard, writer)
            )
        self.info.set_splits(
            tfds.core.splits.SplitDict([self._split_info(s) for s in shards.items()])
        )

    def _split_info(self, split_and_shards: tuple[str, list[Shard]]) -> Any:
        """Return what TFDS must know of a written split."""
        split, shards = split_and_shards
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard.num_samples for shard in shards],
            num_bytes=sum(tf.io.gfile.stat(shard.path).length for shard in shards),
            filename_template=self._get_filename_template(split_name=split),
        )

    def _post_download_and_prepare_hook(self) -> None:
        """Remove the kept shards: the set is whole and in its place."""
        if self.unfinished_path.exists():
            self.unfinished_path.rmtree()


class _KeepingWriter(tfds.core.ExampleWriter):
    """Writes a shard, and keeps it for the case that the process ends before its time.

    A shard that is kept already is taken as it is. TFDS then iterates over the samples
    only to count them.

    Args:
        file_format: of the shards.
        folder: where shards are kept.
    """

    def __init__(self, file_format: Any, folder: str) -> None:
        super().__init__(file_format=file_format)
        self._folder = folder

    def write(self, path: Any, examples: Iterable[Any]) -> None:
        """Write the examples to `path`; see `tfds.core.ExampleWriter`."""
        path = os.fspath(path)
        kept = os.path.join(self._folder, os.path.basename(path))
        if not tf.io.gfile.exists(kept):
            tf.io.gfile.makedirs(self._folder)
            # Under another name first: what has the shard's name is whole.
            part = f"{kept}.part-{os.getpid()}-{threading.get_ident()}"
            super().write(part, ((key, _in_order(record)) for key, record in examples))
            tf.io.gfile.rename(part, kept, overwrite=True)
        link_or_copy(kept, path)


def _in_order(record: bytes) -> bytes:
    """Return an example with its fields in the same order in every process."""
    return tf.train.Example.FromString(record).SerializeToString(deterministic=True)


def _write_shard(shard: Shard, writer: Any) -> None:
    """Write a shard, in a worker of Apache Beam."""
    writer.write(shard(), tfds.core.Path(shard.path))


def _in_order(record: bytes) -> bytes:
    """Return an example with its fields in the same order in every process."""
    return tf.train.Example.FromString(record).SerializeToString(deterministic=True)


def _write_shard(shard: Shard, writer: Any) -> None:
    """Write a shard, in a worker of Apache Beam."""
    writer.write(shard(), tfds.core.Path(shard.path))


def _link(source: str, target: str) -> None:
    """Give a file a second name, or copy it where that cannot be."""
    try:
        os.link(source, target)
    except OSError:
        tf.io.gfile.copy(source, target, overwrite=True)


def features_of(num_paths: int) -> tfds.features.FeaturesDict:
    """Return the sample contract as features of TFDS.

    Args:
        num_paths: int > 0. Most paths per link.
    """
    return tfds.features.FeaturesDict(
        {name: _feature_of(spec, num_paths) for name, spec in FIELDS.items()}
    )


def _feature_of(spec: FieldSpec, num_paths: int) -> tfds.features.Tensor:
    """Return a field as a feature; fields of many entries, most of them 0, packed."""
    packed = tfds.features.Encoding.ZLIB if "P" in spec.shape else None
    return tfds.features.Tensor(
        shape=spec.element_shape(num_paths),
        dtype=spec.numpy_dtype,
        encoding=packed or tfds.features.Encoding.NONE,
        doc=tfds.features.Documentation(
            desc=spec.meaning, value_range=spec.unit or None
        ),
    )


def read_samples(folder: str, split: str, first: int = 0) -> tf.data.Dataset:
    """Return the samples of a split from `first` on, in the order of the set.

    Args:
        folder: of the set, with its version.
        split: `"train"`, `"validation"` or `"test"`.
        first: int >= 0. Index of the first sample.

    Raises: UserError if TFDS does not understand the set.
    """
    instruction = tfds.core.ReadInstruction(split, from_=first, unit="abs")
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)  # TFDS warns of what it does itself
    try:
        builder = tfds.builder_from_directory(folder)
        return builder.as_dataset(
            split=instruction, read_config=tfds.ReadConfig(try_autocache=False)
        )
    except Exception as error:  # whatever TFDS says about what is damaged
        raise UserError(
            f"The prepared set cannot be read: {error} Received: folder={folder!r}."
        ) from error
    finally:
        logger.setLevel(level)


def beam_config(options: Iterable[str]) -> tfds.download.DownloadConfig:
    """Return how to write a set with Apache Beam.

    Args:
        options: of the pipeline, `"key=value"` or `"flag"`, e.g.
            `"runner=FlinkRunner"`.

    Raises: ImportError if Apache Beam is missing.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    flags = PipelineOptions([f"--{option}" for option in options])
    return tfds.download.DownloadConfig(beam_options=flags)
