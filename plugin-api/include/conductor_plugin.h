/*
 * conductor_plugin.h: write a probe for the Conductor host in C, or in any language that can call C.
 *
 * Copy this one file. It needs no library to link with, is C99 and C++11, and is both the specification of the C ABI
 * and its guide; read it from top to bottom. It has Conductor's licence, MIT or Apache-2.0.
 *
 * WHAT A PLUGIN IS
 *
 * A plugin is a kind of probe with an id, such as "file-age", in its own shared library. For each platform in the
 * host's config that names the plugin, the host creates one probe and checks it at fixed times. A check ends in a
 * *report* (healthy, degraded or unhealthy) or in a *failure*: the probe could not tell. Failures feed the platform's
 * circuit breaker; reports never do, however bad. So a database that is down is an unhealthy report, and a probe that
 * ran out of memory is a failure.
 *
 * HELLO WORLD
 *
 *     #include "conductor_plugin.h"
 *
 *     static void *create(const conductor_call_t *call, const char *config)
 *     {
 *         (void)call, (void)config;
 *         return "hello"; // anything but NULL; the host hands it back and never looks at it
 *     }
 *
 *     static void check(void *probe, const conductor_call_t *call)
 *     {
 *         conductor_report(call, CONDUCTOR_STATUS_HEALTHY, probe);
 *     }
 *
 *     static void destroy(void *probe, const conductor_call_t *call)
 *     {
 *         (void)probe, (void)call;
 *     }
 *
 *     CONDUCTOR_PLUGIN("hello", "1.0.0", "Hello world", "",
 *                      .config_schema = "{\"type\": \"object\", \"additionalProperties\": false}",
 *                      .create = create, .check = check, .destroy = destroy);
 *
 *     cc -shared -fPIC -o libhello.so hello.c
 *
 * Put the library into one of the host's plugin_dirs and name it in a platform: [platform.x] plugin = "hello".
 * `conductor plugin inspect libhello.so` shows how the host sees it, without running it.
 *
 * THREADS
 *
 * The brackets at each function state which threads may call it:
 *     [any thread]  it may be called from any thread, also from several at once;
 *     [probe]       the host calls it from any of its threads, but makes one call into a probe at a time, and each call
 *                   sees all effects of the previous one. Different probes are called at the same time: guard what they
 *                   share.
 *     [must not wait]  it returns at once: no network, no disk, no lock that another thread holds for long. The thread
 *                   is one of a few for all probes of the library, and no deadline frees it. If they all hang there,
 *                   the host restarts the plugin.
 * A library may start its own threads. It is never unloaded. Stacks have 8 MiB, which is address space, not memory.
 *
 * OWNERSHIP
 *
 * Ownership of memory never passes to the other side. Pointers from the host are valid for the time stated at each
 * function: copy what you keep. The host copies what a plugin passes to it before the function returns. The plugin owns
 * its probes: it allocates them in `create` and frees them in `destroy`.
 * A `const conductor_call_t *` is a handle: never dereference it. It is valid until the call has returned or, for a
 * check that was begun, until it was completed, and its value is not reused afterwards: a function that gets one too
 * late does nothing.
 *
 * TEXT
 *
 * All text is UTF-8 and ends with a NUL. The host repairs other text: it replaces invalid UTF-8, escapes control
 * characters, and truncates to 2048 bytes. NULL counts as an empty text.
 *
 * DEADLINES
 *
 * Blocking within `check` is fine. The call must be over when conductor_remaining_ns returns 0: then the host counts a
 * timeout and stops waiting. It cannot end the call; if a plugin's calls stay stuck, the host replaces its process. Use
 * the remaining time as the timeout of whatever you wait for. A plugin that mostly waits, for thousands of platforms,
 * has `begin` instead of `check`.
 *
 * WHAT A PLUGIN MUST NOT DO
 *
 * A function that the host calls must not throw a C++ exception, leave by longjmp or pthread_exit, or call exit(). That
 * would end the process: the plugin's worker by default, or the host if the plugin runs in-process. Catch exceptions at
 * the boundary and call conductor_fail with CONDUCTOR_FAILURE_PANIC.
 *
 * WHAT A PLUGIN MAY DO
 *
 * In a worker process a plugin may start threads, look up names, send UDP, stat any file, and read /proc, /sys and
 * /usr. It declares anything else it needs, one per line: "network", "unix-sockets", "read /absolute/path",
 * "run /absolute/path". The operator sees these needs and can refuse them.
 *
 * SHIPPING
 *
 * A plugin is one file, and the host loads a private copy of it. A library that needs a file next to it ($ORIGIN) is
 * refused: link that file statically, or install it in the system's library path. Static thread-local storage
 * (initial-exec) is limited to 4 KiB for all libraries in a worker: compile with -ftls-model=global-dynamic to need
 * none. In a config, a table whose only key is "file" names a file with a secret, and the plugin gets the text of that
 * file: do not give a key such a table for another purpose. `conductor plugin validate` checks all of this.
 *
 * METRICS
 *
 * A plugin declares its metrics once, as JSON text, and sets their values with conductor_set in each check. The host
 * exports each as conductor_<plugin>_<name>_<unit>, with `_total` for a counter:
 *     .metrics = "[{\"name\": \"age\", \"kind\": \"gauge\", \"unit\": \"seconds\", \"help\": \"Age of the file.\"},"
 *                " {\"name\": \"used\", \"kind\": \"gauge\", \"unit\": \"bytes\", \"help\": \"Used space.\","
 *                "  \"labels\": [\"mount\"]}]"
 * Names of metrics and labels have letters, digits and '_'. A library whose declarations break a rule is not loaded, and
 * the message names the rule. conductor_measure exports numbers that are not declared.
 *
 * STATE
 *
 * The host stores up to 64 KiB for each platform (conductor_store_state) and returns them to later probes of the platform
 * (conductor_state), in other processes too: after a crash, a new version of the plugin and a restart of the host.
 *
 * DESCRIPTION, AUTHOR, LICENCE
 *
 * Define CONDUCTOR_DESCRIPTION (one sentence, at most 255 bytes), CONDUCTOR_AUTHOR (127) and CONDUCTOR_LICENCE (an SPDX
 * expression, 63) before the inclusion of this file; `conductor plugin inspect` shows them.
 *
 * VERSIONS
 *
 * Within a major version of this API every plugin works with every host, older and newer. Structs grow at the end only,
 * and begin with their size: that is how each side knows what the other has. An optional member may be NULL, or beyond
 * the size. Enumerations, such as the kinds of failures, may get new values.
 *
 * TESTS
 *
 * conductor_test.h, next to this file, runs a probe in a unit test without a host.
 *
 * OTHER LANGUAGES
 *
 * C++: give the members of CONDUCTOR_PLUGIN in order, without names. Link with a version script that exports
 * conductor_plugin alone: -fvisibility=hidden does not hide templates of the standard library. The repository has one
 * in examples/plugins/c, next to a plugin.
 * Go: put CONDUCTOR_PLUGIN into a C file of the package, export the functions from Go, and call the host through the
 * functions below; see examples/plugins/go in the repository.
 * Zig: `conductor plugin new --lang zig` writes a file with these declarations in Zig, and a plugin that uses it.
 * Others: write out the expansion of CONDUCTOR_PLUGIN; the host's functions are those of conductor_host_t.
 */
#ifndef CONDUCTOR_PLUGIN_H
#define CONDUCTOR_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#ifndef __cplusplus
#include <stdbool.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this API. Each addition raises the minor version. */
#define CONDUCTOR_API_MAJOR 1
#define CONDUCTOR_API_MINOR 1
#define CONDUCTOR_API_PATCH 0

/* The health of a platform. */
enum conductor_status {
    CONDUCTOR_STATUS_HEALTHY = 0,  /* it does what it should */
    CONDUCTOR_STATUS_DEGRADED = 1, /* it works, but needs attention */
    CONDUCTOR_STATUS_UNHEALTHY = 2 /* it does not work */
};

/* The kind of a failure. The host counts an unknown kind as CONDUCTOR_FAILURE_ERROR. */
enum conductor_failure {
    CONDUCTOR_FAILURE_ERROR = 0,
    CONDUCTOR_FAILURE_PANIC = 1,  /* the probe is broken: the host destroys it and creates another for its next check */
    CONDUCTOR_FAILURE_CONFIG = 2, /* the config cannot work: say which key and why */
    CONDUCTOR_FAILURE_TIMEOUT = 3 /* the probe gave up at its deadline */
};

/* The severity of a log line. */
enum conductor_level {
    CONDUCTOR_LEVEL_ERROR = 1,
    CONDUCTOR_LEVEL_WARN = 2,
    CONDUCTOR_LEVEL_INFO = 3,
    CONDUCTOR_LEVEL_DEBUG = 4,
    CONDUCTOR_LEVEL_TRACE = 5
};

/* The handle of a call, see OWNERSHIP. */
typedef struct conductor_call conductor_call_t;

/* The host's functions. C and C++ call them through the inline functions below. */
typedef struct conductor_host {
    /* Size of this struct in this host, in bytes. Check it before reading a member appended after version 1.0. */
    uint32_t size;
    /* The version of the API that the host implements. */
    uint16_t api_major;
    uint16_t api_minor;
    /* Each of these is documented at the inline function of the same name. [any thread] */
    const char *(*platform)(const conductor_call_t *call);
    uint64_t (*remaining_ns)(const conductor_call_t *call);
    bool (*is_cancelled)(const conductor_call_t *call);
    void (*log)(const struct conductor_host *host, const conductor_call_t *call, int32_t level, const char *text);
    void (*report)(const conductor_call_t *call, int32_t status, const char *message);
    void (*measure)(const conductor_call_t *call, const char *name, double value);
    void (*fail)(const conductor_call_t *call, int32_t kind, const char *message);
    void (*complete)(const conductor_call_t *call);
    const char *(*config_string)(const conductor_call_t *call, const char *key, const char *otherwise);
    double (*config_number)(const conductor_call_t *call, const char *key, double otherwise);
    bool (*config_bool)(const conductor_call_t *call, const char *key, bool otherwise);
    /* Since 1.1. The inline functions do without those that an older host does not have. */
    uint64_t (*interval_ns)(const conductor_call_t *call);
    const char *(*label)(const conductor_call_t *call, const char *name, const char *otherwise);
    void (*set)(const conductor_call_t *call, const char *metric, const char *const *labels, double value);
    size_t (*state)(const conductor_call_t *call, void *buffer, size_t capacity);
    bool (*store_state)(const conductor_call_t *call, const void *state, size_t length);
    void (*log_fields)(const struct conductor_host *host, const conductor_call_t *call, int32_t level, const char *text,
                       const char *const *fields);
} conductor_host_t;

/*
 * The library's export, the data symbol `conductor_plugin`. CONDUCTOR_PLUGIN fills in the members before
 * `config_schema`. Everything that it points to must stay valid and in place for the life of the process.
 */
typedef struct conductor_plugin {
    /* sizeof(conductor_plugin_t) */
    uint32_t size;
    /* 0 */
    uint32_t reserved;
    /* The plugin's id and version, as in the manifest. */
    const char *id;
    const char *version;
    /* The host stores its address here once, before it calls any function. That memory is never freed. */
    const conductor_host_t **host;
    /*
     * The JSON Schema of a platform's `config` table, as JSON text. The host validates the table first, so `create`
     * sees only valid tables. The schema of the example:
     *     {"type": "object", "required": ["path"], "additionalProperties": false,
     *      "properties": {"path": {"type": "string"}, "max_age_seconds": {"type": "number", "minimum": 0}}}
     * "writeOnly": true marks a password or a token: the host replaces it, if it has at least eight bytes, wherever the
     * plugin repeats it.
     */
    const char *config_schema;
    /*
     * [any thread, also for several probes at once] Creates the probe of one platform. `config` is the platform's table
     * as JSON text, valid until this returns; conductor_config_string and the functions after it read it without a JSON
     * parser. Returns any pointer but NULL. On failure it calls conductor_fail and returns NULL; the host tries again
     * later.
     */
    void *(*create)(const conductor_call_t *call, const char *config);
    /*
     * [probe] Checks the platform once, and calls conductor_report or conductor_fail before it returns. If it calls
     * them more than once, the last one counts; if it calls neither, that is a failure. May be NULL if `begin` is set.
     */
    void (*check)(void *probe, const conductor_call_t *call);
    /*
     * [probe] Frees the probe; the host does not use it afterwards. Never called before a check that was begun is
     * complete.
     */
    void (*destroy)(void *probe, const conductor_call_t *call);
    /*
     * Optional. [probe] [must not wait] Starts a check that runs on one of the plugin's threads or its event loop.
     * Later, the plugin calls conductor_complete exactly once to end it. Code after a conductor_complete within `begin`
     * must not wait either. The host starts no other check of the probe before that. If set, the host calls it instead
     * of `check`.
     */
    void (*begin)(void *probe, const conductor_call_t *call);
    /*
     * Optional. [probe] [must not wait] Asks a check that was begun to end early: the host no longer waits for it. The
     * plugin must still complete it, here or later. A call that comes after the completion has no effect.
     */
    void (*cancel)(void *probe, const conductor_call_t *call);
    /* Optional. The declared metrics as JSON text, see METRICS. Since 1.1: older hosts ignore it. */
    const char *metrics;
} conductor_plugin_t;

/* The record that identifies a library, readable without running it: 1248 bytes, numbers little-endian. */
typedef struct conductor_manifest {
    unsigned char magic[8];     /* "CNDCTR" 0x1a 0x01 */
    unsigned char size[4];      /* 1248 */
    unsigned char api_major[2];
    unsigned char api_minor[2];
    unsigned char api_patch[2];
    unsigned char door;         /* 2: C */
    unsigned char flags;        /* 0 */
    unsigned char zero[12];
    char id[64];                /* 1-63 lower-case letters, digits and '-', the first a letter */
    char version[64];           /* a semantic version, such as 1.0.0 */
    char name[128];             /* for people */
    char needs[512];            /* see WHAT A PLUGIN MAY DO; a line each */
    char description[256];      /* one sentence; since 1.1, like the fields below */
    char author[128];
    char licence[64];           /* an SPDX expression */
} conductor_manifest_t;

#ifndef CONDUCTOR_DESCRIPTION
#define CONDUCTOR_DESCRIPTION ""
#endif
#ifndef CONDUCTOR_AUTHOR
#define CONDUCTOR_AUTHOR ""
#endif
#ifndef CONDUCTOR_LICENCE
#define CONDUCTOR_LICENCE ""
#endif

#if defined(_WIN32)
#define CONDUCTOR_EXPORT_ __declspec(dllexport)
#define CONDUCTOR_HIDDEN_
#else
#define CONDUCTOR_EXPORT_ __attribute__((visibility("default")))
#define CONDUCTOR_HIDDEN_ __attribute__((visibility("hidden")))
#endif

/* Defined by CONDUCTOR_PLUGIN. */
extern CONDUCTOR_EXPORT_ const conductor_plugin_t conductor_plugin;
extern CONDUCTOR_HIDDEN_ const conductor_host_t *conductor_host;

/* Is true if the host has this member of conductor_host_t. */
#define CONDUCTOR_HOST_HAS_(member_) (conductor_host->size > offsetof(conductor_host_t, member_))

/* ---- The current call ---- */

/* [any thread] Returns the platform's name, valid until the call ends. */
static inline const char *conductor_platform(const conductor_call_t *call)
{
    return conductor_host->platform(call);
}

/* [any thread] Returns the nanoseconds until the call's deadline; 0 once it has passed. */
static inline uint64_t conductor_remaining_ns(const conductor_call_t *call)
{
    return conductor_host->remaining_ns(call);
}

/* [any thread] Returns true once the host has given up on the call; its result will be ignored. */
static inline bool conductor_is_cancelled(const conductor_call_t *call)
{
    return conductor_host->is_cancelled(call);
}

/* [any thread] Writes a line to the host's log. `call` may be NULL outside a call. */
static inline void conductor_log(const conductor_call_t *call, int32_t level, const char *text)
{
    conductor_host->log(conductor_host, call, level, text);
}

/*
 * [any thread] Writes a line with fields to the host's log: their names and values in turn, and a NULL at the end, such as
 * {"status", "503", "phase", "connect", NULL}. A host of API 1.0 leaves out the fields.
 */
static inline void conductor_log_fields(const conductor_call_t *call, int32_t level, const char *text,
                                        const char *const *fields)
{
    if (CONDUCTOR_HOST_HAS_(log_fields))
        conductor_host->log_fields(conductor_host, call, level, text, fields);
    else
        conductor_host->log(conductor_host, call, level, text);
}

/* [any thread] Returns the nanoseconds between the starts of the platform's checks; 0 from a host of API 1.0. */
static inline uint64_t conductor_interval_ns(const conductor_call_t *call)
{
    return CONDUCTOR_HOST_HAS_(interval_ns) ? conductor_host->interval_ns(call) : 0;
}

/*
 * [any thread] Returns the value of a label of the platform, valid until the call ends; `otherwise` if it has no such
 * label, and from a host of API 1.0.
 */
static inline const char *conductor_label(const conductor_call_t *call, const char *name, const char *otherwise)
{
    return CONDUCTOR_HOST_HAS_(label) ? conductor_host->label(call, name, otherwise) : otherwise;
}

/* ---- The platform's state, see STATE ---- */

/* The greatest length of a state, in bytes. */
#define CONDUCTOR_MAX_STATE 65536

/*
 * [any thread] Copies up to `capacity` bytes of the platform's state to `buffer`, which may be NULL if `capacity` is 0, and
 * returns the length of the state: 0 if there is none, and from a host of API 1.0.
 */
static inline size_t conductor_state(const conductor_call_t *call, void *buffer, size_t capacity)
{
    return CONDUCTOR_HOST_HAS_(state) ? conductor_host->state(call, buffer, capacity) : 0;
}

/*
 * [any thread] Stores the platform's state in place of the last one; a length of 0 removes it. Returns false if it is
 * longer than CONDUCTOR_MAX_STATE, and from a host of API 1.0.
 */
static inline bool conductor_store_state(const conductor_call_t *call, const void *state, size_t length)
{
    return CONDUCTOR_HOST_HAS_(store_state) && conductor_host->store_state(call, state, length);
}

/* ---- The result of a check ---- */

/* [any thread] Sets the check's report: an enum conductor_status and a one-line message, such as "200 OK in 12 ms". */
static inline void conductor_report(const conductor_call_t *call, int32_t status, const char *message)
{
    conductor_host->report(call, status, message);
}

/*
 * [any thread] Sets the value of a declared metric in the report, before or after conductor_report: its name as declared,
 * and the values of its labels in the order of their declaration with a NULL at the end, or NULL without labels. A second
 * value for the same labels replaces the first. A host of API 1.0 exports a metric without labels as a measurement.
 */
static inline void conductor_set(const conductor_call_t *call, const char *metric, const char *const *labels, double value)
{
    if (CONDUCTOR_HOST_HAS_(set))
        conductor_host->set(call, metric, labels, value);
    else if (labels == NULL || labels[0] == NULL)
        conductor_host->measure(call, metric, value);
}

/*
 * [any thread] Adds a number that is not declared to the report, before or after conductor_report. Follow Prometheus's
 * naming, base unit last: "age_seconds". The host limits their number, and drops values that are not finite.
 */
static inline void conductor_measure(const conductor_call_t *call, const char *name, double value)
{
    conductor_host->measure(call, name, value);
}

/* [any thread] Makes the call (check or `create`) a failure: an enum conductor_failure, and the reason, for people. */
static inline void conductor_fail(const conductor_call_t *call, int32_t kind, const char *message)
{
    conductor_host->fail(call, kind, message);
}

/*
 * [any thread, also within `begin`] Ends a check that was begun, with the result set by conductor_report or
 * conductor_fail. `call` is invalid from here on, and another thread may destroy the probe at once: touch neither
 * afterwards. Within `begin` or `cancel`, code after it [must not wait]. A second completion is logged and ignored.
 */
static inline void conductor_complete(const conductor_call_t *call)
{
    conductor_host->complete(call);
}

/* ---- The config, within `create` ---- */

/*
 * `key` is the name of a key of the table, such as "path"; if it begins with '/', it is a JSON pointer: "/tls/ca_file",
 * "/urls/0". `otherwise` is returned if the key is missing or its value has another type.
 */

/* [any thread] Returns a string, valid until `create` returns. */
static inline const char *conductor_config_string(const conductor_call_t *call, const char *key, const char *otherwise)
{
    return conductor_host->config_string(call, key, otherwise);
}

/* [any thread] Returns a number. */
static inline double conductor_config_number(const conductor_call_t *call, const char *key, double otherwise)
{
    return conductor_host->config_number(call, key, otherwise);
}

/* [any thread] Returns a boolean. */
static inline bool conductor_config_bool(const conductor_call_t *call, const char *key, bool otherwise)
{
    return conductor_host->config_bool(call, key, otherwise);
}

/* ---- The export macro ---- */

/*
 * Makes the library a plugin: CONDUCTOR_PLUGIN(id, version, name, needs, members of conductor_plugin_t from
 * config_schema on); once in a library. id, version, name and needs are string literals; needs is "" for none, or lines
 * such as "network\nread /var/lib/mydb".
 */
#define CONDUCTOR_PLUGIN(id_, version_, name_, needs_, ...)                                                               \
    CONDUCTOR_STATIC_ASSERT_(sizeof(id_) > 1 && sizeof(id_) <= 64, plugin_id_has_1_to_63_bytes);                          \
    CONDUCTOR_STATIC_ASSERT_(sizeof(version_) > 1 && sizeof(version_) <= 64, plugin_version_has_1_to_63_bytes);           \
    CONDUCTOR_STATIC_ASSERT_(sizeof(name_) > 1 && sizeof(name_) <= 128, plugin_name_has_1_to_127_bytes);                  \
    CONDUCTOR_STATIC_ASSERT_(sizeof(needs_) <= 512, plugin_needs_have_at_most_511_bytes);                                 \
    CONDUCTOR_STATIC_ASSERT_(sizeof(CONDUCTOR_DESCRIPTION) <= 256, plugin_description_has_at_most_255_bytes);             \
    CONDUCTOR_STATIC_ASSERT_(sizeof(CONDUCTOR_AUTHOR) <= 128, plugin_author_has_at_most_127_bytes);                       \
    CONDUCTOR_STATIC_ASSERT_(sizeof(CONDUCTOR_LICENCE) <= 64, plugin_licence_has_at_most_63_bytes);                       \
    CONDUCTOR_NOTE_PLACE_ static const conductor_note_t conductor_note CONDUCTOR_NOTE_ATTRIBUTES_ = {CONDUCTOR_NOTE_HEAD_ \
        {{'C', 'N', 'D', 'C', 'T', 'R', 0x1a, 0x01}, {0xe0, 0x04, 0, 0},                                                  \
         {CONDUCTOR_API_MAJOR & 0xff, CONDUCTOR_API_MAJOR >> 8}, {CONDUCTOR_API_MINOR & 0xff, CONDUCTOR_API_MINOR >> 8},  \
         {CONDUCTOR_API_PATCH & 0xff, CONDUCTOR_API_PATCH >> 8}, 2, 0, {0}, id_, version_, name_, needs_,                 \
         CONDUCTOR_DESCRIPTION, CONDUCTOR_AUTHOR, CONDUCTOR_LICENCE}};                                                    \
    const conductor_host_t *conductor_host = NULL;                                                                        \
    /* The manifest's own bytes, so that a linker which drops unreferenced data keeps it. */                          \
    const conductor_plugin_t conductor_plugin = {(uint32_t)sizeof(conductor_plugin_t), 0, conductor_note.manifest.id,     \
        conductor_note.manifest.version, &conductor_host, __VA_ARGS__}

#if defined(__cplusplus)
#define CONDUCTOR_STATIC_ASSERT_(condition, what) static_assert(condition, #what)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define CONDUCTOR_STATIC_ASSERT_(condition, what) _Static_assert(condition, #what)
#else
#define CONDUCTOR_STATIC_ASSERT_(condition, what) typedef char conductor_assert_##what[(condition) ? 1 : -1]
#endif

/* Location of the manifest: a note in ELF files, its own section in others. */
#if defined(_WIN32) || defined(__APPLE__)
typedef struct conductor_note {
    conductor_manifest_t manifest;
} conductor_note_t;
#define CONDUCTOR_NOTE_HEAD_
#else
typedef struct conductor_note {
    uint32_t name_size;
    uint32_t manifest_size;
    uint32_t kind;
    char name[12];
    conductor_manifest_t manifest;
} conductor_note_t;
#define CONDUCTOR_NOTE_HEAD_ 10, 1248, 1, "Conductor",
#endif
#if defined(_MSC_VER)
#pragma section(".cndctr", read)
#define CONDUCTOR_NOTE_PLACE_ __declspec(allocate(".cndctr"))
#define CONDUCTOR_NOTE_ATTRIBUTES_
#elif defined(_WIN32)
#define CONDUCTOR_NOTE_PLACE_
#define CONDUCTOR_NOTE_ATTRIBUTES_ __attribute__((used, section(".cndctr")))
#elif defined(__APPLE__)
#define CONDUCTOR_NOTE_PLACE_
#define CONDUCTOR_NOTE_ATTRIBUTES_ __attribute__((used, section("__DATA,__cndctr")))
#else
#define CONDUCTOR_NOTE_PLACE_
#define CONDUCTOR_NOTE_ATTRIBUTES_ __attribute__((used, aligned(4), section(".note.conductor")))
#endif

CONDUCTOR_STATIC_ASSERT_(sizeof(conductor_manifest_t) == 1248, manifest_has_1248_bytes);

#ifdef __cplusplus
}
#endif

#endif /* CONDUCTOR_PLUGIN_H */
