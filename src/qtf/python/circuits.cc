#include <fmt/format.h>
#include <pybind11/complex.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <mutex>
#include <variant>

#include "qtf/base/parse.h"
#include "qtf/python/arrays.h"
#include "qtf/python/bindings.h"
#include "qtf/quantum/drawing.h"
#include "qtf/quantum/qasm.h"
#include "qtf/quantum/resources.h"
#include "qtf/quantum/simulator.h"
#include "qtf/quantum/templates.h"

namespace qtf::python {
namespace {

using namespace quantum;
using Observables = std::vector<std::string>;

/// A circuit's simulator for one type of numbers, compiled at the first call and kept while the circuit and
/// the observables stay as they are.
template <class T>
struct Compiled {
  std::optional<Simulator<T>> simulator;
  Observables observables;
  Workspace<T> workspace;
};

/// A circuit and what was compiled of it. Calls from several threads take turns.
struct PyCircuit {
  explicit PyCircuit(Circuit gates) : circuit(std::move(gates)) {}

  /// To be changed: nothing that was compiled is true any longer.
  Circuit& change() {
    const std::lock_guard lock(mutex);
    single.simulator.reset(), exact.simulator.reset();
    return circuit;
  }

  template <class T>
  Compiled<T>& compiled() {
    if constexpr (std::is_same_v<T, float>)
      return single;
    else
      return exact;
  }

  /// Ready for these weights.
  template <class T>
  Compiled<T>& prepare(const Observables& observables, std::span<const T> weights) {
    Compiled<T>& own = compiled<T>();
    if (!own.simulator || own.observables != observables) {
      std::vector<PauliString> paulis;
      for (const std::string& text : observables) paulis.push_back(parse_pauli(text, circuit.qubits()));
      own.simulator.emplace(circuit, paulis);
      own.observables = observables;
    }
    own.simulator->prepare(weights);
    return own;
  }

  size_t outputs(const Observables& observables) const {
    return observables.empty() ? static_cast<size_t>(circuit.qubits()) : observables.size();
  }

  Circuit circuit;
  std::mutex mutex;
  Compiled<float> single;
  Compiled<double> exact;
};

// ---- what a call is given ----

/// A batch and the weights, in numpy's memory.
template <class T>
struct Given {
  py::object inputs_owner, weights_owner;
  ConstMatrix<T> inputs;
  std::span<const T> weights;
  bool one_row = false;  ///< the inputs have one dimension, and so has the result

  std::vector<py::ssize_t> shape(int64_t columns) const {
    if (one_row) return {columns};
    return {inputs.rows, columns};
  }
};

template <class T>
Given<T> read_given(const Circuit& circuit, const py::object& inputs, const py::object& weights) {
  Given<T> given;
  if (inputs.is_none() && circuit.inputs() > 0)
    throw_input_error("circuit", "inputs are missing: the circuit has {}; give an array (rows, {})",
                      circuit.inputs(), circuit.inputs());
  if (inputs.is_none()) {
    given.inputs = {nullptr, 1, 0};
    given.one_row = true;
  } else {
    const py::array array = checked_array<T>(inputs, "[circuit] inputs");
    given.inputs = rows_of<T>(array, circuit.inputs(), "[circuit] inputs");
    given.one_row = array.ndim() == 1;
    given.inputs_owner = array;
  }
  if (weights.is_none() && circuit.weights() > 0)
    throw_input_error("circuit", "weights are missing: the circuit has {}", circuit.weights());
  if (!weights.is_none()) {
    const py::array array = checked_array<T>(weights, "[circuit] weights");
    if (array.ndim() != 1 || array.size() != circuit.weights())
      throw InputError(fmt::format("[circuit] weights must have the shape ({},), got {}", circuit.weights(),
                                   shape_text(array)));
    given.weights = {static_cast<const T*>(array.data()), static_cast<size_t>(array.size())};
    given.weights_owner = array;
  }
  return given;
}

/// Whether a call computes in float: as its arrays do, which must agree. Without arrays, in double.
bool in_float(const py::object& inputs, const py::object& weights) {
  for (const py::object& array : {inputs, weights}) {
    if (holds(array, py::dtype::of<float>())) return true;
    if (!array.is_none()) return false;
  }
  return false;
}

// ---- calls ----

template <class T>
py::array_t<T> run(PyCircuit& self, const py::object& inputs, const py::object& weights,
                   const Observables& observables) {
  const Given<T> given = read_given<T>(self.circuit, inputs, weights);
  const auto outputs = static_cast<int64_t>(self.outputs(observables));
  py::array_t<T> values(given.shape(outputs));
  const Matrix<T> out(values.mutable_data(), given.inputs.rows, outputs);
  const py::gil_scoped_release others_run;
  const std::lock_guard lock(self.mutex);
  Compiled<T>& compiled = self.prepare<T>(observables, given.weights);
  compiled.simulator->forward(given.inputs, out, compiled.workspace);
  return values;
}

template <class T>
py::tuple vjp(PyCircuit& self, const py::object& derivative, const py::object& inputs,
              const py::object& weights, const Observables& observables) {
  const Given<T> given = read_given<T>(self.circuit, inputs, weights);
  const auto outputs = static_cast<int64_t>(self.outputs(observables));
  const py::array dy = checked_array<T>(derivative, "[circuit] derivative");
  const ConstMatrix<T> d_out = rows_of<T>(dy, outputs, "[circuit] derivative");
  if (d_out.rows != given.inputs.rows)
    throw_input_error("circuit", "derivative has {} rows, the inputs have {}", d_out.rows, given.inputs.rows);
  py::array_t<T> values(given.shape(outputs)), d_inputs(given.shape(self.circuit.inputs())),
      d_weights(static_cast<py::ssize_t>(self.circuit.weights()));
  const Matrix<T> out(values.mutable_data(), given.inputs.rows, outputs);
  const Matrix<T> d_in(d_inputs.mutable_data(), given.inputs.rows, given.inputs.cols);
  const std::span<T> d_w(d_weights.mutable_data(), static_cast<size_t>(d_weights.size()));
  {
    const py::gil_scoped_release others_run;
    const std::lock_guard lock(self.mutex);
    Compiled<T>& compiled = self.prepare<T>(observables, given.weights);
    std::ranges::fill(d_w, T{0});
    compiled.simulator->vjp(given.inputs, d_out, out, d_in, d_w, compiled.workspace);
  }
  return py::make_tuple(values, d_inputs, d_weights);
}

template <class T>
py::array_t<std::complex<T>> state(PyCircuit& self, const py::object& inputs, const py::object& weights) {
  const Given<T> given = read_given<T>(self.circuit, inputs, weights);
  const int64_t size = self.circuit.dimension();
  py::array_t<std::complex<T>> states(given.shape(size));
  const std::span<std::complex<T>> out(states.mutable_data(), static_cast<size_t>(given.inputs.rows * size));
  const py::gil_scoped_release others_run;
  const std::lock_guard lock(self.mutex);
  Compiled<T>& compiled = self.prepare<T>({}, given.weights);
  compiled.simulator->states(given.inputs, out, compiled.workspace);
  return states;
}

/// Of every outcome of some wires, the first being the most significant bit; of all without any.
template <class T>
py::array_t<T> probabilities_of(PyCircuit& self, const py::object& inputs, const py::object& weights,
                                const std::vector<int>& wires) {
  State one(self.circuit.qubits());
  const auto of_one = [&] { return wires.empty() ? probabilities(one) : probabilities(one, wires); };
  const size_t outcomes = of_one().size();  // throws for wires that are not there, before anything is run
  const auto states = state<T>(self, inputs, weights);
  std::vector<py::ssize_t> shape(states.shape(), states.shape() + states.ndim());
  shape.back() = static_cast<py::ssize_t>(outcomes);
  py::array_t<T> result(shape);
  T* out = result.mutable_data();
  for (auto row = states.data(); row != states.data() + states.size(); row += one.amplitudes.size()) {
    std::copy_n(row, one.amplitudes.size(), one.amplitudes.begin());
    out = std::ranges::copy(of_one(), out).out;
  }
  return result;
}

// ---- building ----

Angle product(const Angle& a, const Angle& b) {
  if (a.constant()) return b.constant() ? Angle(a.offset * b.offset) : product(b, a);
  if (b.constant()) {
    Angle scaled = a;
    scaled.scale *= b.offset, scaled.offset *= b.offset;
    return scaled;
  }
  const Variable none;
  if (a.offset != 0 || b.offset != 0 || a.second != none || b.second != none)
    throw_input_error("angle", "an angle is a number, or a number plus a number times one or two variables");
  return Angle(a.first, b.first, a.scale * b.scale);
}

Angle sum(const Angle& a, const Angle& b) {
  if (!a.constant() && !b.constant())
    throw_input_error("angle", "an angle adds a number to a product of variables, not two of them");
  Angle shifted = a.constant() ? b : a;
  shifted.offset = a.offset + b.offset;
  return shifted;
}

template <class T>
std::vector<T> as_list(std::variant<T, std::vector<T>> one_or_many) {
  if (auto* one = std::get_if<T>(&one_or_many)) return {*one};
  return std::get<std::vector<T>>(std::move(one_or_many));
}

using Wires = std::variant<int, std::vector<int>>;
using Angles = std::variant<Angle, std::vector<Angle>>;

const GateInfo& gate_called(const std::string& name) {
  if (const GateInfo* found = find_gate(name)) return *found;
  std::vector<std::string_view> names;
  for (const GateInfo& row : gate_table()) names.push_back(row.name);
  throw_input_error("circuit", "there is no gate '{}'{}; qtf.gates() lists them", name,
                    did_you_mean(name, names));
}

py::dict gates() {
  using namespace py::literals;
  py::dict table;
  for (const GateInfo& row : gate_table()) {
    if (row.gate == Gate::unitary) continue;
    table[py::str(std::string(row.name))] = py::dict("wires"_a = row.wires, "angles"_a = row.parameters);
  }
  return table;
}

GateMatrix matrix_in(const py::object& object) {
  const py::array array = checked_array<Complex>(object, "[circuit] matrix");
  if (array.ndim() != 2 || array.shape(0) != array.shape(1))
    throw_input_error("circuit", "matrix must be square, of 2**wires rows");
  const auto* data = static_cast<const Complex*>(array.data());
  return {data, data + array.size()};
}

py::dict resources(const Circuit& circuit) {
  using namespace py::literals;
  const Resources r = count_resources(circuit);
  py::dict by_gate;
  for (const auto& [gate, count] : r.by_gate) by_gate[py::str(std::string(gate))] = count;
  return py::dict("qubits"_a = r.qubits, "gates"_a = r.gates, "two_qubit_gates"_a = r.two_qubit_gates,
                  "depth"_a = r.depth, "two_qubit_depth"_a = r.two_qubit_depth, "inputs"_a = r.inputs,
                  "weights"_a = r.weights, "shift_evaluations"_a = r.shift_evaluations,
                  "state_bytes"_a = r.state_bytes, "by_gate"_a = by_gate);
}

Circuit layered(int qubits, int layers, const std::string& ansatz, const std::string& embedding,
                bool reupload) {
  return layered_circuit({.qubits = qubits,
                          .layers = layers,
                          .ansatz = parse_ansatz(ansatz),
                          .embedding = parse_embedding(embedding),
                          .reupload = reupload});
}

void bind_angles(py::module_& module) {
  using namespace py::literals;
  const py::is_operator op;
  py::class_<Angle>(module, "Angle", "A number, or a number plus a number times one or two variables.")
      .def(py::init<double>(), "value"_a)
      .def("__mul__", &product, "other"_a, op)
      .def("__rmul__", &product, "other"_a, op)
      .def("__add__", &sum, "other"_a, op)
      .def("__radd__", &sum, "other"_a, op)
      .def(
          "__sub__", [](const Angle& a, const Angle& b) { return sum(a, product(b, -1.0)); }, "other"_a, op)
      .def(
          "__rsub__", [](const Angle& a, const Angle& b) { return sum(product(a, -1.0), b); }, "other"_a, op)
      .def("__neg__", [](const Angle& a) { return product(a, -1.0); })
      .def(
          "__eq__", [](const Angle& a, const Angle& b) { return a == b; }, "other"_a, op);
  py::implicitly_convertible<double, Angle>();
  py::implicitly_convertible<int, Angle>();
  module.def(
      "input", [](int index) { return Angle(input(index)); }, "index"_a,
      "The angle that is input number `index` of each row.");
  module.def(
      "weight", [](int index) { return Angle(weight(index)); }, "index"_a,
      "The angle that is weight number `index`.");
  module.def("gates", &gates, "Every gate's name with its wires (0: any number) and angles.");
}

void bind_building(py::class_<PyCircuit>& circuit) {
  using namespace py::literals;
  const py::kw_only kw_only;
  const auto self_after = py::return_value_policy::reference;
  circuit.def(py::init([](int qubits) { return std::make_unique<PyCircuit>(Circuit(qubits)); }), "qubits"_a)
      .def_static(
          "layered",
          [](int qubits, int layers, const std::string& ansatz, const std::string& embedding, bool reupload) {
            return std::make_unique<PyCircuit>(layered(qubits, layers, ansatz, embedding, reupload));
          },
          "qubits"_a = 6, "layers"_a = 2, kw_only, "ansatz"_a = "strongly", "embedding"_a = "angle-y",
          "reupload"_a = false, "An embedding of the inputs, then layers of weights: as `qtf circuit` makes.")
      .def_static(
          "from_qasm", [](const std::string& text) { return std::make_unique<PyCircuit>(parse_qasm(text)); },
          "text"_a, "Of an OpenQASM 3 program.")
      .def(
          "add",
          [](PyCircuit& self, const std::string& gate, Wires wires, Angles angles) -> PyCircuit& {
            self.change().add(gate_called(gate).gate, as_list(std::move(wires)), as_list(std::move(angles)));
            return self;
          },
          "gate"_a, "wires"_a, "angles"_a = py::tuple(), self_after,
          "Adds a gate by PennyLane's name (gates() lists them), on one wire or several, with one angle or "
          "several. Returns the circuit.")
      .def(
          "add_unitary",
          [](PyCircuit& self, const py::object& matrix, Wires wires) -> PyCircuit& {
            self.change().add_unitary(matrix_in(matrix), as_list(std::move(wires)));
            return self;
          },
          "matrix"_a, "wires"_a, self_after, "Adds a gate given by its matrix, complex128.")
      .def(
          "embed_amplitudes",
          [](PyCircuit& self, int features, double pad, bool normalize) -> PyCircuit& {
            self.change().embed_amplitudes({features, pad, normalize});
            return self;
          },
          "features"_a, kw_only, "pad"_a = 0.0, "normalize"_a = true, self_after,
          "Begins with the inputs as amplitudes.")
      .def(
          "append",
          [](PyCircuit& self, const PyCircuit& other) -> PyCircuit& {
            self.change().append(Circuit(other.circuit));
            return self;
          },
          "other"_a, self_after, "Adds all gates of another circuit; its variables keep their numbers.");
}

void bind_reading(py::class_<PyCircuit>& circuit) {
  using namespace py::literals;
  circuit.def_property_readonly("qubits", [](const PyCircuit& self) { return self.circuit.qubits(); })
      .def_property_readonly("inputs", [](const PyCircuit& self) { return self.circuit.inputs(); })
      .def_property_readonly("weights", [](const PyCircuit& self) { return self.circuit.weights(); })
      .def(
          "draw", [](const PyCircuit& self, int width) { return draw_text(self.circuit, width); },
          "width"_a = 0, "As text; what is wider than `width` columns goes on below (0: never).")
      .def(
          "svg", [](const PyCircuit& self) { return draw_svg(self.circuit); }, "As a picture.")
      .def("_repr_svg_", [](const PyCircuit& self) { return draw_svg(self.circuit); })
      .def(
          "qasm",
          [](const PyCircuit& self, bool measure) { return to_qasm(self.circuit, {.measure = measure}); },
          "measure"_a = false, "As an OpenQASM 3 program.")
      .def(
          "resources", [](const PyCircuit& self) { return resources(self.circuit); },
          "What running it takes.")
      .def(
          "__eq__", [](const PyCircuit& a, const PyCircuit& b) { return a.circuit == b.circuit; }, "other"_a,
          py::is_operator())
      .def("__len__", [](const PyCircuit& self) { return self.circuit.operations().size(); })
      .def("__repr__", [](const PyCircuit& self) {
        return fmt::format("<qtf.Circuit of {} qubits, {} gates, {} inputs, {} weights>",
                           self.circuit.qubits(), self.circuit.operations().size(), self.circuit.inputs(),
                           self.circuit.weights());
      });
}

void bind_running(py::class_<PyCircuit>& circuit) {
  using namespace py::literals;
  circuit
      .def(
          "run",
          [](PyCircuit& self, const py::object& inputs, const py::object& weights,
             const Observables& observables) -> py::object {
            if (in_float(inputs, weights)) return run<float>(self, inputs, weights, observables);
            return run<double>(self, inputs, weights, observables);
          },
          "inputs"_a = py::none(), "weights"_a = py::none(), "observables"_a = py::tuple(),
          "Expectation values [rows, observables] of products of Pauli operators, as 'XIZ' or 'X0 Z2'; "
          "without "
          "any, Z of every wire. The result has the inputs' type.")
      .def(
          "vjp",
          [](PyCircuit& self, const py::object& derivative, const py::object& inputs,
             const py::object& weights, const Observables& observables) -> py::object {
            if (in_float(inputs, weights)) return vjp<float>(self, derivative, inputs, weights, observables);
            return vjp<double>(self, derivative, inputs, weights, observables);
          },
          "derivative"_a, "inputs"_a = py::none(), "weights"_a = py::none(), "observables"_a = py::tuple(),
          "run()'s values, and the derivative's products with their Jacobians: for the inputs, row by row, "
          "and "
          "for the weights, summed over the rows. derivative has the shape of run()'s result.")
      .def(
          "state",
          [](PyCircuit& self, const py::object& inputs, const py::object& weights) -> py::object {
            if (in_float(inputs, weights)) return state<float>(self, inputs, weights);
            return state<double>(self, inputs, weights);
          },
          "inputs"_a = py::none(), "weights"_a = py::none(),
          "Final states [rows, 2**qubits], complex; wire 0 is the most significant bit.")
      .def(
          "probabilities",
          [](PyCircuit& self, const py::object& inputs, const py::object& weights,
             const std::vector<int>& wires) -> py::object {
            if (in_float(inputs, weights)) return probabilities_of<float>(self, inputs, weights, wires);
            return probabilities_of<double>(self, inputs, weights, wires);
          },
          "inputs"_a = py::none(), "weights"_a = py::none(), "wires"_a = py::tuple(),
          "Of the outcomes of some wires, the first being the most significant bit; of all without any.");
}

}  // namespace

void bind_circuits(py::module_& module) {
  bind_angles(module);
  py::class_<PyCircuit> circuit(module, "Circuit", "Gates on wires, simulated on batches of numpy arrays.");
  bind_building(circuit);
  bind_reading(circuit);
  bind_running(circuit);
}

}  // namespace qtf::python
