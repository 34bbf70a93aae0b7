/*
 * probe NAME [ARGUMENT...]: uses one feature of the kernel and prints a word
 * that its use gives; says "NAME: step: reason" and ends with 1 if it fails.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/kcmp.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/ptp_clock.h>
#include <linux/quota.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <linux/vm_sockets.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, MIB = 1 << 20, PROJECT = 7, PROJECT_QUOTA = 2 };

static const char *name;

static void fail(const char *step)
{
	fprintf(stderr, "%s: %s: %s\n", name, step, strerror(errno));
	exit(1);
}

/* The value, unless it says that a call failed. */
static long must(const char *step, long value)
{
	if (value < 0)
		fail(step);
	return value;
}

static void check(const char *step, int holds)
{
	if (!holds) {
		fprintf(stderr, "%s: %s: not so\n", name, step);
		exit(1);
	}
}

static void *map(size_t size, int fd, off_t offset)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, offset);

	if (at == MAP_FAILED)
		fail("mmap");
	return at;
}

/* Reads four bytes of an ELF file, its own, through a ring. */
static void ring(char **arguments)
{
	struct io_uring_params p = {0};
	char bytes[5] = "";
	int fd = must("io_uring_setup", syscall(SYS_io_uring_setup, 4, &p));
	int file = must("open", open("/proc/self/exe", O_RDONLY));
	char *submit = map(p.sq_off.array + p.sq_entries * 4, fd, IORING_OFF_SQ_RING);
	char *complete = map(p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), fd, IORING_OFF_CQ_RING);
	struct io_uring_sqe *entry = map(p.sq_entries * sizeof(*entry), fd, IORING_OFF_SQES);
	struct io_uring_cqe *done = (void *)(complete + p.cq_off.cqes);

	(void)arguments;
	*entry = (struct io_uring_sqe){.opcode = IORING_OP_READ, .fd = file, .addr = (uintptr_t)bytes, .len = 4};
	*(uint32_t *)(submit + p.sq_off.array) = 0;
	__atomic_store_n((uint32_t *)(submit + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	must("io_uring_enter", syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0));
	check("four bytes read", done->res == 4);
	puts(bytes + 1);
}

/* The thread of `fault`: answers one page fault. */
static void *answer(void *descriptor)
{
	static char page[PAGE] __attribute__((aligned(PAGE))) = "served";
	int fd = *(int *)descriptor;
	struct uffd_msg message;
	struct uffdio_copy copy = {.src = (uintptr_t)page, .len = PAGE};

	check("a fault read", read(fd, &message, sizeof(message)) == sizeof(message));
	copy.dst = message.arg.pagefault.address & ~(PAGE - 1UL);
	must("UFFDIO_COPY", ioctl(fd, UFFDIO_COPY, &copy));
	return NULL;
}

static void fault(char **arguments)
{
	int fd = must("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
	struct uffdio_api api = {.api = UFFD_API};
	char *page = map(PAGE, -1, 0);
	struct uffdio_register range = {
		.range = {.start = (uintptr_t)page, .len = PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	pthread_t thread;

	(void)arguments;
	must("UFFDIO_API", ioctl(fd, UFFDIO_API, &api));
	must("UFFDIO_REGISTER", ioctl(fd, UFFDIO_REGISTER, &range));
	pthread_create(&thread, NULL, answer, &fd);
	puts(page);
}

/* Forks; the parent goes on when the child has ended well. */
static int in_child(void)
{
	int status, child = must("fork", fork());
	if (child == 0)
		return 1;
	must("wait", waitpid(child, &status, 0));
	check("the child", status == 0);
	return 0;
}

/* A program on the cgroup DIRECTORY takes /dev/zero from who is in it, and nothing else. */
static void device(char **arguments)
{
	struct bpf_insn program[] = {
		{.code = BPF_LDX | BPF_W | BPF_MEM, .dst_reg = 2, .src_reg = 1, .off = 4}, /* major */
		{.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 2, .imm = 1, .off = 4},
		{.code = BPF_LDX | BPF_W | BPF_MEM, .dst_reg = 2, .src_reg = 1, .off = 8}, /* minor */
		{.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 2, .imm = 5, .off = 2},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0},
		{.code = BPF_JMP | BPF_EXIT},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (uintptr_t)program,
		.insn_cnt = sizeof(program) / sizeof(*program), .license = (uintptr_t) "GPL"};
	union bpf_attr attach = {.attach_type = BPF_CGROUP_DEVICE};
	int group;

	must("mkdir", mkdir(arguments[0], 0755));
	group = must("open the cgroup", open(arguments[0], O_RDONLY | O_DIRECTORY));
	attach.target_fd = group;
	attach.attach_bpf_fd = must("BPF_PROG_LOAD", syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load)));
	must("BPF_PROG_ATTACH", syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof(attach)));
	if (in_child()) {
		int processes = openat(group, "cgroup.procs", O_WRONLY);

		check("in the cgroup", write(processes, "0", 1) == 1);
		must("open /dev/null", open("/dev/null", O_RDONLY));
		check("/dev/zero refused", open("/dev/zero", O_RDONLY) < 0 && errno == EPERM);
		check("mknod refused", mknod("/tmp/zero", S_IFCHR | 0600, 1 << 8 | 5) < 0 && errno == EPERM);
		_exit(0);
	}
	must("rmdir", rmdir(arguments[0]));
	puts("denied");
}

/* A filter gives an errno of its own to one system call. */
static void filter(char **arguments)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXFULL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog all = {.len = 4, .filter = program};

	(void)arguments;
	must("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must("seccomp", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &all));
	check("the filter's errno", syscall(SYS_getppid) < 0 && errno == EXFULL);
	puts("filtered");
}

/* A process that may write to no file but those below no directory. */
static void landlock(char **arguments)
{
	struct landlock_ruleset_attr rules = {.handled_access_fs = LANDLOCK_ACCESS_FS_WRITE_FILE};
	int fd = must("ruleset", syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0));

	(void)arguments;
	must("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must("restrict", syscall(SYS_landlock_restrict_self, fd, 0));
	must("read", open("/etc/passwd", O_RDONLY));
	check("write refused", open("/etc/passwd", O_WRONLY) < 0 && errno == EACCES);
	puts("restricted");
}

static void key(char **arguments)
{
	char value[8] = "";
	long id = must("add_key", syscall(SYS_add_key, "user", "probe", "secret", 6, KEY_SPEC_PROCESS_KEYRING));

	(void)arguments;
	must("keyctl", syscall(SYS_keyctl, KEYCTL_READ, id, value, sizeof(value)));
	puts(value);
}

/* Opens FILE by its handle alone. */
static void handle(char **arguments)
{
	char text[64] = "";
	union {
		struct file_handle head;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} at = {.head = {.handle_bytes = MAX_HANDLE_SZ}};
	int mount, directory, file;

	must("name_to_handle_at", name_to_handle_at(AT_FDCWD, arguments[0], &at.head, &mount, 0));
	*strrchr(arguments[0], '/') = '\0';
	directory = must("open", open(arguments[0], O_RDONLY));
	file = must("open_by_handle_at", open_by_handle_at(directory, &at.head, O_RDONLY));
	must("read", read(file, text, sizeof(text) - 1));
	fputs(text, stdout);
}

/* DEVICE holds the file system of DIRECTORY: 1 MiB for a project in it, and no more. */
static void quota(char **arguments)
{
	struct fsxattr attributes;
	struct if_dqblk limit = {.dqb_bhardlimit = MIB / 1024, .dqb_valid = QIF_BLIMITS};
	int directory = must("open", open(arguments[1], O_RDONLY));

	must("get", ioctl(directory, FS_IOC_FSGETXATTR, &attributes));
	attributes.fsx_projid = PROJECT;
	attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
	must("set the project", ioctl(directory, FS_IOC_FSSETXATTR, &attributes));
	must("Q_SETQUOTA", syscall(SYS_quotactl, QCMD(Q_SETQUOTA, PROJECT_QUOTA), arguments[0], PROJECT, &limit));
	must("chmod", fchmod(directory, 0777));
	/* Who may override limits is not stopped by them. */
	must("setuid", setuid(1000));
	int file = must("create", openat(directory, "full", O_CREAT | O_WRONLY, 0644));
	char *block = map(MIB / 4, -1, 0);
	long written, all = 0;

	while (all < 2 * MIB && (written = write(file, block, MIB / 4)) > 0)
		all += written;
	check("EDQUOT", written < 0 && errno == EDQUOT);
	check("after most of it", all > MIB / 2 && all <= MIB);
	puts("exceeded");
}

static void sysv(char **arguments)
{
	struct { long kind; char text[8]; } message = {1, "posted"};
	struct sembuf up = {.sem_op = 1};
	int queue = must("msgget", msgget(IPC_PRIVATE, 0600));
	int count = must("semget", semget(IPC_PRIVATE, 1, 0600));
	int memory = must("shmget", shmget(IPC_PRIVATE, PAGE, 0600));
	char *at = shmat(memory, NULL, 0);

	(void)arguments;
	must("semop", semop(count, &up, 1));
	check("counted", semctl(count, 0, GETVAL) == 1);
	must("msgsnd", msgsnd(queue, &message, sizeof(message.text), 0));
	must("msgrcv", msgrcv(queue, &message, sizeof(message.text), 1, 0));
	strcpy(at, message.text);
	must("remove", msgctl(queue, IPC_RMID, NULL) | semctl(count, 0, IPC_RMID) | shmctl(memory, IPC_RMID, NULL));
	puts(at);
}

static void posix(char **arguments)
{
	struct mq_attr shape = {.mq_maxmsg = 1, .mq_msgsize = 8};
	mqd_t queue = must("mq_open", mq_open("/probe", O_CREAT | O_RDWR, 0600, &shape));
	int memory = must("shm_open", shm_open("/probe", O_CREAT | O_RDWR, 0600));
	char *at;

	(void)arguments;
	must("ftruncate", ftruncate(memory, PAGE));
	at = map(PAGE, memory, 0);
	must("mq_send", mq_send(queue, "queued", 7, 0));
	must("mq_receive", mq_receive(queue, at, 8, NULL));
	must("unlink", mq_unlink("/probe") | shm_unlink("/probe"));
	puts(at);
}

/* The host's clock as the hypervisor gives it, beside the guest's own. */
static void clock_of_host(char **arguments)
{
	struct ptp_sys_offset_precise pair;
	int fd = must("open", open("/dev/ptp0", O_RDWR));

	(void)arguments;
	must("PTP_SYS_OFFSET_PRECISE", ioctl(fd, PTP_SYS_OFFSET_PRECISE, &pair));
	check("within two seconds", llabs(pair.device.sec - pair.sys_realtime.sec) <= 2);
	puts("paired");
}

/* Kibibytes of anonymous huge pages that this process has. */
static long huge_kib(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "r");
	char line[256];
	long kib = -1;
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "AnonHugePages: %ld", &kib);
	return kib;
}

static void huge(char **arguments)
{
	char *at = map(8 * MIB, -1, 0);

	(void)arguments;
	memset(at, 1, 8 * MIB);
	check("none unasked", huge_kib() == 0);
	at = map(8 * MIB, -1, 0);
	must("madvise", madvise(at, 8 * MIB, MADV_HUGEPAGE));
	memset(at, 1, 8 * MIB);
	check("some when asked", huge_kib() >= 2048);
	puts("huge");
}

/* Nobody listens on the host's port 9: the answer is a reset, and not silence. */
static void vsock(char **arguments)
{
	struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = 9};
	int fd = must("socket", socket(AF_VSOCK, SOCK_STREAM, 0));

	(void)arguments;
	check("refused", connect(fd, (void *)&host, sizeof(host)) < 0 && errno == ECONNRESET);
	puts("reset");
}

/* A trigger on memory pressure is accepted and can be polled. */
static void pressure(char **arguments)
{
	static const char trigger[] = "some 150000 1000000";
	struct pollfd at = {.events = POLLPRI, .fd = must("open", open("/proc/pressure/memory", O_RDWR))};

	(void)arguments;
	must("trigger", write(at.fd, trigger, sizeof(trigger)));
	check("no pressure", poll(&at, 1, 0) == 0);
	puts("watched");
}

/* What needs no more than a line each. */
static void calls(char **arguments)
{
	char source[8] = "copied", target[8] = "";
	struct iovec local = {target, 8}, remote = {source, 8};
	int memory = must("memfd_create", memfd_create("probe", MFD_ALLOW_SEALING));
	int self = must("pidfd_open", syscall(SYS_pidfd_open, getpid(), 0));
	uint64_t range[2] = {0, 0}, statistics[5];
	int watch = must("fanotify_init", fanotify_init(FAN_CLASS_CONTENT, O_RDONLY));

	(void)arguments;
	must("seal", fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE));
	check("sealed", write(memory, "x", 1) < 0 && errno == EPERM);
	must("pidfd_send_signal", syscall(SYS_pidfd_send_signal, self, 0, NULL, 0));
	must("fanotify_mark", fanotify_mark(watch, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "/mnt"));
	check("kcmp", syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, memory, memory) == 0);
	must("cachestat", syscall(451, memory, range, statistics, 0));
	must("process_vm_readv", process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	/* A fixed address for programs of older images. */
	check("vsyscall", ((long (*)(long *))0xffffffffff600400)(NULL) > 0);
	puts(target);
}

static const struct { const char *name; void (*use)(char **); int arguments; } uses[] = {
	{"ring", ring, 0},         {"fault", fault, 0},   {"device", device, 1},      {"filter", filter, 0},
	{"landlock", landlock, 0}, {"key", key, 0},       {"handle", handle, 1},      {"quota", quota, 2},
	{"sysv", sysv, 0},         {"posix", posix, 0},   {"clock", clock_of_host, 0}, {"huge", huge, 0},
	{"vsock", vsock, 0},       {"calls", calls, 0},   {"pressure", pressure, 0},
};

int main(int count, char **arguments)
{
	name = count > 1 ? arguments[1] : "";
	for (size_t i = 0; i < sizeof(uses) / sizeof(*uses); i++)
		if (strcmp(name, uses[i].name) == 0 && count - 2 == uses[i].arguments) {
			uses[i].use(arguments + 2);
			return fflush(stdout) == 0 ? 0 : 1;
		}
	fprintf(stderr, "probe: no use '%s' with %d arguments\n", name, count > 2 ? count - 2 : 0);
	return 2;
}
