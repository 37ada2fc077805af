"""One interface for every family of vision-language models: load, encode and forward."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from safetensors import SafetensorError
from torch import nn

from geotune.backbones.adapters import Parts, apply_scopes, full_state, merged, trainable_summary
from geotune.backbones.quantization import quantize_language_model
from geotune.backbones.tree_attention import TreeMask, use_tree_attention
from geotune.config.training import QUANTIZED_FULL, LoraConfig, Scope
from geotune.encoding.collate import Batch
from geotune.encoding.encoder import Encoder
from geotune.encoding.segments import Encoded
from geotune.errors import ConfigError, first_line
from geotune.system.cache import LruBytes

if TYPE_CHECKING:
    from geotune.sample import Sample

DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}
FEATURE_CACHE_BYTES = 256 * 2**20
"""Features of images kept while tower and projector do not change."""


def _tensor_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class Backbone(nn.Module):
    """One vision-language model with its encoder and adapters.

    `model` is the Hugging Face model, wrapped by PEFT when it has adapters. Frozen weights have the dtype asked for;
    what trains is float32, and with bf16 the forward pass runs under autocast.

    Args: see `geotune.config.training.BackboneConfig`. Raises ConfigError for anything that can't be loaded as asked.
    """

    family: ClassVar[str]
    """`model_type` of the family's config.json."""
    parts: ClassVar[Parts]
    model_class: ClassVar[Any]

    def __init__(
        self,
        path: str,
        max_pixels: int,
        min_pixels: int | None = None,
        dtype: Literal["bf16", "float32"] = "bf16",
        attn: Literal["sdpa", "flex", "eager"] = "sdpa",
        gradient_checkpointing: bool = False,
        trust_remote_code: bool = False,
        tower: Scope = "frozen",
        projector: Scope = "frozen",
        language_model: Scope = "lora",
        lora: LoraConfig | None = None,
        quantization: Literal["nf4"] | None = None,
    ) -> None:
        super().__init__()
        if quantization is not None and language_model == "full":
            raise ConfigError(QUANTIZED_FULL.format(quantization))
        self.path = path
        self.max_pixels = max_pixels
        self.dtype = DTYPES[dtype]
        self.attn = attn
        config = self._load_config(path, trust_remote_code)
        self.encoder = self.load_encoder(path, max_pixels=max_pixels, min_pixels=min_pixels)
        model = self._load_model(path, config, trust_remote_code)
        scopes: dict[str, Scope] = {"tower": tower, "projector": projector, "language_model": language_model}
        if attn != "eager":
            use_tree_attention(model.config.get_text_config())  # type: ignore[union-attr, operator]
        self.quantized = quantization is not None
        if self.quantized:
            quantize_language_model(model, self.parts, self.dtype)
        self.lora = lora or LoraConfig()
        self.model = apply_scopes(model, self.parts, scopes, self.lora)
        if self.has_adapter:
            from geotune.backbones.fused_lora import fuse_lora

            fuse_lora(self.model)
        self.tower_trains = tower != "frozen"
        self.projector_trains = projector != "frozen"
        if gradient_checkpointing:
            _recompute(model)
        self._keep_features = not (self.tower_trains or self.projector_trains)
        self._features: LruBytes[torch.Tensor] = LruBytes(FEATURE_CACHE_BYTES, _tensor_bytes)
        self.patches = 0
        """Patches of images that the tower has read so far; those whose features were kept are not read again."""
        self.stop_ids = self._stop_ids(model)
        self.train(False)

    # Loading

    @classmethod
    @abstractmethod
    def load_encoder(cls, path: str, *, max_pixels: int, min_pixels: int | None) -> Encoder:
        """Tokenizer, chat template and image processor of the folder or hub id `path`."""

    @classmethod
    def _load_config(cls, path: str, trust_remote_code: bool) -> Any:
        from transformers import AutoConfig

        if _looks_local(path) and not (Path(path) / "config.json").is_file():
            raise ConfigError(
                f"backbone.path={path}: no config.json there; name a folder that holds a model, or a hub id"
            )
        try:
            config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        except (OSError, ValueError) as error:
            raise ConfigError(f"backbone.path={path}: can't be loaded ({first_line(error)})") from error
        if config.model_type != cls.family:
            raise ConfigError(
                f"backbone.path={path}: holds a {config.model_type} model, but backbone._target_ names {cls.__name__} "
                f"({cls.family}); choose the backbone group of its family"
            )
        kinds = set(getattr(config.get_text_config(), "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"}:
            raise ConfigError(f"backbone.path={path}: its language model has {sorted(kinds)} layers; not supported")
        return config

    def _load_model(self, path: str, config: Any, trust_remote_code: bool) -> nn.Module:
        try:
            model, report = self.model_class.from_pretrained(
                path,
                config=config,
                dtype=self.dtype,
                attn_implementation="sdpa" if self.attn == "flex" else self.attn,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ConfigError(
                f"backbone.path={path}: its weights can't be loaded ({first_line(error)}); only safetensors are read"
            ) from error
        # The library would put random numbers in the place of what is missing or has another shape.
        for what, names in (
            ("lack", report["missing_keys"]),
            ("have another shape than its config.json says in", [name for name, *_ in report["mismatched_keys"]]),
            ("hold an unknown", [name for name in report["unexpected_keys"] if self.parts.part_of(name)]),
        ):
            if names:
                raise ConfigError(
                    f"backbone.path={path}: its weights {what} {min(names)} ({len(names)} in all); fetch or export it "
                    "again"
                )
        assert isinstance(model, nn.Module)
        return model

    @staticmethod
    def load_tokenizer(path: str) -> tuple[Any, str | None]:
        """The tokenizer of `path` and its processor's chat template (None: the tokenizer's own)."""
        from transformers import AutoTokenizer
        from transformers.utils import cached_file

        try:
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            file = cached_file(path, "chat_template.jinja", _raise_exceptions_for_missing_entries=False)
            old = cached_file(path, "chat_template.json", _raise_exceptions_for_missing_entries=False)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(_no_processor(path, error)) from error
        if file is not None:
            return tokenizer, Path(file).read_text(encoding="utf-8")
        if old is not None:
            return tokenizer, json.loads(Path(old).read_text(encoding="utf-8"))["chat_template"]
        return tokenizer, None

    @staticmethod
    def load_image_processor(kind: Any, path: str) -> Any:
        """The image processor of `path`; always the PIL one, so that torchvision does not change the pixels."""
        try:
            return kind.from_pretrained(path)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(_no_processor(path, error)) from error

    def _stop_ids(self, model: Any) -> tuple[int, ...]:
        """Tokens that end an answer: the template's, and the model's own."""
        eos = model.generation_config.eos_token_id
        others = eos if isinstance(eos, list) else [] if eos is None else [eos]
        return tuple({self.encoder.stop_id, *others})

    # Parts

    @property
    def base(self) -> Any:
        """The Hugging Face model, adapters inside."""
        from peft import PeftModel

        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def processor(self) -> Any:
        """The image-only processor."""
        return self.encoder.processor

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.encoder.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def template_hash(self) -> str:
        """Identifies how conversations are written."""
        return self.encoder.template_hash

    def train(self, mode: bool = True) -> Backbone:
        """Training mode for what trains; a frozen tower keeps out of it (no dropout, no drop path)."""
        super().train(mode)
        if not self.tower_trains:
            for name, module in self.base.named_modules():
                if self.parts.part_of(name) == "tower":
                    module.training = False
        return self

    # Encoding

    def encode(self, sample: Sample, dataset_dir: Path, *, answer: bool = True) -> Encoded:
        """The segments of `sample`; without its last assistant turn when `answer` is false. Raises BadRecord."""
        return self.encoder.encode(sample, dataset_dir, answer=answer)

    def _apply(self, fn: Any, recurse: bool = True) -> Backbone:
        """Forget features when the weights move."""
        self._features.clear()
        return super()._apply(fn, recurse)

    # Forward

    @abstractmethod
    def image_features(self, pixels: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """What the language model sees of each image, (tokens, hidden); `pixels` as the encoder makes them."""

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def _features_of(self, batch: Batch) -> torch.Tensor:
        """Features of the batch's distinct images, one after the other, (sum of tokens, hidden).

        While tower and projector are frozen, and within one `generate`, features are kept for images seen again.
        """
        keep = self._keep_features
        found = {path: self._features.get(path) for path in batch.images} if keep else {}
        missing = [number for number, path in enumerate(batch.images) if found.get(path) is None]
        new: dict[str, torch.Tensor] = {}
        if missing:
            pixels = self.encoder.pixel_values([batch.pixels[number] for number in missing])
            with torch.set_grad_enabled(torch.is_grad_enabled() and (self.tower_trains or self.projector_trains)):
                made = self.image_features(pixels)
            for number, features in zip(missing, made, strict=True):
                new[batch.images[number]] = features
                self.patches += self._patches(batch.pixels[number])
                if keep:
                    self._features.put(batch.images[number], features.clone())
        return torch.cat([new[path] if path in new else found[path] for path in batch.images])  # type: ignore[misc]

    def disable_feature_cache(self) -> None:
        """Have the tower read every image of every batch, also those seen before."""
        self._features = LruBytes(0, _tensor_bytes)

    def forget_features(self) -> None:
        """Forget the kept features of images, because the weights have changed."""
        self._features.clear()

    def _patches(self, pixels: torch.Tensor) -> int:
        """Patches that the tower cuts `pixels` (tiles, 3, H, W) into."""
        size = self.base.config.vision_config.patch_size
        height, width = (size, size) if isinstance(size, int) else size
        return int(pixels.shape[0] * (pixels.shape[-2] // height) * (pixels.shape[-1] // width))

    def embed(self, batch: Batch) -> torch.Tensor:
        """Embeddings (B, T, hidden) of the tokens of `batch`, with the features of its images in their places."""
        embeds: torch.Tensor = self.base.get_input_embeddings()(batch.input_ids)
        if batch.image_token_index.numel():
            features = self._features_of(batch)[batch.feature_index].to(embeds.dtype)
            embeds = embeds.flatten(0, 1).index_copy(0, batch.image_token_index, features).view_as(embeds)
        return embeds

    def _mask(self, attention: torch.Tensor | TreeMask | None, queries: int) -> dict[str, Any]:
        """The mask as the language model takes it ready-made; None is plain causal attention in SDPA alone."""
        if self.attn == "eager":
            if isinstance(attention, TreeMask):
                attention = attention.dense()
            if attention is None:
                attention = torch.ones(queries, queries, dtype=torch.bool, device=self.device).tril()[None, None]
            blocked = torch.finfo(self.dtype).min
            attention = torch.zeros(attention.shape, dtype=self.dtype, device=self.device).masked_fill(
                ~attention, blocked
            )
        return {"full_attention": attention}

    def hidden_states(
        self, embeds: torch.Tensor, mask: torch.Tensor | TreeMask | None, positions: torch.Tensor, cache: Any
    ) -> Any:
        """Hidden states (B, T, hidden) of the language model."""
        return self.base.model.language_model(
            inputs_embeds=embeds,
            attention_mask=self._mask(mask, embeds.shape[1]),
            position_ids=positions if self.encoder.axes > 1 else positions[0],
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits (N, vocabulary) in float32 at the places `batch.logit_index`; the head runs there alone."""
        with self._autocast():
            tree = (
                None
                if batch.subtree_end is None
                else TreeMask(batch.subtree_end, self.device, flex=self.attn == "flex")
            )
            mask = batch.attention if tree is None else tree
            hidden = self.hidden_states(self.embed(batch), mask, batch.position_ids, None)
            logits: torch.Tensor = self.base.lm_head(hidden.flatten(0, 1)[batch.logit_index])
        return logits.float()

    # Answering

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Evaluation mode, no autograd; features are kept for the duration, and beyond it when they can't change."""
        was = self.training
        self._keep_features = True
        self.eval()
        try:
            with torch.no_grad(), self._autocast(), self._merged():
                yield
        finally:
            self.train(was)
            if self.tower_trains or self.projector_trains:
                self._keep_features = False
                self._features.clear()

    def _merged(self) -> AbstractContextManager[None]:
        exact = self.dtype == torch.float32 and not self.quantized
        return merged(self.base) if self.has_adapter and exact else nullcontext()

    # What trains

    def trainable_summary(self) -> list[tuple[str, int]]:
        """(pattern of parameter names, parameters) of what trains."""
        return trainable_summary(self.base)

    @property
    def has_adapter(self) -> bool:
        """Whether any part has adapters."""
        from peft import PeftModel

        return isinstance(self.model, PeftModel)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What trains, adapters and all, by name in the Hugging Face model."""
        return {name: parameter for name, parameter in self.base.named_parameters() if parameter.requires_grad}

    def full_state(self) -> dict[str, torch.Tensor]:
        """Trainable parameters that are not an adapter's, by their name in the plain model."""
        return full_state(self.base)


def _recompute(model: Any) -> None:
    """Switch on gradient checkpointing; the method's older name is there for older versions of the library."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    # It also has every embedding ask for a gradient, the tower's too. Only reentrant checkpoints need that.
    model.disable_input_require_grads()


def read_processor_config(path: str) -> dict[str, Any]:
    """What processor_config.json of the folder or hub id `path` says; empty without one."""
    from transformers.utils import cached_file

    file = cached_file(path, "processor_config.json", _raise_exceptions_for_missing_entries=False)
    return {} if file is None else json.loads(Path(file).read_text(encoding="utf-8"))


def _looks_local(path: str) -> bool:
    """Whether `path` can only be a folder: it exists, or no hub id looks like it."""
    return Path(path).exists() or path.startswith((".", "/", "~")) or path.count("/") > 1


def _no_processor(path: str, error: BaseException) -> str:
    return (
        f"backbone.path={path}: holds no usable processor ({first_line(error)}); put the model's tokenizer and image "
        "processor files beside its weights"
    )
