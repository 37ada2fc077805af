"""Two processes do what one does: losses, checkpoints and resumption under each strategy.

DeepSpeed's own engine runs here on its CPU accelerator (https://www.deepspeed.ai/tutorials/accelerator-setup-guide),
which Lightning and this project refuse: `deepspeed_on_the_cpu` takes that out.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import geotune
from geotune.backbones.placement import Placement, shard
from geotune.config.composing import compose
from geotune.config.training import Strategy
from geotune.errors import ConfigError
from geotune.runs.directory import read_state
from geotune.sample import Sample
from geotune.train import train
from geotune.training import strategies
from geotune.training.strategies import ZERO, BackbonePrecision, prepare, strategy_from
from geotune.training.trainer import trainer_from

City = tuple[Path, list[Sample]]
BROKEN = "view3.png"
CLIP = 0.1


def lines_of(run: Path, name: str = "updates.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def in_processes(count: int, folder: Path, configs: list[Any], **environment: str) -> None:
    """Train each config in turn in so many processes."""
    from omegaconf import OmegaConf

    files = []
    for number, config in enumerate(configs):
        files.append(str(folder / f"config{number}.yaml"))
        OmegaConf.save(config, files[-1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared["OMP_NUM_THREADS"] = "1"
    paths = [str(Path(geotune.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    shared["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    children = [
        subprocess.Popen(
            [sys.executable, __file__, *files],
            env=os.environ | shared | environment | {"LOCAL_RANK": str(rank), "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(count)
    ]
    try:
        outputs = [child.communicate(timeout=240)[0].decode() for child in children]
    finally:
        for child in children:
            child.kill()
    with (folder / "failed.txt").open("a") as file:
        for process, output in zip(children, outputs, strict=True):
            if process.returncode:
                file.write(f"exit {process.returncode}\n{output}\n")


def child() -> None:
    """What each of the two processes does."""
    from omegaconf import OmegaConf

    from geotune.backbones import output_head
    from geotune.stages.sft import SFT

    torch.set_num_threads(1)
    output_head.CHUNK_TOKENS = 16  # several chunks in every micro-batch, unlike the runs alone
    if "DS_ACCELERATOR" in os.environ:
        deepspeed_on_the_cpu()
    own = SFT.on_train_start

    def cut(self: Any) -> None:
        own(self)
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero and "broken" in str(self.progress.run_dir):
            file = Path(self.trainer.datamodule.dataset.samples[0].images[0]).parent / BROKEN
            file.write_bytes(file.read_bytes()[:100])
        self.trainer.strategy.barrier()

    SFT.on_train_start = cut  # type: ignore[method-assign]
    for file in sys.argv[1:]:
        train(OmegaConf.load(file))  # type: ignore[arg-type]


def deepspeed_on_the_cpu() -> None:
    """Let a run with a DeepSpeed strategy and accelerator=cpu begin."""
    import deepspeed.comm  # noqa: F401
    import lightning.pytorch.strategies.deepspeed as upstream
    from lightning.pytorch.accelerators import CPUAccelerator

    upstream.CUDAAccelerator = CPUAccelerator  # type: ignore[misc,assignment]
    upstream._validate_device_index_selection = lambda devices: None
    upstream.DeepSpeedStrategy.root_device = property(lambda _: torch.device("cpu", 0))  # type: ignore[assignment]
    # Would compile a kernel for the processes of one machine; gloo does as well. The attribute `deepspeed.comm.torch`
    # is PyTorch itself, not this module.
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    strategies.check_strategy = lambda name, **_: None  # type: ignore[assignment]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


SETTINGS: dict[str, Any] = {
    "seed": 3,
    "backbone.dtype": "float32",
    "trainer.max_steps": 4,
    "trainer.log_every": 1,
    "trainer.keep_last": 9,
    "stage.clip_norm": CLIP,
}


@pytest.fixture
def two(recipe: Callable[..., Any], city: City, runs: Path) -> Path:
    """The folder of all runs: alone and in two processes, made once."""
    if (runs / "failed.txt").exists():
        return runs
    own, other = (shutil.copytree(city[0], runs / name) for name in ("broken_city", "another_broken_city"))
    alone = {"data.batch_size": 4}
    several = {"trainer.devices": 2, "trainer.strategy": "fsdp2"}
    full = {"backbone.language_model": "full", "backbone.gradient_checkpointing": True}

    def config(name: str, *settings: dict[str, Any], **more: Any) -> Any:
        merged: dict[str, Any] = {**SETTINGS}
        for setting in settings:
            merged |= setting
        return recipe("internvl" if "full" in name else "qwen", run_dir=str(runs / name), **merged, **more)

    train(config("alone", alone))
    train(config("alone_full", alone, full))
    broken = {**several, "trainer.strategy": "ddp", "data.path": str(own)}
    resumed = {"resume": str(runs / "fsdp2" / "checkpoints" / "step_000002")}
    in_processes(
        2,
        runs,
        [
            config("ddp", {**several, "trainer.strategy": "ddp"}),
            config("fsdp2", several),
            config("fsdp2_again", several, resumed),
            config("ddp_broken", broken),
            config("fsdp2_full", several, full),
        ],
    )
    zero = {name: {**several, "trainer.strategy": name} for name in ZERO}
    again = {name: {"resume": str(runs / name / "checkpoints" / "step_000002")} for name in ZERO}
    in_processes(
        2,
        runs,
        [
            *(config(name, zero[name]) for name in ZERO),
            *(config(f"{name}_again", zero[name], again[name]) for name in ZERO),
            config("deepspeed_zero2_broken", zero["deepspeed_zero2"], {"data.path": str(other)}),
        ],
        DS_ACCELERATOR="cpu",
    )
    return runs


def same_updates(one: Path, other: Path) -> None:
    first, second = lines_of(one), lines_of(other)
    assert [(u["step"], u["ids"], u["targets"]) for u in first] == [(u["step"], u["ids"], u["targets"]) for u in second]
    assert [u["loss"] for u in second] == pytest.approx([u["loss"] for u in first], rel=1e-4)
    norms = [[float(row["train/grad_norm"]) for row in metrics_of(run)] for run in (one, other)]
    assert min(norms[0]) > CLIP, "every update is clipped"
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)


def metrics_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def tensors_of(run: Path, step: int = 4) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step_{step:06d}"
    return load_file(next(folder.glob("*/*.safetensors")))


def test_both_processes_end_well(two: Path) -> None:
    assert (two / "failed.txt").read_text() == ""


@pytest.mark.parametrize(
    ("name", "alone"),
    [("ddp", "alone"), ("fsdp2", "alone"), ("fsdp2_full", "alone_full"), *((name, "alone") for name in ZERO)],
)
def test_two_processes_train_as_one(two: Path, name: str, alone: str) -> None:
    same_updates(two / alone, two / name)
    wanted, found = tensors_of(two / alone), tensors_of(two / name)
    assert wanted.keys() == found.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, atol=2e-3, rtol=1e-2, msg=lambda m, n=key: f"{n}: {m}")


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_a_checkpoint_holds_adapters_and_optimizer_state_alone(two: Path, name: str) -> None:
    folder = two / name / "checkpoints" / "step_000004"
    names = {path.name for path in folder.iterdir()}
    assert names == {"adapter", "processor", "config.yaml", "state.json", "trainer.pt", "rng_0.pt", "rng_1.pt"}
    adapter = tensors_of(two / name)
    assert all(".lora_" in key for key in adapter)
    optimizer = torch.load(folder / "trainer.pt", weights_only=True)["optimizer"]
    moments = sum(t.numel() for state in optimizer["state"].values() for t in state.values() if t.ndim)
    assert moments == 2 * sum(value.numel() for value in adapter.values())


@pytest.mark.parametrize("name", ["fsdp2", *ZERO])
def test_a_run_of_two_processes_resumes(two: Path, name: str) -> None:
    assert lines_of(two / f"{name}_again") == lines_of(two / name)[2:]
    a, b = tensors_of(two / name), tensors_of(two / f"{name}_again")
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", ZERO)
def test_deepspeeds_checkpoint_holds_no_frozen_weight(two: Path, name: str) -> None:
    folder = two / name / "checkpoints" / "step_000004"
    files = {path.name: path.stat().st_size for path in (folder / "deepspeed").rglob("*.pt")}
    assert sum("optim_states" in file for file in files) == 2, "one of each process"
    adapters = sum(value.numel() for value in tensors_of(two / name).values())
    # Weights once or twice, and in float32 master weights and two moments.
    assert 3 * 4 * adapters < sum(files.values()) < 6 * 4 * adapters + 100_000
    with pytest.raises(ConfigError, match=r"optimizer state is deepspeed.*replicated"):
        Placement().load_optimizer(None, folder, {"placement": "deepspeed"})  # type: ignore[arg-type]


def test_another_strategys_optimizer_state_is_refused(two: Path, recipe: Callable[..., Any], tmp_path: Path) -> None:
    settings = {**SETTINGS, "data.batch_size": 4, "resume": str(two / "fsdp2" / "checkpoints" / "step_000002")}
    with pytest.raises(ConfigError, match=r"resume=.*optimizer state is fsdp2.*replicated"):
        train(recipe(run_dir=str(tmp_path / "on"), **settings))


def test_an_image_broken_for_both_ranks(two: Path, city: City) -> None:
    """The rank that does not hold the sample divides by the same count."""
    run = two / "ddp_broken"
    updates, whole = lines_of(run), lines_of(two / "alone")
    images = {sample.id: sample.images for sample in city[1]}
    hit = [u for u in updates if any(BROKEN in images[sample] for sample in u["ids"])]
    assert hit
    assert [u for u in updates if "left_out" in u] == hit
    for update, planned in zip(updates, whole, strict=True):
        wrong = sorted(sample for sample in update["ids"] if BROKEN in images[sample])
        assert update["ids"] == planned["ids"]
        assert update.get("left_out", []) == wrong
        assert (update["targets"] < planned["targets"]) == bool(wrong)
    listed = {line["id"] for line in lines_of(run, "bad_samples.jsonl")}
    assert listed == set(read_state(run / "checkpoints" / "last").left_out)


def test_deepspeed_scales_the_gradient_of_what_is_left(two: Path) -> None:
    """Its way to the gradients is another one; the image is the one that is broken for `ddp_broken`."""
    found, wanted = lines_of(two / "deepspeed_zero2_broken"), lines_of(two / "ddp_broken")
    assert any("left_out" in update for update in wanted)
    assert [u.get("left_out") for u in found] == [u.get("left_out") for u in wanted]
    same_updates(two / "ddp_broken", two / "deepspeed_zero2_broken")


# --- what a strategy can't do, and what it is made of ---


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["trainer=fsdp2"], "set evaluator=null"),
        (["trainer=deepspeed_zero3_offload"], "set evaluator=null"),
        (["trainer=fsdp2", "evaluator=null", "backbone.tower=lora"], "backbone.tower=frozen"),
        (["trainer=fsdp2", "evaluator=null", "backbone.quantization=nf4"], "backbone.quantization=null"),
        (["trainer=deepspeed_zero2", "stage.optimizer=muon"], "stage.optimizer=muon"),
        (["trainer=ddp", "trainer.num_nodes=0"], "trainer.num_nodes=0"),
        (["data.max_bad_samples=-1"], "data.max_bad_samples=-1"),
    ],
)
def test_combinations_that_can_not_be(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("train", ["recipe=quickstart", *overrides])
    assert told in str(caught.value)


@pytest.mark.parametrize("strategy", Strategy.__args__[1:])  # type: ignore[attr-defined]
def test_every_strategy_is_a_trainer(strategy: str) -> None:
    cfg = compose("train", ["recipe=quickstart", "evaluator=null", f"trainer={strategy}", "trainer.num_nodes=2"])
    assert (cfg.trainer.strategy, cfg.trainer.num_nodes) == (strategy, 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_deepspeed_without_cuda(recipe: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.strategy=deepspeed_zero2: needs CUDA"):
        trainer_from(recipe(**{"trainer.strategy": "deepspeed_zero2", "trainer.devices": 2}), [], vision_trains=False)


def test_deepspeed_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(ConfigError, match=r"needs deepspeed.*geotune\[gpu\]"):
        strategy_from("deepspeed_zero2", vision_trains=False, clip_norm=1.0, cpu=False)


def test_deepspeed_leaves_dtypes_and_batches_alone(load_tiny: Callable[..., Any], city: City) -> None:
    """Lightning's own plugin would make frozen weights float32, and can't take a batch that is a frozen dataclass."""
    from geotune.encoding.collate import collate

    backbone = load_tiny("qwen", dtype="bf16")
    batch = collate([backbone.encode(city[1][0].in_folder(city[0]))], backbone.encoder)
    plugin = BackbonePrecision("32-true")
    assert plugin.convert_input(batch) is batch
    before = {name: p.dtype for name, p in backbone.named_parameters()}
    assert {name: p.dtype for name, p in plugin.convert_module(backbone).named_parameters()} == before
    assert set(before.values()) == {torch.bfloat16, torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["auto", "ddp", "fsdp2", *ZERO])
def test_a_strategy_on_gpus(name: str, recipe: Callable[..., Any], tmp_path: Path) -> None:
    """On one GPU, or on two where there are two: starts, steps and resumes."""
    devices = 1 if name == "auto" else min(2, torch.cuda.device_count())
    settings = SETTINGS | {"trainer.accelerator": "gpu", "trainer.devices": devices, "trainer.strategy": name}
    resumed = {"resume": str(tmp_path / "whole" / "checkpoints" / "step_000002")}
    configs = [
        recipe(run_dir=str(tmp_path / "whole"), **settings),
        recipe(run_dir=str(tmp_path / "again"), **settings, **resumed),
    ]
    in_processes(devices, tmp_path, configs, CUBLAS_WORKSPACE_CONFIG=":4096:8")
    assert (tmp_path / "failed.txt").read_text() == ""
    whole, again = lines_of(tmp_path / "whole")[2:], lines_of(tmp_path / "again")
    assert [line["ids"] for line in again] == [line["ids"] for line in whole]
    assert [line["loss"] for line in again] == pytest.approx([line["loss"] for line in whole], rel=1e-4)


def test_zero3_needs_an_image_in_every_sample(load_tiny: Callable[..., Any], city: City) -> None:
    from dataclasses import replace

    backbone = load_tiny("qwen")
    prepare("deepspeed_zero3_offload", backbone, city[1])
    blind = replace(city[1][0], images=())
    prepare("deepspeed_zero2", backbone, [blind])
    with pytest.raises(ConfigError, match=r"sample city/0 has no image"):
        prepare("deepspeed_zero3_offload", backbone, [blind])


def test_fsdp2_can_not_spread_a_tensor_that_is_two(load_tiny: Callable[..., Any]) -> None:
    backbone = load_tiny("qwen", language_model="full")
    with pytest.raises(ConfigError, match=r"trainer\.strategy=fsdp2: embeddings and output head .* are one tensor"):
        shard(backbone, None)  # type: ignore[arg-type]


if __name__ == "__main__":
    child()
