/* A worker that writes numbered lines, and tells on a FIFO when it began and when the last was written.
 *
 * usage: writer FIFO INDEX LINES PER_SECOND START_NS
 * A line is 100 bytes: "IIIIIIIIII NNNNNNNNNN xxx...x\n", its writer and its number from 0. At PER_SECOND 0
 * lines go out flat out in blocks of 64 KiB, else each is one write at its time. The first waits for START_NS
 * of CLOCK_MONOTONIC. Records are those of worker.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 100, DIGITS = 10, BLOCK = 65536 / LINE };

static void tell(int fd, uint32_t index)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct { uint64_t ns; uint32_t pid, index; } record
        = {(uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, (uint32_t)getpid(), index};
    if (write(fd, &record, sizeof record) != (ssize_t)sizeof record)
        exit(1);
}

static void put(const char *data, size_t size)
{
    while (size > 0) {
        ssize_t done = write(1, data, size);
        if (done < 0 && errno != EINTR)
            exit(1);
        if (done > 0) {
            data += done;
            size -= (size_t)done;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    int fd = open(argv[1], O_WRONLY);
    uint32_t index = (uint32_t)atoi(argv[2]);
    long long lines = atoll(argv[3]), rate = atoll(argv[4]), start = atoll(argv[5]);
    static char block[BLOCK * LINE];
    char line[LINE + 1];
    if (fd < 0)
        return 1;
    snprintf(line, sizeof line, "%010u %010u ", index, 0);
    memset(line + 2 * DIGITS + 2, 'x', LINE - 1 - (2 * DIGITS + 2));
    line[LINE - 1] = '\n';

    struct timespec at = {start / 1000000000, start % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    tell(fd, index);
    size_t filled = 0;
    for (long long number = 0; number < lines; number++) {
        if (rate > 0) {
            long long ns = start + number * (1000000000 / rate);
            at.tv_sec = ns / 1000000000;
            at.tv_nsec = ns % 1000000000;
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
            put(line, LINE);
        } else {
            memcpy(block + filled, line, LINE);
            filled += LINE;
            if (filled == sizeof block || number == lines - 1) {
                put(block, filled);
                filled = 0;
            }
        }
        for (char *digit = line + 2 * DIGITS; ++*digit > '9'; digit--)
            *digit = '0';
    }
    tell(fd, index);
    for (;;)
        pause();
}
