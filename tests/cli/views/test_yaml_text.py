from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.views.yaml_text import yaml_text

scalars = st.none() | st.booleans() | st.integers() | st.text()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=100), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(values)
def test_a_reader_of_yaml_gets_the_value_back(value: object) -> None:
    assert yaml.safe_load(yaml_text(value)) == value


def test_it_reads_like_yaml() -> None:
    assert yaml_text({"a": [{"b": "no", "c": []}, "web-1"], "d": None}) == (
        'a:\n  - b: "no"\n    c: []\n  - web-1\nd: null\n'
    )
