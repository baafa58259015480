/* The load of the benchmark: clients that log in and submit one message after the other.
 *
 *     load -p PORT -m MESSAGE -f SENDERS [-c CONNECTIONS] [-k MESSAGES] [-s SECONDS] [-R RATE]
 *          [-r RECIPIENTS] [-u USER -w PASSWORD] [-t] [-i RUN]
 *
 * Each of CONNECTIONS clients sends MESSAGES over a connection, each command after the reply to
 * the one before, then connects again. It prints a line when every client has logged in, and begins
 * when it reads one. New messages begin for SECONDS; those that have begun are carried to their end. With RATE a message begins when it is
 * due, and its time counts from then; otherwise the next begins when the one before has its reply.
 * -t: STARTTLS (no certificate is checked). MESSAGE is as on the wire, with its final dot; in it,
 * @SENDER@ becomes an address of SENDERS (one a line, used in turn) and @SERIAL@ a new number.
 * Only loopback is connected to. Prints a line of JSON after the last reply. The sessions stay open
 * until the standard input ends. */

#define _GNU_SOURCE
#include "wire.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>

#define HEAD 16384           /* placeholders are among these octets of the message */
#define MAX_SENDERS 1024
#define MAX_ERRORS 200
#define LOGIN_WAIT_S 60.0    /* for all clients to log in, before the clock starts anyway */
#define END_WAIT_S 60.0      /* for the last replies, and for the standard input to end */
#define QUIT_WAIT_S 3.0

enum state { IDLE, CLOSED_ST, CONNECTING, GREETING, EHLO, STARTTLS, EHLO_TLS, AUTH, MAIL, RCPT, DATA, DOT, QUIT };

struct client {
    struct stream stream;
    enum state state;
    bool wants_write, is_ready, is_in_line;
    int sent, recipient;
    char in[8192]; size_t in_length;
    char out[HEAD + 1024]; size_t out_length, out_sent;
    const char *rest; size_t rest_length;         /* of the message, shared by all */
    uint64_t serial;
    const char *sender;
    double begun, connected_at;
    struct client *next_idle;
};

static int port, clients_wanted = 16, messages_each = 10, recipients = 1, poll_fd, timer_fd;
static double seconds = 3, rate, clock_started, last_end;
static const char *login, *senders[MAX_SENDERS];
static size_t senders_count;
static uint32_t run_number;
static bool wants_tls, clock_runs;
static char *message, authentication[2048], unexpected[256];
static size_t message_length;
static SSL_CTX *tls;
static struct client *clients, *first_idle, **last_idle = &first_idle;
static struct sockaddr_in address = { .sin_family = AF_INET };
static long begun, ended, accepted, deferred, refused, failed, connections, open_clients, ready_clients;
static uint64_t sum;
static double *latencies, *logins;
static long latencies_count, latencies_size, logins_count, logins_size;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void note(double **list, long *count, long *size, double value)
{
    if (*count == *size)
        *list = realloc(*list, (size_t)(*size = *size ? *size * 2 : 4096) * sizeof **list);
    (*list)[(*count)++] = value;
}

static void watch(struct client *one, bool wants_write)
{
    if (one->wants_write == wants_write)
        return;
    struct epoll_event event = { .events = EPOLLIN | (wants_write ? EPOLLOUT : 0), .data.ptr = one };
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, one->stream.fd, &event);
    one->wants_write = wants_write;
}

static bool in_transaction(const struct client *one)
{
    return one->state >= MAIL && one->state <= DOT;
}

static void close_client(struct client *one)
{
    if (one->state == CLOSED_ST)
        return;
    stream_close(&one->stream);
    one->state = CLOSED_ST;
    if (one->is_ready && !clock_runs)
        ready_clients--;
    one->is_ready = false;
    open_clients--;
}

static void lost(struct client *one)
{
    if (in_transaction(one))
        ended++;
    if (one->state != QUIT) {
        failed++;
        if (!*unexpected)
            snprintf(unexpected, sizeof unexpected, "connection lost in state %d", one->state);
    }
    close_client(one);
}

static void open_client(struct client *one)
{
    int on = 1;
    memset(&one->stream, 0, sizeof one->stream);
    one->stream.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (one->stream.fd < 0)
        fail("socket");
    setsockopt(one->stream.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    one->state = CONNECTING;
    one->sent = 0;
    one->in_length = one->out_length = one->out_sent = one->rest_length = 0;
    one->wants_write = true;
    one->connected_at = now();
    connections++;
    open_clients++;
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT, .data.ptr = one };
    if (connect(one->stream.fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail("connect");
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, one->stream.fd, &event);
}

static void flush(struct client *one)
{
    while (one->out_sent < one->out_length || one->rest_length) {
        bool is_head = one->out_sent < one->out_length;
        const char *from = is_head ? one->out + one->out_sent : one->rest;
        size_t size = is_head ? one->out_length - one->out_sent : one->rest_length;
        ssize_t sent = stream_write(&one->stream, from, size);
        if (sent == AGAIN) {
            watch(one, true);
            return;
        }
        if (sent == CLOSED) {
            lost(one);
            return;
        }
        if (is_head)
            one->out_sent += (size_t)sent;
        else {
            one->rest += sent;
            one->rest_length -= (size_t)sent;
        }
    }
    watch(one, false);
}

__attribute__((format(printf, 3, 4)))
static void command(struct client *one, enum state next, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int length = vsnprintf(one->out, sizeof one->out, format, values);
    va_end(values);
    one->state = next;
    one->out_length = (size_t)length;
    one->out_sent = 0;
    flush(one);
}

/* The message with its sender and serial, up to HEAD octets; the rest needs no copy. */
static void send_message(struct client *one)
{
    char *to = one->out;
    const char *from = message, *head_end = message + (message_length < HEAD ? message_length : HEAD);
    while (from < head_end) {
        const char *at = memchr(from, '@', (size_t)(head_end - from));
        size_t plain = (size_t)((at ? at : head_end) - from);
        if ((size_t)(to - one->out) + plain + 512 > sizeof one->out)
            plain = sizeof one->out - (size_t)(to - one->out) - 512, at = NULL, head_end = from + plain;
        memcpy(to, from, plain);
        to += plain;
        from += plain;
        if (!at)
            break;
        if (head_end - from >= 8 && !memcmp(from, "@SENDER@", 8)) {
            to = stpcpy(to, one->sender);
            from += 8;
        } else if (head_end - from >= 8 && !memcmp(from, "@SERIAL@", 8)) {
            to += sprintf(to, "%016llx", (unsigned long long)one->serial);
            from += 8;
        } else
            *to++ = *from++;
    }
    one->state = DOT;
    one->out_length = (size_t)(to - one->out);
    one->out_sent = 0;
    one->rest = from;
    one->rest_length = (size_t)(message + message_length - from);
    flush(one);
}

static bool may_begin(void)
{
    return rate > 0 ? begun < (long)(rate * seconds) : now() - clock_started < seconds;
}

static void begin_message(struct client *one)
{
    one->begun = rate > 0 ? clock_started + (double)begun / rate : now();
    one->sender = senders[(size_t)begun % senders_count];
    one->serial = (uint64_t)run_number << 32 | (uint32_t)++begun;
    one->recipient = 0;
    one->sent++;
    command(one, MAIL, "MAIL FROM:<%s>\r\n", one->sender);
}

static void wait_for_turn(struct client *one)
{
    one->state = IDLE;
    if (one->is_in_line)
        return;  /* it lost its connection meanwhile */
    one->is_in_line = true;
    one->next_idle = NULL;
    *last_idle = one;
    last_idle = &one->next_idle;
}

static struct client *take_idle(void)
{
    struct client *one;
    while ((one = first_idle)) {
        if (!(first_idle = one->next_idle))
            last_idle = &first_idle;
        one->is_in_line = false;
        if (one->state == IDLE)
            return one;
    }
    return NULL;
}

static void next_message(struct client *one)
{
    if (!clock_runs) {
        if (!one->is_ready)
            ready_clients++;
        one->is_ready = true;
        wait_for_turn(one);
    } else if (one->sent >= messages_each && may_begin())
        command(one, QUIT, "QUIT\r\n");
    else if (rate > 0 || !may_begin())
        wait_for_turn(one);
    else
        begin_message(one);
}

/* Messages that are due, to clients that are free. */
static void serve_idle(void)
{
    if (!clock_runs || !first_idle)
        return;
    struct client *one;
    while (rate > 0 && may_begin() && clock_started + (double)begun / rate <= now() && (one = take_idle()))
        begin_message(one);
    if (rate > 0 && may_begin()) {
        double due = clock_started + (double)begun / rate;
        struct itimerspec when = { .it_value = { (time_t)due, (long)((due - (double)(time_t)due) * 1e9) + 1 } };
        timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    }
}

static void start_clock(void)
{
    char begin;
    puts("ready");
    fflush(stdout);
    if (read(STDIN_FILENO, &begin, 1) != 1)  /* nobody measures */
        exit(0);
    clock_runs = true;
    clock_started = last_end = now();
    if (rate <= 0)
        for (struct client *one; (one = take_idle());)
            begin_message(one);
}

static void finish(struct client *one, int code, const char *line)
{
    double time = now();
    ended++;
    last_end = time;
    if (code / 100 == 2) {
        accepted++;
        sum += spread(one->serial);
        note(&latencies, &latencies_count, &latencies_size, time - one->begun);
    } else {
        code / 100 == 4 ? deferred++ : refused++;
        if (!*unexpected)
            snprintf(unexpected, sizeof unexpected, "%.200s", line);
    }
    if (code == 421)
        close_client(one);
    else if (code / 100 != 2)
        command(one, QUIT, "QUIT\r\n");
    else
        next_message(one);
}

static const short expected[] = {
    [GREETING] = 220, [EHLO] = 250, [STARTTLS] = 220, [EHLO_TLS] = 250, [AUTH] = 235,
    [MAIL] = 250, [RCPT] = 250, [DATA] = 354, [DOT] = 250, [QUIT] = 221,
};

static void logged_in(struct client *one)
{
    note(&logins, &logins_count, &logins_size, now() - one->connected_at);
    next_message(one);
}

static void answered(struct client *one, int code, const char *line)
{
    if (code != expected[one->state]) {
        if (in_transaction(one))
            finish(one, code, line);
        else {
            if (!*unexpected)
                snprintf(unexpected, sizeof unexpected, "%.200s", line);
            lost(one);
        }
        return;
    }
    switch (one->state) {
    case GREETING:
        command(one, EHLO, "EHLO client.perf.example\r\n");
        break;
    case EHLO:
        if (wants_tls) {
            command(one, STARTTLS, "STARTTLS\r\n");
            break;
        }
        /* fall through */
    case EHLO_TLS:
        if (login)
            command(one, AUTH, "AUTH PLAIN %s\r\n", authentication);
        else
            logged_in(one);
        break;
    case STARTTLS:
        stream_tls(&one->stream, tls, 0);
        command(one, EHLO_TLS, "EHLO client.perf.example\r\n");
        break;
    case AUTH:
        logged_in(one);
        break;
    case MAIL:
    case RCPT:
        if (one->recipient < recipients) {
            one->recipient++;
            command(one, RCPT, "RCPT TO:<user%d@example.net>\r\n", one->recipient);
        } else
            command(one, DATA, "DATA\r\n");
        break;
    case DATA:
        send_message(one);
        break;
    case DOT:
        finish(one, code, line);
        break;
    default:
        close_client(one);
    }
}

static void readable(struct client *one)
{
    for (;;) {
        ssize_t got = stream_read(&one->stream, one->in + one->in_length, sizeof one->in - 1 - one->in_length);
        if (got == AGAIN)
            return;
        if (got == CLOSED || one->in_length + (size_t)got == sizeof one->in - 1) {
            lost(one);
            return;
        }
        one->in_length += (size_t)got;
        one->in[one->in_length] = 0;
        char *line = one->in, *feed;
        bool had_tls = one->stream.tls;
        while ((feed = memchr(line, '\n', one->in_length - (size_t)(line - one->in)))) {
            if (feed - line >= 4 && line[3] != '-') {
                feed[feed > line && feed[-1] == '\r' ? -1 : 0] = 0;
                answered(one, atoi(line), line);
                if (one->state == CLOSED_ST)
                    return;
            }
            line = feed + 1;
        }
        one->in_length -= (size_t)(line - one->in);
        memmove(one->in, line, one->in_length);
        if (!had_tls)
            return;  /* the kernel reports what comes later */
    }
}

static void happened(struct client *one, uint32_t events)
{
    if (one->state == CLOSED_ST)
        return;
    if (one->state == CONNECTING) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(one->stream.fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error) {
            lost(one);
            return;
        }
        one->state = GREETING;
        watch(one, false);
    }
    if (events & EPOLLOUT)
        flush(one);
    if (one->state != CLOSED_ST && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        readable(one);
}

static void run(void)
{
    struct epoll_event events[256];
    double begin = now();
    for (int i = 0; i < clients_wanted; i++)
        open_client(&clients[i]);
    for (;;) {
        double time = now();
        if (!clock_runs && (ready_clients == clients_wanted || time - begin > LOGIN_WAIT_S))
            start_clock();
        bool more = !clock_runs || may_begin();
        if ((!more && ended >= begun) || failed > MAX_ERRORS)
            return;
        if (clock_runs && time > clock_started + seconds + END_WAIT_S)
            return;
        if (more)
            for (int i = 0; i < clients_wanted; i++)
                if (clients[i].state == CLOSED_ST)
                    open_client(&clients[i]);
        serve_idle();
        int ready = epoll_wait(poll_fd, events, 256, 50);
        for (int i = 0; i < ready; i++) {
            uint64_t times;
            if (events[i].data.ptr)
                happened(events[i].data.ptr, events[i].events);
            else if (read(timer_fd, &times, sizeof times) < 0 && errno != EAGAIN)
                fail("timer");
        }
    }
}

static int by_size(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double percentile_ms(double *sorted, long count, double part)
{
    return count ? sorted[(long)(part * (double)(count - 1) + 0.5)] * 1e3 : 0;
}

static void report(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    qsort(latencies, (size_t)latencies_count, sizeof *latencies, by_size);
    qsort(logins, (size_t)logins_count, sizeof *logins, by_size);
    for (char *c = unexpected; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ' || (unsigned char)*c > '~')
            *c = '\'';
    printf("{\"begun\": %ld, \"accepted\": %ld, \"deferred\": %ld, \"refused\": %ld, \"failed\": %ld, "
           "\"connections\": %ld, \"seconds\": %.4f, \"started_at\": %.6f, \"cpu_s\": %.4f, \"sum\": %llu, "
           "\"unexpected\": \"%s\", "
           "\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"longest_ms\": %.3f, \"login_p50_ms\": %.3f}\n",
           begun, accepted, deferred, refused, failed, connections, last_end - clock_started, clock_started,
           cpu, (unsigned long long)sum, unexpected,
           percentile_ms(latencies, latencies_count, 0.5), percentile_ms(latencies, latencies_count, 0.99),
           percentile_ms(latencies, latencies_count, 1), percentile_ms(logins, logins_count, 0.5));
    fflush(stdout);
}

/* The sessions end when the standard input does, so their end is not measured. */
static void leave(void)
{
    struct epoll_event events[256];
    struct pollfd input = { .fd = 0, .events = POLLIN };
    char octets[64];
    while (poll(&input, 1, (int)(END_WAIT_S * 1e3)) > 0 && read(0, octets, sizeof octets) > 0)
        ;
    for (int i = 0; i < clients_wanted; i++)
        if (clients[i].state == IDLE)
            command(&clients[i], QUIT, "QUIT\r\n");
        else if (clients[i].state != QUIT)
            close_client(&clients[i]);
    for (double begin = now(); open_clients && now() < begin + QUIT_WAIT_S;) {
        int ready = epoll_wait(poll_fd, events, 256, 50);
        for (int i = 0; i < ready; i++)
            if (events[i].data.ptr)
                happened(events[i].data.ptr, events[i].events);
    }
}

static char *whole(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path);
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(*length + 1);
    if (fread(text, 1, *length, file) != *length)
        fail(path);
    fclose(file);
    text[*length] = 0;
    return text;
}

static void read_senders(const char *path)
{
    size_t length;
    char *state, *text = whole(path, &length);
    for (char *line = strtok_r(text, "\n", &state); line && senders_count < MAX_SENDERS; line = strtok_r(NULL, "\n", &state))
        senders[senders_count++] = line;
}

/* RFC 4616 in base64 (RFC 4648 §4). */
static void authenticate_as(const char *user, const char *password)
{
    unsigned char plain[1024];
    size_t user_length = strlen(user), length = user_length + strlen(password) + 2;
    if (length > sizeof plain)
        exit(2);
    plain[0] = 0;
    memcpy(plain + 1, user, user_length + 1);
    memcpy(plain + user_length + 2, password, strlen(password));
    EVP_EncodeBlock((unsigned char *)authentication, plain, (int)length);
}

int main(int count_of_words, char **words)
{
    const char *password = NULL, *message_file = NULL, *senders_file = NULL;
    int option;
    signal(SIGPIPE, SIG_IGN);
    while ((option = getopt(count_of_words, words, "p:m:f:c:k:s:R:r:u:w:ti:")) != -1)
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'm': message_file = optarg; break;
        case 'f': senders_file = optarg; break;
        case 'c': clients_wanted = atoi(optarg); break;
        case 'k': messages_each = atoi(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'R': rate = atof(optarg); break;
        case 'r': recipients = atoi(optarg); break;
        case 'u': login = optarg; break;
        case 'w': password = optarg; break;
        case 't': wants_tls = true; break;
        case 'i': run_number = (uint32_t)strtoul(optarg, NULL, 10); break;
        default: return 2;
        }
    if (!message_file || !senders_file || !port || clients_wanted < 1 || (login && !password))
        return 2;
    message = whole(message_file, &message_length);
    if (message_length < 5 || memcmp(message + message_length - 5, "\r\n.\r\n", 5)) {
        fprintf(stderr, "%s: does not end with CRLF, a dot, CRLF\n", message_file);
        return 2;
    }
    read_senders(senders_file);
    if (!senders_count)
        return 2;
    if (login)
        authenticate_as(login, password);
    if (wants_tls)
        tls = SSL_CTX_new(TLS_client_method());
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    clients = calloc((size_t)clients_wanted, sizeof *clients);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer_fd, &event);
    run();
    report();
    leave();
    return 0;
}
