"""What users get to read: one row per wrong use, with its message, to be judged side by side.

A message names who is meant, says what was given or what is wrong, and ends with the remedy. The
rows hold it in full, or up to where it repeats the row before.
"""

import pytest

from tests.messages import (
    audit_and_metrics,
    compiling,
    estimators,
    first_steps,
    fitting,
    layers,
    losses,
    optimizer,
    saving_and_records,
    several_layers,
    surrogates,
)

ROWS = [
    *first_steps.ROWS,
    *layers.ROWS,
    *surrogates.ROWS,
    *estimators.ROWS,
    *compiling.ROWS,
    *fitting.ROWS,
    *losses.ROWS,
    *optimizer.ROWS,
    *audit_and_metrics.ROWS,
    *saving_and_records.ROWS,
    *several_layers.ROWS,
]


def test_ids_are_unique_and_the_page_is_long():
    assert len({row.id for row in ROWS}) == len(ROWS) >= 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_message(row):
    with pytest.raises(row.error) as caught:
        row.do()
    text = " ".join(str(caught.value).split())
    if "Exception encountered when calling" in text:  # Keras says in which layer
        assert row.message in text
    else:
        assert text.startswith(row.message)
