/* The least that keeping output costs: large pipes, epoll, large reads, files rotated between two lines.
 *
 * usage: reader FOLDER MAX_BYTES COUNT WRITER FIFO LINES PER_SECOND START_NS
 * Starts COUNT writers and keeps the output of each in FOLDER/INDEX/out.1, out.2, ... TERM ends all.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { LARGE = 1 << 20 };

struct stream {
    int pipe, file, number;
    long long size;
    pid_t pid;
};

static const char *folder;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void next_file(struct stream *stream, int index)
{
    char path[4096];
    if (stream->number > 0)
        close(stream->file);
    snprintf(path, sizeof path, "%s/%d/out.%d", folder, index, ++stream->number);
    stream->file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    stream->size = 0;
    if (stream->file < 0)
        fail(path);
}

static void keep(struct stream *stream, int index, const char *data, ssize_t size, long long most)
{
    while (size > 0) {
        ssize_t part = size;
        if (stream->size + size > most) {
            const char *end = memchr(data, '\n', (size_t)size);
            part = end == NULL ? size : end - data + 1;
        }
        if (write(stream->file, data, (size_t)part) != part)
            fail("cannot write");
        stream->size += part;
        if (part < size || (stream->size >= most && data[part - 1] == '\n'))
            next_file(stream, index);
        data += part;
        size -= part;
    }
}

int main(int argc, char **argv)
{
    if (argc != 9)
        return 2;
    folder = argv[1];
    long long most = atoll(argv[2]);
    int count = atoi(argv[3]);
    struct stream *streams = calloc((size_t)count, sizeof *streams);
    char *data = malloc(LARGE);
    sigset_t term, none;
    sigemptyset(&none);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)count};
    if (streams == NULL || data == NULL
        || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, signalfd(-1, &term, SFD_CLOEXEC), &event) < 0)
        fail("cannot begin");

    for (int index = 0; index < count; index++) {
        int ends[2];
        char number[12];
        snprintf(number, sizeof number, "%d", index);
        char *words[] = {argv[4], argv[5], number, argv[6], argv[7], argv[8], NULL};
        posix_spawn_file_actions_t actions;
        if (pipe2(ends, O_CLOEXEC) < 0)
            fail("pipe");
        fcntl(ends[0], F_SETPIPE_SZ, LARGE);
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
        if (posix_spawn(&streams[index].pid, argv[4], &actions, &attributes, words, environ) != 0)
            fail("cannot spawn");
        posix_spawn_file_actions_destroy(&actions);
        close(ends[1]);
        streams[index].pipe = ends[0];
        next_file(&streams[index], index);
        event.data.u32 = (unsigned)index;
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, ends[0], &event) < 0)
            fail("cannot watch");
    }
    for (;;) {
        struct epoll_event ready[64];
        int found = epoll_wait(epoll_fd, ready, 64, -1);
        for (int i = 0; i < found; i++) {
            int index = (int)ready[i].data.u32;
            if (index == count) {
                for (int each = 0; each < count; each++)
                    kill(streams[each].pid, SIGTERM);
                while (wait(NULL) > 0)
                    ;
                return 0;
            }
            ssize_t size = read(streams[index].pipe, data, LARGE);
            if (size <= 0)
                epoll_ctl(epoll_fd, EPOLL_CTL_DEL, streams[index].pipe, NULL);
            keep(&streams[index], index, data, size, most);
        }
    }
}
