/*
 * A probe that checks the age of a file, for example last night's backup.
 *
 * cc -shared -fPIC -I ../../../plugin-api/include -o libfile_age.so file_age.c
 *
 * [platform.backup]
 * plugin = "file-age"
 * config = { path = "/var/backups/latest.tar", max_age_seconds = 86400 }
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "conductor_plugin.h"

struct file_age {
    char *path;
    double max_age;
};

static void *create(const conductor_call_t *call, const char *config)
{
    const char *path = conductor_config_string(call, "path", "");
    struct file_age *probe = malloc(sizeof *probe);
    char *copy = malloc(strlen(path) + 1);
    (void)config; /* the same as JSON text */
    if (probe == NULL || copy == NULL) {
        free(probe);
        free(copy);
        conductor_fail(call, CONDUCTOR_FAILURE_ERROR, "out of memory");
        return NULL;
    }
    probe->path = strcpy(copy, path);
    probe->max_age = conductor_config_number(call, "max_age_seconds", 3600);
    return probe;
}

static void check(void *data, const conductor_call_t *call)
{
    const struct file_age *probe = data;
    char message[256];
    struct stat file;
    double age;
    if (stat(probe->path, &file) != 0) {
        /* A missing file is a result; any other error says nothing about the file. */
        if (errno == ENOENT)
            conductor_report(call, CONDUCTOR_STATUS_UNHEALTHY, "the file does not exist");
        else
            conductor_fail(call, CONDUCTOR_FAILURE_ERROR, strerror(errno));
        return;
    }
    age = difftime(time(NULL), file.st_mtime);
    snprintf(message, sizeof message, "written %.0f s ago, at most %.0f s allowed", age, probe->max_age);
    conductor_set(call, "age", NULL, age);
    conductor_set(call, "size", NULL, (double)file.st_size);
    conductor_report(call, age <= probe->max_age ? CONDUCTOR_STATUS_HEALTHY : CONDUCTOR_STATUS_UNHEALTHY, message);
}

static void destroy(void *data, const conductor_call_t *call)
{
    struct file_age *probe = data;
    (void)call;
    free(probe->path);
    free(probe);
}

CONDUCTOR_PLUGIN("file-age", "1.0.0", "Age of a file", "",
                 .config_schema = "{\"type\": \"object\", \"required\": [\"path\"], \"additionalProperties\": false,"
                                  " \"properties\": {"
                                  "\"path\": {\"type\": \"string\", \"minLength\": 1, \"examples\": [\"/proc/self/status\"],"
                                  " \"description\": \"The file to look at.\"},"
                                  "\"max_age_seconds\": {\"type\": \"number\", \"minimum\": 0,"
                                  " \"description\": \"How old it may be; 3600 if it is left out.\"}}}",
                 .create = create, .check = check, .destroy = destroy,
                 .metrics = "[{\"name\": \"age\", \"kind\": \"gauge\", \"unit\": \"seconds\","
                            "  \"help\": \"Time since the file was written.\"},"
                            " {\"name\": \"size\", \"kind\": \"gauge\", \"unit\": \"bytes\","
                            "  \"help\": \"Size of the file.\"}]");
