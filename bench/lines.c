/* Judges what became of a writer's lines: each must be there once, whole, in whatever file.
 *
 * usage: lines INDEX LINES PREFIX FILE...
 * PREFIX 1 allows something before a line (a time). Prints three numbers: lines that are missing, lines that
 * are no whole line of this writer, lines that are there more than once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 100, DIGITS = 10 };

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    long long lines = atoll(argv[2]), missing = 0, cut = 0, doubled = 0;
    int may_have_prefix = atoi(argv[3]);
    unsigned char *seen = calloc((size_t)lines + 1, 1);
    char expected[LINE + 1], *text = NULL;
    size_t room = 0;
    snprintf(expected, sizeof expected, "%010u %010u ", (unsigned)atoi(argv[1]), 0);
    memset(expected + 2 * DIGITS + 2, 'x', LINE - 1 - (2 * DIGITS + 2));
    expected[LINE - 1] = '\n';

    for (int each = 4; each < argc; each++) {
        FILE *file = fopen(argv[each], "r");
        if (file == NULL || seen == NULL) {
            perror(argv[each]);
            return 1;
        }
        setvbuf(file, NULL, _IOFBF, 1 << 20);
        for (ssize_t size; (size = getline(&text, &room, file)) > 0;) {
            const char *found = text + size - LINE;
            int is_whole = (may_have_prefix ? size >= LINE : size == LINE)
                && memcmp(found, expected, DIGITS + 1) == 0
                && memcmp(found + 2 * DIGITS + 1, expected + 2 * DIGITS + 1, LINE - 2 * DIGITS - 1) == 0;
            long long number = 0;
            for (int i = DIGITS + 1; is_whole && i < 2 * DIGITS + 1; i++) {
                is_whole = found[i] >= '0' && found[i] <= '9';
                number = number * 10 + (found[i] - '0');
            }
            if (!is_whole || number >= lines)
                cut++;
            else if (seen[number]++)
                doubled++;
        }
        fclose(file);
    }
    for (long long number = 0; number < lines; number++)
        missing += !seen[number];
    printf("%lld %lld %lld\n", missing, cut, doubled);
    return 0;
}
