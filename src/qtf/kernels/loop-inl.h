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

/// The first `count` lanes from p, those of `mask`, and 0 in the others. Touches nothing beyond them, which
/// Highway promises only of instruction sets with masked loads.
template <class D>
HWY_ATTR HWY_INLINE hn::Vec<D> load_first(D d, [[maybe_unused]] hn::Mask<D> mask,
                                          [[maybe_unused]] int64_t count, const hn::TFromD<D>* p) {
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(d)] = {};
  std::copy_n(p, count, lanes);
  return hn::Load(d, lanes);
#else
  return hn::MaskedLoad(mask, d, p);
#endif
}

/// Stores the first `count` lanes, those of `mask`, and writes nothing beyond them: another thread's numbers
/// may lie there.
template <class D>
HWY_ATTR HWY_INLINE void store_first(hn::Vec<D> v, D d, [[maybe_unused]] hn::Mask<D> mask,
                                     [[maybe_unused]] int64_t count, hn::TFromD<D>* p) {
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(d)];
  hn::Store(v, d, lanes);
  std::copy_n(lanes, count, p);
#else
  hn::BlendedStore(v, mask, d, p);
#endif
}

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
  int64_t count;
  hn::Mask<D> mask;
  HWY_ATTR HWY_INLINE hn::Vec<D> load(const T* x) const { return load_first(d, mask, count, x + i); }
  HWY_ATTR HWY_INLINE void store(hn::Vec<D> v, T* y) const { store_first(v, d, mask, count, y + i); }
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
  if (i < n) body(Tail<D>{d, i, n - i, hn::FirstN(d, static_cast<size_t>(n - i))});
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
