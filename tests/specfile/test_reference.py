from __future__ import annotations

from reconciler.specfile import explain


def test_a_path_without_names_means_the_block_and_no_watcher_of_that_name() -> None:
    page = explain("watchers.stop.timeout")
    assert page.startswith("watchers.NAME.stop.timeout\n")
    assert page == explain("watchers.web.stop.timeout")
    assert "watchers.NAME.timeout\n" not in page
