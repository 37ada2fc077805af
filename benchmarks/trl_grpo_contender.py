"""TRL's GRPOTrainer as a contender of `benchmarks.grpo_speed`."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from datasets import Dataset, Features, Image
from datasets import List as ListOf
from transformers import AutoConfig
from trl import GRPOConfig, GRPOTrainer
from trl.data_utils import prepare_multimodal_messages

from benchmarks.grpo_material import made_up_completions, planned_prompts, suppressed_tokens, text_hash
from benchmarks.trl_contender import LORA, TURN, TurnCallback, load_for_trl, prompt_of, trainer_options
from benchmarks.turns import Setup, Turns


def train(setup: Setup, turns: Turns) -> None:
    """Train with GRPOTrainer as its documentation shows for images: a conversational prompt beside its images."""
    encoder, model = load_for_trl(setup)
    vocabulary = AutoConfig.from_pretrained(setup.model).get_text_config().vocab_size
    suppressed = suppressed_tokens(encoder.tokenizer, vocabulary)
    with tempfile.TemporaryDirectory() as out:
        trainer = grpo_trainer(setup, turns, model, encoder, suppressed, out)
        completions = made_up_completions(suppressed, vocabulary, setup)
        turns.report(**trainer.facts_of(trainer.train_dataset[0], completions))
        trainer.train()


def prompt_dataset(setup: Setup, encoder: Any) -> Dataset:
    """Return the prompts in the order of the updates, as turns and image files."""
    dataset, plan = planned_prompts(setup, encoder)
    chosen = [dataset.samples[index] for number in range(setup.total) for index in plan.update(number)]
    rows = [{"prompt": prompt_of(sample, encoder), "images": list(sample.images)} for sample in chosen]
    return Dataset.from_list(rows, features=Features({"prompt": ListOf(TURN), "images": ListOf(Image())}))


def hash_reward(completions: list[Any], **_: Any) -> list[float]:
    """Return the reward of each completion."""
    return [text_hash(turns[0]["content"]) for turns in completions]


class CountingTrainer(GRPOTrainer):  # type: ignore[misc]
    """A trainer that times its rollouts and counts the tokens that it trains on."""

    turns: Turns

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        began = self.turns.now()
        output = super()._generate_and_score_completions(inputs)
        self.turns.add(rollout_seconds=self.turns.now() - began)
        return output

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        trained = inputs["completion_mask"] * (inputs["advantages"] != 0)[:, None]
        self.turns.add(trained=int(trained.sum()))
        return super()._compute_loss(model, inputs)

    @torch.no_grad()
    def facts_of(self, row: Any, completions: list[list[int]]) -> dict[str, Any]:
        """Return the length of a prompt, and the mean loss per token of completions, in nats, before training."""
        prompts = [prepare_multimodal_messages(row["prompt"], images=row["images"])] * len(completions)
        prompt_ids, images, fields = self._tokenize_prompts(prompts)
        device = self.accelerator.device
        ids = torch.cat([torch.tensor(prompt_ids), torch.tensor(completions)], dim=1).to(device)
        fields = {name: torch.as_tensor(value).to(device) for name, value in fields.items()}
        types = fields["mm_token_type_ids"]
        fields["mm_token_type_ids"] = torch.nn.functional.pad(types, (0, len(completions[0])))
        logprobs, _, _ = self._get_per_token_logps_and_entropies(
            self.model,
            ids,
            torch.ones_like(ids),
            len(completions[0]),
            num_images=[len(each) for each in images],
            **fields,
        )
        return {"loss": -float(logprobs.mean()), "prompt_tokens": len(prompt_ids[0])}


def grpo_trainer(
    setup: Setup, turns: Turns, model: Any, encoder: Any, suppressed: list[int], out: str
) -> CountingTrainer:
    """Return a trainer with the LoRA, schedule and loss of the other contenders, which counts for `turns`.

    suppressed: tokens that are never drawn.
    """
    options = trainer_options(setup)
    options["gradient_accumulation_steps"] *= setup.batch_size * setup.group_size // setup.trl_rows
    trainer = CountingTrainer(
        model,
        hash_reward,
        GRPOConfig(
            out,
            per_device_train_batch_size=setup.trl_rows,
            num_generations=setup.group_size,
            max_completion_length=setup.new_tokens,
            mask_truncated_completions=False,
            generation_kwargs={"suppress_tokens": suppressed},
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            beta=0.0,
            loss_type="dr_grpo",
            scale_rewards="none",
            pad_to_multiple_of=None,
            shuffle_dataset=False,
            **options,
        ),
        train_dataset=prompt_dataset(setup, encoder),
        processing_class=encoder.processor,
        peft_config=LORA,
        callbacks=[TurnCallback(turns)],
    )
    trainer.turns = turns
    return trainer
