// Stand-in for bcryptprimitives.dll, which wine 8 does not have. Rust's standard library takes its random numbers from
// `ProcessPrng` of this DLL, so no Rust program starts without it. The numbers come from wine's own generator.
#include <windows.h>

// `RtlGenRandom` of advapi32; its exported name is this one.
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length) {
    const SIZE_T most = 1 << 20;
    while (length > 0) {
        ULONG part = (ULONG)(length < most ? length : most);
        if (!SystemFunction036(buffer, part)) {
            return FALSE;
        }
        buffer += part;
        length -= part;
    }
    return TRUE;
}
