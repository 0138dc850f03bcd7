/* A collectd plugin whose callbacks do nothing but count themselves: what a check costs in collectd.
 * <Plugin noop> Callbacks N; Interval SECONDS; Counters FILE </Plugin>
 * FILE gets the number of calls of each thread, 64 bytes apart, and is mapped by the benchmark. */
#include "collectd.h"

#include "configfile.h"
#include "plugin.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum { THREADS = 64, APART = 8 };

static int callbacks = 1;
static double interval = 1.0;
static char path[4096];
static volatile uint64_t *counters;
static atomic_int threads;
static __thread volatile uint64_t *own;

static int noop(user_data_t *unused) {
  (void)unused;
  if (own == NULL)
    own = counters + APART * (atomic_fetch_add(&threads, 1) % THREADS);
  ++*own;
  return 0;
}

static int configure(oconfig_item_t *ci) {
  for (int i = 0; i < ci->children_num; i++) {
    oconfig_item_t *item = ci->children + i;
    if (!strcasecmp(item->key, "Callbacks"))
      cf_util_get_int(item, &callbacks);
    else if (!strcasecmp(item->key, "Interval"))
      cf_util_get_double(item, &interval);
    else if (!strcasecmp(item->key, "Counters"))
      cf_util_get_string_buffer(item, path, sizeof path);
  }
  return 0;
}

static int start(void) {
  size_t size = THREADS * APART * sizeof *counters;
  int file = open(path, O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, (off_t)size) != 0)
    return -1;
  counters = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (counters == MAP_FAILED)
    return -1;
  for (int i = 0; i < callbacks; i++) {
    char name[32];
    snprintf(name, sizeof name, "noop/%d", i);
    user_data_t none = {0};
    plugin_register_complex_read("noop", name, noop, DOUBLE_TO_CDTIME_T(interval), &none);
  }
  return 0;
}

void module_register(void) {
  plugin_register_complex_config("noop", configure);
  plugin_register_init("noop", start);
}
