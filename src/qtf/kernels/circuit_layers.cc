#include "qtf/kernels/circuit_layers.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/circuit_layers.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
#include "qtf/kernels/circuit_layers-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_ATTR int64_t layered_scratch_impl(const LayeredCircuit<T>& circuit, bool vjp) {
  LayeredScratch<T> scratch;
  T none;
  return carve_layers(circuit, vjp, &none, scratch);
}

template <class T>
HWY_ATTR bool layered_forward_impl(const LayeredCircuit<T>& circuit, int64_t tokens, TokenMatrix<const T> x,
                                   TokenMatrix<T> y, T* scratch) {
  LayeredRun<hn::ScalableTag<T>> run{circuit, {}};
  carve_layers(circuit, false, scratch, run.s);
  return forward_blocks(run, tokens, x, y, [&](int64_t, int64_t token, int64_t, auto& check) HWY_ATTR {
    run.template forward<false>(token, check);
    run.store_strings(token);
  });
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(layered_scratch_impl)
QTF_EXPORT(layered_forward_impl)

template <class T>
int64_t layered_gradients(const LayeredCircuit<T>& c) {
  return 8 * c.qubits + c.num_layers * (c.qubits + (int64_t{1} << c.qubits));
}

template <class T>
int64_t layered_scratch(const LayeredCircuit<T>& circuit, bool vjp) {
  return layered_scratch_impl_chosen<T>()(circuit, vjp);
}

template <class T>
bool layered_forward(const LayeredCircuit<T>& circuit, int64_t tokens, TokenMatrix<const T> x,
                     TokenMatrix<T> y, T* scratch) {
  return layered_forward_impl_chosen<T>()(circuit, tokens, x, y, scratch);
}

QTF_INSTANTIATE(layered_gradients)
QTF_INSTANTIATE(layered_scratch)
QTF_INSTANTIATE(layered_forward)

}  // namespace qtf::kernels
#endif
