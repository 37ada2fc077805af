"""Photos with coordinates -> geo-captions that an endpoint writes (GeoLocSFT, arXiv 2506.01277) -> training samples.

Expected layout: as for gps_csv. The folder `<out>/geocaption/` keeps all questions, answers and costs between builds.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from data_builders.sources.geocaption_calls import CaptionCalls
from data_builders.sources.geocaption_form import (
    QUESTION,
    InvalidCaptionError,
    check_reply,
    read_reply,
    write_caption,
)
from data_builders.sources.geocaption_request import CallSettings, CaptionRequest
from data_builders.sources.photos import PhotoTable, meta_of, place_of
from data_builders.writer import DatasetWriter, PostponedBuild
from geotune.clients.chat_api import Endpoint
from geotune.clients.journal import Journal
from geotune.errors import ConfigError, Problem
from geotune.sample import Sample, Turn
from geotune.tasks import SYSTEM_PROMPT
from geotune.tasks.geolocate import coordinates_json

JOURNAL = "geocaption"
"""Folder of `out` that keeps the calls and their answers."""

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Geocaption(CallSettings, PhotoTable):
    """Builder that has an endpoint write geo-captions and turns them into training samples.

    A photo with a valid answer is never asked about again, neither by this build nor by a later one into the same
    folder.

    Raises:
        ConfigError: A setting or the table is wrong, the endpoint refuses, or the budget is used up.
    """

    version: ClassVar[int] = 2
    """Increase it when the same settings would produce different records."""

    def build(self, writer: DatasetWriter) -> None:
        """Ask about every photo that has no valid answer yet, then write the samples in the table's order."""
        if writer.shard is not None:
            shard = "/".join(map(str, writer.shard))
            raise ConfigError(Problem("shard", shard, "all calls share one budget", "leave out shard"))
        endpoint = Endpoint.from_environment(self.api, self.model)
        if self.ask:
            endpoint.check()
        requests = [CaptionRequest(photo, self.max_side) for photo in self.photos(writer)]
        with Journal(writer.out / JOURNAL) as journal:
            calls = CaptionCalls(self, endpoint, journal, requests)
            if not self.ask and calls.todo and not calls.answered_before:
                raise PostponedBuild(
                    f"{calls.estimate()}\nno call was made, and no dataset is written because no photo has an answer "
                    "yet; set ask=true (the default) to make the calls"
                )
            log.info("%s", calls.estimate())
            if self.ask:
                asyncio.run(calls.run())
            written = Counter(self._write(request, calls, writer) for request in requests)
            writer.audit["geocaption"] = {"photos": len(requests), **written, **calls.summary()}

    def _write(self, request: CaptionRequest, calls: CaptionCalls, writer: DatasetWriter) -> str:
        """Write a photo's sample, or reject the photo. Returns the name under which the report counts it."""
        row, journal = request.photo.row, calls.journal
        if request.key not in journal:
            if journal.invalid[request.key] >= self.asks:
                writer.reject(row.id, "invalid_answer", journal.last_invalid[request.key])
                return "invalid"
            if self.ask:
                writer.reject(row.id, "no_answer", calls.failed.get(request.key, ""))
                return "failed"
            return "unasked"
        reply = read_reply(journal.body(request.key))
        try:
            text = write_caption(check_reply(reply, row.at), row.at)
        except InvalidCaptionError as error:
            writer.reject(row.id, "invalid_answer", str(error))
            return "invalid"
        writer.write(
            Sample(
                id=f"geocaption/{self.source}/{row.id}/geolocate",
                images=(str(request.photo.image.path),),
                turns=(Turn("user", QUESTION), Turn("assistant", text)),
                system=SYSTEM_PROMPT,
                task="geolocate",
                answer=coordinates_json(row.at),
                source=self.source,
                place=place_of(self.source, row),
                meta=json.dumps({**meta_of(row), "written_by": reply.model}, ensure_ascii=False),
            )
        )
        return "written"
