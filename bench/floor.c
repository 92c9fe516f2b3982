/* The least that a manager can do: posix_spawn, pidfd, epoll, nothing else.
 *
 * usage: floor COUNT WORKER FIFO
 * Starts COUNT workers, sleeps until one of them dies and starts it again at once. TERM is passed on to all, and ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char *worker, *fifo;
static posix_spawnattr_t attributes;
static int epoll_fd;
static pid_t *pids;
static int *pidfds;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void start(int index)
{
    char number[12];
    snprintf(number, sizeof number, "%d", index);
    char *argv[] = {worker, fifo, number, NULL};
    if ((errno = posix_spawn(&pids[index], worker, NULL, &attributes, argv, environ)) != 0)
        fail("cannot spawn");
    pidfds[index] = (int)syscall(SYS_pidfd_open, pids[index], 0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)index};
    if (pidfds[index] < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pidfds[index], &event) < 0)
        fail("cannot watch");
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: floor COUNT WORKER FIFO\n");
        return 2;
    }
    int count = atoi(argv[1]);
    worker = argv[2];
    fifo = argv[3];
    pids = calloc((size_t)count, sizeof *pids);
    pidfds = calloc((size_t)count, sizeof *pidfds);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    sigset_t term, none;
    sigemptyset(&none);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);

    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)count};
    if (epoll_fd < 0 || pids == NULL || pidfds == NULL
        || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, signalfd(-1, &term, SFD_CLOEXEC), &event) < 0)
        fail("cannot begin");
    for (int index = 0; index < count; index++)
        start(index);

    for (;;) {
        struct epoll_event ready[64];
        int found = epoll_wait(epoll_fd, ready, 64, -1);
        for (int i = 0; i < found; i++) {
            int index = (int)ready[i].data.u32;
            if (index == count) {
                for (int each = 0; each < count; each++)
                    kill(pids[each], SIGTERM);
                while (wait(NULL) > 0)
                    ;
                return 0;
            }
            siginfo_t status;
            waitid(P_PID, (id_t)pids[index], &status, WEXITED);
            close(pidfds[index]);
            start(index);
        }
    }
}
