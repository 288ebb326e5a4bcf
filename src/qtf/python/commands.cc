#include <fmt/format.h>
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <cmath>
#include <csignal>
#include <mutex>
#include <sstream>

#include "qtf/base/progress.h"
#include "qtf/cli/cli.h"
#include "qtf/python/bindings.h"

namespace qtf::python {
namespace {

const char* name_of(cli::ValueType type) {
  switch (type) {
    case cli::ValueType::flag:
      return "flag";
    case cli::ValueType::text:
      return "text";
    case cli::ValueType::integer:
      return "integer";
    case cli::ValueType::number:
      return "number";
  }
  return "";
}

py::object bound(double limit) {
  return std::isfinite(limit) ? py::object(py::float_(limit)) : py::none();
}

py::dict option_record(const cli::Option& option) {
  using namespace py::literals;
  return py::dict("name"_a = option.name, "type"_a = name_of(option.type), "initial"_a = option.initial,
                  "help"_a = option.help, "required"_a = option.required, "repeated"_a = option.repeated,
                  "min"_a = bound(option.min), "max"_a = bound(option.max), "choices"_a = option.choices);
}

py::list command_records() {
  using namespace py::literals;
  py::list records;
  for (const cli::Command* command : cli::commands()) {
    py::list options;
    for (const cli::Option& option : command->options) options.append(option_record(option));
    records.append(py::dict("name"_a = command->name, "summary"_a = command->summary,
                            "details"_a = command->details, "options"_a = options));
  }
  return records;
}

using Listener = std::optional<py::function>;

/// Tells Python's function, if there is one, and lets Ctrl-C end the command. On the thread of the command.
void hear(const Listener& listener, const ProgressReport& report) {
  const py::gil_scoped_acquire python_runs;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  if (listener) (*listener)(report);
}

/// The command as run_cli runs it, but that errors come out as exceptions.
int run_caught(const cli::Command& command, const cli::Arguments& arguments, const Listener& listener,
               std::ostream& out, std::ostream& err) {
  std::istringstream in;
  const ProgressListener listening([&](const ProgressReport& report) { hear(listener, report); });
  try {
    command.run(arguments, {in, out, err});
    return 0;
  } catch (const cli::ExitStatus& exit) {
    return exit.status();
  }
}

[[noreturn]] void raise_interrupt(const std::string& why) {
  PyErr_SetString(PyExc_KeyboardInterrupt, why.c_str());
  throw py::error_already_set();
}

py::tuple run_command(const std::string& name, cli::Arguments::Values values, const Listener& progress) {
  static std::mutex running;  // signals and progress are the process'
  const std::unique_lock lock(running, std::try_to_lock);
  if (!lock) throw std::runtime_error("another command of qtf runs in this process; they run one at a time");
  const cli::Command& command = cli::find_command(name);
  std::ostringstream out, err;
  int status = 0;
  {
    const py::gil_scoped_release others_run;
    status = run_caught(command, cli::check_arguments(command, std::move(values)), progress, out, err);
  }
  if (status == 128 + SIGINT) raise_interrupt(err.str());
  if (status == 128 + SIGTERM) std::raise(SIGTERM);
  return py::make_tuple(status, out.str(), err.str());
}

}  // namespace

void bind_commands(py::module_& module) {
  using namespace py::literals;
  py::class_<ProgressReport>(module, "Progress", "How far a command is.")
      .def_readonly("label", &ProgressReport::label, "What is done.")
      .def_readonly("done", &ProgressReport::done, "Units of work.")
      .def_readonly("total", &ProgressReport::total, "Units in all; 0: not known.")
      .def_readonly("status", &ProgressReport::status, "Such as \"loss 3.21\".")
      .def("__repr__", [](const ProgressReport& report) {
        return fmt::format("<qtf.Progress {} {}/{} {}>", report.label, report.done, report.total,
                           report.status);
      });
  module.def("command_table", &command_records, "The program's commands and their options.");
  module.def("run_command", &run_command, "name"_a, "values"_a, "progress"_a,
             "Runs a command of the program; returns its exit status and what it printed.");
}

}  // namespace qtf::python
