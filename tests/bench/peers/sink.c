/* The next hop of the benchmark: accepts every message, counts it, and throws it away.
 *
 *     sink -p PORT -f COUNTERS -d FOLDER [-c CERTIFICATE -k KEY]
 *
 * COUNTERS is a file of 8 numbers of 64 bits that another program maps too: messages, recipients,
 * octets, the sum of the serials' spread values, messages without a serial, messages to keep (set
 * by the other program), messages kept, and the monotonic clock's nanoseconds when the last message
 * was complete. A kept message is written to
 * FOLDER/NUMBER as it came, dots doubled. With a certificate there is STARTTLS. */

#define _GNU_SOURCE
#include "wire.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>

#define HEAD 8192     /* the Message-ID is among these octets */
#define CHUNK 262144  /* read at once */

struct counters {
    volatile uint64_t messages, recipients, octets, sum, unmarked, keep, kept, last_ns;
};

struct session {
    struct stream stream;
    bool in_data, wants_write;
    size_t recipients;
    char line[2048]; size_t line_length;       /* a command that is not complete */
    char tail[4]; size_t tail_length;          /* the last octets of the data so far */
    char head[HEAD]; size_t head_length;
    uint64_t octets;
    char *copy; size_t copy_size;              /* a message that is to be kept */
    char out[8192]; size_t out_length;
};

static struct counters *counters;
static SSL_CTX *tls;
static const char *folder = ".";
static int poll_fd;
static char chunk[CHUNK];

static void reply(struct session *one, const char *text)
{
    size_t length = strlen(text);
    if (one->out_length + length <= sizeof one->out) {
        memcpy(one->out + one->out_length, text, length);
        one->out_length += length;
    }
}

static void end(struct session *one)
{
    stream_close(&one->stream);
    free(one->copy);
    free(one);
}

static bool flush(struct session *one)
{
    size_t sent = 0;
    bool is_open = true;
    while (is_open && sent < one->out_length) {
        ssize_t n = stream_write(&one->stream, one->out + sent, one->out_length - sent);
        if (n == AGAIN)
            break;
        if (n == CLOSED)
            is_open = false;
        else
            sent += (size_t)n;
    }
    memmove(one->out, one->out + sent, one->out_length - sent);
    one->out_length -= sent;
    bool wants_write = one->out_length > 0;
    if (is_open && wants_write != one->wants_write) {
        struct epoll_event event = { .events = EPOLLIN | (wants_write ? EPOLLOUT : 0), .data.ptr = one };
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, one->stream.fd, &event);
        one->wants_write = wants_write;
    }
    return is_open;
}

static void count(struct session *one)
{
    const char *at = memmem(one->head, one->head_length, MARKER, strlen(MARKER));
    char digits[SERIAL_DIGITS + 1] = "";
    if (at && at + strlen(MARKER) + SERIAL_DIGITS <= one->head + one->head_length) {
        memcpy(digits, at + strlen(MARKER), SERIAL_DIGITS);
        counters->sum += spread(strtoull(digits, NULL, 16));
    } else
        counters->unmarked++;
    counters->recipients += one->recipients;
    counters->octets += one->octets;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    counters->last_ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    counters->messages++;
}

static void keep(struct session *one)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%llu", folder, (unsigned long long)counters->kept);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(one->copy, 1, one->octets, file) != one->octets || fclose(file))
        fail(path);
    counters->kept++;
    free(one->copy);
    one->copy = NULL;
    one->copy_size = 0;
}

static void begin_data(struct session *one)
{
    one->in_data = true;
    one->head_length = one->octets = 0;
    memcpy(one->tail, "\r\n", 2);  /* a lone dot may be the first line */
    one->tail_length = 2;
    if (counters->kept < counters->keep)
        one->copy = malloc(one->copy_size = CHUNK);
}

static void take(struct session *one, const char *from, size_t length)
{
    if (one->head_length < HEAD) {
        size_t more = length < HEAD - one->head_length ? length : HEAD - one->head_length;
        memcpy(one->head + one->head_length, from, more);
        one->head_length += more;
    }
    if (one->copy) {
        while (one->octets + length > one->copy_size)
            one->copy = realloc(one->copy, one->copy_size *= 2);
        memcpy(one->copy + one->octets, from, length);
    }
    one->octets += length;
}

/* How many of these octets belong to the message; `*ended` when its end is among them. */
static size_t data(struct session *one, const char *from, size_t length, bool *ended)
{
    char seam[8];
    size_t more = length < 4 ? length : 4, used = length;
    memcpy(seam, one->tail, one->tail_length);
    memcpy(seam + one->tail_length, from, more);
    const char *found = memmem(seam, one->tail_length + more, "\r\n.\r\n", 5);
    if (found) {
        used = (size_t)(found + 5 - seam) - one->tail_length;
        *ended = true;
    } else if ((found = memmem(from, length, "\r\n.\r\n", 5))) {
        used = (size_t)(found + 5 - from);
        *ended = true;
    }
    take(one, from, used);
    if (!*ended) {
        char both[8];
        size_t total = one->tail_length + more;
        if (length >= 4) {
            memcpy(one->tail, from + length - 4, 4);
            one->tail_length = 4;
        } else {
            memcpy(both, seam, total);
            one->tail_length = total < 4 ? total : 4;
            memcpy(one->tail, both + total - one->tail_length, one->tail_length);
        }
    }
    return used;
}

/* One command; false when the connection is to be closed. */
static bool obey(struct session *one, const char *line)
{
    if (!strncasecmp(line, "EHLO", 4)) {
        reply(one, "250-sink.example.net\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n");
        if (tls && !one->stream.tls)
            reply(one, "250-STARTTLS\r\n");
        reply(one, "250 ENHANCEDSTATUSCODES\r\n");
    } else if (!strncasecmp(line, "MAIL", 4) || !strncasecmp(line, "RSET", 4)) {
        one->recipients = 0;
        reply(one, "250 2.1.0 Ok\r\n");
    } else if (!strncasecmp(line, "RCPT", 4)) {
        one->recipients++;
        reply(one, "250 2.1.5 Ok\r\n");
    } else if (!strncasecmp(line, "DATA", 4)) {
        begin_data(one);
        reply(one, "354 End data with <CR><LF>.<CR><LF>\r\n");
    } else if (!strncasecmp(line, "STARTTLS", 8) && tls && !one->stream.tls) {
        reply(one, "220 2.0.0 Ready to start TLS\r\n");
        if (!flush(one))
            return false;
        stream_tls(&one->stream, tls, 1);
        one->line_length = 0;
    } else if (!strncasecmp(line, "QUIT", 4)) {
        reply(one, "221 2.0.0 Bye\r\n");
        flush(one);
        return false;
    } else if (!strncasecmp(line, "HELO", 4) || !strncasecmp(line, "NOOP", 4))
        reply(one, "250 2.0.0 Ok\r\n");
    else
        reply(one, "502 5.5.1 Command not implemented\r\n");
    return true;
}

static bool consume(struct session *one, const char *from, size_t length)
{
    while (length) {
        size_t used;
        if (one->in_data) {
            bool ended = false;
            used = data(one, from, length, &ended);
            if (ended) {
                one->in_data = false;
                if (one->copy)
                    keep(one);
                count(one);
                reply(one, "250 2.0.0 Ok\r\n");
            }
        } else {
            const char *feed = memchr(from, '\n', length);
            used = feed ? (size_t)(feed + 1 - from) : length;
            if (one->line_length + used >= sizeof one->line)
                return false;
            memcpy(one->line + one->line_length, from, used);
            one->line_length += used;
            if (feed) {
                one->line[one->line_length] = 0;
                one->line_length = 0;
                if (!obey(one, one->line))
                    return false;
            }
        }
        from += used;
        length -= used;
    }
    return flush(one);
}

static void readable(struct session *one)
{
    for (;;) {
        ssize_t got = stream_read(&one->stream, chunk, sizeof chunk);
        if (got == AGAIN)
            return;
        if (got == CLOSED || !consume(one, chunk, (size_t)got)) {
            end(one);
            return;
        }
        if (!one->stream.tls && got < CHUNK)
            return;  /* the kernel reports what comes later */
    }
}

static void welcome(int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct session *one = calloc(1, sizeof *one);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        one->stream.fd = fd;
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = one };
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
        reply(one, "220 sink.example.net ESMTP\r\n");
        flush(one);
    }
}

static int listening(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1024))
        fail("listen");
    return fd;
}

static void map(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *counters))
        fail(path);
    counters = mmap(NULL, sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counters == MAP_FAILED)
        fail("mmap");
}

int main(int count_of_words, char **words)
{
    const char *certificate = NULL, *key = NULL, *file = NULL;
    int option, port = 0;
    signal(SIGPIPE, SIG_IGN);
    while ((option = getopt(count_of_words, words, "p:f:d:c:k:")) != -1)
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'f': file = optarg; break;
        case 'd': folder = optarg; break;
        case 'c': certificate = optarg; break;
        case 'k': key = optarg; break;
        default: return 2;
        }
    if (!file || !port)
        return 2;
    map(file);
    if (certificate) {
        tls = SSL_CTX_new(TLS_server_method());
        if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
            SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
            fail(certificate);
    }
    int listener = listening(port);
    struct epoll_event events[256], accepting = { .events = EPOLLIN, .data.ptr = NULL };
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &accepting);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            struct session *one = events[i].data.ptr;
            if (!one)
                welcome(listener);
            else if (events[i].events & EPOLLOUT && !flush(one))
                end(one);
            else if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                readable(one);
        }
    }
}
