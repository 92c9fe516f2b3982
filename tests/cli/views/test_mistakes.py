from __future__ import annotations

from reconciler.cli.views.mistakes import github_annotation, spec_error_blocks
from reconciler.cli.views.painting import paint
from reconciler.model.errors import SpecError
from reconciler.model.value import from_plain


def test_a_mistake_shows_the_line_with_a_caret() -> None:
    (error,) = from_plain(
        tuple[SpecError, ...],
        [
            {
                "path": "/srv/specs/web.yaml",
                "line": 3,
                "column": 5,
                "field": "watchers.web.numproceses",
                "message": "unknown field",
                "hint": "did you mean numprocesses?",
                "excerpt": "    numproceses: 2\n    ^^^^^^^^^^^",
            }
        ],
    )

    assert paint(spec_error_blocks([error], folder="/srv")) == [
        "specs/web.yaml:3:5: watchers.web.numproceses: unknown field",
        "        numproceses: 2",
        "        ^^^^^^^^^^^",
        "    hint: did you mean numprocesses?",
    ]


def test_an_annotation_for_github_stays_one_line() -> None:
    (error,) = from_plain(
        tuple[SpecError, ...],
        [{"path": "/srv/a,b.yaml", "line": 3, "column": 5, "message": "50%\nno"}],
    )

    assert github_annotation(error, "/srv") == "::error file=a%2Cb.yaml,line=3,col=5::50%25%0Ano"
