/*
 * The entry behind every plugin name of dist/bin: runs the Python bundle of its own build.
 *
 * The bundle stands beside the entry, in cni-plugins-runtime/<build id>/; the build id is compiled
 * in, so an entry never runs another build's code.  The program is static and does nothing else:
 * when the bundle is missing it answers with an error object of the CNI spec that says so.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef BUILD_ID
#error "compile with -DBUILD_ID=\"...\""
#endif

#define RUNTIME "cni-plugins-runtime/" BUILD_ID "/cni-plugins"

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

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

static int fail(const char *name, const char *path, int error)
{
	if (strcmp(name, "cnictl") == 0) {
		fprintf(stderr, "cnictl: cannot run %s: %s\n", path, strerror(error));
		fprintf(stderr, "cnictl: install dist/bin whole, with its cni-plugins-runtime folder\n");
		return 1;
	}
	printf("{\n    \"code\": 999,\n    \"msg\": \"run ");
	print_escaped(path);
	printf(": %s\",\n    \"details\": \"this entry belongs to build " BUILD_ID
	       ": install dist/bin whole, with its cni-plugins-runtime folder\"\n}",
	       strerror(error));
	return 1;
}

int main(int argc, char **argv)
{
	char path[PATH_MAX + sizeof(RUNTIME)];
	const char *name;
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);
	char *slash;

	if (length < 0)
		return fail("cni-plugins", "/proc/self/exe", errno);
	path[length] = '\0';
	name = base_name(argc > 0 && argv[0][0] ? argv[0] : path);
	slash = strrchr(path, '/');
	strcpy(slash + 1, RUNTIME);
	execv(path, argv);
	return fail(name, path, errno);
}
