// Two qubits that agree: ⟨Z⟩ of each and ⟨ZZ⟩ of both, for three angles. Prints a line an angle.
#include <cstdio>

#include "qtf/quantum/simulator.h"

int main() {
  using namespace qtf::quantum;
  Circuit circuit(2);
  circuit.add(Gate::ry, {0}, {Angle(input(0))});
  circuit.add(Gate::cnot, {0, 1});
  Simulator<double> simulator(circuit, {pauli_z(2, 0), pauli_z(2, 1), parse_pauli("ZZ", 2)});
  simulator.prepare({});

  const double angles[] = {0, 1.5707963267948966, 3.141592653589793};
  double values[9];
  Workspace<double> workspace;
  simulator.forward({angles, 3, 1}, {values, 3, 3}, workspace);
  for (int i = 0; i < 3; ++i)
    std::printf("%.4f: %+.3f %+.3f %+.3f\n", angles[i], values[3 * i], values[3 * i + 1], values[3 * i + 2]);
}
