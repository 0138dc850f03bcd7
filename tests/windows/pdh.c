// Stand-in for pdh.dll, the performance counters from which the host learns how busy the CPU is. Wine 8 ends a program that
// lists counters, and does not know the one for idle time. This one knows no other: `\Processor(N)\% Idle Time`, where N is a
// number or `_Total`. It exports the functions that the crate sysinfo imports. The tests do not assert any CPU figure.
#include <windows.h>
#include <winternl.h>
#include <stdlib.h>
#include <wchar.h>

#define EXPORT __declspec(dllexport) LONG WINAPI
#define MAX_CPUS 128

// The values of PDH_CSTATUS_NO_COUNTER and PDH_INVALID_DATA in pdhmsg.h.
static const LONG NO_COUNTER = (LONG)0xC0000BB9;
static const LONG INVALID_DATA = (LONG)0xC0000BC6;

// PDH_FMT_COUNTERVALUE, of which only the floating-point form is filled in.
struct value {
    DWORD status;
    double number;
};

struct times {
    LONGLONG idle, all;
};

struct query {
    int samples, cpus;
    struct times before[MAX_CPUS], now[MAX_CPUS];
};

struct counter {
    struct query *query;
    int cpu; // -1: all of them
};

EXPORT PdhOpenQueryW(LPCWSTR source, DWORD_PTR user, struct query **query) {
    (void)source, (void)user;
    *query = calloc(1, sizeof **query);
    return *query ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY;
}

EXPORT PdhCloseQuery(struct query *query) {
    free(query);
    return ERROR_SUCCESS;
}

EXPORT PdhAddEnglishCounterW(struct query *query, LPCWSTR path, DWORD_PTR user, struct counter **counter) {
    (void)user;
    wchar_t name[16], rest[32];
    if (swscanf(path, L"\\Processor(%15[^)])%31[^\n]", name, rest) != 2 || wcscmp(rest, L"\\% Idle Time") != 0) {
        return NO_COUNTER;
    }
    *counter = calloc(1, sizeof **counter);
    if (!*counter) {
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    (*counter)->query = query;
    (*counter)->cpu = wcscmp(name, L"_Total") == 0 ? -1 : _wtoi(name);
    return ERROR_SUCCESS;
}

// A counter that is not removed lives as long as the program.
EXPORT PdhRemoveCounter(struct counter *counter) {
    free(counter);
    return ERROR_SUCCESS;
}

EXPORT PdhCollectQueryData(struct query *query) {
    SYSTEM_PROCESSOR_PERFORMANCE_INFORMATION found[MAX_CPUS];
    ULONG length = 0;
    // Wine answers from /proc/stat.
    if (NtQuerySystemInformation(SystemProcessorPerformanceInformation, found, sizeof found, &length) != 0) {
        return INVALID_DATA;
    }
    query->cpus = (int)(length / sizeof found[0]);
    for (int cpu = 0; cpu < query->cpus; cpu++) {
        query->before[cpu] = query->now[cpu];
        query->now[cpu].idle = found[cpu].IdleTime.QuadPart;
        // The kernel's time contains the idle time.
        query->now[cpu].all = found[cpu].KernelTime.QuadPart + found[cpu].UserTime.QuadPart;
    }
    query->samples++;
    return ERROR_SUCCESS;
}

EXPORT PdhGetFormattedCounterValue(struct counter *counter, DWORD format, DWORD *kind, struct value *value) {
    (void)format, (void)kind;
    const struct query *query = counter->query;
    LONGLONG idle = 0, all = 0;
    for (int cpu = 0; cpu < query->cpus; cpu++) {
        if (counter->cpu < 0 || counter->cpu == cpu) {
            idle += query->now[cpu].idle - query->before[cpu].idle;
            all += query->now[cpu].all - query->before[cpu].all;
        }
    }
    if (query->samples < 2 || all <= 0) {
        return INVALID_DATA;
    }
    value->status = 0;
    value->number = 100.0 * (double)idle / (double)all;
    return ERROR_SUCCESS;
}

EXPORT PdhGetFormattedCounterArrayW(struct counter *counter, DWORD format, DWORD *size, DWORD *count, void *items) {
    (void)counter, (void)format, (void)items;
    *size = *count = 0;
    return INVALID_DATA;
}

EXPORT PdhEnumObjectsW(LPCWSTR source, LPCWSTR machine, LPWSTR list, DWORD *length, DWORD detail, BOOL refresh) {
    (void)source, (void)machine, (void)list, (void)length, (void)detail, (void)refresh;
    return ERROR_SUCCESS;
}
