/* A plugin whose checks do as its config says, and the tests of it that conductor_test.h makes possible. C and C++. */
#include "conductor_plugin.h"

#include "conductor_test.h"

static char the_probe[64];
/* One byte more than a host stores. */
static char the_state[CONDUCTOR_MAX_STATE + 1];

static void *create(const conductor_call_t *call, const char *config)
{
    (void)config;
    snprintf(the_probe, sizeof the_probe, "%s", conductor_config_string(call, "act", ""));
    if (strcmp(the_probe, "refuse") == 0) {
        conductor_fail(call, CONDUCTOR_FAILURE_CONFIG, "key `act`: not this one");
        return NULL;
    }
    return strcmp(the_probe, "nothing") == 0 ? NULL : the_probe;
}

static void check(void *probe, const conductor_call_t *call)
{
    const char *act = (const char *)probe, *mount[] = {"/", NULL}, *fields[] = {"status", "503", NULL};
    const char *lines[] = {"two\nlines", NULL}, *long_label[] = {the_state, NULL}, *numbered[] = {NULL, NULL};
    char state[16] = "", number[16];
    int nth;
    numbered[0] = number;
    if (strcmp(act, "silent") == 0)
        return;
    conductor_set(call, "used", mount, conductor_config_number(call, "used", 1));
    conductor_set(call, "age", NULL, (double)conductor_interval_ns(call) / 1e9);
    conductor_measure(call, "left", (double)conductor_remaining_ns(call) / 1e9);
    if (strcmp(act, "undeclared") == 0)
        conductor_set(call, "size", NULL, 1);
    if (strcmp(act, "unlabelled") == 0)
        conductor_set(call, "used", NULL, 1);
    if (strcmp(act, "negative") == 0)
        conductor_set(call, "sent", NULL, -1);
    if (strcmp(act, "lines") == 0)
        conductor_set(call, "used", lines, 1);
    if (strcmp(act, "long") == 0) {
        memset(the_state, 'a', 257);
        conductor_set(call, "used", long_label, 1);
    }
    if (strcmp(act, "twice") == 0)
        conductor_set(call, "used", mount, 7);
    if (strcmp(act, "greedy") == 0 && conductor_store_state(call, the_state, sizeof the_state))
        conductor_fail(call, CONDUCTOR_FAILURE_ERROR, "stored");
    for (nth = 0; strcmp(act, "many") == 0 && nth < 256; nth++) {
        snprintf(number, sizeof number, "%d", nth);
        conductor_set(call, "used", numbered, 1);
    }
    for (nth = 0; strcmp(act, "measures") == 0 && nth < 64; nth++) {
        snprintf(number, sizeof number, "m%d", nth);
        conductor_measure(call, number, 1);
    }
    if (conductor_config_bool(call, "not_finite", false))
        conductor_measure(call, "wrong", HUGE_VAL);
    conductor_log_fields(call, CONDUCTOR_LEVEL_WARN, "a line", fields);
    if (conductor_state(call, state, sizeof state - 1) > 0)
        conductor_log(call, CONDUCTOR_LEVEL_INFO, state);
    conductor_store_state(call, "seen", 4);
    if (conductor_is_cancelled(call))
        conductor_fail(call, CONDUCTOR_FAILURE_ERROR, "cancelled");
    else
        conductor_report(call, CONDUCTOR_STATUS_DEGRADED, conductor_label(call, "team", conductor_platform(call)));
}

static void destroy(void *probe, const conductor_call_t *call) { (void)probe, (void)call; }

CONDUCTOR_PLUGIN("double", "1.0.0", "Double", "", "{}", create, check, destroy, NULL, NULL,
                 "[{\"name\": \"age\", \"kind\": \"gauge\", \"help\": \"Age.\"},"
                 " {\"name\": \"sent\", \"kind\": \"counter\", \"help\": \"Sent.\"},"
                 " {\"name\": \"used\", \"kind\": \"gauge\", \"help\": \"Used.\", \"labels\": [\"mount\"]}]");

static conductor_test_t test;

static void act(const char *how)
{
    void *probe;
    conductor_test_begin(&test, "shop");
    conductor_test_config_string(&test, "act", how);
    probe = conductor_test_create(&test);
    CONDUCTOR_TEST(probe != NULL);
    conductor_test_check(&test, probe);
    conductor_test_destroy(&test, probe);
}

int main(void)
{
    const char *root[] = {"/", NULL};

    act("report");
    CONDUCTOR_TEST(conductor_test_problem(&test) == NULL);
    CONDUCTOR_TEST(test.reported && !test.failed && test.status == CONDUCTOR_STATUS_DEGRADED);
    CONDUCTOR_TEST(strcmp(test.message, "shop") == 0);
    CONDUCTOR_TEST(conductor_test_value(&test, "used", root) == 1 && conductor_test_value(&test, "age", NULL) == 5);
    CONDUCTOR_TEST(isnan(conductor_test_value(&test, "used", NULL)) && conductor_test_value(&test, "left", NULL) == 4);
    CONDUCTOR_TEST(strcmp(test.log, "a line status=503") == 0 && test.log_level == CONDUCTOR_LEVEL_WARN);
    CONDUCTOR_TEST(test.state_length == 4 && memcmp(test.state, "seen", 4) == 0);

    conductor_test_check(&test, the_probe);
    CONDUCTOR_TEST(strcmp(test.log, "seen") == 0 && test.log_count == 3);
    conductor_test_label(&test, "team", "ops");
    conductor_test_check(&test, the_probe);
    CONDUCTOR_TEST(strcmp(test.message, "ops") == 0);
    test.cancelled = true;
    conductor_test_check(&test, the_probe);
    CONDUCTOR_TEST(test.failed && !test.reported && test.failure == CONDUCTOR_FAILURE_ERROR);
    test.cancelled = false;
    conductor_test_config_bool(&test, "not_finite", true);
    conductor_test_check(&test, the_probe);
    CONDUCTOR_TEST(strstr(conductor_test_problem(&test), "not finite: wrong") != NULL);

    act("silent");
    CONDUCTOR_TEST(strstr(conductor_test_problem(&test), "ended without") != NULL);
    act("undeclared");
    CONDUCTOR_TEST(strstr(conductor_test_problem(&test), "add it to `metrics`: size") != NULL);
    act("unlabelled");
    CONDUCTOR_TEST(strstr(conductor_test_problem(&test), "more or fewer labels than declared; give one for each: used") != NULL);
    act("negative");
    CONDUCTOR_TEST(strstr(conductor_test_problem(&test), "declare a gauge: sent") != NULL);
    act("lines");
    CONDUCTOR_TEST(strstr(conductor_test_problem(&test), "control characters, which a host escapes: used") != NULL);
    act("long");
    CONDUCTOR_TEST(strstr(conductor_test_problem(&test), "a label to 256 bytes: used") != NULL);
    act("greedy");
    CONDUCTOR_TEST(test.reported && strstr(conductor_test_problem(&test), "at most 65536 bytes") != NULL);
    act("many");
    CONDUCTOR_TEST(strstr(conductor_test_problem(&test), "256 series of declared metrics") != NULL);
    act("measures");
    CONDUCTOR_TEST(strstr(conductor_test_problem(&test), "64 measurements of a platform") != NULL);
    /* A second value of a series replaces the first. */
    act("twice");
    CONDUCTOR_TEST(conductor_test_problem(&test) == NULL && conductor_test_value(&test, "used", root) == 7);

    conductor_test_begin(&test, "shop");
    conductor_test_config_string(&test, "act", "refuse");
    CONDUCTOR_TEST(conductor_test_create(&test) == NULL && test.failure == CONDUCTOR_FAILURE_CONFIG);
    CONDUCTOR_TEST(conductor_test_problem(&test) == NULL);
    conductor_test_begin(&test, "shop");
    conductor_test_config_string(&test, "act", "nothing");
    CONDUCTOR_TEST(conductor_test_create(&test) == NULL && conductor_test_problem(&test) != NULL);
    return 0;
}
