// The C half of a Go plugin: the host's functions call the exported Go functions, and the macro makes the library a
// plugin.
#include "conductor_plugin.h"
#include "_cgo_export.h"
static void *create(const conductor_call_t *call, const char *config) { (void)call, (void)config; return goCreate(); }
static void check(void *probe, const conductor_call_t *call) { (void)probe; goCheck((void *)call); }
static void destroy(void *probe, const conductor_call_t *call) { (void)call; goDestroy(probe); }
CONDUCTOR_PLUGIN("gopher", "1.0.0", "Gopher", "",
                 .config_schema = "{\"type\": \"object\", \"additionalProperties\": false}",
                 .create = create, .check = check, .destroy = destroy);
