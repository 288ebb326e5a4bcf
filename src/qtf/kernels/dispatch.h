// How a kernel is written once and compiled for every instruction set (Highway). A kernel file reads:
//
//   #undef HWY_TARGET_INCLUDE
//   #define HWY_TARGET_INCLUDE "qtf/kernels/x.cc"
//   #include "qtf/kernels/dispatch.h"
//   HWY_BEFORE_NAMESPACE();
//   namespace qtf::kernels::HWY_NAMESPACE {
//   template <class T> void x(...) { … }           // once an instruction set
//   }
//   HWY_AFTER_NAMESPACE();
//   #if HWY_ONCE
//   namespace qtf::kernels {
//   QTF_EXPORT(x)                                   // the table of compiled versions
//   template <class T> void x(...) { x_chosen<T>()(...); }
//   QTF_INSTANTIATE(x)
//   }
//   #endif
//
// The best version for this processor is chosen at the first call. No include guard: foreach_target.h
// includes the kernel file, and so this header, once an instruction set.

// Every x86-64 processor since 2009 has SSE4.2. A version of every kernel for older ones, with emulated
// vectors, took a quarter of the compile time; other processors without vectors still get one.
#if defined(__x86_64__) && !defined(QTF_ONE_INSTRUCTION_SET)
#define HWY_BASELINE_TARGETS HWY_SSE4
#endif

#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include <hwy/highway.h>

#ifndef QTF_KERNELS_DISPATCH_H_
#define QTF_KERNELS_DISPATCH_H_

#ifdef QTF_ONE_INSTRUCTION_SET
// Whoever compiles for one processor alone needs no table, nor Highway's library.
#define QTF_EXPORT(fn)                  \
  template <class T>                    \
  constexpr auto fn##_chosen() {        \
    return &HWY_STATIC_DISPATCH(fn<T>); \
  }
#else
#define QTF_EXPORT(fn)                                                                                       \
  template <class T>                                                                                         \
  auto fn##_chosen() {                                                                                       \
    using Function = decltype(&HWY_STATIC_DISPATCH(fn<T>));                                                  \
    static constexpr Function kTable[HWY_MAX_DYNAMIC_TARGETS + 2] = {nullptr, HWY_CHOOSE_TARGET_LIST(fn<T>), \
                                                                     HWY_CHOOSE_FALLBACK(fn<T>)};            \
    hwy::ChosenTarget& chosen = hwy::GetChosenTarget();                                                      \
    if (chosen.GetIndex() == 0) chosen.Update(hwy::SupportedTargets());                                      \
    return kTable[chosen.GetIndex()];                                                                        \
  }
#endif

#define QTF_INSTANTIATE(fn)               \
  template decltype(fn<float>) fn<float>; \
  template decltype(fn<double>) fn<double>;

#endif
