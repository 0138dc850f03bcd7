// A probe of this machine's load, in C++: destructors free all resources, and no exception crosses the C boundary.
//
// c++ -std=c++11 -shared -fPIC -Wl,--version-script=exports.map -I ../../../plugin-api/include -o libload_average.so load_average.cpp
//
// The version script hides the templates of the standard library, which -fvisibility=hidden does not.
//
// [platform.load]
// plugin = "load-average"
// config = { degraded_above = 2.0 }
#include <exception>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>

#include "conductor_plugin.h"

namespace {

class LoadAverage {
public:
    explicit LoadAverage(const conductor_call_t *call)
        : file_(conductor_config_string(call, "file", "/proc/loadavg")),
          degraded_above_(conductor_config_number(call, "degraded_above", 4.0))
    {
    }

    void check(const conductor_call_t *call) const
    {
        double load = 0;
        if (!(std::ifstream(file_) >> load))
            throw std::runtime_error("cannot read a number from " + file_);
        conductor_measure(call, "load", load);
        conductor_report(call, load > degraded_above_ ? CONDUCTOR_STATUS_DEGRADED : CONDUCTOR_STATUS_HEALTHY,
                         ("the load of the last minute is " + std::to_string(load)).c_str());
    }

private:
    std::string file_;
    double degraded_above_;
};

// The C boundary: turns any exception thrown by `body` into a failure.
template <typename Body>
void guarded(const conductor_call_t *call, Body body) noexcept
{
    try {
        body();
    } catch (const std::exception &error) {
        conductor_fail(call, CONDUCTOR_FAILURE_ERROR, error.what());
    } catch (...) {
        conductor_fail(call, CONDUCTOR_FAILURE_PANIC, "something was thrown that is no std::exception");
    }
}

void *create(const conductor_call_t *call, const char *) noexcept
{
    std::unique_ptr<LoadAverage> probe;
    guarded(call, [&] { probe.reset(new LoadAverage(call)); });
    return probe.release();
}

void check(void *probe, const conductor_call_t *call) noexcept
{
    guarded(call, [&] { static_cast<LoadAverage *>(probe)->check(call); });
}

void destroy(void *probe, const conductor_call_t *) noexcept
{
    delete static_cast<LoadAverage *>(probe);
}

} // namespace

CONDUCTOR_PLUGIN("load-average", "1.0.0", "Load of this machine", "",
                 R"({"type": "object", "additionalProperties": false,
                     "properties": {
                         "file": {"type": "string", "description": "File that begins with the load."},
                         "degraded_above": {"type": "number", "description": "Load above which the machine is degraded."}}})",
                 create, check, destroy, nullptr, nullptr, nullptr);
