/* What Rust's standard library takes random bytes from on Windows 10 and newer. Wine 8 has no such
   library: this one stands in for it under Wine, and is no part of anything else. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length) {
    return SystemFunction036(buffer, (ULONG)length);
}
