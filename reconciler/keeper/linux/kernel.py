"""The real kernel: does to this machine what the keeper says, and finds out what it asks; composed of its parts."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from reconciler.keeper.borders import Faults
from reconciler.keeper.kernel import ChildrenDied, ClientWaits, FileTouched, Spoke, Told
from reconciler.keeper.linux.children import Children
from reconciler.keeper.linux.control_socket import ControlSocket
from reconciler.keeper.linux.link import NUMBERS, Link
from reconciler.keeper.linux.loop import Loop
from reconciler.keeper.startup.delegation import find_groups
from reconciler.keeper.startup.limits import become_subreaper, take_limits, take_oom_score
from reconciler.keeper.succession.handover import HANDOVER, Handover
from reconciler.model.observation import LogRotated
from reconciler.model.process import Launch
from reconciler.notify import pid_files
from reconciler.notify.sockets import NotifySockets
from reconciler.output.capture import Capture
from reconciler.output.coalescing import Coalescing
from reconciler.output.own_log import OwnLog
from reconciler.output.spool import Spool
from reconciler.sockets.sockets import Sockets, fd_of
from reconciler.sockets.watching import Clients, FileWatch
from reconciler.spawn.accounts import own_user
from reconciler.spawn.environment import Place
from reconciler.spawn.roads import Prepared
from reconciler.system import cgroups, procfs
from reconciler.system.deaths import Deaths
from reconciler.system.notify import NOT_FOR_CHILDREN, Notifier
from reconciler.system.pidfds import Pidfds
from reconciler.system.reexec import become
from reconciler.system.shortages import NOT_NOW
from reconciler.system.signals import Signals
from reconciler.wire.journal import Journal, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reconciler.keeper.kernel import Adopted, Happening, News
    from reconciler.keeper.startup.config import KeeperConfig
    from reconciler.keeper.startup.instance import Legacy
    from reconciler.model.process import ProcessId, Sink
    from reconciler.notify.sockets import NotifySocket
    from reconciler.output.capture import Streams
    from reconciler.sockets.bound import BoundSocket
    from reconciler.spawn.image import Image
    from reconciler.wire.journal import Recalled

RENEWING: Final = "opening the control socket again"


class LinuxKernel:
    """This machine. What only one part of it can answer is asked of that part directly."""

    def __init__(self, config: KeeperConfig, legacy: Legacy, controller: Image) -> None:
        self._config, self._legacy, handed = config, legacy, legacy.handover
        self._image = controller
        self.log = OwnLog(config.log_level).log
        self._faults = Faults(self.log)
        self.border = self._faults.border
        self._loop = loop = Loop(self.border)
        self.wait, self.now_ns = loop.wait, time.monotonic_ns
        journal = Journal(config.journal, legacy.owner, self._journal_told)
        self.note, self.write_down = journal.note, journal.flush
        loop.at("writing the journal", lambda: journal.due_ns, journal.flush)
        self.notifier = Notifier(os.environ)
        self.notify = self.notifier.send
        become_subreaper()
        limits = (*take_limits(handed), *take_oom_score(handed))
        self._place = Place(config.name, dict(os.environ), config.umask, *limits)
        self._user = own_user()
        self._pidfds = pidfds = Pidfds(handed.pidfds)
        loop.watch(pidfds.fileno(), self._look_at_adopted)
        loop.at("looking at adopted processes", lambda: pidfds.due_ns, self._look_at_adopted)
        self._open_output()
        self.is_init = os.getpid() == 1
        self._groups = groups = find_groups(config.cgroup, self.log)
        self.containment: Literal["cgroup", "session"] = "cgroup" if groups else "session"
        self.controllers = () if groups is None else groups.controllers
        if groups is not None:
            loop.watch(groups.fileno(), groups.clean_up)
        streams = self._output, self._notify
        deaths = Deaths(groups)
        signals = Signals(pidfds, deaths, self.log)
        self.signal, self.signal_tree = signals.send, signals.to_tree
        self.limit = partial(cgroups.limit, groups)
        self._children = children = Children(
            loop, pidfds, deaths, self._place, self._user, streams, legacy.marker
        )
        self.marker, self.spawn = legacy.marker, children.spawn
        self.children, self.reap = children.all, children.reap
        self.has_forked, self.below = procfs.has_forked, procfs.below
        self.ancestors = partial(procfs.ancestors, until=os.getpid())
        self.user, self.named_in = procfs.user, pid_files.read
        self.identify = partial(procfs.identify, marker_of=self._marker_of)
        self._heirs = procfs.Heirs(legacy.beginning, self._marker_of, self.border)
        self.search = self._heirs.search
        self._link = Link(loop)
        self.receive, self.send = self._link.receive, self._link.send
        self.close_link = self._link.close
        self._clients = Clients(loop.watch, lambda name: loop.tell(ClientWaits(name)))
        self._files = FileWatch(loop.watch, self._file_touched)
        sockets = Sockets(
            config.umask, config.spares, self._clients, self._files, self.log, handed.sockets
        )
        self.bind, self.take_back = sockets.bind, sockets.take_back
        self.await_client = sockets.await_client
        self._control = control = ControlSocket(
            config, legacy.control, legacy.locks, self._clients, self._files
        )
        self.await_call, self.close_control = control.await_next, control.close
        loop.at(RENEWING, lambda: control.due_ns, self._renew_control)
        loop.listen(
            {
                signal.SIGTERM: Told("stop"),
                signal.SIGINT: Told("stop"),
                signal.SIGHUP: Told(config.hup),
                signal.SIGQUIT: Told("stop_now"),
            }
        )
        # What came while the code was replaced is heard now.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _open_output(self) -> None:
        loop, config, handed = self._loop, self._config, self._legacy.handover
        coalescing = Coalescing(loop, self.border)
        wall = time.time  # noqa: TID251  (stamps are for people)
        spool = Spool(config.spool, self._legacy.boot_id)
        watch, ignore = coalescing.watch, coalescing.ignore
        self._output = output = Capture(config.fifo_dir, spool, watch, ignore, wall)
        self.troubled_logs = output.sinks.troubles
        output.go_on(handed.outputs, handed.unsent, handed.messages)
        loop.at("reading output", lambda: coalescing.due_ns, coalescing.look)
        loop.at("tending to output", lambda: output.due_ns, output.tend)
        self._notify = NotifySockets(
            self._legacy.token,
            loop.watch,
            loop.ignore,
            lambda *key: loop.tell(Spoke(*key)),
            handed.notify_sockets,
        )

    def happenings(self) -> Iterable[Happening]:
        """Return what has happened since asked last, children's deaths last."""
        happened = self._loop.take()
        if Told("reload") in happened:  # whoever misses the socket is told to send SIGHUP
            with self.border(RENEWING):
                self._renew_control()
        if self._loop.may_reap:
            self._loop.may_reap = False
            happened.append(ChildrenDied())
        return happened

    # ---- processes -------------------------------------------------------------------------------

    def _marker_of(self, pid: int) -> str | None:
        held = self._groups.marker_of(pid) if self._groups is not None else ""
        return held or procfs.marker(pid)

    # ---- after another keeper --------------------------------------------------------------------

    def _journal_told(self, trouble: str | None) -> None:
        said = "what is started now is stopped if this keeper dies" if trouble else "goes on"
        self.log("error" if trouble else "info", f"journal: {said}", cause=trouble or "")

    def recall(self) -> Recalled:
        """Return what the former keeper wrote down."""
        return self._legacy.recalled

    def adopt(self, pid: int, born: int) -> Adopted:
        """Care for a process as for a child; whoever has the pid of one that is gone is left alone."""
        self._children.adopted(pid)
        if procfs.parent(pid) == os.getpid():
            return "child" if procfs.born(pid) == born else "gone"
        if pid not in self._pidfds and not self._pidfds.add(pid, born):
            return "gone"
        self._heirs.look_at({procfs.parent(pid)})
        return "other"

    def _look_at_adopted(self) -> None:
        # In one step: a handler that runs between reading the flag and setting it must not be undone.
        if self._pidfds.look():
            self._loop.may_reap = True

    def reopen(self, id: ProcessId, stdout: Sink, stderr: Sink | None) -> Streams:
        """Go on with the output of a process that a former keeper started; some may be lost.

        Raises `OSError` when it cannot be opened just now: its process would wait for a reader.
        """

        return self._output.reopen(
            id, stdout, stderr, lambda cause: self.log("error", "cannot write output", cause=cause)
        )

    def listen_again(self, id: ProcessId, incarnation: int) -> NotifySocket | None:
        """Hear a process again that a former keeper has heard; None when its socket cannot be had any more.

        Raises `OSError` when it cannot be had just now.
        """
        try:
            return self._notify.open(id, incarnation)
        except OSError as error:
            if error.errno in NOT_NOW:
                raise
            self.log("error", "a process is not heard any more", id=id, cause=error)
            return None

    def replace_code(
        self, python: str, entries: Mapping[str, object], sockets: Iterable[BoundSocket]
    ) -> None:
        """Become another version of this keeper, which recalls these entries and all that is open."""
        handover = Handover(
            (*self._place.files, self._place.core),
            self._control.socket.fileno(),
            self._place.oom_score_adj,
            self._control.locks,
            self._pidfds.handles(),
            {each.trace.cookie: fd_of(each) for each in sockets},
            self._output.outgoing(),
            self._output.sinks.unsent(),
            self._output.sinks.unsent_messages(),
            self._notify.handles(),
        )
        argv_with = partial(self._config.for_new_code, python)
        data = written({**entries, HANDOVER: handover})
        become(argv_with, data, handover.descriptors, self._loop.unheard)

    # ---- sockets ---------------------------------------------------------------------------------

    def _file_touched(self) -> None:
        self._loop.tell(FileTouched())
        self._renew_control()

    def _renew_control(self) -> None:
        if (renewed := self._control.renew()) is None:
            return
        self._faults.tell(renewed)
        if renewed.trouble:
            said = "the control socket is gone and cannot be opened again"
            self.log("error", said, path=renewed.path, cause=renewed.trouble)
            return
        self.log("warning", "the control socket was gone; it is open again", path=renewed.path)
        self._link.cut()  # the next controller gets the socket that is open now

    # ---- what is told ----------------------------------------------------------------------------

    def take_news(self) -> list[News]:
        """Return what has become of log files and of the control socket, and what was caught, since asked last."""
        if self._link.is_cut:
            return []  # nobody hears it just now
        sinks = self._output.sinks
        rotated = map(LogRotated, sinks.take_rotated())
        return [*rotated, *sinks.take_changes(), *self._faults.take()]

    # ---- the controller --------------------------------------------------------------------------

    def start_controller(self, *, quick_deaths: int) -> int:
        """Start the controller on a new link and return its pid. Raises `LaunchFailed`."""
        argv = (*self._config.controller_argv, f"--quick-deaths={quick_deaths}")
        env = {name: text for name, text in os.environ.items() if name not in NOT_FOR_CHILDREN}
        # The next keeper ends it, should it not end by itself when this one dies.
        env |= {**NUMBERS, "RECONCILE_ID": f"{self._legacy.beginning}controller"}
        launch = Launch(argv, oom_score_adj=self._place.controllers_oom_score_adj)
        with self._link.opened(self._control.socket) as fds:
            fds = (self._children.null, 1, 2, *fds)
            prepared = Prepared(launch, (argv[0],), env, self._user, fds)
            return self._image.spawn(prepared, self._place)

    def is_behind(self) -> bool:
        """Tell whether the controller has not read all it was sent, or not let a client in."""
        return self._link.is_unread() or self._control.is_waiting()
