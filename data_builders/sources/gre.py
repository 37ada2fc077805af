"""GRE Suite's published records (arXiv 2505.18700) -> geolocate and judge samples, and GREval-Bench to evaluate on.

Expected layout, as published: `root/gre_cot/gre_cot.json`, `root/gre_judge/gre_judge.json`,
`root/gre_seed/gre_seed.jsonl` and `root/bench_data/GREval-Bench.json`, each with its images in `imgs/` beside it, which
the records call `images/`. Both suffixes are accepted everywhere, even for an array that is named `.jsonl`.
`root` may also be the folder of the file itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from data_builders.builder import Builder
from data_builders.imagery.prepare import ImageFile, prepare_images
from data_builders.sources.gre_records import (
    GreFindings,
    GreImages,
    GreRecord,
    find_gre_file,
    iter_gre_records,
    posix_name,
)
from data_builders.sources.gre_rounding import states_the_truth
from data_builders.sources.rejected import RejectedRecordError
from data_builders.writer import DatasetWriter
from geotune.config.rules import at_least, is_folder
from geotune.errors import BadRecord, Problem
from geotune.sample import IMAGE_TAG, Sample, Turn
from geotune.tasks import SYSTEM_PROMPT
from geotune.tasks.base import Task
from geotune.tasks.coordinates import SWAP_WITHIN_KM, CoordinateError, Coordinates, right_if_swapped
from geotune.tasks.geolocate import GEOLOCATE, coordinates_json, read_coordinates
from geotune.tasks.judge import JUDGE

NEAR_KM, FAR_KM = 1.0, 2500.0
"""A verdict is counted as doubtful if it is false below the first distance or true beyond the second: no threshold of
the field explains it."""
_THOUGHT_TAG = re.compile(r"</?\s?(?:think(?:ing)?|answer)\s?>", re.IGNORECASE)

_OPEN_BOX = re.compile(r"\$?\\boxed\{\s*$")


@dataclass
class Gre(Builder):
    """Builder of GRE30K's three parts and of GREval-Bench.

    `cot` and `judge` keep the published answers, checked against the truth; with `wording=geotune` an answer of `cot`
    that differs from the truth by more than the rounding of its own digits is rejected. `seed` has no published
    answers: the assistant's turn holds the true coordinates, and the samples serve reinforcement learning only. `bench`
    is for evaluation; its reference reasoning becomes the explanation. Every record of the file is either written or
    rejected with a reason; defects of written records are counted by name in the report's audit.

    Raises:
        ConfigError: The folder, the file or the part does not exist.
    """

    version: ClassVar[int] = 2
    """Increase it when the same settings would produce different records."""

    root: Path
    """Folder of the download."""
    part: Literal["cot", "judge", "seed", "bench"]
    """Part to build: the reasoning of stage 1, the verdicts of stage 2, the photos of stage 3, or GREval-Bench."""
    wording: Literal["published", "geotune"] = "published"
    """published: prompts and answers word for word; geotune: prompts of this project and answers in its JSON."""
    max_image_pixels: int = 50_000_000
    """Number of pixels above which an image is rejected."""
    workers: int | None = field(default=None, compare=False)
    """Number of processes that check images; null: one per usable core."""

    def check(self) -> Iterator[Problem]:
        yield from at_least("workers", self.workers, 1)

    def check_inputs(self) -> Iterator[Problem]:
        yield from is_folder("root", self.root, "give the folder of the download")

    def build(self, writer: DatasetWriter) -> None:
        """Write every usable record, reject the others, and report the defects that were fixed."""
        file = find_gre_file(self.root, self.part)
        findings = GreFindings()
        folder = GreImages(file.parent.absolute())
        # Two passes over the file keep the records out of memory: the first for the images, the second for the samples.
        named = {path for _, record in iter_gre_records(file) for path in folder.paths(record) if path is not None}
        images = prepare_images(
            named, (), crops_root=writer.images_dir, max_pixels=self.max_image_pixels, workers=self.workers
        )
        numbers: Counter[str] = Counter()
        seen: set[bytes] = set()
        for index, (where, record) in enumerate(iter_gre_records(file)):
            writer.count_source(1)
            record_id = f"{file.name}/{index}"
            try:
                if isinstance(record, BadRecord):
                    raise RejectedRecordError(record_id, "invalid_record", f"{where}: {record.reason}")
                sample = self._sample(GreRecord(record, record_id, findings), file.stem, folder, images, seen)
                # Several records of a file may show the same photo: their samples are numbered in the file's order.
                writer.write(replace(sample, id=f"{sample.id}/{numbers[sample.id]}"))
                numbers[sample.id] += 1
            except RejectedRecordError as rejected:
                writer.reject(rejected.record_id, rejected.reason, rejected.detail)
            except BadRecord as error:
                writer.reject(record_id, "invalid_record", error.reason)
        writer.audit |= findings.report()

    def _sample(
        self,
        record: GreRecord,
        stem: str,
        folder: GreImages,
        images: Mapping[Path, ImageFile],
        seen: set[bytes],
    ) -> Sample:
        """The sample of one record; raises RejectedRecordError."""
        name = record.text("image_path" if self.part == "bench" else "image")
        try:
            path = folder.path(name)
        except BadRecord as error:
            raise record.rejected(error.code, error.reason) from None
        if path is None:
            raise record.rejected("path_outside", f"image {name!r} leaves the folder of images")
        record.note_path(name)
        image = images[path]
        if image.reason:
            raise record.rejected(image.reason, image.detail)
        task: Task = JUDGE if self.part == "judge" else GEOLOCATE
        truth, dialogue = _DIALOGUES[self.part](record, self.wording)
        key = _digest(str(path), repr(truth), dialogue.prompt, dialogue.response)
        if key in seen:
            raise record.rejected("duplicate_record", "an earlier record has the same photo, question and answer")
        seen.add(key)
        for defect in sorted(record.notes):
            record.findings.add_defect(defect, record.record_id)
        image_id = str(record.record.get("sample_id") or PurePosixPath(posix_name(name)).with_suffix("").name)
        meta = {"record": record.record_id, "lat": truth.lat, "lon": truth.lon, **dialogue.meta}
        return Sample(
            id=f"gre/{stem}/{image_id}/{task.name}",
            images=(str(path),),
            turns=(Turn("user", dialogue.prompt), Turn("assistant", dialogue.response)),
            system="" if self.wording == "published" and self.part != "bench" else SYSTEM_PROMPT,
            task=task.name,
            answer=dialogue.answer,
            source=stem,
            place=f"GRE/{truth.lat:.6f},{truth.lon:.6f}",
            meta=json.dumps(meta, ensure_ascii=False),
        )


@dataclass(frozen=True)
class _Dialogue:
    """The texts of one sample: both turns, the gold answer, and further facts for its `meta`."""

    prompt: str
    response: str
    answer: str
    meta: dict[str, Any]


def _cot(record: GreRecord, wording: str) -> tuple[Coordinates, _Dialogue]:
    """The published reasoning; rejects answers without coordinates or with swapped ones.

    An answer that states another place than the truth, beyond its own rounding, stays as it was published and is
    counted, but is never written as a target of this project's wording.
    """
    question, answer = record.turns()
    stated = read_coordinates(answer, pair_order="lat_lon")
    truth = record.truth(stated)
    at = f"the photo is at {truth.lat}, {truth.lon}"
    swapped = stated if isinstance(stated, Coordinates) else answer
    if right_if_swapped(swapped, truth.lat, truth.lon, within_km=SWAP_WITHIN_KM):
        raise record.rejected("answer_swapped", f"...{answer[-80:]!r}; {at}")
    distance = record.distance_km("cot", stated, truth)
    if distance is None or not isinstance(stated, Coordinates):
        raise record.rejected(f"answer_{stated}", f"{_why_unread(answer, stated)}: ...{answer[-80:]!r}")
    if not states_the_truth(answer, stated, truth):
        if wording == "geotune":
            detail = f"the answer states {stated.lat}, {stated.lon}; {at}, {distance:.3f} km away"
            raise record.rejected("answer_differs", detail)
        record.note("answer_differs")
    meta = {"answer_km": round(distance, 3)}
    gold = coordinates_json(truth)
    if wording == "published":
        return truth, _Dialogue(question, answer, gold, meta)
    response = GEOLOCATE.target(coordinates_json(stated), _reasoning(answer))
    return truth, _Dialogue(GEOLOCATE.prompt(explain=True), response, gold, meta)


def _why_unread(answer: str, reason: Coordinates | CoordinateError) -> str:
    """Says why an answer gives no coordinates, for the detail of its rejection."""
    if reason not in (CoordinateError.missing, CoordinateError.incomplete):
        return f"the coordinates of the gpt turn are {reason}"
    if isinstance(read_coordinates(_THOUGHT_TAG.sub(" ", answer), pair_order="lat_lon"), Coordinates):
        return "the gpt turn has coordinates in its thought only, none in its final answer"
    return "the final answer of the gpt turn has no latitude and longitude"


def _judge(record: GreRecord, wording: str) -> tuple[Coordinates, _Dialogue]:
    """The published verdict on a prediction; notes verdicts that the distance makes doubtful."""
    truth = record.truth()
    question, answer = record.turns()
    predicted = record.text("predicted_answer", reason="prediction_lost")
    parsed = JUDGE.parse(answer)
    if parsed.answer is None:
        raise record.rejected(f"answer_{parsed.reason}", f"no verdict in the gpt turn: ...{answer[-80:]!r}")
    verdict = parsed.answer
    stated = read_coordinates(predicted, pair_order="lat_lon")
    distance = record.distance_km(f"judged_{verdict}", stated, truth)
    if distance is None:
        record.note("prediction_unread")
    if right_if_swapped(
        stated if isinstance(stated, Coordinates) else predicted, truth.lat, truth.lon, within_km=SWAP_WITHIN_KM
    ):
        record.note("prediction_swapped")
    if distance is not None and verdict == "true" and distance > FAR_KM:
        record.note("judged_true_though_far")
    if distance is not None and verdict == "false" and distance <= NEAR_KM:
        record.note("judged_false_though_near")
    meta = {"predicted_answer": predicted, "predicted_km": None if distance is None else round(distance, 3)}
    if wording == "geotune":
        return truth, _Dialogue(JUDGE.prompt_for(record.record, explain=False), JUDGE.target(verdict), verdict, meta)
    if predicted not in question:
        # The published question lacks the prediction to be judged, which has fields of its own.
        record.note("prediction_not_in_question")
        prediction = [
            str(record.record.get(key) or "").replace(IMAGE_TAG, "[image]")
            for key in ("predicted_cot", "predicted_answer")
        ]
        question = "\n".join([question.rstrip(), *(text for text in prediction if text.strip())])
    return truth, _Dialogue(question, answer, verdict, meta)


def _seed(record: GreRecord, wording: str) -> tuple[Coordinates, _Dialogue]:
    """A question without a published answer: the response is the truth."""
    truth = record.truth()
    gold = coordinates_json(truth)
    meta = {"reinforcement_only": True}
    if wording == "geotune":
        return truth, _Dialogue(GEOLOCATE.prompt(explain=True), GEOLOCATE.target(gold), gold, meta)
    question = record.record.get("instructions")
    if not isinstance(question, str) or not question.strip():
        raise record.rejected("question_lost", f"instructions={question!r:.80}")
    # The published instructions have no image tag; its absence is no defect here.
    tagged = question if IMAGE_TAG in question else f"{IMAGE_TAG}\n{question}"
    return truth, _Dialogue(record.with_image_tag(tagged), f"<answer>{gold}</answer>", gold, meta)


def _bench(record: GreRecord, wording: str) -> tuple[Coordinates, _Dialogue]:
    """This project's question with the reference reasoning, in either wording."""
    truth = record.truth()
    reference = record.text("gt_cot", reason="answer_lost").replace(IMAGE_TAG, "[image]")
    gold = coordinates_json(truth)
    prompt, response = GEOLOCATE.prompt(explain=True), GEOLOCATE.target(gold, reference)
    return truth, _Dialogue(prompt, response, gold, {"reference_cot": reference})


_DIALOGUES = {"cot": _cot, "judge": _judge, "seed": _seed, "bench": _bench}


def _digest(*parts: str) -> bytes:
    """A digest of all that makes two records the same."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


def _reasoning(answer: str) -> str:
    """The text of a published answer before its coordinates, without tags."""
    thought, tag, _ = answer.partition("<answer>")
    text = thought if tag else GEOLOCATE.answer_prefix(answer)
    return _OPEN_BOX.sub("", _THOUGHT_TAG.sub("", text)).replace(IMAGE_TAG, "[image]").strip()
