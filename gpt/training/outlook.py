"""What is to be expected of a training, in a line: will the model learn its text by heart?"""

from gpt.config import Config

LITTLE_TEXT = 20_000  # characters, some 4,000 words: most occur once, so there is little to learn
ENOUGH_TEXT = 200_000  # characters, from which a small model learns words and the forms of lines
SELDOM = 4  # readings are nearly as good as new text (Muennighoff et al. 2023, figure 1)
OFTEN = 40  # readings: from here on more of them bring nothing (the same, section 6)


def outlook(config: Config, characters: int, parameters: int) -> str:
    """How often the training part, of `characters`, is read, and what comes of it.

    A parameter can hold about two bits (Allen-Zhu and Li 2024), and a character of text has about
    two: a model of as many parameters as characters can hold the text word for word.
    """
    train, model = config.train, config.model
    times = train.max_steps * train.batch_size * model.block_size / characters
    read = f"the {characters:,} characters for training are read {_number(times)} times"
    if characters < LITTLE_TEXT and times > SELDOM:
        return (
            f"{read}: soon learned by heart; expect the text's own words and lines, no new ones; "
            f"{ENOUGH_TEXT:,} characters teach more"
        )
    if times <= SELDOM:
        return f"{read}: too seldom to learn them by heart"
    if parameters < characters:
        return f"{read}: the model, of fewer parameters than that, cannot learn them by heart"
    if times <= OFTEN:
        return f"{read}: it begins to learn them by heart{_remedy(config)}"
    return f"{read}: it learns them by heart, and the best model comes early{_remedy(config)}"


def _remedy(config: Config) -> str:
    return "; --train.weight_decay 1 helps" if config.train.weight_decay < 1 else ""


def _number(times: float) -> str:
    if times < 0.05:
        return "less than 0.1"
    return f"{times:.1f}" if times < 10 else f"{times:,.0f}"
