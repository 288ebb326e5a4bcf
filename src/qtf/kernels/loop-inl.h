// A loop over a vector's lanes with a masked tail, compiled once an instruction set (as Highway's -inl.h
// files).
#if defined(QTF_KERNELS_LOOP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QTF_KERNELS_LOOP_INL_H_
#undef QTF_KERNELS_LOOP_INL_H_
#else
#define QTF_KERNELS_LOOP_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// A whole vector at an offset.
template <class D>
struct Whole {
  using T = hn::TFromD<D>;
  D d;
  int64_t i;
  HWY_ATTR HWY_INLINE hn::Vec<D> load(const T* x) const { return hn::LoadU(d, x + i); }
  HWY_ATTR HWY_INLINE void store(hn::Vec<D> v, T* y) const { hn::StoreU(v, d, y + i); }
  /// v here, `other` in lanes beyond the end.
  HWY_ATTR HWY_INLINE hn::Vec<D> valid(hn::Vec<D> v, hn::Vec<D>) const { return v; }
};

/// The last, partial vector: lanes beyond the end load as 0 and are not stored.
template <class D>
struct Tail {
  using T = hn::TFromD<D>;
  D d;
  int64_t i;
  hn::Mask<D> mask;
  HWY_ATTR HWY_INLINE hn::Vec<D> load(const T* x) const { return hn::MaskedLoad(mask, d, x + i); }
  HWY_ATTR HWY_INLINE void store(hn::Vec<D> v, T* y) const { hn::BlendedStore(v, mask, d, y + i); }
  HWY_ATTR HWY_INLINE hn::Vec<D> valid(hn::Vec<D> v, hn::Vec<D> other) const {
    return hn::IfThenElse(mask, v, other);
  }
};

/// Calls body(Whole) for each full vector of [0, n), then body(Tail) for what is left.
template <class D, class Body>
HWY_ATTR HWY_INLINE void for_each_vector(D d, int64_t n, Body&& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(Whole<D>{d, i});
  if (i < n) body(Tail<D>{d, i, hn::FirstN(d, static_cast<size_t>(n - i))});
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
