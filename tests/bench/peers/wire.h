/* What the load generator and the sink share: a stream over TCP or TLS that never blocks, the
 * marker that each message has in its Message-ID, and the sum that shows which ones arrived. */

#ifndef WIRE_H
#define WIRE_H

#include <errno.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The Message-ID begins with "<bench-", 8 digits of the run and 8 of the message, hexadecimal. */
#define MARKER "<bench-"
#define SERIAL_DIGITS 16

enum { AGAIN = -1, CLOSED = -2 };

struct stream {
    int fd;
    SSL *tls;
};

static inline void fail(const char *what)
{
    perror(what);
    exit(2);
}

/* splitmix64: neighbouring serials have unrelated values, so equal sums mean equal sets. */
static inline uint64_t spread(uint64_t serial)
{
    serial += 0x9e3779b97f4a7c15u;
    serial = (serial ^ serial >> 30) * 0xbf58476d1ce4e5b9u;
    serial = (serial ^ serial >> 27) * 0x94d049bb133111ebu;
    return serial ^ serial >> 31;
}

static inline ssize_t outcome(struct stream *stream, int result)
{
    switch (SSL_get_error(stream->tls, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return AGAIN;
    default:
        return CLOSED;
    }
}

static inline ssize_t stream_read(struct stream *stream, void *to, size_t size)
{
    if (stream->tls) {
        int got = SSL_read(stream->tls, to, (int)size);
        return got > 0 ? got : outcome(stream, got);
    }
    ssize_t got = recv(stream->fd, to, size, 0);
    if (got > 0)
        return got;
    return got < 0 && errno == EAGAIN ? AGAIN : CLOSED;
}

static inline ssize_t stream_write(struct stream *stream, const void *from, size_t size)
{
    if (stream->tls) {
        int sent = SSL_write(stream->tls, from, (int)size);
        return sent > 0 ? sent : outcome(stream, sent);
    }
    ssize_t sent = send(stream->fd, from, size, MSG_NOSIGNAL);
    if (sent >= 0)
        return sent;
    return errno == EAGAIN ? AGAIN : CLOSED;
}

static inline void stream_tls(struct stream *stream, SSL_CTX *context, int is_server)
{
    stream->tls = SSL_new(context);
    SSL_set_mode(stream->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_set_fd(stream->tls, stream->fd);
    if (is_server)
        SSL_set_accept_state(stream->tls);
    else
        SSL_set_connect_state(stream->tls);
}

static inline void stream_close(struct stream *stream)
{
    if (stream->tls)
        SSL_free(stream->tls);
    if (stream->fd >= 0)
        close(stream->fd);
    stream->tls = NULL;
    stream->fd = -1;
}

#endif
