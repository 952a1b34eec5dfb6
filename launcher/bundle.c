/*
 * The program of the bundle: Python, told to run cni_plugins.
 *
 * PyInstaller collects the modules, the extensions and their libraries; its own bootloader, which
 * starts itself a second time to have LD_LIBRARY_PATH set and brings importers of its own, takes
 * twice as long as a call of VERSION here.  What extensions need is found by this program's
 * DT_RPATH, so the environment stays the caller's.
 *
 * The modules that calls load are in here, as tools/freeze found them, so that Python neither looks
 * for their files nor reads them.
 *
 * Nothing of the environment, of the node's Python or of its locale decides anything here.
 */
#include <Python.h>

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define INTERNAL "_internal"

extern const unsigned char code[];
__asm__(".section .rodata\n.global code\ncode:\n.incbin \"frozen.bin\"\n.previous");

static const struct _frozen frozen[] = {
#include "frozen.h"
	{0},
};

static char home[PATH_MAX + sizeof(INTERNAL)];
static char program[PATH_MAX];

/* Where this program is, whatever it was called by; false when that is not to be told. */
static bool find_home(void)
{
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	char *slash = n > 0 ? strrchr(program, '/') : NULL;

	if (!slash || (size_t)n == sizeof(program) - 1)
		return false;
	snprintf(home, sizeof(home), "%.*s/" INTERNAL, (int)(slash - program), program);
	return true;
}

static PyStatus add_path(PyConfig *config, const char *path)
{
	PyStatus status;
	wchar_t *wide = Py_DecodeLocale(path, NULL);

	if (!wide)
		return PyStatus_NoMemory();
	status = PyWideStringList_Append(&config->module_search_paths, wide);
	PyMem_RawFree(wide);
	return status;
}

/* Everything that Python would otherwise look for. */
static PyStatus describe_places(PyConfig *config)
{
	wchar_t **const places[] = {&config->prefix, &config->exec_prefix, &config->base_prefix,
				    &config->base_exec_prefix, &config->home};
	wchar_t **const programs[] = {&config->executable, &config->base_executable,
				      &config->program_name};
	PyStatus status = PyStatus_Ok();
	char extensions[sizeof(home) + 64];

	for (size_t i = 0; i < Py_ARRAY_LENGTH(places) && !PyStatus_Exception(status); i++)
		status = PyConfig_SetBytesString(config, places[i], home);
	for (size_t i = 0; i < Py_ARRAY_LENGTH(programs) && !PyStatus_Exception(status); i++)
		status = PyConfig_SetBytesString(config, programs[i], program);
	if (PyStatus_Exception(status))
		return status;
	config->module_search_paths_set = 1;
	status = add_path(config, home);
	if (PyStatus_Exception(status))
		return status;
	snprintf(extensions, sizeof(extensions), "%s/python%d.%d/lib-dynload", home,
		 PY_MAJOR_VERSION, PY_MINOR_VERSION);
	return add_path(config, extensions);
}

#if PY_VERSION_HEX < 0x030c0000
/* os.setns as Python has it from 3.12 on; without it, ctypes would have to be loaded. */
static PyObject *os_setns(PyObject *self, PyObject *args)
{
	int fd, kind, result;

	(void)self;
	if (!PyArg_ParseTuple(args, "ii", &fd, &kind))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	result = setns(fd, kind);
	Py_END_ALLOW_THREADS
	if (result != 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	Py_RETURN_NONE;
}

static PyMethodDef setns_method = {"setns", os_setns, METH_VARARGS, NULL};

static bool add_setns(void)
{
	PyObject *os = PyImport_ImportModule("os");
	PyObject *function = PyCFunction_New(&setns_method, NULL);
	bool done = os && function && PyObject_SetAttrString(os, "setns", function) == 0;

	Py_XDECREF(function);
	Py_XDECREF(os);
	return done;
}
#else
static bool add_setns(void)
{
	return true;
}
#endif

/* Where packages of the table above have those of their modules that are not in it. */
static bool add_places(void)
{
	PyObject *place = PyUnicode_DecodeFSDefault(home);
	PyObject *encodings = PyImport_ImportModule("encodings"); /* loaded before there was a place */
	PyObject *path = encodings ? PyObject_GetAttrString(encodings, "__path__") : NULL;
	PyObject *own = place ? PyUnicode_FromFormat("%U/encodings", place) : NULL;
	bool done = path && own && PyList_Append(path, own) == 0 &&
		    PySys_SetObject("_stdlib_dir", place) == 0 &&
		    PySys_SetObject("_MEIPASS", place) == 0; /* by this we know that we are frozen */

	Py_XDECREF(own);
	Py_XDECREF(path);
	Py_XDECREF(encodings);
	Py_XDECREF(place);
	return done;
}

static PyStatus start(int argc, char **argv)
{
	PyPreConfig before;
	PyConfig config;
	PyStatus status;

	PyPreConfig_InitIsolatedConfig(&before);
	before.utf8_mode = 1;
	before.configure_locale = 0;
	status = Py_PreInitialize(&before);
	if (PyStatus_Exception(status))
		return status;
	PyConfig_InitIsolatedConfig(&config);
	PyImport_FrozenModules = frozen;
	config.site_import = 0;
	config.write_bytecode = 0;
	config.optimization_level = 2;
	config.install_signal_handlers = 1; /* for cnictl, that ends at an interrupt */
	status = describe_places(&config);
	if (!PyStatus_Exception(status))
		status = PyConfig_SetBytesArgv(&config, argc, argv);
	if (!PyStatus_Exception(status))
		status = Py_InitializeFromConfig(&config);
	PyConfig_Clear(&config);
	return status;
}

int main(int argc, char **argv)
{
	PyStatus status;

	if (!find_home()) {
		fprintf(stderr, "cni-plugins: cannot tell where this program is\n");
		return 1;
	}
	status = start(argc, argv);
	if (PyStatus_Exception(status))
		Py_ExitStatusException(status);
	if (add_places() && add_setns())
		PyImport_ImportModule("cni_plugins.__main__"); /* which ends the process itself */
	PyErr_Print();
	return 1;
}
