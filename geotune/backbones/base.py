"""One interface for every family of vision-language models: load, encode, forward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from geotune.backbones.adapters import (
    Parts,
    apply_scopes,
    full_state,
    merged_adapters,
    trainable_summary,
)
from geotune.backbones.attention import Mask, use_own_attention
from geotune.backbones.branch_attention import BranchMask
from geotune.backbones.copies import WeightCopies
from geotune.backbones.kernels import use_kernels
from geotune.backbones.output_head import LogitFunction, label_logprobs, leave_out, use_output_head
from geotune.backbones.pretrained import load_model_config, load_model_weights
from geotune.backbones.quantization import quantize_language_model
from geotune.backbones.tree_attention import TreeMask
from geotune.config.parts import BackboneConfig, Scope
from geotune.encoding.collate import Batch
from geotune.encoding.encoder import Encoder
from geotune.encoding.segments import Encoded
from geotune.system.cache import LruBytes

if TYPE_CHECKING:
    from geotune.sample import Sample

DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}
"""Dtype of the frozen weights by the value of `backbone.dtype`."""
FEATURE_CACHE_BYTES = 256 * 2**20
"""Size limit of the cache of image features."""


def _tensor_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class Backbone(nn.Module):
    """A vision-language model with its encoder and adapters.

    A backbone has three parts: the vision `tower`, the `projector` and the `language_model`. Each is frozen, carries
    LoRA adapters or trains in full. Frozen weights have the requested dtype, trainable parameters are float32; with
    bf16 the forward pass runs under autocast.

    `model` is the Hugging Face model, wrapped by PEFT if any part has adapters. `encoder` turns samples into token ids
    and pixels. `stop_ids` are the token ids that end a generated answer, `never_drawn` (int64, on the host) those that
    no answer holds: control tokens other than stop tokens, placeholders of images and videos, and rows of the embedding
    matrix that stand for no token. `quantized` is true if the linear layers of the language model are stored in four
    bits. `patches` counts the image patches that the tower has read so far.

    Raises:
        ConfigError: the model can't be loaded or adapted as requested.
    """

    family: ClassVar[str]
    """`model_type` in the config.json of the family's models."""
    parts: ClassVar[Parts]
    """Where the family keeps its three parts."""
    model_class: ClassVar[Any]
    """The family's class in transformers."""

    Config: ClassVar[type[BackboneConfig]] = BackboneConfig

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.path = config.path
        self.max_pixels = config.max_pixels
        self.dtype = DTYPES[config.dtype]
        self.attn = config.attn
        model_config = load_model_config(
            config.path,
            family=self.family,
            backbone=type(self).__name__,
            trust_remote_code=config.trust_remote_code,
        )
        self.encoder = self.load_encoder(config.path, max_pixels=config.max_pixels, min_pixels=config.min_pixels)
        self.quantized = config.quantization is not None
        model = self._load_model(model_config, config.trust_remote_code)
        self.lora = config.lora
        scopes: dict[str, Scope] = {
            "tower": config.tower,
            "projector": config.projector,
            "language_model": config.language_model,
        }
        self.model = apply_scopes(model, self.parts, scopes, self.lora)
        if self.has_adapter:
            from geotune.backbones.fused_lora import fuse_lora

            fuse_lora(self.base, self.parts)
        self.tower_trains = config.tower != "frozen"
        self.projector_trains = config.projector != "frozen"
        if config.kernels != "off":
            use_kernels(self.base, ("cuda",) if config.kernels == "auto" else None)
        if config.gradient_checkpointing:
            _enable_gradient_checkpointing(model)
        self._cache_features = not (self.tower_trains or self.projector_trains)
        self._feature_cache: LruBytes[torch.Tensor] = LruBytes(FEATURE_CACHE_BYTES, _tensor_bytes)
        self._copies = WeightCopies()
        self._evaluating = False
        """Whether a context of `evaluation_mode` is open."""
        self.patches = 0
        self.stop_ids = self._find_stop_ids(model)
        self.never_drawn = self._find_never_drawn(model)
        self.train(False)

    @classmethod
    @abstractmethod
    def load_encoder(cls, path: str, *, max_pixels: int, min_pixels: int | None) -> Encoder:
        """Load tokenizer, chat template and image processor of the folder or hub id `path`.

        max_pixels, min_pixels: limits of a resized image; None keeps the processor's own lower limit. Raises
        ConfigError if the files can't be read or the limits don't suit the family.
        """

    def _load_weights(self, config: Any, trust_remote_code: bool) -> nn.Module:
        """Load the model of `config` with the weights at `path`."""
        return load_model_weights(
            self.path,
            config,
            model_class=self.model_class,
            parts=self.parts,
            dtype=self.dtype,
            attn="eager" if self.attn == "eager" else "sdpa",
            trust_remote_code=trust_remote_code,
        )

    def _load_model(self, config: Any, trust_remote_code: bool) -> nn.Module:
        """Load the weights, let the language model accept prefix trees, and quantize it if requested."""
        model = self._load_weights(config, trust_remote_code)
        if self.attn != "eager":
            for config in (model.config.get_text_config(), model.config.vision_config):  # type: ignore[union-attr, operator]
                use_own_attention(config)
        if self.quantized:
            quantize_language_model(model, self.parts, self.dtype)
        use_output_head(model.lm_head)  # type: ignore[arg-type]
        return model

    def _find_stop_ids(self, model: Any) -> tuple[int, ...]:
        """Token ids that end an answer: the chat template's and those of the model's generation config."""
        eos = model.generation_config.eos_token_id
        others = eos if isinstance(eos, list) else [] if eos is None else [eos]
        return tuple({self.encoder.stop_id, *others})

    def _find_never_drawn(self, model: Any) -> torch.Tensor:
        """Token ids that no answer holds, ascending, whatever the model says of their probability.

        A control token is one that the tokenizer marks as special, which Qwen3 does not do with `<think>`.
        """
        tokenizer, size = self.encoder.tokenizer, model.lm_head.out_features
        special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        names = ("image_token_id", "video_token_id")
        placeholders = {self.encoder.image_token_id, *(getattr(model.config, name, None) for name in names)}
        unknown = set(range(size)) - set(tokenizer.get_vocab().values())
        found = ((special | placeholders | unknown) - {*self.stop_ids, None}) & set(range(size))
        return torch.tensor(sorted(found), dtype=torch.long)

    @property
    def base(self) -> Any:
        """The Hugging Face model without PEFT's wrapper; adapters are layers inside it."""
        from peft import PeftModel

        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def processor(self) -> Any:
        """The encoder's processor, which handles images but no videos."""
        return self.encoder.processor

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.encoder.tokenizer

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.model.parameters()).device

    @property
    def template_hash(self) -> str:
        """Digest of the chat template; see `Encoder.template_hash`."""
        return self.encoder.template_hash

    def train(self, mode: bool = True) -> Backbone:
        """Set training mode; a frozen tower always stays in evaluation mode (no dropout, no drop path)."""
        super().train(mode)
        if not self.tower_trains:
            for name, module in self.base.named_modules():
                if self.parts.part_of(name) == "tower":
                    module.training = False
        return self

    def encode(self, sample: Sample, *, answer: bool = True) -> Encoded:
        """Encode `sample`, without its last assistant turn if `answer` is false. Raises BadRecord."""
        return self.encoder.encode(sample, answer=answer)

    def _apply(self, fn: Any, recurse: bool = True) -> Backbone:
        """Move or convert the weights and their copies; clear the feature cache, whose tensors would stay behind."""
        self._feature_cache.clear()
        self._copies.change(fn)
        return super()._apply(fn, recurse)

    @abstractmethod
    def image_features(self, pixels: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Features (tokens, hidden) of each image, as the language model reads them.

        pixels: what `Encoder.pixel_values` returns for the images.
        """

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def _distinct_image_features(self, batch: Batch) -> torch.Tensor:
        """Features of the batch's distinct images, concatenated in the order of `batch.images`: (tokens, hidden).

        Cached features are used while tower and projector are frozen, and within one `evaluation_mode`.
        """
        use_cache = self._cache_features
        cached = {path: self._feature_cache.get(path) for path in batch.images} if use_cache else {}
        missing = [number for number, path in enumerate(batch.images) if cached.get(path) is None]
        computed: dict[str, torch.Tensor] = {}
        if missing:
            pixels = self.encoder.pixel_values([batch.pixels[number] for number in missing])
            with torch.set_grad_enabled(torch.is_grad_enabled() and (self.tower_trains or self.projector_trains)):
                images = self.image_features(pixels)
            for number, features in zip(missing, images, strict=True):
                computed[batch.images[number]] = features
                self.patches += self._count_patches(batch.pixels[number])
                if use_cache:
                    self._feature_cache.put(batch.images[number], features.clone())
        return torch.cat([computed[path] if path in computed else cached[path] for path in batch.images])  # type: ignore[misc]

    def disable_feature_cache(self) -> None:
        """Make the tower read every image of every batch, even if it has read the image before."""
        self._feature_cache = LruBytes(0, _tensor_bytes)

    def clear_feature_cache(self) -> None:
        """Drop the cached image features. Call it after the weights have changed."""
        self._feature_cache.clear()

    def _count_patches(self, pixels: torch.Tensor) -> int:
        """Number of patches that the tower cuts `pixels` (tiles, 3, H, W) into."""
        size = self.base.config.vision_config.patch_size
        height, width = (size, size) if isinstance(size, int) else size
        return int(pixels.shape[0] * (pixels.shape[-2] // height) * (pixels.shape[-1] // width))

    def embed(self, batch: Batch) -> torch.Tensor:
        """Embeddings (B, T, hidden) of the tokens of `batch`; image tokens get the features of their images."""
        embeds: torch.Tensor = self.base.get_input_embeddings()(batch.input_ids)
        if batch.image_token_index.numel():
            features = self._distinct_image_features(batch)[batch.feature_index].to(embeds.dtype)
            embeds = embeds.flatten(0, 1).index_copy(0, batch.image_token_index, features).view_as(embeds)
        return embeds

    def _attention_masks(self, mask: Mask, queries: int) -> dict[str, Any]:
        """Masks by type of layer, as the language model takes them ready-made.

        None stands for plain causal attention of `queries` tokens, which only SDPA applies by itself. Eager attention
        gets an additive mask in the dtype of the model.
        """
        if self.attn == "eager":
            assert not isinstance(mask, BranchMask), "eager attention has no log-sum-exp"
            if isinstance(mask, TreeMask):
                mask = mask.dense()
            if mask is None:
                mask = torch.ones(queries, queries, dtype=torch.bool, device=self.device).tril()[None, None]
            blocked = torch.finfo(self.dtype).min
            mask = torch.zeros(mask.shape, dtype=self.dtype, device=self.device).masked_fill(~mask, blocked)
        return {"full_attention": mask}

    def hidden_states(self, embeds: torch.Tensor, mask: Mask, positions: torch.Tensor, cache: Any) -> Any:
        """Run the language model without its head: hidden states (B, T, hidden).

        embeds: (B, T, hidden). mask: boolean (B, 1, T, keys), true where a token may attend; a `TreeMask` for a batch
        of one prefix tree; a `BranchMask` for the newest tokens of completions; None for plain causal attention.
        positions: position ids (axes, B, T). cache: a transformers cache of keys and values, which grows by T, or what
        takes its place (`PromptKeys`, `RowKeys`); None to use no cache.
        """
        return self.base.model.language_model(
            inputs_embeds=embeds,
            attention_mask=self._attention_masks(mask, embeds.shape[1]),
            position_ids=positions if self.encoder.axes > 1 else positions[0],
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits (N, vocabulary) in float32 at the N tokens `batch.logit_index`; the head runs on these alone."""
        with self._autocast():
            logits: torch.Tensor = self.base.lm_head(self._predicting(batch))
        return logits.float()

    def _predicting(self, batch: Batch) -> torch.Tensor:
        """Hidden states (N, hidden) at the N tokens `batch.logit_index`."""
        mask: Mask = batch.attention
        if batch.subtree_end is not None:
            mask = TreeMask(batch.subtree_end, self.device, attn=self.attn)
        hidden: torch.Tensor = self.hidden_states(self.embed(batch), mask, batch.position_ids, None)
        return hidden.flatten(0, 1)[batch.logit_index]

    def over_logits(self, batch: Batch, function: LogitFunction) -> torch.Tensor:
        """Results of `function(logits, labels)` on the supervised tokens, chunk by chunk, flattened and concatenated.

        No tensor of all tokens and the whole vocabulary exists, in the backward pass neither; see `OutputHead`.
        """
        with self._autocast():
            found: torch.Tensor = self.base.lm_head(self._predicting(batch), batch.labels, function)
        return found

    def token_logprobs(self, batch: Batch, temperature: float = 1.0, *, suppress: bool = False) -> torch.Tensor:
        """Log-probability (N,) of each label of `batch` under softmax(logits / temperature), in float32.

        `batch.owner` says which sample or option a label belongs to. suppress: leave the tokens `never_drawn` out of
        the softmax, as answers are drawn; the log-probabilities are then those of `Completion`.
        """
        never = self.never_drawn.to(self.device) if suppress else None

        def of_labels(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return label_logprobs(logits if never is None else leave_out(logits, never), labels, temperature)

        return self.over_logits(batch, of_labels)

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Context for generating and scoring: evaluation mode, no autograd, and image features are cached.

        Float32 adapters are merged into the weights meanwhile; others are cast once, when the context begins. The
        training mode is restored at the end. Cached features outlive the context only if tower and projector are
        frozen. Nested, it changes nothing.
        """
        if self._evaluating:
            with torch.no_grad(), self._autocast():
                yield
            return
        was_training = self.training
        self._cache_features = self._evaluating = True
        self.eval()
        try:
            with torch.no_grad(), self._autocast(), self._merged_adapters():
                yield
        finally:
            self._evaluating = False
            self.train(was_training)
            if self.tower_trains or self.projector_trains:
                self._cache_features = False
                self._feature_cache.clear()

    def keep_copy(self, name: str) -> None:
        """Keep a frozen copy of the trained weights as they are now, under a name that `weights_of` takes.

        The copy takes the memory of the trained weights once more. It moves with the backbone, and is neither trained
        nor saved nor exported. Raises ConfigError if a strategy shards the trained weights.
        """
        self._copies.keep(name, self.trained_parameters())

    def copy_of(self, name: str) -> dict[str, torch.Tensor]:
        """Return the tensors of `keep_copy(name)` on the CPU, by name in the Hugging Face model. Raises KeyError."""
        return self._copies.tensors(name)

    def load_copy(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put what `copy_of` returned in the place of `keep_copy(name)`. Raises ValueError if other weights train."""
        self._copies.load(name, self.trained_parameters(), tensors)

    @contextmanager
    def weights_of(self, name: str) -> Iterator[None]:
        """Context for computing with the weights of `keep_copy(name)`, without autograd; see `WeightCopies`.

        The gradients of a forward pass before it stay right. Enter `evaluation_mode` inside of it, not around it,
        because that mode may merge adapters. Raises KeyError if there is no such copy, and ConfigError if a strategy
        shards the trained weights.
        """
        assert not (self._evaluating and self._merges), "weights_of must not be entered inside evaluation_mode"
        changes_features = self.tower_trains or self.projector_trains
        if changes_features:
            self._feature_cache.clear()
        try:
            with torch.no_grad(), self._copies.in_place_of(self.trained_parameters(), name):
                yield
        finally:
            if changes_features:
                self._feature_cache.clear()

    @property
    def _merges(self) -> bool:
        """Whether `evaluation_mode` merges adapters: where that is exact enough."""
        return self.has_adapter and self.dtype == torch.float32 and not self.quantized

    def _merged_adapters(self) -> AbstractContextManager[None]:
        """Context with merged adapters where merging is exact enough, else with adapters that are cast only once."""
        from geotune.backbones.fused_lora import fixed_adapters

        if self._merges:
            return merged_adapters(self.base)
        return fixed_adapters(self.base) if self.has_adapter else nullcontext()

    def trainable_summary(self) -> list[tuple[str, int]]:
        """Trainable parameters as (pattern of names, number of parameters)."""
        return trainable_summary(self.base)

    @property
    def has_adapter(self) -> bool:
        """Whether any part has adapters."""
        from peft import PeftModel

        return isinstance(self.model, PeftModel)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """All trainable parameters, including the adapters', by name in the Hugging Face model."""
        return {name: parameter for name, parameter in self.base.named_parameters() if parameter.requires_grad}

    def full_state(self) -> dict[str, torch.Tensor]:
        """Trainable parameters that belong to no adapter, by name in the model without adapters."""
        return full_state(self.base)


def _enable_gradient_checkpointing(model: Any) -> None:
    # Older versions of transformers have the second method only.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    # Enabling also makes all embeddings, the tower's included, require a gradient; only reentrant checkpoints need it.
    model.disable_input_require_grads()
