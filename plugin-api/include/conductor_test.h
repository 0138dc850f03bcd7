/*
 * conductor_test.h: run a probe in a unit test, without a host. Copy it next to conductor_plugin.h; it is C99 and C++11.
 *
 * A test is a program that includes the plugin's source and this file:
 *
 *     #include "plugin.c"
 *     #include "conductor_test.h"
 *
 *     int main(void)
 *     {
 *         static conductor_test_t test; // large: not on the stack of a small thread
 *         void *probe;
 *         conductor_test_begin(&test, "shop");
 *         conductor_test_config_string(&test, "path", "/etc/hosts");
 *         probe = conductor_test_create(&test);
 *         CONDUCTOR_TEST(probe != NULL);
 *         conductor_test_check(&test, probe);
 *         CONDUCTOR_TEST(conductor_test_problem(&test) == NULL);
 *         CONDUCTOR_TEST(test.reported && test.status == CONDUCTOR_STATUS_HEALTHY);
 *         CONDUCTOR_TEST(conductor_test_value(&test, "size", NULL) > 0);
 *         conductor_test_destroy(&test, probe);
 *         return 0;
 *     }
 *
 * The double validates no config against the schema, enforces no deadline and sandboxes nothing: `conductor plugin validate`
 * does. One test runs at a time, on one thread; a check that was begun may be completed from another.
 */
#ifndef CONDUCTOR_TEST_H
#define CONDUCTOR_TEST_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conductor_plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Ends the program with file and line, unless the condition is true. */
#define CONDUCTOR_TEST(condition_)                                                       \
    do {                                                                                 \
        if (!(condition_)) {                                                             \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition_);     \
            exit(1);                                                                     \
        }                                                                                \
    } while (0)

enum {
    CONDUCTOR_TEST_KEYS = 32,
    CONDUCTOR_TEST_SERIES = 256,
    CONDUCTOR_TEST_MEASUREMENTS = 64,
    CONDUCTOR_TEST_VALUES = 320,
    CONDUCTOR_TEST_TEXT = 2049
};

/* A number that a check has set or measured. */
typedef struct conductor_test_value {
    char name[129];
    /* The values of the labels, each with a line break behind it. */
    char labels[512];
    bool declared;
    double value;
} conductor_test_value_t;

/* A key of the config, or a label of the platform. */
typedef struct conductor_test_key {
    const char *name;
    const char *text; /* NULL for numbers and booleans */
    double number;
    bool is_bool;
} conductor_test_key_t;

/* The double of a host with one platform, and the result of the last call. */
typedef struct conductor_test {
    /* Set these before a call. */
    const char *platform;
    const char *config; /* the JSON text for `create`; "{}" if it is not set */
    uint64_t remaining_ns;
    uint64_t interval_ns;
    bool cancelled;
    /* The result of the last call. */
    bool reported;
    bool failed;
    int32_t status;  /* an enum conductor_status, if it reported */
    int32_t failure; /* an enum conductor_failure, if it failed */
    char message[CONDUCTOR_TEST_TEXT];
    conductor_test_value_t values[CONDUCTOR_TEST_VALUES];
    size_t value_count;
    /* The last line of the log, its level, and the number of lines of all calls. */
    char log[CONDUCTOR_TEST_TEXT];
    int32_t log_level;
    size_t log_count;
    /* The platform's state. */
    unsigned char state[CONDUCTOR_MAX_STATE];
    size_t state_length;
    /* For the double's own use. */
    conductor_test_key_t keys[CONDUCTOR_TEST_KEYS], labels[CONDUCTOR_TEST_KEYS];
    size_t key_count, label_count;
    int completed;
    char problem[512];
} conductor_test_t;

/* ---- The functions of the host, which the plugin calls ---- */

static inline conductor_test_t *conductor_test_of_(const conductor_call_t *call)
{
    return (conductor_test_t *)(uintptr_t)call;
}

static inline void conductor_test_object_(conductor_test_t *test, const char *what, const char *about)
{
    if (test->problem[0] == '\0')
        snprintf(test->problem, sizeof test->problem, "%s%s%.300s", what, about[0] == '\0' ? "" : ": ", about);
}

static inline void conductor_test_copy_(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from == NULL ? "" : from);
}

static inline const conductor_test_key_t *conductor_test_find_(const conductor_test_key_t *keys, size_t count, const char *name)
{
    size_t nth;
    for (nth = 0; nth < count; nth++)
        if (strcmp(keys[nth].name, name) == 0)
            return &keys[nth];
    return NULL;
}

static inline const char *conductor_test_platform_(const conductor_call_t *call)
{
    return conductor_test_of_(call)->platform;
}

static inline uint64_t conductor_test_remaining_ns_(const conductor_call_t *call)
{
    return conductor_test_of_(call)->remaining_ns;
}

static inline bool conductor_test_is_cancelled_(const conductor_call_t *call)
{
    return conductor_test_of_(call)->cancelled;
}

static inline void conductor_test_log_fields_(const conductor_host_t *host, const conductor_call_t *call, int32_t level,
                                              const char *text, const char *const *fields)
{
    conductor_test_t *test = conductor_test_of_(call);
    size_t length;
    (void)host;
    if (test == NULL) {
        fprintf(stderr, "log: %s\n", text);
        return;
    }
    conductor_test_copy_(test->log, sizeof test->log, text);
    for (; fields != NULL && fields[0] != NULL && fields[1] != NULL; fields += 2) {
        length = strlen(test->log);
        snprintf(test->log + length, sizeof test->log - length, " %s=%s", fields[0], fields[1]);
    }
    test->log_level = level;
    test->log_count++;
}

static inline void conductor_test_log_(const conductor_host_t *host, const conductor_call_t *call, int32_t level,
                                       const char *text)
{
    conductor_test_log_fields_(host, call, level, text, NULL);
}

static inline void conductor_test_report_(const conductor_call_t *call, int32_t status, const char *message)
{
    conductor_test_t *test = conductor_test_of_(call);
    test->reported = true;
    test->failed = false;
    test->status = status;
    conductor_test_copy_(test->message, sizeof test->message, message);
    if (status < CONDUCTOR_STATUS_HEALTHY || status > CONDUCTOR_STATUS_UNHEALTHY)
        conductor_test_object_(test, "a host refuses a status other than healthy, degraded and unhealthy", "");
    if (test->message[0] == '\0')
        conductor_test_object_(test, "the message is empty; describe what was found", "");
    if (strpbrk(test->message, "\n\r\t\033") != NULL)
        conductor_test_object_(test, "the message has control characters, which a host escapes", test->message);
}

static inline void conductor_test_add_(conductor_test_t *test, const char *name, const char *labels, bool declared, double value)
{
    conductor_test_value_t *added;
    size_t nth, same_kind = 0;
    if (!isfinite(value))
        conductor_test_object_(test, "a host drops a value that is not finite", name);
    /* A second value of a series replaces the first. */
    for (nth = 0; nth < test->value_count; nth++) {
        added = &test->values[nth];
        if (added->declared == declared && strcmp(added->name, name) == 0 && strcmp(added->labels, labels) == 0) {
            added->value = value;
            return;
        }
        same_kind += added->declared == declared;
    }
    if (declared && same_kind == CONDUCTOR_TEST_SERIES)
        conductor_test_object_(test, "a host keeps 256 series of declared metrics of a platform; use fewer label values", name);
    if (!declared && same_kind == CONDUCTOR_TEST_MEASUREMENTS)
        conductor_test_object_(test, "a host keeps 64 measurements of a platform; measure less", name);
    if (test->value_count == CONDUCTOR_TEST_VALUES)
        return;
    added = &test->values[test->value_count++];
    conductor_test_copy_(added->name, sizeof added->name, name);
    conductor_test_copy_(added->labels, sizeof added->labels, labels);
    added->declared = declared;
    added->value = value;
}

static inline void conductor_test_measure_(const conductor_call_t *call, const char *name, double value)
{
    conductor_test_add_(conductor_test_of_(call), name, "", false, value);
}

static inline void conductor_test_join_(const char *const *labels, char *joined, size_t size)
{
    size_t length = 0;
    joined[0] = '\0';
    for (; labels != NULL && labels[0] != NULL && length + 1 < size; labels++) {
        snprintf(joined + length, size - length, "%s\n", labels[0]);
        length = strlen(joined);
    }
}

/*
 * Returns the place of a text in the declaration of a metric, NULL if it is not there, and the declaration itself for "". The
 * metrics are flat JSON: the name of a metric is the text after `"name":`, and its table ends at the next `}`.
 */
static inline const char *conductor_test_table_(const char *metric, const char *text)
{
    const char *at = conductor_plugin.metrics, *end, *begin;
    size_t length = strlen(metric);
    while (at != NULL && (at = strstr(at, "\"name\"")) != NULL) {
        at += 6;
        begin = at + strspn(at, " \t\r\n:");
        if (*begin != '"' || strncmp(begin + 1, metric, length) != 0 || begin[1 + length] != '"')
            continue;
        while (at > conductor_plugin.metrics && *at != '{')
            at--;
        end = strchr(at, '}');
        at = strstr(at, text);
        return at == NULL || end == NULL || at > end ? NULL : at;
    }
    return NULL;
}

/* Returns the number of labels that the plugin declares for a metric; -1 if it does not declare the metric. */
static inline int conductor_test_declared_(const char *metric)
{
    const char *at = conductor_test_table_(metric, "\"labels\"");
    int quotes = 0;
    if (at == NULL)
        return conductor_test_table_(metric, "") == NULL ? -1 : 0;
    for (at = strchr(at, '['); at != NULL && *at != ']' && *at != '\0'; at++)
        quotes += *at == '"';
    return quotes / 2;
}

static inline void conductor_test_set_(const conductor_call_t *call, const char *metric, const char *const *labels, double value)
{
    conductor_test_t *test = conductor_test_of_(call);
    char joined[512];
    int declared = conductor_test_declared_(metric), given = 0;
    for (; labels != NULL && labels[given] != NULL; given++) {
    }
    if (declared < 0)
        conductor_test_object_(test, "a host drops a metric that the plugin does not declare; add it to `metrics`", metric);
    else if (declared != given)
        conductor_test_object_(test, "a host drops a value with more or fewer labels than declared; give one for each", metric);
    else if (conductor_test_table_(metric, "\"counter\"") != NULL && value < 0)
        conductor_test_object_(test, "a counter starts at 0 and only grows; declare a gauge", metric);
    for (given = 0; labels != NULL && labels[given] != NULL; given++) {
        if (strlen(labels[given]) > 256)
            conductor_test_object_(test, "a host cuts the value of a label to 256 bytes", metric);
        if (strpbrk(labels[given], "\n\r\t\033") != NULL)
            conductor_test_object_(test, "a label has control characters, which a host escapes", metric);
    }
    conductor_test_join_(labels, joined, sizeof joined);
    conductor_test_add_(test, metric, joined, true, value);
}

static inline void conductor_test_fail_(const conductor_call_t *call, int32_t kind, const char *message)
{
    conductor_test_t *test = conductor_test_of_(call);
    test->failed = true;
    test->reported = false;
    test->failure = kind;
    conductor_test_copy_(test->message, sizeof test->message, message);
    if (test->message[0] == '\0')
        conductor_test_object_(test, "a failure has a message that gives the reason", "");
}

static inline void conductor_test_complete_(const conductor_call_t *call)
{
    conductor_test_t *test = conductor_test_of_(call);
    if (__atomic_add_fetch(&test->completed, 1, __ATOMIC_ACQ_REL) > 1)
        conductor_test_object_(test, "a check is completed once", "");
}

static inline const conductor_test_key_t *conductor_test_key_(const conductor_call_t *call, const char *key)
{
    conductor_test_t *test = conductor_test_of_(call);
    return conductor_test_find_(test->keys, test->key_count, key);
}

static inline const char *conductor_test_string_(const conductor_call_t *call, const char *key, const char *otherwise)
{
    const conductor_test_key_t *found = conductor_test_key_(call, key);
    return found != NULL && found->text != NULL ? found->text : otherwise;
}

static inline double conductor_test_number_(const conductor_call_t *call, const char *key, double otherwise)
{
    const conductor_test_key_t *found = conductor_test_key_(call, key);
    return found != NULL && found->text == NULL && !found->is_bool ? found->number : otherwise;
}

static inline bool conductor_test_bool_(const conductor_call_t *call, const char *key, bool otherwise)
{
    const conductor_test_key_t *found = conductor_test_key_(call, key);
    return found != NULL && found->is_bool ? found->number != 0 : otherwise;
}

static inline uint64_t conductor_test_interval_ns_(const conductor_call_t *call)
{
    return conductor_test_of_(call)->interval_ns;
}

static inline const char *conductor_test_label_of_(const conductor_call_t *call, const char *name, const char *otherwise)
{
    conductor_test_t *test = conductor_test_of_(call);
    const conductor_test_key_t *found = conductor_test_find_(test->labels, test->label_count, name);
    return found != NULL ? found->text : otherwise;
}

static inline size_t conductor_test_state_(const conductor_call_t *call, void *buffer, size_t capacity)
{
    conductor_test_t *test = conductor_test_of_(call);
    size_t length = test->state_length < capacity ? test->state_length : capacity;
    if (length > 0)
        memcpy(buffer, test->state, length);
    return test->state_length;
}

static inline bool conductor_test_store_state_(const conductor_call_t *call, const void *state, size_t length)
{
    conductor_test_t *test = conductor_test_of_(call);
    if (length > CONDUCTOR_MAX_STATE) {
        conductor_test_object_(test, "a host stores a state of at most 65536 bytes; store less", "");
        return false;
    }
    if (length > 0)
        memcpy(test->state, state, length);
    test->state_length = length;
    return true;
}

/* ---- The functions of the test ---- */

/* Adds a key of the config, or a label of the platform. */
static inline void conductor_test_add_key_(conductor_test_key_t *keys, size_t *count, const char *name, const char *text,
                                           double number, bool is_bool)
{
    CONDUCTOR_TEST(*count < CONDUCTOR_TEST_KEYS);
    keys[*count].name = name;
    keys[*count].text = text;
    keys[*count].number = number;
    keys[*count].is_bool = is_bool;
    *count += 1;
}

/* Clears the test: a platform of this name, without config, labels and state, checked each 5 s with 4 s left. */
static inline void conductor_test_begin(conductor_test_t *test, const char *platform)
{
    static const conductor_host_t host = {
        (uint32_t)sizeof(conductor_host_t), CONDUCTOR_API_MAJOR, CONDUCTOR_API_MINOR, conductor_test_platform_,
        conductor_test_remaining_ns_, conductor_test_is_cancelled_, conductor_test_log_, conductor_test_report_,
        conductor_test_measure_, conductor_test_fail_, conductor_test_complete_, conductor_test_string_,
        conductor_test_number_, conductor_test_bool_, conductor_test_interval_ns_, conductor_test_label_of_,
        conductor_test_set_, conductor_test_state_, conductor_test_store_state_, conductor_test_log_fields_};
    memset(test, 0, sizeof *test);
    test->platform = platform;
    test->config = "{}";
    test->remaining_ns = 4000000000u;
    test->interval_ns = 5000000000u;
    conductor_host = &host;
}

/* Sets a key of the config; the texts must outlive the test. */
static inline void conductor_test_config_string(conductor_test_t *test, const char *key, const char *value)
{
    conductor_test_add_key_(test->keys, &test->key_count, key, value, 0, false);
}

static inline void conductor_test_config_number(conductor_test_t *test, const char *key, double value)
{
    conductor_test_add_key_(test->keys, &test->key_count, key, NULL, value, false);
}

static inline void conductor_test_config_bool(conductor_test_t *test, const char *key, bool value)
{
    conductor_test_add_key_(test->keys, &test->key_count, key, NULL, value ? 1 : 0, true);
}

/* Sets a label of the platform. */
static inline void conductor_test_label(conductor_test_t *test, const char *name, const char *value)
{
    conductor_test_add_key_(test->labels, &test->label_count, name, value, 0, false);
}

static inline void conductor_test_clear_(conductor_test_t *test)
{
    test->reported = test->failed = false;
    test->message[0] = test->problem[0] = '\0';
    test->value_count = 0;
    test->completed = 0;
}

static inline const conductor_call_t *conductor_test_call_(conductor_test_t *test)
{
    return (const conductor_call_t *)(uintptr_t)test;
}

/* Creates a probe; NULL after a failure. */
static inline void *conductor_test_create(conductor_test_t *test)
{
    void *probe;
    conductor_test_clear_(test);
    probe = conductor_plugin.create(conductor_test_call_(test), test->config);
    if (probe == NULL && !test->failed)
        conductor_test_object_(test, "`create` returned NULL without conductor_fail", "");
    return probe;
}

/* Runs a check; of a plugin with `begin`, until it is completed. */
static inline void conductor_test_check(conductor_test_t *test, void *probe)
{
    conductor_test_clear_(test);
    if (conductor_plugin.begin == NULL) {
        conductor_plugin.check(probe, conductor_test_call_(test));
    } else {
        conductor_plugin.begin(probe, conductor_test_call_(test));
        while (__atomic_load_n(&test->completed, __ATOMIC_ACQUIRE) == 0) {
        }
    }
    if (!test->reported && !test->failed)
        conductor_test_object_(test, "the check ended without conductor_report or conductor_fail", "");
}

/* Frees a probe. */
static inline void conductor_test_destroy(conductor_test_t *test, void *probe)
{
    conductor_plugin.destroy(probe, conductor_test_call_(test));
}

/* Returns what a host would refuse, change or drop of the last call's result; NULL for nothing. */
static inline const char *conductor_test_problem(const conductor_test_t *test)
{
    return test->problem[0] == '\0' ? NULL : test->problem;
}

/*
 * Returns a value of the last check: of a declared metric with these labels, or a measurement with NULL; NaN if there is
 * none.
 */
static inline double conductor_test_value(const conductor_test_t *test, const char *name, const char *const *labels)
{
    char joined[512];
    size_t nth;
    conductor_test_join_(labels, joined, sizeof joined);
    for (nth = test->value_count; nth > 0; nth--)
        if (strcmp(test->values[nth - 1].name, name) == 0 && strcmp(test->values[nth - 1].labels, joined) == 0)
            return test->values[nth - 1].value;
    return NAN;
}

#ifdef __cplusplus
}
#endif

#endif /* CONDUCTOR_TEST_H */
