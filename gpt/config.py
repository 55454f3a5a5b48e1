"""Every setting of a run, typed. `gpt/command/` fills it from a YAML file and dotted flags.

The sections are plain data. Each key is described once, here: `--help`, the JSON schema for
editors (configs/schema.json) and the error messages are all made from these fields.
"""

import json
import sys
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from gpt.errors import BadValue
from gpt.paths import require_path


def whole(value: Any) -> Any:
    """3e4 is a whole number, though YAML reads it as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole), Field(le=10**12)]


class Section(BaseModel):
    """Base of all sections: unknown keys, wrong types and NaN are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The model, from the bigram table to the GPT; the alphabet's size comes from the corpus."""

    block_size: Whole = Field(
        64, ge=1, le=2**20, description="characters of context the model sees at once"
    )
    n_layer: Whole = Field(4, ge=0, le=1000, description="number of blocks")
    n_head: Whole = Field(4, ge=1, le=1000, description="attention heads in a block")
    n_embd: Whole = Field(
        128,
        ge=0,
        le=2**16,
        description="width of the residual stream; 0: the token table holds the logits (bigram)",
    )
    positions: Literal["none", "learned", "rotary"] = Field(
        "learned", description="how positions are encoded"
    )
    token_shift: bool = Field(False, description="add to each embedding a share of the one before")
    feed_forward: Literal["none", "relu", "gelu", "relu2"] = Field(
        "relu", description="activation of the feed-forward layers; none: no such layers"
    )
    residual: bool = Field(True, description="x + part(x), each part with a projection into x")
    norm: Literal["none", "layer", "rms"] = Field(
        "layer", description="normalisation before each part and at the end"
    )
    embedding_norm: bool = Field(False, description="normalise the embedding too")
    qk_norm: bool = Field(
        False, description="RMS-normalise queries and keys, which bounds the scores"
    )
    bias: bool = Field(True, description="biases in projections, feed-forward layers and lm_head")
    init_std: float = Field(
        0.0, ge=0, le=100, description="standard deviation of initial weights; 0: torch's defaults"
    )
    zero_init: bool = Field(
        False,
        description="projections and lm_head start at zero: each block begins as the identity",
    )
    logit_softcap: float = Field(
        0.0, ge=0, le=1e6, description="bound the logits to +-this by tanh; 0: off"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of activations zeroed in training")

    @model_validator(mode="after")
    def fits(self) -> Self:
        others = (self.n_layer, self.positions, self.norm, self.token_shift)
        if self.n_embd == 0 and others != (0, "none", "none", False):
            fix = "set n_layer to 0, positions and norm to none, token_shift to false"
            raise BadValue("n_embd 0 is the bigram table", fix)
        if self.embedding_norm and self.norm == "none":
            raise BadValue("embedding_norm needs a norm", "set norm to rms or layer")
        if self.n_embd % self.n_head:
            near = max(self.n_head, round(self.n_embd / self.n_head) * self.n_head)
            what = f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}"
            raise BadValue(what, f"use n_embd {near}")
        if self.positions == "rotary" and self.head_size % 2:
            what = f"rotary positions rotate pairs, but head_size is {self.head_size}"
            raise BadValue(what, "make it even")
        if self.positions == "rotary" and self.n_layer * self.block_size * self.head_size > 2**27:
            what = "the tables of rotary positions need more than 1 GiB"
            raise BadValue(f"{what} with block_size {self.block_size}", "make it smaller")
        return self

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head


class DataConfig(Section):
    """The text that the model is trained on."""

    corpus: Literal["shakespeare", "tinyshakespeare", "plays"] = Field(
        "shakespeare", description="a named corpus; plays: all 38 of Shakespeare's"
    )
    text: str | list[str] | None = Field(
        None,
        description="your own UTF-8 text instead: files, folders, patterns, or - for stdin, in this"
        " order",
    )
    val_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of each file, at its end, kept for validation"
    )

    @field_validator("text")
    @classmethod
    def paths(cls, text: str | list[str] | None) -> str | list[str] | None:
        if text == []:
            raise BadValue("the list is empty", "give the path of a text file, or leave it out")
        for path in [text] if isinstance(text, str) else text or []:
            require_path(path)
        return text


class TrainConfig(Section):
    """How the model is trained."""

    seed: Whole = Field(
        1337,
        ge=0,
        lt=2**63,
        description="same seed, same machine and threads: on a CPU the same weights, bit for bit",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto | cpu | cuda | cuda:N | mps; auto: cuda where there is one",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the forward pass; auto: bf16 where the device is fast at it"
    )
    compile: bool = Field(
        False,
        description="torch.compile the loss and its gradient; falls back to eager with a message",
    )
    threads: Whole = Field(0, ge=0, le=4096, description="CPU threads; 0: torch's default")
    batch_size: Whole = Field(12, ge=1, le=2**20, description="sequences per optimizer step")
    accumulate: Whole = Field(
        1, ge=1, description="gradient accumulation: micro-batches a step; must divide batch_size"
    )
    max_steps: Whole = Field(300, ge=0, description="optimizer updates")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        description="muon: orthogonalised momentum for the blocks' matrices, adamw for the rest",
    )
    learning_rate: float = Field(1e-3, gt=0, le=1e9, description="AdamW's peak learning rate")
    muon_learning_rate: float = Field(0.02, gt=0, le=1e9, description="Muon's peak learning rate")
    lr_scale: float | None = Field(
        None, gt=0, le=1e3, description="times both learning rates; default 1, fine-tuning 0.3"
    )
    warmup_steps: Whole = Field(0, ge=0, description="steps of linear warm-up to the peak")
    decay: Literal["none", "linear", "cosine"] = Field(
        "linear", description="how the learning rate decays to zero"
    )
    decay_fraction: float = Field(
        1.0, ge=0, le=1, description="share of max_steps, at the end, in which it decays"
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="decoupled weight decay of the matrices, times the learning rate",
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW: decay of the gradient's mean")
    beta2: float = Field(0.99, ge=0, lt=1, description="AdamW: decay of the gradient's square")
    grad_clip: float = Field(
        1.0, ge=0, le=1e9, description="largest norm of the whole gradient; 0: off"
    )
    patience: Whole = Field(
        0, ge=0, description="stop after this many evaluations without a better one; 0: off"
    )
    target_val_loss: float | None = Field(
        None, gt=0, le=1e3, description="stop as soon as an evaluation reaches it [nats]"
    )

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.batch_size % self.accumulate:
            what = f"accumulate {self.accumulate} does not divide batch_size {self.batch_size}"
            raise BadValue(what, "choose one that does")
        return self


class LogConfig(Section):
    """What is logged and kept. No step depends on it; eval_every decides when training may stop."""

    log_every: Whole = Field(10, ge=1, description="steps between lines of metrics.jsonl")
    eval_every: Whole = Field(
        100,
        ge=1,
        description="steps between exact evaluations; also before step 1 and after the last",
    )
    save_every: Whole = Field(
        100, ge=1, description="steps between checkpoints; also after the last step"
    )
    keep: Whole = Field(2, ge=0, description="newest checkpoints kept beside the best; 0: all")
    tensorboard: bool = Field(True, description="write TensorBoard events")
    sample_chars: Whole = Field(
        200, ge=0, le=10**5, description="characters of the sample logged at each evaluation"
    )
    sample_prompt: str = Field("\n", min_length=1, description="prompt of that sample")
    probe: str = Field(
        "ROMEO:\nBut soft, what light through yonder window breaks?",
        min_length=1,
        description="text whose attention is drawn at each evaluation, less unknown characters",
    )


class RunConfig(Section):
    """Where the run is written."""

    dir: str | None = Field(
        None, description="directory of the run; default: runs/<time stamp>-<config name>"
    )

    @field_validator("dir")
    @classmethod
    def path(cls, directory: str | None) -> str | None:
        return None if directory is None else require_path(directory)


class Config(Section):
    """A whole run. `--print-config` shows it resolved."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    log: LogConfig = LogConfig()
    run: RunConfig = RunConfig()


def fields() -> dict[str, Any]:
    """Every dotted key with its pydantic field, in the order of the sections."""
    return {
        f"{section}.{name}": field
        for section, holder in Config.model_fields.items()
        for name, field in holder.annotation.model_fields.items()  # type: ignore[union-attr]
    }


if __name__ == "__main__":  # python -m gpt.config > configs/schema.json
    json.dump(Config.model_json_schema(), sys.stdout, indent=1)
    print()
