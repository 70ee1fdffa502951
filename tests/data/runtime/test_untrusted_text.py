"""Laws of what messages show: ids look like ids, whatever array they come out of."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from cinefuse.data.embeddings.ids import stored_ids
from cinefuse.data.runtime.errors import BadInput
from cinefuse.data.runtime.untrusted_text import shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [(np.int64(1), "1"), (1, "1"), (np.str_("tt1"), "'tt1'"), ("a", "'a'"), (np.bytes_(b"\xc3\xa9"), "'é'")],
)
def test_an_id_is_shown_as_a_person_writes_it(value: Any, expected: str) -> None:
    assert shown(value) == expected


@pytest.mark.parametrize("ids", [np.array([1, 5, 5]), np.array(["a", "é", "é"], dtype=object)])
def test_an_id_given_twice_is_named_without_numpy_around_it(ids: Any) -> None:
    with pytest.raises(BadInput) as refused:
        stored_ids(ids)
    assert re.search(r"found (5|'é') 2 times", str(refused.value))
