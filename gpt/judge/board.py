"""The judgement's numbers for TensorBoard, in a folder of their own: a run is its training's."""

from typing import Any

from torch.utils.tensorboard import SummaryWriter

NAMED = {  # part -> what names a row, and the numbers that are shown of it
    "baselines": ("name", ["loss"]),
    "by_kind": ("kind", ["loss"]),
    "copies": ("text", ["longest", "share"]),
}


def log_judgement(folder: str, result: dict[str, Any]) -> None:
    """Add events to `folder`, which is made if need be.

    The step is the model's, save in the loss by context: there it is the characters of context.

    Args:
        result: the JSON that scripts/evaluate.py prints.
    """
    with SummaryWriter(folder) as writer:
        values: dict[str, float | None] = {
            key: result.get(key) for key in ("val_loss", "standard_error", "perplexity")
        }
        for part, (name, keys) in NAMED.items():
            for row in result.get(part, []):
                values |= {f"{part}/{row[name]}/{key}": row[key] for key in keys}
        values["calibration_error"] = result.get("calibration", {}).get("error")
        for tag, value in values.items():
            if value is not None:
                writer.add_scalar(f"judge/{tag}", value, result["step"])
        for row in result.get("by_context", []):
            writer.add_scalar("judge/loss_by_context", row["loss"], row["to"])
        if "verdict" in result:
            writer.add_text("judge/verdict", result["verdict"], result["step"])
