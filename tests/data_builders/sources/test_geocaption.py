"""The builder against a real HTTP server that answers as an endpoint does, or misbehaves as planned."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_builders.build import main
from data_builders.sources.geocaption import Geocaption
from data_builders.sources.geocaption_form import OUTLINE, json_schema
from geotune.clients.journal import Journal
from geotune.errors import ConfigError
from geotune.records import read_samples
from geotune.tasks import get_task
from geotune.tasks.coordinates import Coordinates

TOKENS_IN, TOKENS_OUT = 900, 300
USD_IN, USD_OUT = 2.0, 10.0
CALL_USD = (TOKENS_IN * USD_IN + TOKENS_OUT * USD_OUT) / 1e6
KEY = "sk-not-to-be-shown"
ROOT = Path(__file__).resolve().parents[3]


def fill(outline: Any, at: Coordinates) -> Any:
    if isinstance(outline, dict):
        return {key: getattr(at, key[:3]) if value == "number" else fill(value, at) for key, value in outline.items()}
    return [fill(outline[0], at)] * 2 if isinstance(outline, list) else "Grey asphalt; not 48.1 N, see 12 lamps."


def completion(text: str, finish: str = "stop") -> dict[str, Any]:
    return {
        "model": "gpt-test-2026",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT, "total_tokens": TOKENS_IN + TOKENS_OUT},
    }


class Endpoint:
    """Answers chat completions about photos at latitude 10 + number; `plan` says by photo how it misbehaves first."""

    def __init__(self) -> None:
        self.plan: dict[int, list[str]] = {}
        self.every = ""
        self.delay_s = 0.0
        self.counted_in = TOKENS_IN
        self.requests: list[tuple[float, int, dict[str, Any], dict[str, str]]] = []
        self.outcomes: dict[int, list[str]] = defaultdict(list)
        self.billed_usd = 0.0
        self.at_once = self.most_at_once = 0
        self.released = threading.Event()
        self.lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                endpoint.answer(self)

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        text = body["messages"][1]["content"][0]["text"]
        lat, lon = re.search(r"latitude (\S+), longitude (\S+) ", text).groups()
        at = Coordinates(float(lat), float(lon))
        photo = round(at.lat - 10)
        with self.lock:
            self.requests.append((time.monotonic(), photo, body, dict(handler.headers)))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            planned = self.plan.get(photo)
            what = planned.pop(0) if planned else self.every or "ok"
            if not re.match(r"429|503|4\d\d", what):
                self.billed_usd += CALL_USD
        try:
            time.sleep(self.delay_s)
            self.misbehave(handler, what, at)
        finally:
            with self.lock:
                self.at_once -= 1
                self.outcomes[photo].append(what)

    def misbehave(self, handler: BaseHTTPRequestHandler, what: str, at: Coordinates) -> None:
        caption = fill(OUTLINE, at)
        text = json.dumps(caption)
        if re.fullmatch(r"\d{3}.*", what):
            status, _, header = what.partition(" ")
            extra = dict([header.split("=", 1)]) if header else {}
            quota = {"code": "insufficient_quota"} if "x-quota" in extra else {}
            error = {"error": {"message": f"no {status} for key {KEY}", **quota}}
            return self.send(handler, json.dumps(error), int(status), extra)
        if what == "slow":
            self.released.wait(30)
            return None
        if what == "hang up":
            handler.close_connection = True
            return None
        if what == "cut":
            whole = json.dumps(completion(text)).encode()
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(whole)))
            handler.end_headers()
            handler.wfile.write(whole[: len(whole) // 2])
            handler.close_connection = True
            return None
        if what == "other schema":
            del caption["thinking"]["terrain_soil"]
            text = json.dumps(caption)
        elif what == "elsewhere":
            text = json.dumps(fill(OUTLINE, Coordinates(at.lon, at.lat)))
        elif what == "not json":
            text = "I think it is in Paris."
        elif what == "fenced":
            text = f"```json\n{text}\n```"
        said = completion(text[:500], "length") if what == "length" else completion(text)
        if what == "refusal":
            said = completion("")
            said["choices"][0]["message"] = {"content": None, "refusal": "I can't help with that."}
        said["usage"]["prompt_tokens"] = self.counted_in
        said["usage"]["total_tokens"] = self.counted_in + TOKENS_OUT
        if what == "no usage":
            del said["usage"]
        self.send(handler, "<html>oops" if what == "no completion" else json.dumps(said))

    def send(
        self, handler: BaseHTTPRequestHandler, body: str, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body.encode())), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body.encode())

    def asked(self) -> Counter[int]:
        return Counter(photo for _, photo, _, _ in self.requests)

    def said(self, *kinds: str) -> Counter[int]:
        """How often each photo was answered in these ways."""
        return Counter(photo for photo, outcomes in self.outcomes.items() for kind in outcomes if kind in kinds)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    server = Endpoint()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_MODEL", "gpt-test")
    yield server
    server.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = ["image_id;latitude;longitude;country"]
    for number in range(24):
        Image.new("RGB", (40, 30), (10 * number, 0, 0)).save(folder / f"p{number:02d}.png")
        lines.append(f"p{number:02d}.png;{10 + number};{100 + number / 100:g};Country {number}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    return tmp_path


def builder(photos: Path, **settings: Any) -> Geocaption:
    fast = {"requests_per_minute": 1e6, "retry_s": 0.01, "timeout_s": 120.0, "max_output_tokens": 1000}
    prices = {"usd_per_million_in": USD_IN, "usd_per_million_out": USD_OUT, "budget_usd": 100.0}
    return Geocaption(csv=photos / "table.csv", images=photos / "photos", **{**fast, **prices, **settings})


def build(photos: Path, *, out: str = "out", max_reject_fraction: float = 0.0, **settings: Any) -> dict[str, Any]:
    return builder(photos, **settings).make(photos / out, "captions", max_reject_fraction=max_reject_fraction)


def lines(photos: Path, name: str) -> list[dict[str, Any]]:
    path = photos / f"out/{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def spent(photos: Path) -> float:
    with Journal(photos / "out/geocaption") as journal:
        return journal.spent_usd


# Against a server that misbehaves


def test_nothing_is_lost_and_nothing_asked_twice(endpoint: Endpoint, photos: Path) -> None:
    endpoint.plan = {
        1: ["429 Retry-After=0.2", "500"],
        2: ["500", "502", "503 retry-after-ms=20"],
        3: ["hang up"],
        4: ["cut", "hang up"],
        5: ["no completion"],
        6: ["not json", "cut", "not json"],
        7: ["other schema"],
        8: ["length", "500", "refusal"],
        9: ["fenced"],
        10: ["elsewhere"],
        11: ["no usage"],
    }
    planned = Counter(what for whats in endpoint.plan.values() for what in whats)
    report = build(photos)
    assert report["written"] == report["source_records"] == 24
    # Every photo was answered well once, and not asked again after that.
    good = endpoint.said("ok", "fenced", "no usage")
    assert good == Counter(dict.fromkeys(range(24), 1))
    for photo, outcomes in endpoint.outcomes.items():
        assert outcomes[-1] in ("ok", "fenced", "no usage"), photo
    # All that came back is on the disk, the invalid apart, each with its reason.
    answers, invalid, calls = (lines(photos, f"geocaption/{name}") for name in ("answers", "invalid", "calls"))
    assert len({answer["photo"] for answer in answers}) == len(answers) == 24
    assert Counter(line["reason"] for line in invalid) == {
        "broken_response": 1,
        "not_json": 2,
        "wrong_schema": 1,
        "truncated": 1,
        "refused": 1,
        "wrong_place": 1,
    }
    assert all(line["detail"] and line["body"] for line in invalid)
    assert sum("worst_usd" in call for call in calls) == len(endpoint.requests)
    failed = Counter(call["failed"].partition(" ")[0] for call in calls if "failed" in call)
    assert failed == {
        "status_429": 1,
        "status_500": planned["500"],
        "status_502": 1,
        "status_503": 1,
        "connection_cut": planned["cut"] + planned["hang up"],
    }
    assert report["audit"]["geocaption"]["calls"] == failed + Counter(valid=24) + Counter(
        line["reason"] for line in invalid
    )
    # What may have been charged is counted.
    assert endpoint.billed_usd <= report["audit"]["geocaption"]["spent_usd"] + 1e-9
    asked = len(endpoint.requests)
    again = build(photos, model="another")
    assert len(endpoint.requests) == asked
    assert again["audit"]["geocaption"]["answered_before"] == again["written"] == 24


def test_the_budget_is_never_exceeded(endpoint: Endpoint, photos: Path) -> None:
    endpoint.delay_s = 0.02
    endpoint.plan = {number: ["cut" if number % 4 == 0 else "500"] for number in range(0, 24, 2)}
    for budget in (0.0, 0.07, 0.2):
        with pytest.raises(ConfigError, match=f"budget_usd={budget:g}: .* raise the budget"):
            build(photos, budget_usd=budget)
        assert not (photos / "out/captions.jsonl").exists()
        assert endpoint.billed_usd <= spent(photos) <= budget
    # Room was used as far as another call's worst cost fitted in.
    assert spent(photos) > 0.2 - 0.03
    valid = {line["photo"] for line in lines(photos, "geocaption/answers")}
    assert 0 < len(valid) < 24
    # What is there can be built without a further call.
    calls = len(endpoint.requests)
    some = build(photos, ask=False)
    assert (some["written"], some["audit"]["geocaption"]["unasked"]) == (len(valid), 24 - len(valid))
    assert len(endpoint.requests) == calls
    assert build(photos, budget_usd=5.0)["written"] == 24
    assert endpoint.said("ok") == Counter(dict.fromkeys(range(24), 1))


def test_goes_on_after_a_kill(endpoint: Endpoint, photos: Path) -> None:
    endpoint.delay_s = 0.05
    words = {
        **{"builder": "geocaption", "csv": photos / "table.csv", "images": photos / "photos", "out": photos / "out"},
        **{"budget_usd": 1, "usd_per_million_in": USD_IN, "usd_per_million_out": USD_OUT, "name": "captions"},
        **{"requests_per_minute": 1e6, "concurrency": 3, "workers": 1, "max_output_tokens": 1000},
    }
    command = [sys.executable, "-m", "data_builders.build", *(f"{key}={value}" for key, value in words.items())]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    journal = photos / "out/geocaption/answers.jsonl"
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") >= 7):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.2)  # until the server has dealt with what was under way
    before = {line["photo"] for line in lines(photos, "geocaption/answers")}
    assert 7 <= len(before) < 24
    for name in ("answers", "calls", "invalid"):
        with (photos / f"out/geocaption/{name}.jsonl").open("a") as file:
            file.write('{"call": 1, "key": "torn')
    open_calls = endpoint.requests[:]
    assert endpoint.billed_usd <= spent(photos) <= 1
    report = build(photos, budget_usd=1.0)
    assert report["written"] == 24
    assert report["audit"]["geocaption"]["answered_before"] == len(before)
    asked_later = Counter(f"p{photo:02d}.png" for _, photo, _, _ in endpoint.requests[len(open_calls) :])
    assert asked_later == Counter({f"p{number:02d}.png" for number in range(24)} - before)
    assert endpoint.billed_usd <= spent(photos) <= 1
    assert len(lines(photos, "geocaption/answers")) == 24


def test_invalid_answers_are_asked_again_a_bounded_number_of_times(endpoint: Endpoint, photos: Path) -> None:
    endpoint.plan = {4: ["not json"] * 9, 5: ["not json"] * 2}
    report = build(photos, asks=3, max_reject_fraction=0.05)
    assert (report["written"], report["rejected"]) == (23, {"invalid_answer": 1})
    assert (endpoint.asked()[4], endpoint.asked()[5]) == (3, 3)
    build(photos, asks=3, max_reject_fraction=0.05)
    assert endpoint.asked()[4] == 3
    (rejected,) = lines(photos, "rejected")
    assert (rejected["id"], rejected["detail"].partition(":")[0]) == ("p04.png", "not_json")
    build(photos, asks=5, max_reject_fraction=0.05)
    assert endpoint.asked()[4] == 5


def test_photos_without_a_response_are_rejected_and_asked_by_the_next_build(endpoint: Endpoint, photos: Path) -> None:
    endpoint.plan = {3: ["500"] * 2, 4: ["400"]}
    report = build(photos, tries=2, max_reject_fraction=0.1)
    assert (report["written"], report["rejected"]) == (22, {"no_answer": 2})
    details = {line["id"]: line["detail"] for line in lines(photos, "rejected")}
    assert details["p03.png"].startswith("status_500")
    assert (endpoint.asked()[3], endpoint.asked()[4]) == (2, 1)
    assert build(photos)["written"] == 24
    assert sum(endpoint.asked().values()) == 24 + 3


@pytest.mark.parametrize(
    ("every", "calls", "said"),
    [
        ("401", 1, "check the key"),
        ("404", 1, "check the address or the model"),
        ("302", 1, "check the address"),
        ("429 x-quota=0", 1, "status_429"),
        ("429 Retry-After=7200", 1, "asks to wait 7200 s"),
        ("400", 12, "refuses every request"),
        ("500", 27, "the last 20 calls failed"),
    ],
)
def test_stops_where_every_call_would_fail(
    endpoint: Endpoint, photos: Path, capsys: pytest.CaptureFixture[str], every: str, calls: int, said: str
) -> None:
    endpoint.every = every
    with pytest.raises(ConfigError) as error:
        build(photos, concurrency=4)
    assert said in str(error.value)
    assert "24 photos have no answer yet" in str(error.value)
    assert len(endpoint.requests) <= calls
    kept = (photos / "out/geocaption/calls.jsonl").read_text()
    assert KEY not in str(error.value) + kept + capsys.readouterr().err


def test_no_connection_stops_and_costs_nothing(endpoint: Endpoint, photos: Path) -> None:
    endpoint.close()
    with pytest.raises(ConfigError, match="no_connection"):
        build(photos, tries=5)
    assert spent(photos) == 0


def test_slow_answers_time_out_and_may_have_been_charged(endpoint: Endpoint, photos: Path) -> None:
    endpoint.plan = {number: ["slow"] for number in range(24)}
    report = build(photos, limit=2, timeout_s=0.5, tries=9)
    assert report["written"] == 2
    failed = [call for call in lines(photos, "geocaption/calls") if "failed" in call]
    assert len(failed) >= 2
    assert all(call["failed"] == "timeout" and call["usd"] > CALL_USD for call in failed)
    assert endpoint.billed_usd <= spent(photos)


def test_retry_after_is_honoured(endpoint: Endpoint, photos: Path) -> None:
    endpoint.plan = {5: ["429 Retry-After=0.6"], 6: ["503 retry-after-ms=700"]}
    build(photos, concurrency=1)
    starts = [(photo, at) for at, photo, _, _ in endpoint.requests]
    for photo, wait_s in ((5, 0.6), (6, 0.7)):
        refused, again = (at for number, at in starts if number == photo)
        assert again - refused > wait_s


def test_pace_and_concurrency_are_kept(endpoint: Endpoint, photos: Path) -> None:
    endpoint.delay_s = 0.15
    started = time.monotonic()
    build(photos, concurrency=3, requests_per_minute=1200)
    assert 1 < endpoint.most_at_once <= 3
    assert time.monotonic() - started > 23 * 0.05


def test_stops_when_more_tokens_are_counted_than_were_reserved(endpoint: Endpoint, photos: Path) -> None:
    endpoint.counted_in = 30_000
    with pytest.raises(ConfigError, match=r"counted 30,000 tokens .* set picture_tokens=(\d+)") as error:
        build(photos)
    assert len(endpoint.requests) == 1
    remedy = int(re.search(r"set picture_tokens=(\d+)", str(error.value))[1])
    assert build(photos, picture_tokens=remedy)["written"] == 24
    assert endpoint.asked()[0] == 1


# What is asked, and what is written


def test_the_estimate_comes_before_the_first_call(
    endpoint: Endpoint, photos: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    report = build(photos, ask=False)
    assert not endpoint.requests
    assert (report["written"], list((photos / "out").glob("*.jsonl"))) == (0, [])
    assert report["postponed"].endswith("no photo has an answer yet; set ask=true (the default) to make the calls")
    said = r"24 are to be described by gpt-test at http\S+; estimated cost (\S+) USD \((\S+) USD .* budget 100.00 USD"
    expected, worst = map(float, re.search(said, report["postponed"]).groups())
    words = {"csv": photos / "table.csv", "images": photos / "photos", "out": photos / "out", "ask": "false"}
    prices = {"budget_usd": 1, "usd_per_million_in": USD_IN, "usd_per_million_out": USD_OUT, "workers": 1}
    capsys.readouterr()
    assert main(["builder=geocaption", *(f"{key}={value}" for key, value in (words | prices).items())]) == 0
    assert "estimated cost" in (printed := capsys.readouterr().out)
    assert "no dataset is written" in printed
    assert "samples" not in printed
    assert 24 * CALL_USD / 3 < expected < worst
    caplog.clear()
    first: list[int] = []
    endpoint.plan = {0: ["ok"]}
    answer = endpoint.answer
    endpoint.answer = lambda handler: (first.append(len(caplog.text)), answer(handler))[1]  # type: ignore[assignment]
    build(photos)
    assert first[0] > 0


def test_a_request_is_what_the_endpoint_expects(endpoint: Endpoint, photos: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    exif[0x0112] = 6
    Image.new("RGB", (900, 300), "red").save(photos / "photos/p00.png", exif=exif)
    build(photos, max_side=300, body={"temperature": 0.5}, token_limit="max_tokens")
    _, _, body, headers = next(request for request in endpoint.requests if request[1] == 0)
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("gpt-test", 0.5, 1000)
    form = body["response_format"]
    assert (form["type"], form["json_schema"]["strict"]) == ("json_schema", True)
    assert form["json_schema"]["schema"] == json_schema()
    text, image = body["messages"][1]["content"]
    assert "latitude 10.0, longitude 100.0 (Country 0)" in text["text"]
    data = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as sent:
        assert (sent.format, sent.size) == ("JPEG", (100, 300))
        assert not sent.getexif()
    assert b"home" not in data


def test_samples_hold_the_truth_of_the_table(endpoint: Endpoint, photos: Path) -> None:
    table = photos / "table.csv"
    text = table.read_text().replace("p02.png;12;100.02", "p02.png;12.0000049;-0.0000104")
    table.write_text(text.replace("p03.png;13;100.03", "p03.png;;").replace("p04.png;14;100.04", "p04.png;0;0"))
    report = build(photos, max_reject_fraction=0.1)
    assert report["rejected"] == {"coordinates_missing": 1, "coordinates_null_island": 1}
    assert not endpoint.asked().keys() & {3, 4, -10}
    samples = {sample.id: sample for sample in read_samples(photos / "out/captions.jsonl", check_images=True)}
    assert len(samples) == 22
    sample = samples["geocaption/table/p02.png/geolocate"]
    assert sample.answer == '{"latitude": 12.000005, "longitude": -0.00001}'
    assert '"latitude": 12.000005, "longitude": -0.00001, "region"' in sample.response
    assert sample.place == "table/12.000005,-0.000010"
    assert json.loads(sample.meta)["written_by"] == "gpt-test-2026"
    for sample in samples.values():
        assert get_task("geolocate").parse(sample.response).answer == sample.answer
        assert fill(OUTLINE, Coordinates(0, 0)).keys() == json.loads(sample.response).keys()


def test_changed_coordinates_and_photos_are_asked_anew(endpoint: Endpoint, photos: Path) -> None:
    build(photos)
    table = photos / "table.csv"
    table.write_text(table.read_text().replace("p07.png;17;100.07", "p07.png;17.01;100.07"))
    Image.new("RGB", (40, 30), "white").save(photos / "photos/p09.png")
    assert build(photos)["written"] == 24
    assert endpoint.asked() == Counter(range(24)) + Counter([7, 9])


def test_one_question_under_two_names_is_asked_once(endpoint: Endpoint, photos: Path) -> None:
    (photos / "photos/same.png").write_bytes((photos / "photos/p01.png").read_bytes())
    with (photos / "table.csv").open("a") as file:
        file.write("\nsame.png;11;100.01;Country 1\n")
    assert build(photos)["written"] == 25
    assert endpoint.asked()[1] == 1


# Settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"budget_usd": -1.0}, "budget_usd=-1.0"),
        ({"usd_per_million_in": float("nan")}, "usd_per_million_in=nan"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"picture_tokens": 0}, "picture_tokens=0"),
        ({"timeout_s": 0.0}, "timeout_s=0.0"),
        ({"body": {"n": 4}}, "body.n"),
    ],
)
def test_settings_that_cannot_be_meant(photos: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        builder(photos, **settings)


def test_jobs_that_would_each_ask_are_refused(endpoint: Endpoint, photos: Path) -> None:
    with pytest.raises(ConfigError, match="shard=1/4"):
        builder(photos).make(photos / "out", "captions", shard="1/4")
    assert not endpoint.requests


def test_endpoint_comes_from_the_environment(
    endpoint: Endpoint, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"csv={photos / 'table.csv'}", f"images={photos / 'photos'}", "budget_usd=1", f"out={photos / 'o'}"]
    words += ["builder=geocaption", "usd_per_million_in=1", "usd_per_million_out=1", "workers=1"]
    for gone, key in (("OPENAI_MODEL", "OPENAI_MODEL"), ("OPENAI_API_KEY", "OPENAI_API_KEY")):
        with monkeypatch.context() as without:
            without.delenv(gone)
            without.delenv("OPENAI_BASE_URL")
            assert main(words) == 2
            assert f"{key}" in capsys.readouterr().err
    assert main([*words, "api=localhost:8000"]) == 2
    assert "api=localhost:8000" in capsys.readouterr().err
    assert not endpoint.requests
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert main([*words, f"api={endpoint.url}/", "model=mine", "limit=3", "requests_per_minute=100000"]) == 0
    assert [body["model"] for _, _, body, _ in endpoint.requests] == ["mine"] * 3
