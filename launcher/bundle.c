/*
 * The program of the bundle: Python, told to run cni_plugins.
 *
 * PyInstaller collects the modules, the extensions and libpython; its own bootloader is not used.
 * That one unpacks and installs importers, and starts a second time to have LD_LIBRARY_PATH set,
 * three times as long as all that is done here.  What extensions need is found by this program's
 * own DT_RPATH, so the environment stays the caller's.
 *
 * Nothing of the environment, of the node's Python or of its locale decides anything here.
 */
#include <Python.h>

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define INTERNAL "_internal"

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
	PyObject *place;

	if (!find_home()) {
		fprintf(stderr, "cni-plugins: cannot tell where this program is\n");
		return 1;
	}
	status = start(argc, argv);
	if (PyStatus_Exception(status))
		Py_ExitStatusException(status);
	place = PyUnicode_DecodeFSDefault(home);
	if (place && PySys_SetObject("_MEIPASS", place) == 0)
		PyImport_ImportModule("cni_plugins.__main__"); /* which ends the process itself */
	PyErr_Print();
	return 1;
}
