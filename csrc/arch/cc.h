/*
 * Compiler and platform for lwIP: gcc, clang and MSVC on machines with 64-bit integers.
 */
#ifndef LWIPY_ARCH_CC_H
#define LWIPY_ARCH_CC_H

#include <stdint.h>

#include "../copy.h"

/* Windows is little-endian everywhere; elsewhere the compiler knows. System headers may have said so already. */
#ifndef BYTE_ORDER
#ifdef __BYTE_ORDER__
#define BYTE_ORDER __BYTE_ORDER__
#else
#define BYTE_ORDER 1234
#endif
#endif

#ifdef _MSC_VER
#define PACK_STRUCT_USE_INCLUDES
#define LWIP_NO_UNISTD_H 1
#define LWIPY_NORETURN __declspec(noreturn)
#else
#define LWIPY_NORETURN __attribute__((noreturn))
#endif

/* The C library's errno values are the system's; lwIP's own are not wanted. */
#define LWIP_ERRNO_STDINCLUDE 1

uint32_t lwipy_rand(void);
LWIPY_NORETURN void lwipy_assertion_failed(const char *text, const char *file, int line);

#define MEMCPY(to, from, length) lwipy_copy(to, from, length)   /* segments may be long; SMEMCPY() stays */
#define LWIP_RAND() lwipy_rand()
#define LWIP_PLATFORM_DIAG(x) do {} while (0)
#define LWIP_PLATFORM_ASSERT(text) lwipy_assertion_failed((text), __FILE__, __LINE__)
/* Wrong arguments are answered with an error code; Python raises it. */
#define LWIP_ERROR(message, expression, handler) do { if (!(expression)) { handler; } } while (0)

#endif /* LWIPY_ARCH_CC_H */
