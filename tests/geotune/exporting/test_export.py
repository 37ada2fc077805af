"""Exported folders are the checkpoint's model to anyone who loads them, or they do not exist."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file

from geotune.encoding.collate import collate
from geotune.errors import ConfigError
from geotune.export import main
from geotune.exporting import export as exporter
from geotune.exporting.model_card import evaluation_text
from geotune.inference.loading import evaluation_of, find_source, open_backbone
from geotune.locate import tell_radii
from geotune.runs.directory import find_evaluation
from geotune.sample import Sample
from geotune.train import train

City = tuple[Path, list[Sample]]
TrainTwo = Callable[..., Path]
FAMILIES = ("qwen", "internvl")
FILE = "model.safetensors"


@pytest.fixture
def train_two(recipe: Callable[..., Any], tmp_path: Path) -> TrainTwo:
    """`train_two("qwen", **{"backbone.tower": "lora"})`: the folder of a run of two updates."""

    def run(family: str = "qwen", **changes: Any) -> Path:
        train(recipe(family, **{"trainer.max_steps": 2, "stage.warmup": 0, **changes}))
        return tmp_path / "run"

    return run


def export(run: Path, out: Path, *more: str) -> dict[str, Any]:
    assert main([f"checkpoint={run}", f"out={out}", *more]) == 0
    report: dict[str, Any] = json.loads((out / "export_report.json").read_text())
    return report


def left_over(out: Path) -> list[str]:
    """Names in the folder that holds `out`, hidden ones too."""
    return sorted(path.name for path in out.parent.iterdir())


def ours(run: Path, city: City) -> torch.Tensor:
    """Logits of the checkpoint at the positions of an answer, in float32."""
    folder, samples = city
    backbone = open_backbone(find_source(str(run)))
    with torch.no_grad():
        logits: torch.Tensor = backbone(collate([backbone.encode(samples[1].in_folder(folder))], backbone.encoder))
    return logits


def plain_logits(model: Any, files: Path, city: City) -> torch.Tensor:
    """The same logits by transformers alone, with the tokenizer, template and image processor in `files`."""
    from transformers import AutoTokenizer
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    folder, samples = city
    sample = samples[1]
    qwen = model.config.model_type == "qwen2_5_vl"
    tokenizer = AutoTokenizer.from_pretrained(files)
    images = [Image.open(folder / name) for name in sample.images]
    processor = (Qwen2VLImageProcessorPil if qwen else GotOcr2ImageProcessorPil).from_pretrained(files)
    pixels = processor(images=images, return_tensors="pt")
    question = sample.turns[0].text.removeprefix("<image>\n" * len(images))
    content = [{"type": "image"} for _ in images]
    # Qwen's template writes no line break after an image, InternVL's does.
    text = [{"type": "text", "text": f"\n{question}" if qwen else question}]
    parts = [part for image in content for part in (image, {"type": "text", "text": "\n"})][:-1] if qwen else content
    messages = [
        {"role": "system", "content": [{"type": "text", "text": sample.system}]},
        {"role": "user", "content": [*parts, *text]},
    ]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if qwen:
        counts = [int(grid.prod()) // 4 for grid in pixels["image_grid_thw"]]
        mark, opening, closing = "<|image_pad|>", "", ""
    else:
        counts = [4 * int(tiles) for tiles in pixels.pop("num_patches")]
        mark, opening, closing = "<IMG_CONTEXT>", "<img>", "</img>"
    pieces = prompt.split(mark)
    prompt = pieces[0] + "".join(opening + mark * n + closing + p for n, p in zip(counts, pieces[1:], strict=True))
    answer = tokenizer(sample.turns[1].text + "<|im_end|>", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"] + answer])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **pixels}
    if qwen:
        inputs["mm_token_type_ids"] = (ids == tokenizer.convert_tokens_to_ids(mark)).int()
    with torch.no_grad():
        return model(**inputs).logits[0, -len(answer) - 1 : -1]


@pytest.mark.parametrize("family", FAMILIES)
def test_both_folders_load_with_transformers_and_peft_alone(
    train_two: TrainTwo, tmp_path: Path, city: City, family: str
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    run = train_two(family)
    report = export(run, tmp_path / "new" / "out", "dtype=float32")
    adapter, merged = tmp_path / "new" / "out" / "adapter", tmp_path / "new" / "out" / "merged"
    assert left_over(adapter) == ["adapter", "export_report.json", "merged"]
    assert report["folders"] == ["adapter", "merged"]
    assert [check["subject"] for check in report["self_test"]] == ["merged weights", "folder merged", "folder adapter"]
    assert all(check["passed"] and check["same_answers"] for check in report["self_test"])
    assert report["adapter_effect"] > 1e-2, "a test of adapters that change nothing shows nothing"

    wanted = ours(run, city)
    base = AutoModelForImageTextToText.from_pretrained(report["base_model"], dtype=torch.float32).eval()
    assert (plain_logits(base, adapter, city) - wanted).abs().max() > 0.05
    whole = AutoModelForImageTextToText.from_pretrained(merged, dtype="auto").eval()
    torch.testing.assert_close(plain_logits(whole, merged, city), wanted, atol=1e-4, rtol=1e-4)
    named = json.loads((adapter / "adapter_config.json").read_text())
    base = AutoModelForImageTextToText.from_pretrained(named["base_model_name_or_path"], dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, adapter).eval()
    torch.testing.assert_close(plain_logits(adapted, adapter, city), wanted, atol=1e-4, rtol=1e-4)

    for folder in (adapter, merged):
        names = {path.name for path in folder.iterdir()}
        assert {"processor_config.json", "tokenizer.json", "chat_template.jinja", "README.md", "recipe.yaml"} <= names
    assert "geotune" not in (merged / "config.json").read_text(), "names nothing that only this project has"
    if family == "internvl":
        return
    # vLLM: every tensor on the language model, last parts of names those of its layers, no tensors but LoRA's.
    assert report["vllm"] == {"serves_adapter": True, "reason": None, "rank": 8}
    for key in load_file(adapter / "adapter_model.safetensors"):
        assert key.startswith("base_model.model.model.language_model.layers."), key
        assert key.split(".")[-2:] in (["lora_A", "weight"], ["lora_B", "weight"]), key
    assert isinstance(named["target_modules"], list)
    kinds = {name.rpartition(".")[2] for name in named["target_modules"]}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all(name.startswith("model.language_model.layers.") for name in named["target_modules"])
    assert named["modules_to_save"] is None
    assert named["bias"] == "none"


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_weights_are_rounded_once(train_two: TrainTwo, tmp_path: Path, city: City, family: str) -> None:
    from transformers import AutoModelForImageTextToText

    run = train_two(family)
    export(run, tmp_path / "exact", "dtype=float32")
    report = export(run, tmp_path / "out")
    rounded = next(check for check in report["self_test"] if check["subject"] == "rounded weights")
    assert 0 < rounded["difference"] < rounded["tolerance"]
    exact = load_file(tmp_path / "exact" / "merged" / "model.safetensors")
    half = load_file(tmp_path / "out" / "merged" / "model.safetensors")
    assert exact.keys() == half.keys()
    assert all(torch.equal(half[name], exact[name].bfloat16()) for name in exact)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out" / "merged", dtype="auto")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("family", "changes", "served", "reason"),
    [
        ("qwen", {"backbone.lora.use_rslora": True}, True, None),
        ("qwen", {"backbone.lora.use_dora": True}, False, "vLLM does not support DoRA"),
        (
            "internvl",
            {"backbone.tower": "lora", "backbone.projector": "lora"},
            False,
            "of 56 tensors lie elsewhere",
        ),
    ],
)
def test_kinds_of_adapters(
    train_two: TrainTwo,
    tmp_path: Path,
    city: City,
    family: str,
    changes: dict[str, Any],
    served: bool,
    reason: str | None,
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    run = train_two(family, **changes)
    report = export(run, tmp_path / "out", "dtype=float32")
    assert report["vllm"]["serves_adapter"] is served
    assert report["vllm"]["reason"] is None if reason is None else reason in report["vllm"]["reason"]
    base = AutoModelForImageTextToText.from_pretrained(report["base_model"], dtype=torch.float32)
    for model, folder in (
        (PeftModel.from_pretrained(base, tmp_path / "out" / "adapter"), "adapter"),
        (AutoModelForImageTextToText.from_pretrained(tmp_path / "out" / "merged"), "merged"),
    ):
        found = plain_logits(model.eval(), tmp_path / "out" / folder, city)
        torch.testing.assert_close(found, ours(run, city), atol=1e-4, rtol=1e-4)
    card = (tmp_path / "out" / "adapter" / "README.md").read_text()
    assert ("--enable-lora --max-lora-rank 8 " in card) is served
    assert reason is None or reason in card


@pytest.mark.parametrize("language_model", ["lora", "full"])
def test_weights_trained_in_full_are_exported_whole(
    train_two: TrainTwo, tmp_path: Path, city: City, language_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoModelForImageTextToText

    run = train_two(**{"backbone.projector": "full", "backbone.language_model": language_model})
    report = export(run, tmp_path / "out", "dtype=float32")
    assert report["folders"] == ["merged"]
    assert report["trained_in_full"] > 0
    assert left_over(tmp_path / "out" / "merged") == ["export_report.json", "merged"]
    assert "which no adapter holds" in caplog.text
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out" / "merged").eval()
    found = plain_logits(model, tmp_path / "out" / "merged", city)
    torch.testing.assert_close(found, ours(run, city), atol=1e-4, rtol=1e-4)


def test_a_backbone_in_four_bits_is_exported_on_its_own_weights(
    train_two: TrainTwo, tmp_path: Path, qwen_path: Path
) -> None:
    run = train_two()
    file = run / "checkpoints" / "last" / "config.yaml"
    tree = yaml.safe_load(file.read_text())
    tree["backbone"]["quantization"] = "nf4"  # its adapters have the same tensors
    file.write_text(yaml.safe_dump(tree))
    report = export(run, tmp_path / "out", "dtype=float32")
    assert report["quantization"] == "nf4"
    plain = load_file(qwen_path / "model.safetensors")
    merged = load_file(tmp_path / "out" / "merged" / "model.safetensors")
    name = next(name for name in plain if name.endswith("layers.0.self_attn.q_proj.weight"))
    assert merged[name].shape == plain[name].shape
    assert 0 < (merged[name] - plain[name]).abs().max() < 0.05
    assert "in four bits (nf4)" in (tmp_path / "out" / "adapter" / "README.md").read_text()


def test_a_folder_with_another_model_is_not_exported(
    train_two: TrainTwo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_two()
    out = tmp_path / "exports" / "out"
    whole = exporter.save_pretrained

    def spoil(file: Path) -> None:
        tensors = load_file(file)
        name = next(name for name in tensors if name.endswith(("q_proj.lora_B.weight", "q_proj.weight")))
        tensors[name] = torch.zeros_like(tensors[name])
        save_file(tensors, file, metadata={"format": "pt"})

    def save_adapter(backbone: Any, folder: Path) -> None:
        backbone.model.save_pretrained(str(folder), save_embedding_layers=False)
        spoil(folder / "adapter_model.safetensors")

    def save_pretrained(backbone: Any, folder: Path) -> None:
        whole(backbone, folder)
        spoil(folder / "model.safetensors")

    for name, replacement, subject in (
        ("save_adapter", save_adapter, "folder adapter and checkpoint"),
        ("save_pretrained", save_pretrained, "folder merged and weights written"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(exporter, name, replacement)
            with pytest.raises(RuntimeError, match=rf"self-test: {subject}: logits differ by .* Nothing was exported"):
                main([f"checkpoint={run}", f"out={out}"])
        assert left_over(out) == []


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one message of a command that ends with status 2."""
    capsys.readouterr()
    assert main(list(arguments)) == 2, arguments
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.partition("error: ")[2].strip()


def test_an_existing_folder_at_out_is_respected(
    train_two: TrainTwo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = train_two(), tmp_path / "exports" / "a b, (c)=d"
    out.mkdir(parents=True)  # an empty folder will do
    (out.parent / f".{out.name}.partial").mkdir()  # of an export that was killed
    first = export(run, out)
    assert refused(capsys, f"checkpoint={run}", f"out={out}") == (
        f"out={out}: holds an export already; set overwrite=true or name another folder"
    )

    def full_disk(backbone: Any, folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(exporter, "save_pretrained", full_disk)
        message = refused(capsys, f"checkpoint={run}", f"out={out}", "overwrite=true")
    assert "No space left on device" in message
    assert left_over(out) == [out.name]
    assert json.loads((out / "export_report.json").read_text()) == first, "the earlier export is still whole"
    out.rename(out.parent / f".{out.name}.old")  # killed between two renames
    assert "there is no such folder" in refused(capsys, "checkpoint=/nowhere/at/all", f"out={out}", "overwrite=true")
    assert json.loads((out / "export_report.json").read_text()) == first
    (out / "merged" / "stale").write_text("")
    export(run, out, "overwrite=true", "dtype=float32")
    assert left_over(out) == [out.name]
    assert not (out / "merged" / "stale").exists()

    (out / "export_report.json").unlink()
    message = refused(capsys, f"checkpoint={run}", f"out={out}", "overwrite=true")
    assert "holds files that are not an export" in message
    message = refused(capsys, f"checkpoint={run}", f"out={run / 'config.yaml'}")
    assert "this is a file" in message


def test_an_export_goes_where_a_link_leads(tmp_path: Path) -> None:
    """The folder alone is tested here, without a model."""
    (tmp_path / "disk" / "exports").mkdir(parents=True)
    (tmp_path / "out").symlink_to("disk/exports")
    (tmp_path / "new").symlink_to(tmp_path / "disk" / "new")
    (tmp_path / "parent").symlink_to(tmp_path / "disk")
    for name, place in (("out", "exports"), ("new", "new"), ("parent/below", "below")):
        for text in ("one", "two"):
            with exporter.replacing(str(tmp_path / name), overwrite=True) as folder:
                (folder / exporter.REPORT_FILE).write_text(text)
            assert (tmp_path / "disk" / place / exporter.REPORT_FILE).read_text() == text
    with pytest.raises(KeyError), exporter.replacing(str(tmp_path / "out"), overwrite=True) as folder:
        raise KeyError
    assert (tmp_path / "disk" / "exports" / exporter.REPORT_FILE).read_text() == "two"
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["below", "exports", "new"]
    assert all((tmp_path / name).is_symlink() for name in ("out", "new", "parent"))
    (tmp_path / "gone").symlink_to(tmp_path / "unmounted" / "run")
    for name in ("gone", "gone/out", "/proc"):
        with pytest.raises(ConfigError, match=r"^out="), exporter.replacing(str(tmp_path / name), overwrite=True):
            pass


def test_mistakes(
    train_two: TrainTwo,
    tmp_path: Path,
    internvl_path: Path,
    qwen_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, out = train_two(), tmp_path / "exports" / "out"
    step = run / "checkpoints" / "step_000002"
    assert f"checkpoint={tmp_path / 'no'}: there is no such folder" in refused(
        capsys, f"checkpoint={tmp_path / 'no'}", f"out={out}"
    )
    assert "holds no checkpoint of a run" in refused(capsys, f"checkpoint={qwen_path}", f"out={out}")
    assert "holds neither a complete checkpoint nor a model" in refused(capsys, f"checkpoint={tmp_path}", f"out={out}")
    assert "a internvl model" in refused(capsys, f"checkpoint={run}", f"out={out}", f"base_model={internvl_path}")
    assert refused(capsys, f"checkpoint={run}").startswith("out=")
    assert refused(capsys, f"out={out}").startswith("checkpoint=")
    moved = tmp_path / "moved"
    shutil.copytree(step, moved, symlinks=True)
    tree = yaml.safe_load((moved / "config.yaml").read_text())
    tree["backbone"]["path"] = "/nowhere/at/all"
    (moved / "config.yaml").write_text(yaml.safe_dump(tree))
    assert "give base_model=" in refused(capsys, f"checkpoint={moved}", f"out={out}")
    report = export(moved, out, f"base_model={qwen_path}")
    assert report["base_model"] == str(qwen_path.resolve())
    shutil.rmtree(out)
    (moved / "adapter" / "adapter_model.safetensors").write_bytes(b"torn")
    assert "adapter_model.safetensors: can't be read" in refused(
        capsys, f"checkpoint={moved}", f"out={out}", f"base_model={qwen_path}"
    )
    (moved / "state.json").unlink()
    assert "has no recipe.yaml" in refused(capsys, f"checkpoint={moved}", f"out={out}")
    assert left_over(out) == []


EVALUATION: dict[str, Any] = {
    "step": 2,
    "mean_accuracy": 0.61,
    "suites": {
        "geox": {
            "answer_mode": "explain_choice",
            "samples_per_second": 12.0,
            "mean_accuracy": 0.61,
            "mean_ci95": [0.57, 0.66],
            "tasks": {
                "pose_fixed": {"n": 1300, "accuracy": 0.583, "ci95": [0.52, 0.64], "chance": 0.25, "parse_rate": 1.0},
            },
        },
        "photos": {
            "answer_mode": "generate",
            "samples_per_second": 1.0,
            "n": 8,
            "coverage": 0.875,
            "acc@25km": 0.25,
            "median_km": 812.34,
            "geoscore": 2890.5,
            "answered_only": {"n": 7, "acc@25km": 2 / 7, "median_km": None},
            **{"draws": 16, "draw_temperature": 0.7, "radius_coverage_50": 0.375, "radius_coverage_90": 0.75},
        },
    },
}


RADII = "the 50% radius held the truth for 38% of the photos and the 90% radius for 75%"
FOLDERS = ("adapter", "merged")


def test_the_card_and_locate_say_what_was_measured(
    train_two: TrainTwo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = train_two()
    (run / "eval").mkdir(exist_ok=True)
    (run / "eval" / "step_000002.json").write_text(json.dumps(EVALUATION))
    report = export(run, tmp_path / "out")
    assert report["evaluation"] == EVALUATION
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text())
    recipe = (run / "checkpoints" / "last" / "config.yaml").read_text()
    for folder in FOLDERS:
        card = (tmp_path / "out" / folder / "README.md").read_text()
        head = yaml.safe_load(card.split("---\n")[1])
        assert head["library_name"] == {"adapter": "peft", "merged": "transformers"}[folder]
        assert head["base_model"] == report["base_model"]
        assert card.splitlines().count("| pose_fixed | 1,300 | 58.3% | 52.0% | 64.0% | 25.0% | 100.0% |") == 1
        assert "`photos`, answers by `generate`" in card
        assert "| median_km | 812.3 |  |" in card
        assert "| acc@25km | 25.0% | 28.6% |" in card
        assert "| radius_coverage_90 | 75.0% |  |" in card
        assert card.count(f"on `photos` (n=8) {RADII}, with 16 draws at temperature 0.7.") == 1
        assert f"Data fingerprint `{state['data_fingerprint']}`" in card
        assert recipe in card
        assert (tmp_path / "out" / folder / "recipe.yaml").read_text() == recipe
        assert "| folder merged | weights written | 0.0e+00 |" in card
    caplog.set_level("INFO")
    for named in (run, run / "checkpoints" / "step_000002", *(tmp_path / "out" / name for name in ("", *FOLDERS))):
        source = find_source(str(named))
        assert evaluation_of(source) == EVALUATION, named
        caplog.clear()
        tell_radii(OmegaConf.create({"samples": 16, "temperature": 0.7, "top_p": 1.0}), evaluation_of(source))
        assert caplog.messages == [f"radii: on photos (n=8) {RADII}, with 16 draws at temperature 0.7"]
    tell_radii(OmegaConf.create({"samples": 8, "temperature": 1.0, "top_p": 0.9}), EVALUATION)
    assert caplog.records[-1].levelname == "WARNING"
    assert "(samples=8 instead of 16, temperature=1 instead of 0.7, top_p=0.9 instead of 1)" in caplog.messages[-1]


def test_an_adapter_belongs_to_its_base_weights(
    train_two: TrainTwo, tmp_path: Path, qwen_path: Path, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    run, out, other = train_two(), tmp_path / "out", tmp_path / "other"
    shutil.copytree(qwen_path, other)
    tensors = {name: value * 2 if "mlp" in name else value for name, value in load_file(other / FILE).items()}
    save_file(tensors, other / FILE, metadata={"format": "pt"})
    more = [f"checkpoint={run}", f"base_model={other}", f"out={out}"]
    assert main(more) == 2
    assert "the base weights changed: values: " in capsys.readouterr().err
    assert not out.exists()
    report = export(run, out, f"base_model={other}", "allow_changes=[weights]")
    assert "the base weights changed" in caplog.text
    identity = json.loads((out / "adapter" / "identity.json").read_text())
    assert identity == report["identity"]
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text())
    assert identity["data"] == state["identity"]["data"]
    assert identity["weights"] != state["identity"]["weights"], "those that the adapter was tested on"
    for name in ("adapter", "merged"):
        card = (out / name / "README.md").read_text()
        assert f"| weights | values | {identity['weights']['values']} |" in card
        assert f"| data | images | {identity['data']['images']} |" in card
    adapter = find_source(str(out / "adapter"))
    open_backbone(adapter)
    with pytest.raises(ConfigError, match=r"checkpoint=.*the base weights changed.*allow_changes=\[weights\]"):
        open_backbone(adapter, path=str(qwen_path))
    open_backbone(adapter, path=str(qwen_path), allow_changes=["weights"])
    open_backbone(adapter, max_pixels=64 * 64)  # a size that a user gives is no difference
    open_backbone(find_source(str(out / "merged")))


def test_figures_of_another_step_are_not_used(tmp_path: Path) -> None:
    step = tmp_path / "checkpoints" / "step_000004"
    step.mkdir(parents=True)
    assert find_evaluation(step, 4) is None
    (tmp_path / "metrics.json").write_text(json.dumps(EVALUATION))
    assert find_evaluation(step, 4) is None
    assert find_evaluation(step, 2) == EVALUATION
    (tmp_path / "metrics.json").write_text(json.dumps({"step": 4, "train": {}}))
    assert find_evaluation(step, 4) is None, "the run had no evaluator"
    assert evaluation_text(None) == "This checkpoint has not been evaluated."


def test_the_tiny_default(tmp_path: Path, city: City) -> None:
    """The embedded backbone, through the command line, from the recipe to a located photo."""
    from geotune.locate import main as locate_main
    from geotune.train import main as train_main

    run, out = tmp_path / "run", tmp_path / "out"
    arguments = ["recipe=quickstart", f"run_dir={run}", f"data.path={city[0] / 'city.jsonl'}", "data.build=null"]
    arguments += ["evaluator=null", "trainer.max_steps=2", "data.batch_size=2", "wandb.mode=disabled"]
    assert train_main([*arguments, "trainer.accelerator=cpu"]) == 0
    report = export(run, out)
    assert all(check["passed"] for check in report["self_test"])
    assert sum(file.stat().st_size for file in (out / "merged").iterdir()) < 10e6
    photo = tmp_path / "photo.jpg"
    Image.fromarray(np.full((60, 80, 3), 90, dtype=np.uint8)).save(photo)
    for checkpoint in (run, out, out / "merged"):
        assert locate_main([f"checkpoint={checkpoint}", f"image={photo}", "samples=2", "max_new_tokens=8"]) == 0
