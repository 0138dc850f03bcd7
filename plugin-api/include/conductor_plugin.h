/*
 * conductor_plugin.h: write a probe for the Conductor host in C, or in anything that speaks C.
 *
 * Copy this one file. It needs no library to link with, is C99 and C++11, and is both the specification of the C door
 * and its guide, to be read from top to bottom. It is licensed as Conductor is, MIT or Apache-2.0.
 *
 * WHAT A PLUGIN IS
 *
 * A plugin is a kind of probe with an id, such as "file-age", in a shared library of its own. For each platform of its
 * config that names the plugin, the host creates one probe, and checks it at fixed times. A check ends in a *report*
 * (healthy, degraded or unhealthy) or in a *failure*: the probe could not find out. Failures feed the platform's circuit
 * breaker, reports, however bad, never do. So a database that is down is an unhealthy report, and a probe that ran out of
 * memory is a failure.
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
 * `conductor plugin inspect libhello.so` says what the host makes of it, without running it.
 *
 * THREADS
 *
 * In brackets at each function stands who may call it, or who calls it:
 *     [any thread]  it may be called from any thread, also from several at once;
 *     [probe]       the host calls it from any of its threads, but makes one call into a probe at a time, and all that one
 *                   call did is seen by the next. Different probes are called at the same time: guard what they share.
 *     [must not wait]  it returns at once: no network, no disk, no lock that somebody holds for long. The thread is one of
 *                   few that are there for all probes of the library, and no deadline frees it. Where they all hang in
 *                   there, the host starts the plugin anew.
 * A library may have threads of its own. It is never unloaded. Stacks have 8 MiB, which is address space, not memory.
 *
 * OWNERSHIP
 *
 * No memory changes hands. What the host lends is valid for as long as is said at it: copy what you keep. What a plugin
 * hands to a function of the host, the host copies before that returns. A probe is the plugin's own: it comes into being in
 * `create` and goes in `destroy`.
 * A `const conductor_call_t *` names a call and points to nothing: never look through it. It is valid until the call has
 * returned or, for a check that was begun, until it was completed, and is not used again afterwards: a function that gets
 * one too late does nothing.
 *
 * TEXT
 *
 * All text is UTF-8 and ends with a NUL. The host makes text fit that is not: bytes that are no UTF-8 are replaced, control
 * characters escaped, and what goes beyond 2048 bytes is cut off. NULL counts as an empty text.
 *
 * DEADLINES
 *
 * Blocking within `check` is fine. The call must be over when conductor_remaining_ns says 0: then the host counts a timeout
 * and no longer waits. It cannot end the call; a plugin whose calls stay stuck has its process replaced. Give what you wait
 * for that much time at most. A plugin whose probes wait much, for thousands of platforms, has `begin` instead of `check`.
 *
 * WHAT MUST NOT HAPPEN
 *
 * No C++ exception may leave a function that the host calls, nor longjmp or pthread_exit; nor may a function call exit().
 * The host's process would end, or that of the plugin where it has one of its own, which is the default. Catch exceptions
 * at the border and call conductor_fail with CONDUCTOR_FAILURE_PANIC.
 *
 * WHAT A PLUGIN MAY DO
 *
 * In a process of its own a plugin may start threads, look names up, send UDP, stat any file, and read /proc, /sys and
 * /usr. What it needs besides, it declares, a line each: "network", "unix-sockets", "read /absolute/path",
 * "run /absolute/path". The operator sees that and may withdraw it.
 *
 * SHIPPING
 *
 * A plugin is one file, and the host loads a private copy of it. A library that needs a file next to it ($ORIGIN) is refused:
 * link that one statically, or install it where the system searches. Static thread-local storage (initial-exec) is limited to
 * 4 KiB for all that a worker loads: compile with -ftls-model=global-dynamic to need none. In a config, a table whose only key
 * is "file" names a file with a secret, and the plugin gets the text of that file: let no key take such a table of its own.
 * `conductor plugin validate` tries all of this.
 *
 * VERSIONS
 *
 * Within a major version of this API every plugin works with every host, older and newer. Structs grow at the end only, and
 * begin with their size: that is how each side knows what the other has. An optional member may be NULL, or lie beyond the
 * size. Sets of numbers, such as kinds of failures, may get new members.
 *
 * OTHER LANGUAGES
 *
 * C++: the members of CONDUCTOR_PLUGIN are given in their order, without names. Link with a version script that exports
 * conductor_plugin alone: -fvisibility=hidden does not hide templates of the standard library. examples/c has one, and a plugin.
 * Go: put CONDUCTOR_PLUGIN into a C file of the package, with functions that are exported from Go, and call the host through
 * the functions below; see examples/go. Zig and Rust: write out what CONDUCTOR_PLUGIN writes; the functions of the host are
 * those of conductor_host_t.
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

/* The version of this API. The minor version rises with what is appended. */
#define CONDUCTOR_API_MAJOR 1
#define CONDUCTOR_API_MINOR 0
#define CONDUCTOR_API_PATCH 0

/* How a platform is doing. */
enum conductor_status {
    CONDUCTOR_STATUS_HEALTHY = 0,  /* it does what it should */
    CONDUCTOR_STATUS_DEGRADED = 1, /* it works, but somebody should look at it */
    CONDUCTOR_STATUS_UNHEALTHY = 2 /* it does not do what it is for */
};

/* Why a probe could not report. One that the host does not know counts as CONDUCTOR_FAILURE_ERROR. */
enum conductor_failure {
    CONDUCTOR_FAILURE_ERROR = 0,
    CONDUCTOR_FAILURE_PANIC = 1,  /* the probe is broken: the host destroys it and creates another for its next check */
    CONDUCTOR_FAILURE_CONFIG = 2, /* the config cannot work: say which key and why */
    CONDUCTOR_FAILURE_TIMEOUT = 3 /* the probe gave up at its deadline */
};

/* How important a line of the log is. */
enum conductor_level {
    CONDUCTOR_LEVEL_ERROR = 1,
    CONDUCTOR_LEVEL_WARN = 2,
    CONDUCTOR_LEVEL_INFO = 3,
    CONDUCTOR_LEVEL_DEBUG = 4,
    CONDUCTOR_LEVEL_TRACE = 5
};

/* The name of a call, see OWNERSHIP. */
typedef struct conductor_call conductor_call_t;

/* What the host can do for a plugin. The functions further below are how C and C++ call it. */
typedef struct conductor_host {
    /* Bytes of this struct in this host. Look there before a member that was appended after version 1.0. */
    uint32_t size;
    /* The version of the API that the host has. */
    uint16_t api_major;
    uint16_t api_minor;
    /* Each of these is described at the function of its name. [any thread] */
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
} conductor_host_t;

/*
 * What a library exports, as the data symbol `conductor_plugin`. CONDUCTOR_PLUGIN fills in what comes before
 * `config_schema`. All that it points to must stay where it is for as long as the process lives.
 */
typedef struct conductor_plugin {
    /* sizeof(conductor_plugin_t) */
    uint32_t size;
    /* 0 */
    uint32_t reserved;
    /* The plugin's id and version, as in the manifest. */
    const char *id;
    const char *version;
    /* Where the host puts its address, once, before it calls any function. What it puts there is never freed. */
    const conductor_host_t **host;
    /*
     * The JSON Schema of a platform's `config` table, as JSON text. The host checks the table against it first, so that
     * `create` sees only what it allows. The schema of the example:
     *     {"type": "object", "required": ["path"], "additionalProperties": false,
     *      "properties": {"path": {"type": "string"}, "max_age_seconds": {"type": "number", "minimum": 0}}}
     */
    const char *config_schema;
    /*
     * [any thread, also for several probes at once] Makes the probe of one platform. `config` is the platform's table as
     * JSON text, valid until this returns; conductor_config_string and its like read it without a JSON parser.
     * Answers anything but NULL. Where it cannot, it calls conductor_fail and answers NULL; the host tries again later.
     */
    void *(*create)(const conductor_call_t *call, const char *config);
    /*
     * [probe] Looks at the platform once, and calls conductor_report or conductor_fail before it returns. If it calls them
     * more than once, the last one counts; if it calls neither, that is a failure.
     * May be NULL where `begin` is not.
     */
    void (*check)(void *probe, const conductor_call_t *call);
    /*
     * [probe] Frees the probe; nothing is called with it afterwards. It is not called while a check that was begun is not
     * complete.
     */
    void (*destroy)(void *probe, const conductor_call_t *call);
    /*
     * Optional. [probe] [must not wait] Begins a check that goes on by itself, on a thread or an event loop of the plugin's.
     * What comes after a conductor_complete within it must not wait either. Some time later, and exactly once, conductor_complete ends it. The host begins no second
     * check of the probe before. Where it is there, the host calls it instead of `check`.
     */
    void (*begin)(void *probe, const conductor_call_t *call);
    /*
     * Optional. [probe] [must not wait] Asks for the early end of a check that was begun: the host no longer waits for it. It
     * is still to be completed, here or later. It may come after that, and then asks for nothing.
     */
    void (*cancel)(void *probe, const conductor_call_t *call);
} conductor_plugin_t;

/* The record that says what a library is, read without running it: 800 bytes, numbers little-endian. */
typedef struct conductor_manifest {
    unsigned char magic[8];     /* "CNDCTR" 0x1a 0x01 */
    unsigned char size[4];      /* 800 */
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
} conductor_manifest_t;

#if defined(_WIN32)
#define CONDUCTOR_EXPORT_ __declspec(dllexport)
#define CONDUCTOR_HIDDEN_
#else
#define CONDUCTOR_EXPORT_ __attribute__((visibility("default")))
#define CONDUCTOR_HIDDEN_ __attribute__((visibility("hidden")))
#endif

/* What CONDUCTOR_PLUGIN defines. */
extern CONDUCTOR_EXPORT_ const conductor_plugin_t conductor_plugin;
extern CONDUCTOR_HIDDEN_ const conductor_host_t *conductor_host;

/* ---- The call under way ---- */

/* [any thread] The platform's name, valid until the call ends. */
static inline const char *conductor_platform(const conductor_call_t *call)
{
    return conductor_host->platform(call);
}

/* [any thread] Nanoseconds until the call's deadline; 0 once that has passed. */
static inline uint64_t conductor_remaining_ns(const conductor_call_t *call)
{
    return conductor_host->remaining_ns(call);
}

/* [any thread] Whether the host has given up on the call: what it still finds will not be looked at. */
static inline bool conductor_is_cancelled(const conductor_call_t *call)
{
    return conductor_host->is_cancelled(call);
}

/* [any thread] Writes a line to the host's log. `call` may be NULL where none is under way. */
static inline void conductor_log(const conductor_call_t *call, int32_t level, const char *text)
{
    conductor_host->log(conductor_host, call, level, text);
}

/* ---- What a check found ---- */

/* [any thread] The check's report: an enum conductor_status and one line for people, such as "200 OK in 12 ms". */
static inline void conductor_report(const conductor_call_t *call, int32_t status, const char *message)
{
    conductor_host->report(call, status, message);
}

/*
 * [any thread] Adds a number to the report, before or after conductor_report. Name it as Prometheus does, base unit last:
 * "age_seconds". The host keeps only so many, and drops values that are not finite.
 */
static inline void conductor_measure(const conductor_call_t *call, const char *name, double value)
{
    conductor_host->measure(call, name, value);
}

/* [any thread] The probe could not find out, or could not be created: an enum conductor_failure, and why, for people. */
static inline void conductor_fail(const conductor_call_t *call, int32_t kind, const char *message)
{
    conductor_host->fail(call, kind, message);
}

/*
 * [any thread, also within `begin`] Ends a check that was begun, with what conductor_report or conductor_fail said of it
 * before. `call` is dead from here on, and another thread may destroy the probe at once: touch neither afterwards. Within
 * `begin` or `cancel`, what comes after it [must not wait]. A second completion does nothing but get logged.
 */
static inline void conductor_complete(const conductor_call_t *call)
{
    conductor_host->complete(call);
}

/* ---- The config, within `create` ---- */

/*
 * `key` is the name of a key of the table, such as "path"; if it begins with '/', it is a JSON pointer: "/tls/ca_file",
 * "/urls/0". `otherwise` is the answer if the key is not there or its value is of another type.
 */

/* [any thread] A text, valid until `create` returns. */
static inline const char *conductor_config_string(const conductor_call_t *call, const char *key, const char *otherwise)
{
    return conductor_host->config_string(call, key, otherwise);
}

/* [any thread] A number. */
static inline double conductor_config_number(const conductor_call_t *call, const char *key, double otherwise)
{
    return conductor_host->config_number(call, key, otherwise);
}

/* [any thread] True or false. */
static inline bool conductor_config_bool(const conductor_call_t *call, const char *key, bool otherwise)
{
    return conductor_host->config_bool(call, key, otherwise);
}

/* ---- The end of a plugin's source ---- */

/*
 * Makes the library a plugin: CONDUCTOR_PLUGIN(id, version, name, needs, members of conductor_plugin_t from config_schema
 * on); once in a library. id, version, name and needs are string literals; needs, "" for none, are lines such as
 * "network\nread /var/lib/mydb".
 */
#define CONDUCTOR_PLUGIN(id_, version_, name_, needs_, ...)                                                               \
    CONDUCTOR_STATIC_ASSERT_(sizeof(id_) > 1 && sizeof(id_) <= 64, plugin_id_has_1_to_63_bytes);                          \
    CONDUCTOR_STATIC_ASSERT_(sizeof(version_) > 1 && sizeof(version_) <= 64, plugin_version_has_1_to_63_bytes);           \
    CONDUCTOR_STATIC_ASSERT_(sizeof(name_) > 1 && sizeof(name_) <= 128, plugin_name_has_1_to_127_bytes);                  \
    CONDUCTOR_STATIC_ASSERT_(sizeof(needs_) <= 512, plugin_needs_have_at_most_511_bytes);                                 \
    CONDUCTOR_NOTE_PLACE_ static const conductor_note_t conductor_note CONDUCTOR_NOTE_ATTRIBUTES_ = {CONDUCTOR_NOTE_HEAD_ \
        {{'C', 'N', 'D', 'C', 'T', 'R', 0x1a, 0x01}, {0x20, 0x03, 0, 0},                                                  \
         {CONDUCTOR_API_MAJOR & 0xff, CONDUCTOR_API_MAJOR >> 8}, {CONDUCTOR_API_MINOR & 0xff, CONDUCTOR_API_MINOR >> 8},  \
         {CONDUCTOR_API_PATCH & 0xff, CONDUCTOR_API_PATCH >> 8}, 2, 0, {0}, id_, version_, name_, needs_}};               \
    const conductor_host_t *conductor_host = NULL;                                                                        \
    /* The manifest's own bytes, so that a linker which drops what nobody refers to keeps it. */                          \
    const conductor_plugin_t conductor_plugin = {(uint32_t)sizeof(conductor_plugin_t), 0, conductor_note.manifest.id,     \
        conductor_note.manifest.version, &conductor_host, __VA_ARGS__}

#if defined(__cplusplus)
#define CONDUCTOR_STATIC_ASSERT_(condition, what) static_assert(condition, #what)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define CONDUCTOR_STATIC_ASSERT_(condition, what) _Static_assert(condition, #what)
#else
#define CONDUCTOR_STATIC_ASSERT_(condition, what) typedef char conductor_assert_##what[(condition) ? 1 : -1]
#endif

/* Where the manifest lies: a note of ELF files, a section of its own in others. */
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
#define CONDUCTOR_NOTE_HEAD_ 10, 800, 1, "Conductor",
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

CONDUCTOR_STATIC_ASSERT_(sizeof(conductor_manifest_t) == 800, manifest_has_800_bytes);

#ifdef __cplusplus
}
#endif

#endif /* CONDUCTOR_PLUGIN_H */
