// A disk that fails, for tests of what a program leaves behind. Preloaded (LD_PRELOAD), it stands before the calls of libc that change
// files, counts those that touch the folder DISK_FAULTS_ROOT, writes each as a line to DISK_FAULTS_LOG, and at call DISK_FAULTS_AT does
// what DISK_FAULTS_DO says:
//
//     kill                 ends the process there; of a write, half has happened
//     ENOSPC, EDQUOT       fails this call and all later ones that need room; of a write, half has happened
//     EIO                  fails this call alone
//     power                a power cut: what was not synced is undone, files and entries of folders, and the process ends
//     bytes                a power cut that keeps the entries of folders, and loses bytes that were not synced
//
// An entry of a folder (a file that was made, renamed or removed in it) counts as synced once the folder was synced after it, bytes once
// their file was. Files that are replaced or removed are kept as links in DISK_FAULTS_SAVED until that is synced.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST_DESCRIPTORS = 4096, MOST_ENTRIES = 4096, MOST_FILES = 1024, COPIES_FROM = 512 };
enum action { NOTHING, KILL, FAIL_ONCE, FAIL_ON, POWER, BYTES };
enum change { MADE, MADE_FOLDER, RENAMED, REMOVED };

static const char *root, *saved_folder;
static size_t root_length;
static long fault_at, counted;
static int log_descriptor = -1;
static enum action action;
static int error_number;

/// The path of each open file below the root.
static char *paths[MOST_DESCRIPTORS];

static struct {
    enum change change;
    /// `to` is the new name, `saved` what was at it, or what was removed.
    char *path, *to, *saved;
    int is_synced;
} entries[MOST_ENTRIES];
static int entry_count;

/// The files that were written, each by a descriptor of its own, and how many of their bytes are synced.
static struct {
    dev_t device;
    ino_t inode;
    int descriptor;
    off_t synced;
} files[MOST_FILES];
static int file_count;

// MARK: the calls themselves

static int real_open(const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
static int real_rename(const char *from, const char *to) {
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
static int real_unlink(const char *path) { return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0); }
static int real_rmdir(const char *path) { return (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR); }
static int real_link(const char *from, const char *to) {
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

__attribute__((constructor)) static void prepare(void) {
    const char *log = getenv("DISK_FAULTS_LOG"), *at = getenv("DISK_FAULTS_AT"), *what = getenv("DISK_FAULTS_DO");
    saved_folder = getenv("DISK_FAULTS_SAVED");
    // What the program starts (the compiler of an OpenCL device, say) is not watched, and does not begin the log again.
    unsetenv("LD_PRELOAD");
    if (log) log_descriptor = real_open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (at) fault_at = atol(at);
    const struct {
        const char *name;
        enum action action;
        int error;
    } all[] = {{"kill", KILL, 0},          {"ENOSPC", FAIL_ON, ENOSPC}, {"EDQUOT", FAIL_ON, EDQUOT},
               {"EIO", FAIL_ONCE, EIO},    {"power", POWER, 0},         {"bytes", BYTES, 0}};
    for (size_t i = 0; what && i < sizeof all / sizeof *all; i++)
        if (!strcmp(what, all[i].name)) action = all[i].action, error_number = all[i].error;
    root = getenv("DISK_FAULTS_ROOT");
    root_length = root ? strlen(root) : 0;
}

static int is_below(const char *path) {
    return root_length && path && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static const char *path_of(int descriptor) {
    return descriptor >= 0 && descriptor < MOST_DESCRIPTORS ? paths[descriptor] : NULL;
}

// MARK: what is lost

static void remove_all(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) {
        real_unlink(path);
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        char inner[4096];
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        remove_all(inner);
    }
    closedir(folder);
    real_rmdir(path);
}

static void lose_entries(void) {
    for (int i = entry_count - 1; i >= 0; i--) {
        if (entries[i].is_synced) continue;
        switch (entries[i].change) {
        case MADE: real_unlink(entries[i].path); break;
        case MADE_FOLDER: remove_all(entries[i].path); break;
        case RENAMED:
            real_rename(entries[i].to, entries[i].path);
            if (entries[i].saved) real_rename(entries[i].saved, entries[i].to);
            break;
        case REMOVED:
            if (entries[i].saved) real_rename(entries[i].saved, entries[i].path);
            break;
        }
    }
}

static void lose_bytes(void) {
    for (int i = 0; i < file_count; i++) {
        struct stat status;
        if (!fstat(files[i].descriptor, &status) && status.st_size > files[i].synced)
            syscall(SYS_ftruncate, files[i].descriptor, files[i].synced);
    }
}

// MARK: counting

/// Counts a call. Nonzero: the error that it fails with. `room` says whether the call needs some on the disk.
static int fault(const char *call, const char *path, int room) {
    long number = ++counted;
    char line[4400];
    int length = snprintf(line, sizeof line, "%ld %s %s\n", number, call, path);
    if (log_descriptor >= 0) syscall(SYS_write, log_descriptor, line, length);
    if (!fault_at || number < fault_at) return 0;
    if (action == FAIL_ON) return number == fault_at || room ? error_number : 0;
    if (number > fault_at || action == NOTHING) return 0;
    if (action == FAIL_ONCE) return error_number;
    if (action == POWER) lose_entries();
    if (action == POWER || action == BYTES) lose_bytes();
    for (;;) kill(getpid(), SIGKILL);
}

static int failed(int error) {
    errno = error;
    return -1;
}

static void note(enum change change, const char *path, const char *to, char *saved) {
    if (entry_count == MOST_ENTRIES) abort();
    entries[entry_count].change = change;
    entries[entry_count].path = strdup(path);
    entries[entry_count].to = to ? strdup(to) : NULL;
    entries[entry_count++].saved = saved;
}

/// A link to a file, so that it can come back.
static char *save(const char *path) {
    char link[4096];
    if (!saved_folder) return NULL;
    snprintf(link, sizeof link, "%s/%d-%d", saved_folder, getpid(), entry_count);
    return real_link(path, link) ? NULL : strdup(link);
}

static int is_in(const char *path, const char *folder) {
    const char *slash = strrchr(path, '/');
    return slash && (size_t)(slash - path) == strlen(folder) && !strncmp(path, folder, slash - path);
}

/// What is on the disk once `descriptor` was synced.
static void synced(int descriptor, const char *path) {
    struct stat status;
    if (fstat(descriptor, &status)) return;
    for (int i = 0; i < file_count; i++)
        if (files[i].inode == status.st_ino && files[i].device == status.st_dev) files[i].synced = status.st_size;
    if (!S_ISDIR(status.st_mode)) return;
    for (int i = 0; i < entry_count; i++) {
        if (entries[i].is_synced || !is_in(entries[i].path, path)) continue;
        if (entries[i].to && !is_in(entries[i].to, path)) continue;
        entries[i].is_synced = 1;
        if (entries[i].saved) real_unlink(entries[i].saved);
    }
}

/// Remembers a file that is open for writing. What was in it before counts as synced.
static void watch(int descriptor) {
    struct stat status;
    if (fstat(descriptor, &status)) return;
    for (int i = 0; i < file_count; i++)
        if (files[i].inode == status.st_ino && files[i].device == status.st_dev) return;
    if (file_count == MOST_FILES) abort();
    files[file_count].device = status.st_dev;
    files[file_count].inode = status.st_ino;
    files[file_count].descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, COPIES_FROM);
    files[file_count++].synced = status.st_size;
}

// MARK: the calls that stand before those of libc

static int counted_open(const char *path, int flags, mode_t mode) {
    if (!is_below(path)) return real_open(path, flags, mode);
    int error = fault(flags & O_CREAT ? "open to write" : "open", path, flags & O_CREAT);
    if (error) return failed(error);
    struct stat status;
    int is_new = flags & O_CREAT && lstat(path, &status);
    int descriptor = real_open(path, flags, mode);
    if (descriptor < 0) return descriptor;
    if (is_new) note(MADE, path, NULL, NULL);
    if ((flags & O_ACCMODE) != O_RDONLY) watch(descriptor);
    if (descriptor < MOST_DESCRIPTORS) paths[descriptor] = strdup(path);
    return descriptor;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;                                                 \
        va_end(arguments);                                                                                             \
        return counted_open(path, flags, mode);                                                                        \
    }
OPEN(open)
OPEN(open64)

int close(int descriptor) {
    if (path_of(descriptor)) {
        free(paths[descriptor]);
        paths[descriptor] = NULL;
    }
    return (int)syscall(SYS_close, descriptor);
}

static ssize_t counted_write(const char *call, int descriptor, const void *bytes, size_t count, off_t at) {
    const char *path = path_of(descriptor);
    if (path) {
        // A write that is cut off has done a part.
        if (fault_at && counted + 1 >= fault_at && (action == KILL || action == FAIL_ON)) {
            if (at < 0) syscall(SYS_write, descriptor, bytes, count / 2);
            else syscall(SYS_pwrite64, descriptor, bytes, count / 2, at);
        }
        int error = fault(call, path, 1);
        if (error) return failed(error);
    }
    return at < 0 ? syscall(SYS_write, descriptor, bytes, count) : syscall(SYS_pwrite64, descriptor, bytes, count, at);
}
ssize_t write(int descriptor, const void *bytes, size_t count) {
    return counted_write("write", descriptor, bytes, count, -1);
}
ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t at) {
    return counted_write("pwrite", descriptor, bytes, count, at);
}
ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off_t at) {
    return counted_write("pwrite", descriptor, bytes, count, at);
}

#define SYNC(name, number)                                                                                             \
    int name(int descriptor) {                                                                                         \
        const char *path = path_of(descriptor);                                                                        \
        int error = path ? fault(#name, path, 1) : 0;                                                                  \
        if (error) return failed(error);                                                                               \
        int result = (int)syscall(number, descriptor);                                                                 \
        if (!result && path) synced(descriptor, path);                                                                 \
        return result;                                                                                                 \
    }
SYNC(fsync, SYS_fsync)
SYNC(fdatasync, SYS_fdatasync)

#define TRUNCATE(name)                                                                                                 \
    int name(int descriptor, off_t length) {                                                                           \
        const char *path = path_of(descriptor);                                                                        \
        int error = path ? fault("ftruncate", path, 0) : 0;                                                            \
        return error ? failed(error) : (int)syscall(SYS_ftruncate, descriptor, length);                                \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int fchmod(int descriptor, mode_t mode) {
    const char *path = path_of(descriptor);
    int error = path ? fault("fchmod", path, 0) : 0;
    return error ? failed(error) : (int)syscall(SYS_fchmod, descriptor, mode);
}

int rename(const char *from, const char *to) {
    if (!is_below(to)) return real_rename(from, to);
    int error = fault("rename", to, 1);
    if (error) return failed(error);
    char *saved = save(to);
    int result = real_rename(from, to);
    if (!result) note(RENAMED, from, to, saved);
    return result;
}

int link(const char *from, const char *to) {
    if (!is_below(to)) return real_link(from, to);
    int error = fault("link", to, 1);
    if (error) return failed(error);
    int result = real_link(from, to);
    if (!result) note(MADE, to, NULL, NULL);
    return result;
}

int unlink(const char *path) {
    if (!is_below(path)) return real_unlink(path);
    int error = fault("unlink", path, 0);
    if (error) return failed(error);
    char *saved = save(path);
    int result = real_unlink(path);
    if (!result) note(REMOVED, path, NULL, saved);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    if (!is_below(path)) return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    int error = fault("mkdir", path, 1);
    if (error) return failed(error);
    int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    // The root's own entry is in a folder that is not watched.
    if (!result && path[root_length]) note(MADE_FOLDER, path, NULL, NULL);
    return result;
}

int rmdir(const char *path) {
    if (!is_below(path)) return real_rmdir(path);
    int error = fault("rmdir", path, 0);
    return error ? failed(error) : real_rmdir(path);
}
