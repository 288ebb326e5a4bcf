#include "qtf/kernels/circuit_gates.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/circuit_gates.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
#include "qtf/kernels/circuit_gates-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Amplitudes of a vector of tokens, of which `count` exist, to [t][k][re, im].
template <class D, class T = hn::TFromD<D>>
HWY_ATTR void store_states(const GateRun<D>& run, T* states, int64_t count) {
  HWY_ALIGN T re[hn::MaxLanes(D())];
  HWY_ALIGN T im[hn::MaxLanes(D())];
  for (int64_t k = 0; k < run.size; ++k) {
    const auto v = run.get(run.s.state, run.p.places[k]);
    hn::Store(v.re, run.d, re);
    hn::Store(v.im, run.d, im);
    for (int64_t t = 0; t < count; ++t) {
      states[2 * (t * run.size + k)] = re[t];
      states[2 * (t * run.size + k) + 1] = im[t];
    }
  }
}

template <class T>
HWY_ATTR int64_t gates_scratch_impl(const GateProgram<T>& program, bool vjp) {
  GateScratch<T> scratch;
  T none;
  return carve_gates(program, vjp, &none, scratch);
}

template <class T>
HWY_ATTR bool gates_forward_impl(const GateProgram<T>& program, int64_t tokens, TokenMatrix<const T> x,
                                 TokenMatrix<T> y, T* states, T* scratch) {
  GateRun<hn::ScalableTag<T>> run{program, {}};
  carve_gates(program, false, scratch, run.s);
  run.shared_angles();
  return forward_blocks(run, tokens, x, y,
                        [&](int64_t first, int64_t token, int64_t count, auto& check) HWY_ATTR {
                          run.forward(token, count, check);
                          run.store_values(token);
                          if (states != nullptr)
                            store_states(run, states + 2 * (first + token) * run.size, count);
                        });
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(gates_scratch_impl)
QTF_EXPORT(gates_forward_impl)

template <class T>
int64_t gates_gradients(const GateProgram<T>& program) {
  return program.num_angles + program.num_matrix_sums;
}

template <class T>
int64_t gates_scratch(const GateProgram<T>& program, bool vjp) {
  return gates_scratch_impl_chosen<T>()(program, vjp);
}

template <class T>
bool gates_forward(const GateProgram<T>& program, int64_t tokens, TokenMatrix<const T> x, TokenMatrix<T> y,
                   T* states, T* scratch) {
  return gates_forward_impl_chosen<T>()(program, tokens, x, y, states, scratch);
}

QTF_INSTANTIATE(gates_gradients)
QTF_INSTANTIATE(gates_scratch)
QTF_INSTANTIATE(gates_forward)

}  // namespace qtf::kernels
#endif
