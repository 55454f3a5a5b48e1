"""Judge a checkpoint on the validation split of its corpus: the exact loss and what it means."""

import json
import sys

from gpt.command.cli import Parser, user_path
from gpt.command.process import ending_with_reader, run_command
from gpt.errors import Exit, say


def main(argv: list[str]) -> int:
    """Print the exact loss in nats and bits per character, then each part of the judgement.

    Each character is scored once; the rest is in gpt/judge.
    """
    parser = Parser(prog="scripts/evaluate.py", description=__doc__)
    parser.add_argument(
        "run", nargs="?", type=user_path, help="a run or a checkpoint [the newest run's best]"
    )
    moved = "the run's text, where it was moved"
    parser.add_argument("--data.text", dest="text", metavar="X", nargs="+", help=moved)
    device = "auto | cpu | cuda | cuda:N | mps [auto]"
    parser.add_argument("--device", default="auto", help=device)
    parser.add_argument("--loss", action="store_true", help="the exact loss alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    folder = "also write TensorBoard events into this folder, such as runs/judged"
    parser.add_argument("--tensorboard", metavar="DIR", type=user_path, help=folder)
    args = parser.parse_all(argv)

    # imports of torch, which --help does not need
    from gpt.command.config_file import overridden
    from gpt.data.sources import settled
    from gpt.device import use_device
    from gpt.evaluate import bits
    from gpt.judge.judge import judge
    from gpt.judge.report import text_of
    from gpt.judge.scores import score
    from gpt.storage.find import find_checkpoint
    from gpt.threads import sharing_cores
    from gpt.training.identity import corpus_of

    checkpoint = find_checkpoint(args.run, say)
    model = checkpoint.make_model().to(use_device(args.device))
    config = checkpoint.config
    if args.text:
        text = args.text if len(args.text) > 1 else args.text[0]
        config = overridden(config, {"data.text": settled(text, say)})
    corpus = corpus_of(checkpoint, config, say)
    with sharing_cores():
        scores = score(model, corpus.val_ids)
        result = {
            "val_loss": scores.loss,
            "val_bits_per_char": bits(scores.loss),
            "step": checkpoint.progress.step,
            "characters": len(corpus.val_ids) - 1,
            "corpus": corpus.name,
            "corpus_sha256": corpus.sha256,
        }
        if not args.json:
            _print(f"{scores.loss:.4f} nats = {bits(scores.loss):.4f} bits per character\n")
        for part, value in () if args.loss else judge(model, corpus, scores):
            result[part] = value
            if not args.json:
                _print(text_of(part, result))
    if args.json:
        print(json.dumps(result))
    if args.tensorboard:
        from gpt.judge.board import log_judgement  # imports TensorBoard

        log_judgement(args.tensorboard, result)
    return Exit.DONE


def _print(text: str) -> None:
    """Print what is known by now; the rest takes a while."""
    with ending_with_reader(sys.stdout):
        print(text, end="", flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
