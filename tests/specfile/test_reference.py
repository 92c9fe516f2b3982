from __future__ import annotations

from reconciler.model.address import InternetAddress, parse_address
from reconciler.specfile.machine import this_machine
from reconciler.specfile.reference import explain


def test_a_path_without_names_means_the_block_and_no_watcher_of_that_name() -> None:
    page = explain("watchers.stop.timeout")
    assert page.startswith("watchers.NAME.stop.timeout\n")
    assert page == explain("watchers.web.stop.timeout")
    assert "watchers.NAME.timeout\n" not in page


def test_a_path_may_leave_out_its_beginning_and_the_names_within() -> None:
    page = explain("secrets.refresh")
    assert page.startswith("watchers.NAME.secrets.NAME.refresh\n")
    assert page == explain("watchers.web.secrets.TOKEN.refresh")


def test_a_formula_is_explained_with_what_it_comes_to_here() -> None:
    cpus = this_machine().processors
    told = f"on this machine: cpus = {cpus}, cpus*2 = {2 * cpus}"
    assert told in explain("watchers.numprocesses")
    assert told not in explain("watchers.restart")


def test_a_bare_port_says_which_address_it_means() -> None:
    assert parse_address(8000) == InternetAddress("0.0.0.0", 8000)
    assert "0.0.0.0:port: all IPv4 interfaces, no IPv6" in explain("sockets.listen")
