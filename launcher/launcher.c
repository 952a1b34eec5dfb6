/*
 * The entry behind every plugin name of dist/bin.
 *
 * A call goes to the fork server of the same build when one listens and stands in the same
 * namespaces, and is run by the Python bundle otherwise; docs/design.md, "Launcher and fork
 * server", has the protocol, forkserver/wire.py the other end of it.  The bundle stands beside the
 * entry, in cni-plugins-runtime/<build id>/; the build id is compiled in, so an entry never runs
 * another build's code.  VERSION is answered here, from a table that tools/version-table makes of
 * the same sources.
 *
 * Nothing here is decided by the environment but whether there is a verb, and which: every path is
 * compiled in or that of this executable.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef BUILD_ID
#error "compile with -DBUILD_ID=\"...\""
#endif
#ifndef STATE_DIR
#define STATE_DIR "/run/cni-plugins"
#endif

#define RUNTIME "cni-plugins-runtime/" BUILD_ID "/cni-plugins"
#define PLAIN_SOCKET STATE_DIR "/server/call.sock"
#define QUICK_SOCKET STATE_DIR "/server/quick.sock"
#define FALLBACKS STATE_DIR "/fallbacks"

#define READY_MS 200 /* a server that has a free slot answers at once */
#define BEGUN_MS 5000
#define REPLY_MS 150000 /* the server ends a call after 120 s */
#define STDIN_MAX (8u << 20)
#define GO_MAX (16u << 20)
#define REPLY_MAX (64u << 20)

/* Why a call was not served; forkserver/wire.py has the names. */
enum reason {
	NO_SERVER,
	NO_SLOT,
	OTHER_BUILD,
	OTHER_PLACE,
	OTHER_RIGHTS,
	TOO_LARGE,
	NOT_BEGUN,
	NOT_ANSWERED,
	NO_MEANS,
	REASONS
};

struct place {
	uint64_t device, inode;
};

/* What the server answers first: who and where it is. */
struct ready {
	char magic[8];
	char build[64];
	struct place mount, net, pid, user, root;
	uint64_t capabilities;
	char label[256];
};

struct go {
	char magic[8];
	char id[16];
	uint32_t caller; /* pid of the runtime */
	uint32_t umask;
	uint32_t argv_length, env_length, cwd_length, stdin_length;
	uint64_t limits[RLIM_NLIMITS][2];
};

struct reply {
	char magic[8];
	uint32_t status, stdout_length, stderr_length, reserved;
};

static const char ready_magic[8] = "CNI-RDY1", go_magic[8] = "CNI-GO-1", bye_magic[8] = "CNI-BYE1",
		  begun_magic[8] = "CNI-BGN1", reply_magic[8] = "CNI-RPL1";

struct call {
	char **argv;
	const char *name;
	const char *verb;
	char bundle[PATH_MAX + sizeof(RUNTIME)];
	bool has_stdin;
	unsigned char *stdin_bytes;
	size_t stdin_length;
	char id[17];
};

struct version_answer {
	const char *plugin, *text;
};

#include "versions.h"

extern char **environ;

/* --- answers of our own ---------------------------------------------------------------------- */

/* Print text inside a JSON string; paths may hold any byte. */
static void print_escaped(const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
}

static int cannot_run(const struct call *call, int error)
{
	if (strcmp(call->name, "cnictl") == 0) {
		fprintf(stderr, "cnictl: cannot run %s: %s\n", call->bundle, strerror(error));
		fprintf(stderr, "cnictl: install dist/bin whole, with its cni-plugins-runtime folder\n");
		return 1;
	}
	printf("{\n    \"code\": 999,\n    \"msg\": \"run ");
	print_escaped(call->bundle);
	printf(": %s\",\n    \"details\": \"this entry belongs to build " BUILD_ID
	       ": install dist/bin whole, with its cni-plugins-runtime folder\"\n}",
	       strerror(error));
	return 1;
}

static int lost(const struct call *call)
{
	printf("{\n    \"code\": 999,\n    \"msg\": \"the fork server's process for this ADD ended "
	       "before it answered\",\n    \"details\": \"call %s: what it had made may be left; send "
	       "DEL for this attachment before another ADD\"\n}\n",
	       call->id);
	return 1;
}

static void print(int fd, const char *from, size_t length)
{
	while (length) {
		ssize_t n = write(fd, from, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return; /* the reader has gone away */
		from += n;
		length -= (size_t)n;
	}
}

/* Whether the bundle could be executed; where it could not execve(2) says why. */
static bool is_executable(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISREG(status.st_mode) &&
	       faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

/* What a call for VERSION is answered, which is static; NULL for what is no such call. */
static const char *version_answer(const struct call *call)
{
	size_t i;

	if (!call->verb || strcmp(call->verb, "VERSION") != 0 || !call->argv[0] ||
	    !call->argv[0][0] || call->argv[1])
		return NULL;
	for (i = 0; i < sizeof(version_answers) / sizeof(*version_answers); i++) {
		if (strcmp(call->name, version_answers[i].plugin) == 0)
			return version_answers[i].text;
	}
	return NULL;
}

/* --- without a server ------------------------------------------------------------------------ */

/* One more in the table of fallbacks, a file of one counter per reason; never a failure. */
static void count(enum reason reason)
{
	uint64_t *counters;
	struct stat status;
	int fd;

	if (mkdir(STATE_DIR, 0700) != 0 && errno != EEXIST)
		return;
	fd = open(FALLBACKS, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	/* allocated, so that a full disk is an error here and no SIGBUS below */
	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == 0 &&
	    fallocate(fd, 0, 0, REASONS * sizeof(*counters)) == 0) {
		counters = mmap(NULL, REASONS * sizeof(*counters), PROT_READ | PROT_WRITE,
				MAP_SHARED, fd, 0);
		if (counters != MAP_FAILED) {
			__atomic_fetch_add(&counters[reason], 1, __ATOMIC_RELAXED);
			munmap(counters, REASONS * sizeof(*counters));
		}
	}
	close(fd);
}

/* Give the bundle the standard input that was read already. */
static int replay(const struct call *call)
{
	size_t done = 0;
	int fd = memfd_create("stdin", 0);

	if (fd < 0)
		return errno;
	while (done < call->stdin_length) {
		ssize_t n = write(fd, call->stdin_bytes + done, call->stdin_length - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		done += (size_t)n;
	}
	if (lseek(fd, 0, SEEK_SET) < 0 || dup2(fd, 0) < 0)
		return errno;
	close(fd);
	return 0;
}

static int run_bundle(const struct call *call)
{
	int error = call->has_stdin ? replay(call) : 0;

	if (error)
		return cannot_run(call, error);
	execv(call->bundle, call->argv);
	return cannot_run(call, errno);
}

static int fall_back(const struct call *call, enum reason reason)
{
	count(reason);
	return run_bundle(call);
}

/* --- the connection -------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static volatile sig_atomic_t told_to_stop;

static void on_signal(int number)
{
	told_to_stop = number;
}

/* Wait for the socket; a TERM or INT meanwhile is passed on.  False when the time is up. */
static bool wait_for(int fd, short events, int64_t until, const sigset_t *mask)
{
	for (;;) {
		struct pollfd ready = {.fd = fd, .events = events};
		int64_t left = until - now_ms();
		struct timespec timeout = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};
		int n;

		if (left <= 0)
			return false;
		n = ppoll(&ready, 1, &timeout, mask);
		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			return false;
		if (told_to_stop) {
			char number = (char)told_to_stop;

			told_to_stop = 0;
			(void)!send(fd, &number, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		}
	}
}

/* Read exactly that many bytes; false at the end of the stream, an error, or when time is up. */
static bool receive(int fd, void *to, size_t length, int64_t until, const sigset_t *mask)
{
	char *at = to;

	while (length) {
		ssize_t n = recv(fd, at, length, MSG_DONTWAIT);

		if (n > 0) {
			at += n;
			length -= (size_t)n;
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			return false;
		} else if (errno == EAGAIN && !wait_for(fd, POLLIN, until, mask)) {
			return false;
		}
	}
	return true;
}

static bool transmit(int fd, const void *from, size_t length, int64_t until, const sigset_t *mask)
{
	const char *at = from;

	while (length) {
		ssize_t n = send(fd, at, length, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			at += n;
			length -= (size_t)n;
		} else if (errno != EAGAIN && errno != EINTR) {
			return false;
		} else if (errno == EAGAIN && !wait_for(fd, POLLOUT, until, mask)) {
			return false;
		}
	}
	return true;
}

/* A connection to the server, that root listens on; -1 with errno. */
static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred peer;
	socklen_t length = sizeof(peer);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		goto failed;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
		goto failed;
	if (peer.uid == 0)
		return fd;
	errno = EPERM;
failed:
	length = (socklen_t)errno;
	close(fd);
	errno = (int)length;
	return -1;
}

/* --- is the server where we are? ------------------------------------------------------------- */

static struct place place_of(const char *path)
{
	struct stat status;
	struct place place = {0, 0};

	if (stat(path, &status) == 0) {
		place.device = status.st_dev;
		place.inode = status.st_ino;
	}
	return place;
}

static bool same(struct place a, struct place b)
{
	return a.inode != 0 && a.device == b.device && a.inode == b.inode;
}

static uint64_t capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}, {0}};

	syscall(SYS_capget, &header, data);
	return (uint64_t)data[1].effective << 32 | data[0].effective;
}

/* The label of a security module, "" without one. */
static void read_label(char *label, size_t size)
{
	ssize_t n;
	int fd = open("/proc/self/attr/current", O_RDONLY | O_CLOEXEC);

	memset(label, 0, size);
	if (fd < 0)
		return;
	n = read(fd, label, size - 1);
	close(fd);
	if (n < 0)
		memset(label, 0, size);
}

/* Where this process is, as a server says it of itself. */
static void look_around(struct ready *here)
{
	memset(here, 0, sizeof(*here));
	here->mount = place_of("/proc/self/ns/mnt");
	here->net = place_of("/proc/self/ns/net");
	here->pid = place_of("/proc/self/ns/pid");
	here->user = place_of("/proc/self/ns/user");
	here->root = place_of("/");
	here->capabilities = capabilities();
	read_label(here->label, sizeof(here->label));
}

/* Whether a call there is the same as a call here; the reason when it is not. */
static bool fits(const struct ready *there, const struct ready *here, enum reason *reason)
{
	if (strncmp(there->build, BUILD_ID, sizeof(there->build)) != 0) {
		*reason = OTHER_BUILD;
		return false;
	}
	if (!same(there->mount, here->mount) || !same(there->net, here->net) ||
	    !same(there->pid, here->pid) || !same(there->user, here->user) ||
	    !same(there->root, here->root)) {
		*reason = OTHER_PLACE;
		return false;
	}
	if (there->capabilities != here->capabilities ||
	    memcmp(there->label, here->label, sizeof(here->label)) != 0) {
		*reason = OTHER_RIGHTS;
		return false;
	}
	return true;
}

/* --- a call ---------------------------------------------------------------------------------- */

/* Read standard input, up to a byte more than is allowed; false when that is impossible. */
static bool read_stdin(struct call *call)
{
	size_t size = 1 << 16;

	call->stdin_bytes = malloc(size);
	while (call->stdin_bytes && call->stdin_length <= STDIN_MAX) {
		ssize_t n;

		if (call->stdin_length == size) {
			unsigned char *more = realloc(call->stdin_bytes, size *= 2);

			if (!more)
				return false;
			call->stdin_bytes = more;
		}
		n = read(0, call->stdin_bytes + call->stdin_length, size - call->stdin_length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		if (n == 0)
			break;
		call->stdin_length += (size_t)n;
		call->has_stdin = true;
	}
	call->has_stdin = true;
	return call->stdin_bytes != NULL;
}

static size_t length_of(char **strings)
{
	size_t length = 0;

	for (; *strings; strings++)
		length += strlen(*strings) + 1;
	return length;
}

static char *append(char *to, char **strings)
{
	for (; *strings; strings++)
		to = stpcpy(to, *strings) + 1;
	return to;
}

/* The message that hands the call over, NULL when it cannot be. */
static char *compose_go(const struct call *call, size_t *length)
{
	struct go go = {.argv_length = 0};
	char cwd[PATH_MAX];
	size_t argv_length = length_of(call->argv), env_length = length_of(environ);
	mode_t mask = umask(0);
	char *message, *end;
	int i;

	umask(mask);
	if (!getcwd(cwd, sizeof(cwd)) || cwd[0] != '/')
		return NULL;
	*length = sizeof(go) + argv_length + env_length + strlen(cwd) + call->stdin_length;
	if (*length > GO_MAX)
		return NULL;
	memcpy(go.magic, go_magic, sizeof(go.magic));
	memcpy(go.id, call->id, sizeof(go.id));
	go.caller = (uint32_t)getppid();
	go.umask = (uint32_t)mask;
	go.argv_length = (uint32_t)argv_length;
	go.env_length = (uint32_t)env_length;
	go.cwd_length = (uint32_t)strlen(cwd);
	go.stdin_length = (uint32_t)call->stdin_length;
	for (i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit limit = {0, 0};

		getrlimit(i, &limit);
		go.limits[i][0] = limit.rlim_cur;
		go.limits[i][1] = limit.rlim_max;
	}
	message = malloc(*length);
	if (!message)
		return NULL;
	memcpy(message, &go, sizeof(go));
	end = append(append(message + sizeof(go), call->argv), environ);
	memcpy(end, cwd, strlen(cwd));
	end += strlen(cwd);
	if (call->stdin_length)
		memcpy(end, call->stdin_bytes, call->stdin_length);
	return message;
}

static bool make_id(char id[17])
{
	unsigned char bytes[8];
	int i;

	if (getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != sizeof(bytes))
		return false;
	for (i = 0; i < 8; i++)
		snprintf(id + 2 * i, 3, "%02x", bytes[i]);
	return true;
}

/* The server's answer, printed; -1 when it never comes. */
static int finish(int fd, const sigset_t *mask)
{
	int64_t until = now_ms() + REPLY_MS;
	struct reply reply;
	size_t length;
	char *content;

	if (!receive(fd, &reply, sizeof(reply), until, mask) ||
	    memcmp(reply.magic, reply_magic, sizeof(reply.magic)) != 0)
		return -1;
	length = (size_t)reply.stdout_length + reply.stderr_length;
	if (length > REPLY_MAX)
		return -1;
	content = malloc(length + 1);
	if (!content)
		return -1;
	if (!receive(fd, content, length, until, mask)) {
		free(content);
		return -1;
	}
	signal(SIGPIPE, SIG_IGN);
	print(2, content + reply.stdout_length, reply.stderr_length);
	print(1, content, reply.stdout_length);
	free(content);
	return (int)(reply.status & 0xff);
}

/*
 * Whether the call was begun.  When it was not in time the connection is shut first: what the
 * server sends after that is refused by the kernel, and it does not act.
 */
static bool was_begun(int fd, const sigset_t *mask)
{
	char begun[8];
	bool is_in = receive(fd, begun, sizeof(begun), now_ms() + BEGUN_MS, mask);

	if (!is_in) {
		shutdown(fd, SHUT_RDWR);
		is_in = recv(fd, begun, sizeof(begun), MSG_DONTWAIT) == sizeof(begun);
	}
	return is_in && memcmp(begun, begun_magic, sizeof(begun)) == 0;
}

/* Have the call served; -1 and the reason when the bundle is to run it. */
static int served(struct call *call, int fd, enum reason *reason)
{
	struct sigaction action = {.sa_handler = on_signal};
	sigset_t stopping, mask;
	int64_t until = now_ms() + READY_MS;
	struct ready ready, here;
	size_t length = 0;
	char *message;
	bool is_begun;
	int status;

	/* all that can be done while the child wakes up */
	look_around(&here);
	message = make_id(call->id) ? compose_go(call, &length) : NULL;
	*reason = NO_SLOT;
	if (!receive(fd, &ready, sizeof(ready), until, NULL) ||
	    memcmp(ready.magic, ready_magic, sizeof(ready.magic)) != 0) {
		free(message);
		return -1;
	}
	if (!fits(&ready, &here, reason)) {
		char bye[sizeof(bye_magic) + sizeof(ready.build)] = {0};

		memcpy(bye, bye_magic, sizeof(bye_magic));
		memcpy(bye + sizeof(bye_magic), BUILD_ID, sizeof(BUILD_ID));
		(void)!send(fd, bye, sizeof(bye), MSG_NOSIGNAL | MSG_DONTWAIT);
		free(message);
		return -1;
	}
	if (!message) {
		*reason = NO_MEANS;
		return -1;
	}
	/* from here on TERM and INT end the server's work, and its answer ends us */
	sigemptyset(&stopping);
	sigaddset(&stopping, SIGTERM);
	sigaddset(&stopping, SIGINT);
	sigprocmask(SIG_BLOCK, &stopping, &mask);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	*reason = NOT_BEGUN;
	is_begun = transmit(fd, message, length, now_ms() + BEGUN_MS, &mask) && was_begun(fd, &mask);
	free(message);
	status = is_begun ? finish(fd, &mask) : -1;
	if (status < 0) {
		if (is_begun)
			*reason = NOT_ANSWERED;
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		sigprocmask(SIG_SETMASK, &mask, NULL);
	}
	return status;
}

static bool are_streams_open(void)
{
	return fcntl(0, F_GETFD) >= 0 && fcntl(1, F_GETFD) >= 0 && fcntl(2, F_GETFD) >= 0;
}

/* A call of a runtime; whatever else this is called for, the bundle does. */
static bool is_call(const struct call *call)
{
	return call->verb && call->verb[0] && call->argv[0] && !call->argv[1] &&
	       strcmp(call->name, "cnictl") != 0 && getuid() == 0 && geteuid() == 0 &&
	       are_streams_open();
}

/* Whether the caller has begun to write, or has nothing to. */
static bool is_input_there(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};

	return poll(&input, 1, 0) > 0;
}

static const char *socket_for(const struct call *call)
{
	return strcmp(call->verb, "STATUS") == 0 ? QUICK_SOCKET : PLAIN_SOCKET;
}

static int run(struct call *call)
{
	const char *version = version_answer(call);
	enum reason reason;
	int fd = -1, error = 0, status;
	bool is_early;

	if (version) {
		if (!is_executable(call->bundle)) /* this entry must not look fine */
			return run_bundle(call);
		signal(SIGPIPE, SIG_IGN);
		print(1, version, strlen(version));
		return 0;
	}
	if (!is_call(call))
		return run_bundle(call);
	/* while the input is read the child wakes up; it would not wait for a caller that dawdles */
	is_early = is_input_there();
	if (is_early) {
		fd = connect_to(socket_for(call));
		error = errno;
	}
	reason = TOO_LARGE;
	if (!read_stdin(call))
		reason = NO_MEANS;
	else if (call->stdin_length <= STDIN_MAX)
		reason = REASONS;
	if (reason != REASONS) {
		if (fd >= 0)
			close(fd);
		return fall_back(call, reason);
	}
	if (!is_early) {
		fd = connect_to(socket_for(call));
		error = errno;
	}
	if (fd < 0)
		return fall_back(call, error == EAGAIN ? NO_SLOT : NO_SERVER);
	status = served(call, fd, &reason);
	close(fd);
	if (status >= 0)
		return status;
	if (reason == NOT_ANSWERED && strcmp(call->verb, "ADD") == 0) {
		count(reason);
		return lost(call);
	}
	return fall_back(call, reason);
}

int main(int argc, char **argv)
{
	struct call call = {.argv = argv, .verb = getenv("CNI_COMMAND"), .name = "cni-plugins"};
	ssize_t length = readlink("/proc/self/exe", call.bundle, PATH_MAX);
	const char *called_as;
	char *slash, *name;
	int status;

	if (length < 0) {
		strcpy(call.bundle, "/proc/self/exe");
		return cannot_run(&call, errno);
	}
	call.bundle[length] = '\0';
	called_as = argc > 0 && argv[0][0] ? argv[0] : call.bundle;
	slash = strrchr(called_as, '/');
	name = strdup(slash ? slash + 1 : called_as);
	if (!name)
		return cannot_run(&call, ENOMEM);
	call.name = name;
	slash = strrchr(call.bundle, '/');
	strcpy(slash + 1, RUNTIME);
	status = run(&call);
	free(call.stdin_bytes);
	free(name);
	return status;
}
