/*
 * The border, from Python's side: one private copy of the core per Stack, one lock, and what happens when lwIP fails.
 *
 * Theory of operation. lwIP keeps its state in global variables. So every Stack loads a copy of this very extension
 * under a name the loader has not seen, and gets globals of its own; closing unloads the copy and everything is gone.
 * Calls go through a table of functions that the copy hands out. Each call takes the core's lock, notes where to
 * return to should an assertion fail, and calls; code for that is generated from lwipy.h by build_ffi.py (dispatch.c).
 *
 * Invariants:
 * 1. `struct lwipy_core` outlives the copy; only lwipy_close() frees it, and no other call may run then (Stack sees
 *    to that).
 * 2. A core whose assertion failed is never entered again, except to be closed: its state cannot be trusted.
 * 3. Where copies come from: a memory file whose descriptor stays open (a closed one's path would come again, and the
 *    loader would take the copy for one it has); where there is none, a file beside the extension or in the temporary
 *    folder, unlinked once loaded.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "core.h"
#include "dispatch.h"
#include "loop.h"
#include "poller.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lwipy_wire *lwipy_wire_new(void);
void lwipy_wire_free(struct lwipy_wire *wire);
void lwipy_wire_abandon(struct lwipy_wire *wire);

/* ---- Loading a copy ------------------------------------------------------------------------------------------------ */

#ifdef _WIN32

static void *
load_copy(lwipy_core *core, char *error, size_t error_size)
{
  wchar_t own[MAX_PATH], folder[MAX_PATH], copy[MAX_PATH];
  HMODULE self = NULL, library;
  core->library_fd = -1;
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                     (LPCWSTR)(void *)&load_copy, &self);
  if (self == NULL || GetModuleFileNameW(self, own, MAX_PATH) == 0 || GetTempPathW(MAX_PATH, folder) == 0 ||
      GetTempFileNameW(folder, L"lwp", 0, copy) == 0 || !CopyFileW(own, copy, FALSE) ||
      (library = LoadLibraryW(copy)) == NULL) {
    snprintf(error, error_size, "cannot load a copy of the core (Windows error %lu)", (unsigned long)GetLastError());
    return NULL;
  }
  MoveFileExW(copy, NULL, MOVEFILE_DELAY_UNTIL_REBOOT);   /* should nobody unload it */
  return (void *)library;
}

static void
unload_copy(lwipy_core *core)
{
  wchar_t copy[MAX_PATH];
  DWORD length = GetModuleFileNameW((HMODULE)core->library, copy, MAX_PATH);
  FreeLibrary((HMODULE)core->library);
  if (length > 0 && length < MAX_PATH) {
    DeleteFileW(copy);
  }
}

static void *
symbol(lwipy_core *core, const char *name)
{
  return (void *)GetProcAddress((HMODULE)core->library, name);
}

#else
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int
copy_bytes(int from, int to)
{
  char buffer[65536];
  ssize_t got;
  while ((got = read(from, buffer, sizeof(buffer))) > 0) {
    if (write(to, buffer, (size_t)got) != got) {
      return -1;
    }
  }
  return got == 0 ? 0 : -1;
}

static void *
load_from_memory(lwipy_core *core, int own)
{
#ifdef __linux__
  char path[64];
  void *library;
  int fd = memfd_create("lwipy-core", MFD_CLOEXEC);
  if (fd < 0) {
    return NULL;
  }
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  if (copy_bytes(own, fd) == 0 && (library = dlopen(path, RTLD_NOW | RTLD_LOCAL)) != NULL) {
    core->library_fd = fd;
    return library;
  }
  close(fd);
#else
  (void)core;
  (void)own;
#endif
  return NULL;
}

static void *
load_from_folder(const char *folder, int own)
{
  char path[4096];
  void *library = NULL;
  int fd;
  if (snprintf(path, sizeof(path), "%s/.lwipy-core-XXXXXX", folder) >= (int)sizeof(path) || (fd = mkstemp(path)) < 0) {
    return NULL;
  }
  lseek(own, 0, SEEK_SET);
  if (fchmod(fd, 0700) == 0 && copy_bytes(own, fd) == 0) {
    close(fd);
    fd = -1;
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  }
  if (fd >= 0) {
    close(fd);
  }
  unlink(path);
  return library;
}

static void *
load_copy(lwipy_core *core, char *error, size_t error_size)
{
  Dl_info info;
  char folder[4096];
  char *slash;
  void *library;
  const char *temporary = getenv("TMPDIR");
  int own;
  core->library_fd = -1;
  if (dladdr((void *)(uintptr_t)&lwipy_open, &info) == 0 || (own = open(info.dli_fname, O_RDONLY | O_CLOEXEC)) < 0) {
    snprintf(error, error_size, "cannot read the extension to copy it: %s", strerror(errno));
    return NULL;
  }
  snprintf(folder, sizeof(folder), "%s", info.dli_fname);
  slash = strrchr(folder, '/');
  if (slash != NULL) {
    *slash = 0;
  }
  if ((library = load_from_memory(core, own)) == NULL && (library = load_from_folder(folder, own)) == NULL) {
    library = load_from_folder(temporary != NULL ? temporary : "/tmp", own);
  }
  if (library == NULL) {
    const char *why = dlerror();
    snprintf(error, error_size, "cannot load a copy of the core: %s", why != NULL ? why : strerror(errno));
  }
  close(own);
  return library;
}

static void
unload_copy(lwipy_core *core)
{
  dlclose(core->library);
  if (core->library_fd >= 0) {
    close(core->library_fd);
  }
}

static void *
symbol(lwipy_core *core, const char *name)
{
  return dlsym(core->library, name);
}
#endif

/* ---- Life ----------------------------------------------------------------------------------------------------------- */

/* Functions of their own, for a longjmp() may clobber the locals of whoever called setjmp(). */
static int
open_inside(lwipy_core *core, const lwipy_options *options)
{
  int result = LWIPY_EFAILED;
  core->owner = lwipy_thread_self();
  core->entered = 1;
  if (LWIPY_SETJMP(core->unwind) == 0) {
    result = core->table->inside_open(core, options);
  }
  core->entered = 0;
  return result;
}

static void
close_inside(lwipy_core *core)
{
  core->owner = lwipy_thread_self();
  core->entered = 1;
  if (LWIPY_SETJMP(core->unwind) == 0) {
    core->table->inside_close();
  }
}

lwipy_core *
lwipy_open(const lwipy_options *options, char *error, size_t error_size)
{
  lwipy_core *core = calloc(1, sizeof(*core));
  int result = LWIPY_EMEM;
  if (core == NULL || lwipy_poller_open(core) != 0) {
    snprintf(error, error_size, "no memory or descriptors for a core");
    free(core);
    return NULL;
  }
  if ((core->library = load_copy(core, error, error_size)) == NULL) {
    lwipy_poller_close(core);
    free(core);
    return NULL;
  }
  core->table = symbol(core, "lwipy_table");
  lwipy_mutex_init(&core->lock);
  lwipy_leadership_open(core, options->without);
  if (core->table == NULL) {
    snprintf(error, error_size, "the copy of the core has no table");
  } else if ((result = open_inside(core, options)) != 0) {
    snprintf(error, error_size, "%s", core->failure[0] ? core->failure : "no memory for a core");
  }
  if (result != 0) {
    lwipy_close(core);
    return NULL;
  }
  return core;
}

void
lwipy_close(lwipy_core *core)
{
  if (core->table != NULL) {
    close_inside(core);
  }
  unload_copy(core);
  lwipy_poller_close(core);
  lwipy_leadership_close(core);
  lwipy_mutex_destroy(&core->lock);
  free(core);
}

const char *
lwipy_failure(lwipy_core *core)
{
  return core->failed ? core->failure : NULL;
}

uint32_t *
lwipy_attention(lwipy_core *core)
{
  return &core->attention;
}

const char *
lwipy_version(void)
{
  return LWIPY_LWIP_VERSION;
}

/* ---- Wires ------------------------------------------------------------------------------------------------------------ */

int
lwipy_wire(lwipy_core *core_a, int nic_a, lwipy_core *core_b, int nic_b, int offload)
{
  struct lwipy_wire *wire = lwipy_wire_new();
  int result;
  if (wire == NULL) {
    return LWIPY_EMEM;
  }
  if ((result = lwipy_wire_join(core_a, nic_a, wire, 0, offload)) != 0) {
    lwipy_wire_free(wire);
    return result;
  }
  if ((result = lwipy_wire_join(core_b, nic_b, wire, 1, offload)) != 0) {
    /* The first end holds it alone now, and frees it when it is cut. */
    lwipy_wire_abandon(wire);
    lwipy_unwire(core_a, nic_a);
  }
  return result;
}
