"""Write text with a trained model: `python sample.py`, the newest run's best by default."""

import argparse
import sys
from pathlib import Path

from gpt.command.process import run_command
from gpt.errors import Exit, not_utf8, reading, say


def main(argv: list[str]) -> int:
    """Print the prompt and what the model writes after it."""
    args = _arguments(argv)
    prompt = _prompt(args)

    # imports of torch, only once it is needed
    from gpt.device import find_device
    from gpt.generation.generate import generate
    from gpt.generation.writer import known_prompt, start_of, write
    from gpt.memory import require_sampling_memory
    from gpt.storage.find import find_checkpoint

    checkpoint = find_checkpoint(args.run, say)
    tokenizer = checkpoint.tokenizer
    prompt = known_prompt(prompt, tokenizer, args.unknown)
    require_sampling_memory(checkpoint.config.model, len(tokenizer), args.num_samples)
    steps = generate(
        checkpoint.make_model().to(find_device(args.device)),
        tokenizer.encode(start_of(prompt, tokenizer)),
        num_samples=args.num_samples,
        seed=args.seed,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
    )
    write(
        steps,
        tokenizer,
        prompt,
        sys.stdout,
        num_samples=args.num_samples,
        max_new_chars=args.max_new_chars,
        stop=args.stop,
    )
    return Exit.DONE


def _arguments(argv: list[str]) -> argparse.Namespace:
    from gpt.command.cli import Parser, number, user_path  # here, where Ctrl-C is handled already

    parser = Parser(prog="sample.py", description=__doc__)
    add = parser.add_argument
    add("--run", type=user_path, help="a run, or one of its checkpoints [the newest run's best]")
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--prompt", help="text to continue")
    text.add_argument("--prompt-file", metavar="FILE", type=user_path,
                      help="the same from a file; - is stdin")  # fmt: skip
    add("--unknown", choices=["error", "skip", "replace"], default="error",
        help="what to do with a character that the model does not know [error]")  # fmt: skip
    add("--max-new-chars", metavar="N", type=number(int, 0), default=500,
        help="characters to generate for each sample [500]")  # fmt: skip
    add("--stop", metavar="TEXT", help="stop before this text")
    add("--num-samples", metavar="N", type=number(int, 1, 2**63 - 1), default=1,
        help="how many samples to generate [1]")  # fmt: skip
    add("--seed", metavar="N", type=number(int, 0, 2**63 - 1), default=1337,
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
    try:
        with reading(file, Exit.USAGE, "give a text file, or - for stdin"):
            data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as problem:
        byte, fix = problem.object[problem.start], "save the prompt as UTF-8"
        raise not_utf8(file, problem.start, byte, Exit.USAGE, fix) from None


if __name__ == "__main__":
    sys.exit(run_command(main))
