"""The base class of all builders: turns the fields that a recipe sets into a dataset in a folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data_builders.writer import DatasetWriter, read_shard
from geotune.config.options import Options
from geotune.data.building import builder_config, config_fingerprint
from geotune.errors import ConfigError


@dataclass
class Builder(Options, ABC):
    """Base class of the builders. A subclass is a dataclass whose fields a recipe sets; it defines `build`.

    It may define `check` and `check_inputs`, which yield the mistakes in its fields and the missing sources.

    A subclass may have a class variable `version`, to be increased when the same fields would produce different
    records.
    """

    overwrite: bool | None = field(default=None, kw_only=True, compare=False)
    """Replace a dataset that was built with other settings; null does so at a recipe's own path, if an older version of
    the same builder wrote it with the same settings."""

    @abstractmethod
    def build(self, writer: DatasetWriter) -> None:
        """Write every sample of the source to `writer`, and reject every source record that gives no sample.

        Raises `PostponedBuild` if something else comes first, such as paid calls of which the user wants an estimate.
        """

    def make(
        self,
        out: str | Path,
        name: str,
        *,
        paths: Literal["relative", "absolute"] = "relative",
        max_reject_fraction: float = 0.01,
        shard: str | None = None,
    ) -> dict[str, Any]:
        """Build the dataset `name` in the folder `out`. Returns the report, as in build_report.json.

        If the build was postponed, there is no dataset, and the report's entry `postponed` says how to go on.

        Args:
            paths: How the records name their images.
            max_reject_fraction: Largest share of the source records that may be rejected.
            shard: `i/n` to write part i of n, to be joined by `geotune merge`; None to write the whole dataset.

        Raises:
            ConfigError: The builder's settings or its source are wrong, or the folder can't be written.
        """
        if missing := list(self.check_inputs()):
            raise ConfigError(*missing)
        config = builder_config(self)
        part = read_shard(shard)
        with DatasetWriter(out, name, paths=paths, max_reject_fraction=max_reject_fraction, shard=part) as writer:
            writer.extra = {"builder": config, "fingerprint": config_fingerprint(config)}
            self.build(writer)
        return writer.report
