/* Everything that the files of a tree are, a line each: listing ROOT
 *
 * What lies on a mount below ROOT is another tree: it is named and left out. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MOUNTS 256

static size_t root_length;
static char *mounts[MOUNTS];
static int mount_count;

static void print_bytes(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = bytes[i];
        if (byte <= ' ' || byte >= 127 || byte == '\\')
            printf("\\%02x", byte);
        else
            putchar(byte);
    }
}

static void print_hash(const char *path)
{
    static char buffer[1 << 16];
    unsigned long long hash = 0xcbf29ce484222325;
    int fd = open(path, O_RDONLY);
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < got; i++)
            hash = (hash ^ (unsigned char)buffer[i]) * 0x100000001b3;
    if (fd < 0 || got < 0)
        printf(" unreadable:%s", strerror(errno));
    else
        printf(" hash=%016llx", hash);
    close(fd);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_xattrs(const char *path)
{
    static char names[1 << 16], value[1 << 16];
    char *sorted[100];
    int count = 0;
    ssize_t length = llistxattr(path, names, sizeof names);
    for (char *name = names; length > 0 && name < names + length && count < 100; name += strlen(name) + 1)
        sorted[count++] = name;
    qsort(sorted, count, sizeof *sorted, by_name);
    for (int i = 0; i < count; i++) {
        ssize_t size = lgetxattr(path, sorted[i], value, sizeof value);
        printf(" %s=", sorted[i]);
        print_bytes(value, size < 0 ? 0 : size);
    }
}

static int visit(const char *path, const struct stat *found, int type, struct FTW *where)
{
    const char *name = path[root_length] ? path + root_length : "/";
    (void)type, (void)where;
    for (int i = 0; i < mount_count; i++)
        if (strcmp(mounts[i], name) == 0 && name[1]) {
            printf("mount ");
            print_bytes(name, strlen(name));
            putchar('\n');
            return FTW_SKIP_SUBTREE;
        }
    print_bytes(name, strlen(name));
    printf(" mode=%o owner=%u:%u mtime=%lld.%09ld", found->st_mode, found->st_uid, found->st_gid,
           (long long)found->st_mtim.tv_sec, found->st_mtim.tv_nsec);
    if (!S_ISDIR(found->st_mode))
        printf(" links=%lu", (unsigned long)found->st_nlink);
    if (S_ISREG(found->st_mode)) {
        printf(" size=%lld", (long long)found->st_size);
        print_hash(path);
    }
    if (S_ISCHR(found->st_mode) || S_ISBLK(found->st_mode))
        printf(" device=%u:%u", major(found->st_rdev), minor(found->st_rdev));
    if (S_ISLNK(found->st_mode)) {
        char target[4096];
        ssize_t length = readlink(path, target, sizeof target);
        printf(" ->");
        print_bytes(target, length < 0 ? 0 : length);
    }
    print_xattrs(path);
    putchar('\n');
    return FTW_CONTINUE;
}

int main(int count, char **words)
{
    char line[4096], point[4096];
    FILE *table = fopen("/proc/self/mountinfo", "r");
    if (count != 2)
        return 2;
    root_length = strcmp(words[1], "/") ? strlen(words[1]) : 0;
    while (root_length == 0 && table && fgets(line, sizeof line, table) && mount_count < MOUNTS)
        if (sscanf(line, "%*d %*d %*s %*s %4095s", point) == 1)
            mounts[mount_count++] = strdup(point);
    return nftw(words[1], visit, 50, FTW_PHYS | FTW_ACTIONRETVAL) ? 1 : 0;
}
