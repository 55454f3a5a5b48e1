"""Why a query, a key and a value, and not less?"""

from statistics import mean

from changes import identity_value, query_is_key, uniform
from drawing import dots
from matplotlib.figure import Figure
from measures import parameters, val_loss
from question import LOSSES, SIZE, Found, Question, Table, Variant, effect, listed

WHOLE = "query, key and value"


def answer_value(table: Table) -> str:
    whole = table[WHOLE]["val_loss"]
    changed = {name: row["val_loss"] for name, row in table.items() if name != WHOLE}
    costs = listed(f"{effect(whole, losses)} with {name}" for name, losses in changed.items())
    dearest = max(changed, key=lambda name: mean(changed[name]))
    others = [whole, *(losses for name, losses in changed.items() if name != dearest)]
    shown = all(min(changed[dearest]) > max(losses) for losses in others)
    verdict = f"the dearest is {dearest}" if shown else "none is shown to be the dearest"
    return f"Of the changes {verdict}: the loss changes by {costs}, in nats."


def draw_value(figure: Figure, found: dict[str, Found]) -> None:
    dots(figure.subplots(), found)


QUESTION = Question(
    asks="Why a query, a key and a value, and not less?",
    keys=SIZE | {"train.max_steps": 600},
    variants=[
        Variant(WHOLE),
        Variant("V as the identity", identity_value),
        Variant("Q = K", query_is_key),
        Variant("uniform weights", uniform),
    ],
    at_start=parameters,
    at_end=val_loss,
    columns={"parameters": ("parameters in use", ",.0f"), **LOSSES},
    answer=answer_value,
    draw=draw_value,
)
