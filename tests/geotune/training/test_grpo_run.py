"""Whole runs of GRPO: resumed, on two ranks, with broken images, and what they leave behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import geotune
from geotune.backbones.base import Backbone
from geotune.config.reward import RewardConfig
from geotune.config.rl import GRPOConfig, RolloutConfig
from geotune.errors import BadRecord, ConfigError
from geotune.rl.guard import Guard
from geotune.rl.rewards import RewardError
from geotune.rl.rollout import Roller
from geotune.runs.directory import checkpoint_steps
from geotune.sample import Sample
from geotune.system.interruption import Stopped
from geotune.train import train
from tests.geotune.training.test_strategies import deepspeed_on_the_cpu
from tests.wandb_offline import wandb_records

City = tuple[Path, list[Sample]]
HASHED = {"_target_": "tests.geotune.rl.hashed.Hashed"}
STOPS = 60
"""Number of tokens that end a completion of the random model, so that completions end raggedly."""


def stage(*, rollout: Any = None, **changes: Any) -> dict[str, Any]:
    """The node of a stage whose rewards are digests of the completions."""
    given = {"lr": 1e-2, "warmup": 0, "kept_groups": 99, "reward": RewardConfig({"hashed": HASHED})} | changes
    given["reward"]._target_ = "geotune.rl.rewards.Reward"
    made = GRPOConfig(rollout=RolloutConfig(**{"group_size": 4, "max_new_tokens": 12} | (rollout or {})), **given)
    return asdict(made) | {"_target_": "geotune.stages.grpo.GRPO"}


def ragged_stops(patch: Any) -> None:
    own = Backbone._find_stop_ids

    def more(self: Backbone, model: Any) -> tuple[int, ...]:
        size = len(self.tokenizer)
        return tuple({*own(self, model), *range(size - STOPS, size)})

    patch(Backbone, "_find_stop_ids", more)


@pytest.fixture(autouse=True)
def completions_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ragged_stops(monkeypatch.setattr)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def completions_of(run: Path) -> list[tuple[Any, ...]]:
    lines = lines_of(run / "completions.jsonl")
    return [(x["step"], x["slot"], x["draw"], x["number"], x["id"], x["text"], x["reward"]) for x in lines]


def adapter_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "last" / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("per_rollout", [1, 2])
def test_a_run_that_was_stopped_and_resumed_is_the_one_that_was_not(
    recipe: Callable[..., Any], tmp_path: Path, per_rollout: int
) -> None:
    """The same prompts, completions, rewards, adapter, scale of the reward and reference."""
    node = stage(updates_per_rollout=per_rollout, beta=0.1, rollout={"max_draws": 2})
    whole = recipe(run_dir=str(tmp_path / "whole"), stage=node)
    train(whole)
    first = recipe(run_dir=str(tmp_path / "parts"), stage=node, **{"trainer.max_steps": 2})
    train(first)
    rest = recipe(run_dir=str(tmp_path / "parts"), stage=node, resume="last")
    train(rest)
    assert completions_of(tmp_path / "parts") == completions_of(tmp_path / "whole")
    assert {step for step, *_ in completions_of(tmp_path / "whole")} == set(range(1, 7, per_rollout))
    one, two = (lines_of(tmp_path / name / "updates.jsonl") for name in ("whole", "parts"))
    for line in (*one, *two):
        del line["rollout_seconds"]
    assert one == two
    wanted = adapter_of(tmp_path / "whole")
    assert all(torch.equal(value, wanted[name]) for name, value in adapter_of(tmp_path / "parts").items())
    assert one[-1]["kl"] > 0


def test_a_request_to_stop_during_a_rollout_ends_the_run_after_its_updates(
    recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rare = {"stage": stage(updates_per_rollout=2), "trainer.checkpoint_every": 6}
    train(recipe(run_dir=str(tmp_path / "whole"), **rare))
    own = Roller.roll_out

    def asked(self: Roller, number: int, rank: int) -> Any:
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return own(self, number, rank)

    monkeypatch.setattr(Roller, "roll_out", asked)
    with pytest.raises(Stopped):
        train(recipe(run_dir=str(tmp_path / "parts"), **rare))
    monkeypatch.setattr(Roller, "roll_out", own)
    assert checkpoint_steps(tmp_path / "parts") == [4]
    train(recipe(run_dir=str(tmp_path / "parts"), resume="last", **rare))
    assert completions_of(tmp_path / "parts") == completions_of(tmp_path / "whole")
    wanted = adapter_of(tmp_path / "whole")
    assert all(torch.equal(value, wanted[name]) for name, value in adapter_of(tmp_path / "parts").items())


@pytest.mark.parametrize("per_rollout", [1, 2])
def test_the_guard_stops_a_run_with_a_checkpoint_between_rollouts(
    recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_rollout: int
) -> None:
    """Trouble is told once: a run that resumes goes on."""

    def trouble(self: Guard) -> dict[str, str]:
        return {"reward": "trouble"} if self.recent.get("reward") else {}

    monkeypatch.setattr(Guard, "_trouble", trouble)
    settings = {"stage": stage(guard="stop", updates_per_rollout=per_rollout), "trainer.checkpoint_every": 6}
    with pytest.raises(RuntimeError, match=rf"stage\.guard=stop: trouble .* checkpoint of update {per_rollout}\)"):
        train(recipe(**settings))
    assert checkpoint_steps(tmp_path / "run") == [per_rollout]
    train(recipe(**settings, resume="last"))
    assert [line["step"] for line in lines_of(tmp_path / "run" / "updates.jsonl")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("then", "now"), [(1, 2), (2, 1)])
def test_a_run_resumes_with_as_many_updates_on_a_rollout(recipe: Callable[..., Any], then: int, now: int) -> None:
    """With another number, prompts would come twice or never."""
    train(recipe(stage=stage(updates_per_rollout=then), **{"trainer.max_steps": 2}))
    with pytest.raises(ConfigError, match=f"stage.updates_per_rollout was {then}, now it is {now}"):
        train(recipe(stage=stage(updates_per_rollout=now), resume="last"))


def test_the_share_of_a_reason_is_that_of_all_updates_since_the_line_before(
    recipe: Callable[..., Any], tmp_path: Path
) -> None:
    """A reason that was not given in an update counts as 0 there."""
    rare = RewardConfig({"rare": {"_target_": "tests.geotune.rl.hashed.Rare"}})
    train(recipe(stage=stage(reward=rare), **{"trainer.log_every": 6}))
    shares = [line.get("reason_rare", 0.0) for line in lines_of(tmp_path / "run" / "updates.jsonl")]
    assert 0 < sum(map(bool, shares)) < len(shares)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert float(row["train/reason_rare"]) == pytest.approx(sum(shares) / len(shares))


def in_two_processes(config: Any, folder: Path, **environment: str) -> None:
    from omegaconf import OmegaConf

    OmegaConf.save(config, folder / "several.yaml")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(geotune.__file__).parents[1])}
    command = [sys.executable, __file__, str(folder / "several.yaml")]
    children = [
        subprocess.Popen(
            command,
            env=os.environ | shared | environment | {"LOCAL_RANK": str(rank), "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    try:
        for child in children:
            output, _ = child.communicate(timeout=180)
            assert child.returncode == 0, output.decode()
    finally:
        for child in children:
            child.kill()


def test_two_ranks_are_one(recipe: Callable[..., Any], tmp_path: Path) -> None:
    node = stage(loss="dapo", rollout={"max_draws": 2})
    alone = recipe(run_dir=str(tmp_path / "alone"), stage=node, **{"trainer.accumulate": 4})
    train(alone)
    several = recipe(run_dir=str(tmp_path / "several"), stage=node, **{"trainer.devices": 2})
    in_two_processes(several, tmp_path)
    one, two = (lines_of(tmp_path / name / "updates.jsonl") for name in ("alone", "several"))
    assert [line["ids"] for line in two] == [line["ids"] for line in one]
    for name in ("reward", "loss", "entropy", "length", "dead_groups"):
        assert [line[name] for line in two[:2]] == pytest.approx([line[name] for line in one[:2]], rel=1e-3), name
    wanted = adapter_of(tmp_path / "alone")
    for name, value in adapter_of(tmp_path / "several").items():
        torch.testing.assert_close(value, wanted[name], atol=2e-3, rtol=0)


def test_an_update_without_live_groups_changes_no_weight_under_zero_2(
    recipe: Callable[..., Any], tmp_path: Path
) -> None:
    """DeepSpeed steps with gradients of its own: zeros, by which momentum and decay would still move the weights."""
    fading = RewardConfig({"fading": {"_target_": "tests.geotune.rl.hashed.Fading", "first": 32}})
    several = recipe(
        stage=stage(reward=fading, weight_decay=0.5),
        **{"trainer.devices": 2, "trainer.strategy": "deepspeed_zero2", "trainer.max_steps": 4},
        **{"trainer.checkpoint_every": 1, "trainer.keep_last": 9, "trainer.log_every": 1},
    )
    in_two_processes(several, tmp_path, DS_ACCELERATOR="cpu")
    run = tmp_path / "run"
    assert [line["empty_updates"] for line in lines_of(run / "updates.jsonl")] == [0, 0, 1, 1]
    kept = [load_file(next((run / "checkpoints").glob(f"step_{n:06d}/adapter/*.safetensors"))) for n in range(1, 5)]
    assert any(not torch.equal(value, kept[1][name]) for name, value in kept[0].items())
    for later in kept[2:]:
        assert all(torch.equal(value, later[name]) for name, value in kept[1].items())
    with (run / "metrics.csv").open(newline="") as file:
        assert [float(row["train/lr"]) for row in csv.DictReader(file)] == [0.01] * 4


def test_an_image_that_breaks_in_mid_run(
    recipe: Callable[..., Any], city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place of its sample is filled by another prompt if it may, else left empty; the run goes on and says so."""
    import shutil

    from geotune.stages.grpo import GRPO

    own_city = tmp_path / "city"

    def cut(self: Any) -> None:
        for view in range(1, 6):
            file = own_city / f"view{view}.png"
            file.write_bytes(file.read_bytes()[:100])

    monkeypatch.setattr(GRPO, "on_train_start", cut)
    settings = {"data.path": str(own_city), "data.max_bad_samples": 99, "trainer.max_steps": 3}
    for draws in (1, 4):
        run = tmp_path / f"run{draws}"
        shutil.copytree(city[0], own_city, dirs_exist_ok=True)
        train(recipe(run_dir=str(run), stage=stage(rollout={"max_draws": draws}), **settings))
        lines = lines_of(run / "updates.jsonl")
        assert [line["step"] for line in lines] == [1, 2, 3]
        listed = {line["id"] for line in lines_of(run / "bad_samples.jsonl")}
        assert listed
        assert not listed & {sample for line in lines for sample in line["ids"]}
    few, many = (sum(len(x["ids"]) for x in lines_of(tmp_path / f"run{d}" / "updates.jsonl")) for d in (1, 4))
    assert few < many


def test_a_term_that_fails_ends_the_run(recipe: Callable[..., Any]) -> None:
    broken = RewardConfig({"broken": {"_target_": "tests.geotune.rl.hashed.Broken"}})
    with pytest.raises(RewardError, match="the term broken of the reward failed for the sample city/"):
        train(recipe(stage=stage(reward=broken)))


def test_a_rollout_that_does_not_fit_is_told_with_what_to_lower(
    recipe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("geotune.rl.rollout.sample_completions", full)
    with pytest.raises(ConfigError, match=r"stage\.rollout\.batch_size=64: .* in the memory of cpu; lower it"):
        train(recipe(stage=stage()))


def test_a_sample_that_no_answer_can_be_compared_with_is_refused(recipe: Callable[..., Any]) -> None:
    geodesic = RewardConfig({"km": {"_target_": "geotune.rl.terms.Geodesic"}})
    with pytest.raises(ConfigError, match=r"stage\.reward\.terms\.km: can't judge answers to the sample city/"):
        train(recipe(stage=stage(reward=geodesic)))


@pytest.mark.parametrize(
    ("terms", "changes", "message"),
    [
        ({"km": {"kernel": "steps"}}, {}, "the kernel steps is not positive definite"),
        ({"km": {}, "hit": {}}, {}, "the term accuracy pays for the single most probable answer"),
        ({"hit": {}}, {}, "the reward has no geodesic term"),
        ({"km": {"weight": 0}, "size": {}}, {}, "the reward has no geodesic term with a weight above 0"),
    ],
)
def test_a_spread_that_would_not_be_honest_is_refused(
    recipe: Callable[..., Any], terms: dict[str, dict[str, Any]], changes: dict[str, Any], message: str
) -> None:
    kinds = {name: f"geotune.rl.terms.{kind}" for name, kind in (("km", "Geodesic"), ("hit", "Accuracy"))}
    kinds["size"] = "geotune.rl.terms.Length"
    reward = RewardConfig({name: {"_target_": kinds[name], **options} for name, options in terms.items()})
    with pytest.raises(ConfigError, match=f"stage.spread=1.0: .*{message}"):
        train(recipe(stage=stage(reward=reward, spread=1.0, **changes)))


def test_completions_and_figures_are_in_wandb(recipe: Callable[..., Any], tmp_path: Path) -> None:
    settings = {"wandb.mode": "offline", "trainer.max_steps": 4, "trainer.log_every": 1}
    train(recipe(stage=stage(kept_groups=1), **settings))
    run = tmp_path / "run"
    logged = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in wandb_records(run)
        if record.WhichOneof("record_type") == "history"
    ]
    figures = [row["train/reward"] for row in logged if "train/reward" in row]
    assert figures == pytest.approx([line["reward"] for line in lines_of(run / "updates.jsonl")])
    tables = [row for row in logged if "train/completions/path" in row]
    assert [row["train/completions/nrows"] for row in tables] == [4, 4]
    files = next(run.glob("wandb/offline-run-*/files"))
    table = json.loads((files / tables[0]["train/completions/path"]).read_text())
    at = {name: number for number, name in enumerate(table["columns"])}
    kept = [line for line in lines_of(run / "completions.jsonl") if line["step"] == 2]
    assert [row[at["completion"]] for row in table["data"]] == [line["text"] for line in kept]
    assert [row[at["reward"]] for row in table["data"]] == pytest.approx([line["reward"] for line in kept])


def test_a_table_that_fails_does_not_end_the_run(
    recipe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def broken(path: Path) -> None:
        raise BadRecord("", "the image broke meanwhile")

    monkeypatch.setattr("geotune.training.completions.load_image", broken)
    train(recipe(stage=stage(), **{"wandb.mode": "offline", "trainer.max_steps": 2}))
    assert "update 2: W&B gets no table of completions" in caplog.text
    assert len(lines_of(tmp_path / "run" / "updates.jsonl")) == 2


def test_a_dry_run_shows_a_group_with_its_rewards(recipe: Callable[..., Any], capsys: Any) -> None:
    train(recipe(stage=stage(), dry_run=True, run_dir=None))
    _, _, shown = capsys.readouterr().out.partition("# Completions of city/")
    assert len(shown.splitlines()) == 5
    assert shown.count("reward 0.") == 4


if __name__ == "__main__":
    from omegaconf import OmegaConf

    ragged_stops(setattr)
    if "DS_ACCELERATOR" in os.environ:
        deepspeed_on_the_cpu()
    train(OmegaConf.load(sys.argv[1]))  # type: ignore[arg-type]
