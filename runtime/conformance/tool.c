/*
 * What the checks of `beluga conformance` do in a container and no shell can:
 *
 *   tool serve PORT            answers at PORT, over TCP and UDP and at the abstract
 *                              socket @PORT, each caller with its own address
 *   tool serve-unix PATH       answers at a socket of that path
 *   tool ask tcp|udp HOST PORT what the other side answers
 *   tool ask unix PATH         the same; @NAME is an abstract socket
 *   tool watch DIRECTORY NAME  waits until NAME is made in it
 *   tool sysv make|look KEY    a queue, a semaphore and shared memory
 *   tool nft NAME              makes a table of the packet filter
 *   tool vsock PORT            calls the host by vsock
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { LONGEST = 256, SECONDS = 20, NOBODY_SECONDS = 5 };

/* The value, unless it says that a call failed. */
static long must(const char *step, long value)
{
	if (value < 0) {
		fprintf(stderr, "%s: %s\n", step, strerror(errno));
		exit(1);
	}
	return value;
}

static void say(const char *line)
{
	printf("%s\n", line);
	fflush(stdout);
}

/* The caller's address; one of IPv4 as such. */
static const char *address(const struct sockaddr_storage *peer)
{
	static char text[LONGEST];
	const struct in6_addr *six = &((const struct sockaddr_in6 *)peer)->sin6_addr;

	if (peer->ss_family != AF_INET6)
		return "met";
	if (IN6_IS_ADDR_V4MAPPED(six))
		inet_ntop(AF_INET, &six->s6_addr[12], text, sizeof(text));
	else
		inet_ntop(AF_INET6, six, text, sizeof(text));
	return text;
}

/* A path, or an abstract name behind an @. */
static socklen_t unix_address(const char *name, struct sockaddr_un *out)
{
	size_t length = strlen(name);

	memset(out, 0, sizeof(*out));
	out->sun_family = AF_UNIX;
	if (length >= sizeof(out->sun_path))
		exit(2);
	memcpy(out->sun_path, name, length);
	if (name[0] == '@')
		out->sun_path[0] = 0;
	return offsetof(struct sockaddr_un, sun_path) + length;
}

static int bound_unix(const char *name)
{
	struct sockaddr_un at;
	socklen_t length = unix_address(name, &at);
	int fd = must("socket", socket(AF_UNIX, SOCK_STREAM, 0));

	must("bind", bind(fd, (struct sockaddr *)&at, length));
	must("listen", listen(fd, 8));
	return fd;
}

/* Both families: an IPv4 caller comes as a mapped address. */
static int bound_inet(int type, int port)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = must("socket", socket(AF_INET6, type, 0));

	must("bind", bind(fd, (struct sockaddr *)&at, sizeof(at)));
	if (type == SOCK_STREAM)
		must("listen", listen(fd, 8));
	return fd;
}

static void answer(int fd, int type)
{
	struct sockaddr_storage peer = { 0 };
	socklen_t length = sizeof(peer);
	char text[LONGEST];

	if (type == SOCK_DGRAM) {
		if (recvfrom(fd, text, sizeof(text), 0, (struct sockaddr *)&peer, &length) < 0)
			return;
		snprintf(text, sizeof(text), "%s\n", address(&peer));
		sendto(fd, text, strlen(text), 0, (struct sockaddr *)&peer, length);
		return;
	}
	int caller = accept(fd, (struct sockaddr *)&peer, &length);

	if (caller < 0)
		return;
	dprintf(caller, "%s\n", address(&peer));
	/* Who goes first must not take the answer away. */
	shutdown(caller, SHUT_WR);
	close(caller);
}

static _Noreturn void serve(struct pollfd *fds, const int *types, int count)
{
	say("serving");
	for (;;) {
		must("poll", poll(fds, count, -1));
		for (int i = 0; i < count; i++)
			if (fds[i].revents & POLLIN)
				answer(fds[i].fd, types[i]);
	}
}

static _Noreturn void serve_port(const char *port)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_STREAM };
	struct pollfd fds[3];
	char name[LONGEST];

	snprintf(name, sizeof(name), "@%s", port);
	fds[0].fd = bound_inet(SOCK_STREAM, atoi(port));
	fds[1].fd = bound_inet(SOCK_DGRAM, atoi(port));
	fds[2].fd = bound_unix(name);
	for (int i = 0; i < 3; i++)
		fds[i].events = POLLIN;
	serve(fds, types, 3);
}

static _Noreturn void serve_unix(const char *path)
{
	static const int type = SOCK_STREAM;
	struct pollfd fd = { .fd = bound_unix(path), .events = POLLIN };

	serve(&fd, &type, 1);
}

static int ask(const char *kind, const char *host, const char *port)
{
	struct sockaddr_storage to = { 0 };
	struct sockaddr_in *four = (struct sockaddr_in *)&to;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&to;
	socklen_t length;
	struct timeval patience = { .tv_sec = SECONDS };
	char text[LONGEST] = "";

	if (strcmp(kind, "unix") == 0) {
		length = unix_address(host, (struct sockaddr_un *)&to);
	} else if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons(atoi(port));
		length = sizeof(*four);
	} else if (inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(atoi(port));
		length = sizeof(*six);
	} else {
		return 2;
	}
	int type = strcmp(kind, "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM;
	int fd = must("socket", socket(to.ss_family, type, 0));

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	must("connect", connect(fd, (struct sockaddr *)&to, length));
	if (type == SOCK_DGRAM)
		must("send", send(fd, "?", 1, 0));
	must("receive", recv(fd, text, sizeof(text) - 1, 0));
	fputs(text, stdout);
	return 0;
}

static int watch(const char *directory, const char *name)
{
	char events[4096];
	int fd = must("inotify", inotify_init1(0));

	must("watch", inotify_add_watch(fd, directory, IN_CREATE));
	say("watching");
	for (;;) {
		long got = must("read", read(fd, events, sizeof(events)));

		for (long at = 0; at < got;) {
			struct inotify_event *event = (struct inotify_event *)(events + at);

			if (event->len && strcmp(event->name, name) == 0) {
				say("seen");
				return 0;
			}
			at += sizeof(*event) + event->len;
		}
	}
}

static int sysv(const char *what, key_t key)
{
	int flags = strcmp(what, "make") == 0 ? IPC_CREAT | 0666 : 0;
	long shm = must("shmget", shmget(key, 4096, flags));
	long queue = must("msgget", msgget(key, flags));
	long semaphore = must("semget", semget(key, 1, flags));
	char *memory = shmat(shm, NULL, 0);
	struct { long type; char text[8]; } message = { 1, "queued" };

	if (memory == (void *)-1)
		must("shmat", -1);
	if (flags) {
		strcpy(memory, "shared");
		must("semctl", semctl(semaphore, 0, SETVAL, 7));
		must("msgsnd", msgsnd(queue, &message, sizeof(message.text), 0));
	}
	printf("%s %ld\n", memory, must("semctl", semctl(semaphore, 0, GETVAL)));
	if (!flags) {
		must("msgrcv", msgrcv(queue, &message, sizeof(message.text), 0, IPC_NOWAIT));
		say(message.text);
	}
	return 0;
}

static size_t message(char *at, int type, int flags, int family, int resource)
{
	struct nlmsghdr *head = (struct nlmsghdr *)at;
	struct nfgenmsg *generic = NLMSG_DATA(head);

	head->nlmsg_len = NLMSG_LENGTH(sizeof(*generic));
	head->nlmsg_type = type;
	head->nlmsg_flags = NLM_F_REQUEST | flags;
	generic->nfgen_family = family;
	generic->version = NFNETLINK_V0;
	generic->res_id = htons(resource);
	return head->nlmsg_len;
}

static int nft(const char *name)
{
	_Alignas(8) char batch[512] = { 0 };
	_Alignas(8) char reply[4096];
	size_t length = message(batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	struct nlmsghdr *table = (struct nlmsghdr *)(batch + length);
	int fd = must("socket", socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER));

	message((char *)table, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_ACK, 1, 0);
	struct nlattr *attribute = (struct nlattr *)((char *)table + table->nlmsg_len);

	attribute->nla_type = NFTA_TABLE_NAME;
	attribute->nla_len = NLA_HDRLEN + strlen(name) + 1;
	if (strlen(name) > 64)
		return 2;
	strcpy((char *)attribute + NLA_HDRLEN, name);
	table->nlmsg_len += NLA_ALIGN(attribute->nla_len);
	length += table->nlmsg_len;
	length += message(batch + length, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	must("send", send(fd, batch, length, 0));
	must("receive", recv(fd, reply, sizeof(reply), 0));
	struct nlmsghdr *head = (struct nlmsghdr *)reply;
	struct nlmsgerr *error = NLMSG_DATA(head);

	if (head->nlmsg_type != NLMSG_ERROR || error->error != 0) {
		errno = head->nlmsg_type == NLMSG_ERROR ? -error->error : EPROTO;
		must("the table", -1);
	}
	say("made");
	return 0;
}

static int vsock(unsigned int port)
{
	struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port };
	struct timeval patience = { .tv_sec = NOBODY_SECONDS };
	char byte;
	int fd = must("socket", socket(AF_VSOCK, SOCK_STREAM, 0));

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 || send(fd, "x", 1, MSG_NOSIGNAL) < 0 ||
	    recv(fd, &byte, 1, 0) <= 0)
		say("nobody");
	else
		say("somebody");
	return 0;
}

static int dispatch(int count, char **words)
{
	const char *verb = count > 1 ? words[1] : "";

	if (count == 3 && strcmp(verb, "serve") == 0)
		serve_port(words[2]);
	if (count == 3 && strcmp(verb, "serve-unix") == 0)
		serve_unix(words[2]);
	if (count == 4 && strcmp(verb, "ask") == 0)
		return ask(words[2], words[3], "0");
	if (count == 5 && strcmp(verb, "ask") == 0)
		return ask(words[2], words[3], words[4]);
	if (count == 4 && strcmp(verb, "watch") == 0)
		return watch(words[2], words[3]);
	if (count == 4 && strcmp(verb, "sysv") == 0)
		return sysv(words[2], strtol(words[3], NULL, 0));
	if (count == 3 && strcmp(verb, "nft") == 0)
		return nft(words[2]);
	if (count == 3 && strcmp(verb, "vsock") == 0)
		return vsock(strtoul(words[2], NULL, 0));
	fputs("tool: what?\n", stderr);
	return 2;
}

int main(int count, char **words)
{
	return dispatch(count, words);
}
