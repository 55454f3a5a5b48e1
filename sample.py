"""Write text with a trained model: `python sample.py`, the newest run's best by default."""

import argparse
import sys
from pathlib import Path

from gpt.command.process import run_command
from gpt.errors import Exit, decoded, reading, say


def main(argv: list[str]) -> int:
    """Print the prompt and what the model writes after it."""
    args = _arguments(argv)
    prompt = _prompt(args)

    # imports of torch, only once it is needed
    from gpt.device import use_device
    from gpt.generation import writer
    from gpt.generation.generate import generate
    from gpt.memory import require_sampling_memory
    from gpt.storage.find import find_checkpoint

    checkpoint = find_checkpoint(args.run, say)
    tokenizer = checkpoint.tokenizer
    source = "--prompt" if args.prompt_file is None else "the prompt"
    prompt = writer.known_prompt(prompt, tokenizer, args.unknown, source)
    if args.stop:
        never = "leave it out: the text would never stop there"
        writer.require_known(args.stop, "--stop", tokenizer, never)
    require_sampling_memory(checkpoint.config.model, len(tokenizer), args.num_samples)
    start = writer.start_of(prompt, tokenizer)
    steps = generate(
        checkpoint.make_model().to(use_device(args.device)),
        tokenizer.encode(start),
        num_samples=args.num_samples,
        seed=args.seed,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
    )
    limits = args.max_new_chars, args.stop, args.end
    samples = [writer.Sample(*limits) for _ in range(args.num_samples)]
    if args.json:
        about = {"step": checkpoint.progress.step, "seed": args.seed}
        writer.write_json(steps, tokenizer, samples, prompt, sys.stdout, about)
    else:
        writer.write_text(steps, tokenizer, samples, prompt, sys.stdout, args.separator)
    if args.max_new_chars and not prompt and not any(sample.visible for sample in samples):
        first = "a line end" if start == "\n" else repr(start)
        say(f"the text is blank: without a prompt the model starts after {first}; give a --prompt")
    return Exit.DONE


def _arguments(argv: list[str]) -> argparse.Namespace:
    # here, where Ctrl-C is handled already
    from gpt.command.cli import Parser, not_empty, number, user_path

    parser = Parser(prog="sample.py", description=__doc__)
    add = parser.add_argument
    add("--run", type=user_path, help="a run, or one of its checkpoints [the newest run's best]")
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--prompt", metavar="TEXT",
        help=r"text to continue, in bash $'A:\nB' for two lines [an unseen line end]")  # fmt: skip
    text.add_argument("--prompt-file", metavar="FILE", type=user_path,
                      help="the same from a file; - is stdin")  # fmt: skip
    add("--unknown", choices=["error", "skip", "replace"], default="error",
        help="what to do with a character of the prompt that is not known [error]")  # fmt: skip
    add("--max-new-chars", metavar="N", type=number(int, 0), default=500,
        help="the most characters to generate for each sample [500]")  # fmt: skip
    add("--end", choices=["line", "length"], default="line",
        help="after N characters: cut back to the last line end, by at most 200 characters and "
        "half of N (line), or keep all of them (length) [line]")  # fmt: skip
    add("--stop", metavar="TEXT", type=not_empty,
        help=r"end before this text, in bash $'\n\n' for an empty line")  # fmt: skip
    add("--num-samples", metavar="N", type=number(int, 1), default=1,
        help="how many samples to generate [1]")  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--separator", metavar="TEXT",
        help="a line between samples [a ruler on a terminal, else an empty line]")  # fmt: skip
    form.add_argument("--json", action="store_true",
        help="print one JSON object a line for each sample, with how it ended")  # fmt: skip
    add("--seed", metavar="N", type=number(int, 0), default=1337,
        help="seed of the samples [1337]")  # fmt: skip
    add("--temperature", metavar="X", type=number(float, 0), default=0.8,
        help="divides the logits: below 1 safer, above 1 more varied, 0 greedy [0.8]")  # fmt: skip
    add("--top-k", metavar="K", type=number(int, 0), default=0,
        help="sample from the K most probable characters [all]")  # fmt: skip
    add("--top-p", metavar="P", type=number(float, 0, 1), default=1.0,
        help="sample from the fewest characters that together have probability P [1]")  # fmt: skip
    add("--device", default="auto", help="auto | cpu | cuda | cuda:N | mps [auto]")
    return parser.parse_all(argv)


def _prompt(args: argparse.Namespace) -> str:
    if args.prompt_file is None:
        return args.prompt or ""
    file = args.prompt_file
    with reading(file, Exit.USAGE, "give a text file, or - for stdin"):
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    text = decoded(data, file, Exit.USAGE, "save the prompt as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


if __name__ == "__main__":
    sys.exit(run_command(main))
