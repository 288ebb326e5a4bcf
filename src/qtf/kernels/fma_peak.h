// How fast one thread can do fused multiply-adds: what "share of peak" in progress bars and benchmarks means.
#pragma once

namespace qtf::kernels {

/// FLOP/s of the calling thread in float multiply-adds that need no memory (one is 2 FLOPs), on the
/// instruction set the other kernels use. Runs for about `seconds` and returns the best millisecond's rate,
/// since the slower ones shared the core. Run it on all threads at once for the peak of a machine.
double measure_fma_peak(double seconds);

}  // namespace qtf::kernels
