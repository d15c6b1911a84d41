/*
 * serve.c - measures a server while a client uses it.
 *
 *     server:   start ── ready ────────────────────────────────── SIGTERM ── end
 *     client:                  start ──────────── end
 *     seconds, mean_rss:         |◀───────────────▶|
 *     peak_rss, mappings:   |◀────────────────────────────────▶|
 *     final_rss:                                     1 s later ^
 *     cpu_seconds, faults:  the whole life of the server
 *
 * Only the server has the allocator that is measured. That it ends before it is told to, that it
 * does not end well then, and that the client fails are failures.
 */
#include "measure.h"
#include "tree.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define START_NANOSECONDS 30000000000u
#define REST_NANOSECONDS 1000000000u
enum { PORT_MOST = 65535 };

static bool is_number(const char *text) {
    return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

static bool accepts_connections(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    bool connected = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return connected;
}

static bool is_ready(const char *ready) {
    return is_number(ready) ? accepts_connections(ready) : access(ready, F_OK) == 0;
}

/* A message, if the server has ended. */
static bool has_died(struct child *server) {
    if (!child_ended(server)) return false;
    measure_say("the server ended too early", child_exit_status(server) == MEASURE_NOT_STARTED
                                                  ? "it was not started"
                                                  : "see its messages");
    return true;
}

static void tick(struct tree *tree) {
    child_tick();
    tree_sample(tree);
}

static bool wait_until_ready(struct child *server, struct tree *tree, const char *ready) {
    for (uint64_t end = proc_now() + START_NANOSECONDS; proc_now() < end; tick(tree)) {
        if (has_died(server)) return false;
        if (is_ready(ready)) return true;
    }
    measure_say("the server is not ready after 30 s", ready);
    return false;
}

/* Returns the client's exit status, MEASURE_FAILED if it or the server came to grief. */
static int run_client(struct child *server, struct tree *tree, char **arguments,
                      struct measure_result *result) {
    struct child client;
    tree_begin(tree);
    uint64_t began = proc_now();
    tree_sample(tree);
    if (!child_start(&client, arguments, CHILD_CLIENT)) return MEASURE_FAILED;
    while (!child_ended(&client)) {
        if (has_died(server)) {
            child_stop(&client);
            return MEASURE_FAILED;
        }
        tick(tree);
    }
    result->seconds = (double)(proc_now() - began) / 1e9;
    tree_sample(tree);
    result->memory.mean_rss = proc_mean_value(&tree->mean);
    int status = child_exit_status(&client);
    if (status != 0) measure_say(arguments[0], "the client failed");
    return status;
}

static bool rest(struct child *server, struct tree *tree) {
    for (uint64_t end = proc_now() + REST_NANOSECONDS; proc_now() < end; tick(tree))
        if (has_died(server)) return false;
    return true;
}

static bool stop(struct child *server) {
    if (!child_stop(server)) {
        measure_say("the server", "did not end within 10 s of SIGTERM");
        return false;
    }
    int status = child_exit_status(server);
    if (status == 0 || status == MEASURE_SIGNALLED + SIGTERM) return true;
    measure_say("the server failed", "it should have ended by SIGTERM");
    return false;
}

int serve_measure(const char *ready, char **server_arguments, char **client_arguments,
                  struct measure_result *result) {
    static struct tree tree;
    struct child server;
    if (is_number(ready) && strtoul(ready, NULL, 10) > PORT_MOST)
        return measure_say(ready, "is no port");
    if (is_ready(ready)) return measure_say(ready, "is in use already");
    if (!child_start(&server, server_arguments, CHILD_SERVER)) return MEASURE_FAILED;
    int status = MEASURE_FAILED;
    if (!tree_init(&tree, server.pid))
        measure_say("cannot watch the server", "/proc does not tell of it");
    else if (wait_until_ready(&server, &tree, ready))
        status = run_client(&server, &tree, client_arguments, result);
    if (status == 0 && !rest(&server, &tree)) status = MEASURE_FAILED;
    result->memory.final_rss = tree.last_rss;
    if (server.pid != 0 && !stop(&server)) status = MEASURE_FAILED;
    measure_take_usage(result, &server.used);
    if (result->memory.peak_rss < tree.peak_rss) result->memory.peak_rss = tree.peak_rss;
    result->memory.mappings = tree.mappings;
    if (tree.full) status = measure_say("the server", "has too many processes to watch");
    tree_fini(&tree);
    return status;
}
