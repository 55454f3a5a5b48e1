"""Print the exact loss of a checkpoint over the whole validation split of its corpus."""

import json
import sys

from gpt.command.cli import Parser, user_path
from gpt.command.process import run_command
from gpt.errors import Exit, say


def main(argv: list[str]) -> int:
    """Print the loss in nats and bits per character; each character is scored once."""
    parser = Parser(prog="scripts/evaluate.py", description=__doc__)
    parser.add_argument(
        "run", nargs="?", type=user_path, help="a run or a checkpoint [the newest run's best]"
    )
    moved = "the run's text, where it was moved"
    parser.add_argument("--data.text", dest="text", metavar="X", nargs="+", help=moved)
    device = "auto | cpu | cuda | cuda:N | mps [auto]"
    parser.add_argument("--device", default="auto", help=device)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_all(argv)

    # imports of torch, which --help does not need
    from gpt.command.config_file import overridden
    from gpt.device import use_device
    from gpt.evaluate import bits, exact_loss
    from gpt.storage.find import find_checkpoint
    from gpt.threads import sharing_cores
    from gpt.training.identity import corpus_of

    checkpoint = find_checkpoint(args.run, say)
    model = checkpoint.make_model().to(use_device(args.device))
    config = overridden(checkpoint.config, {"data.text": args.text} if args.text else {})
    corpus = corpus_of(checkpoint, config, say)
    with sharing_cores():
        loss = exact_loss(model, corpus.val_ids)
    if args.json:
        result = {
            "val_loss": loss,
            "val_bits_per_char": bits(loss),
            "step": checkpoint.progress.step,
            "characters": len(corpus.val_ids) - 1,
            "corpus": corpus.name,
            "corpus_sha256": corpus.sha256,
        }
        print(json.dumps(result))
    else:
        print(f"{loss:.4f} nats = {bits(loss):.4f} bits per character")
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
