/* The smallest guest: an init without a C library. It tells the port 0x2be how
 * far it is, moves as many MiB as it is told to, and ends by a reboot.
 *
 * Linux hands `bench=KIND:MIB` of its command line to init as a variable:
 *   boot:0     nothing
 *   read:N     reads N MiB of /dev/vda in order, through the page cache
 *   write:N    writes N MiB to /dev/vda and waits until they are written
 *   vsock:N    sends N MiB to port 1024 of the host
 *   host:N     takes N MiB from port 1024 of the host
 * A call that fails ends the guest with 0x81, and every other end is 0x80.
 */
#include <asm/unistd.h>
#include <linux/reboot.h>
#include <stddef.h>

#define STAMP_PORT 0x2be
#define INIT 0x10
#define READY 0x13
#define END 0x80
#define END_FAULT 0x81
#define PIECE (128 << 10)

static char buffer[PIECE] __attribute__((aligned(4096)));

struct sockaddr_vm {
    unsigned short family, reserved;
    unsigned port, cid;
    unsigned char zero[4];
};

static long call(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

static void stamp(unsigned char value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"((unsigned short)STAMP_PORT));
}

static void end(unsigned char value)
{
    stamp(value);
    call(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0, 0);
    for (;;)
        call(__NR_pause, 0, 0, 0, 0, 0);
}

static long must(long result)
{
    if (result < 0)
        end(END_FAULT);
    return result;
}

static long open_disk(void)
{
    call(__NR_mkdir, (long)"/dev", 0755, 0, 0, 0);
    must(call(__NR_mount, (long)"dev", (long)"/dev", (long)"devtmpfs", 0, 0));
    return must(call(__NR_open, (long)"/dev/vda", 2, 0, 0, 0));
}

static long dial(void)
{
    struct sockaddr_vm host = {.family = 40, .port = 1024, .cid = 2};
    long socket = must(call(__NR_socket, 40, 1, 0, 0, 0));
    must(call(__NR_connect, socket, (long)&host, sizeof host, 0, 0));
    return socket;
}

static void move(char kind, long mib)
{
    long left = mib << 20, number = __NR_read;
    long file = kind == 'v' || kind == 'h' ? dial() : open_disk();
    if (kind == 'w' || kind == 'v')
        number = __NR_write;
    while (left > 0) {
        long done = must(call(number, file, (long)buffer, left < PIECE ? left : PIECE, 0, 0));
        if (done == 0)
            end(END_FAULT);
        left -= done;
    }
    if (kind == 'v') {
        /* The end of a machine may overtake what is under way: the host closes
         * when it has everything. */
        must(call(__NR_shutdown, file, 1, 0, 0, 0));
        call(__NR_read, file, (long)buffer, 1, 0, 0);
    }
    if (kind == 'w')
        must(call(__NR_fsync, file, 0, 0, 0, 0));
    must(call(__NR_close, file, 0, 0, 0, 0));
}

static int starts_with(const char *text, const char *start)
{
    while (*start && *text == *start)
        text++, start++;
    return !*start;
}

void run(long *stack)
{
    char **variable = (char **)(stack + stack[0] + 2), *kind = NULL;
    long mib = 0;
    must(call(__NR_ioperm, STAMP_PORT, 1, 1, 0, 0));
    stamp(INIT);
    for (; *variable; variable++)
        if (starts_with(*variable, "bench="))
            kind = *variable + 6;
    if (kind) {
        const char *digit = kind;
        while (*digit && *digit != ':')
            digit++;
        while (*digit && *++digit >= '0' && *digit <= '9')
            mib = mib * 10 + *digit - '0';
        if (*kind != 'b')
            move(*kind, mib);
    }
    stamp(READY);
    end(END);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call run\n");
