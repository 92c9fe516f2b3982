/* A worker: tells on a FIFO when it was born, then sleeps until it is killed.
 *
 * usage: worker FIFO INDEX [exit]
 * With a third word it ends at once, with exit code 1.
 * One record is 16 bytes: CLOCK_MONOTONIC in ns (8), pid (4), index (4), in the machine's byte order;
 * shorter than PIPE_BUF, so records of many workers never mix.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct { uint64_t ns; uint32_t pid, index; } birth;
    if (argc < 3)
        return 2;
    birth.ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    birth.pid = (uint32_t)getpid();
    birth.index = (uint32_t)atoi(argv[2]);
    int fd = open(argv[1], O_WRONLY);
    if (fd < 0 || write(fd, &birth, sizeof birth) != (ssize_t)sizeof birth)
        return 1;
    close(fd);
    if (argc > 3)
        return 1;
    for (;;)
        pause();
}
