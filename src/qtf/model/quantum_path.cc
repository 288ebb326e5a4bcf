#include "qtf/model/quantum_path.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "qtf/base/error.h"
#include "qtf/base/random.h"

namespace qtf::model {

template <class T>
QuantumPath<T>::QuantumPath(const ModelConfig& config, const ParameterLayout& layout, const T* parameters)
    : config_(*config.quantum),
      at_(*layout.quantum),
      parameters_(parameters),
      block_(quantum_block(config)),
      entropies_({{0, adapt::kUnit}}) {
  layer_.spec = config_.circuit;
  layer_.trains_inner = config_.train;
  layer_.epsilon = static_cast<T>(config.norm_epsilon);
  layer_.width = config.width;
  layer_.at = at_.layer;
  layer_.parameters = parameters;
  layer_.inner = nn::make_inner_map<T>(config_.circuit);
}

template <class T>
void QuantumPath<T>::prepare() {
  layer_.inner->prepare(parameters_ + at_.layer.inner);
  threshold_ = adapt::to_units(static_cast<double>(parameters_[at_.threshold]));
  std::vector<int64_t> quantiles;
  for (int64_t k = 0; k < kEntropyQuantiles; ++k)
    quantiles.push_back(adapt::to_units(static_cast<double>(parameters_[at_.entropy_quantiles + k])));
  entropies_ = adapt::repaired(std::move(quantiles));
}

template <class T>
void QuantumPath<T>::set_measurement(const nn::Measurement& measurement) {
  if (!measurement.exact() && config_.circuit.kind == nn::InnerKind::classical)
    throw_input_error("quantum",
                      "this model has a classical map, which has no shots and no noise; leave them out");
  measurement_ = measurement;
}

template <class T>
T QuantumPath<T>::signal(T entropy) const {
  const int64_t rank = adapt::rank_of(entropies_, adapt::to_units(static_cast<double>(entropy)));
  return static_cast<T>(rank) / static_cast<T>(adapt::kUnit);
}

template <class T>
T QuantumPath<T>::selection(T score, const T* x, int64_t position) const {
  if (config_.routing == Routing::gate) return score;
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  constexpr uint64_t kSeed = 0x5E1EC7;
  return static_cast<T>(Random{kSeed, std::bit_cast<Bits>(*x)}.uniform(static_cast<uint64_t>(position)));
}

template <class T>
adapt::RouteDecision QuantumPath<T>::decide(int64_t position, int64_t routed_before, T selection) const {
  return adapt::decide_route({.position = position,
                              .routed_before = routed_before,
                              .score = adapt::to_units(static_cast<double>(selection)),
                              .threshold = threshold_,
                              .ppm = config_.fraction_ppm});
}

template <class T>
RoutedPass<T>::RoutedPass(const QuantumPath<T>& path, std::span<const nn::Segment<T>> segments,
                          const RouteTrace<T>& trace)
    : path_(path), segments_(segments), trace_(trace) {
  for (const nn::Segment<T>& segment : segments) {
    counts_.push_back(segment.cache ? segment.cache->routed_before(segment.position) : 0);
    slice_.end = segment.row + segment.rows;
  }
}

template <class T>
void RoutedPass<T>::take_slice(Range slice, std::span<const int64_t> places, T* shared_selection) {
  slice_ = slice, places_ = places, shared_selection_ = shared_selection;
}

template <class T>
int64_t RoutedPass<T>::place(const nn::Pass<T>& pass, size_t segment) const {
  return shared_selection_ ? places_[segment] : pass.segments[segment].row;
}

template <class T>
void RoutedPass<T>::decide(const T* selection, uint8_t* routed, uint8_t* open) {
  for (size_t s = 0; s < segments_.size(); ++s) {
    const nn::Segment<T>& segment = segments_[s];
    const int64_t end = std::min(slice_.end, segment.row + segment.rows);
    for (int64_t row = std::max(slice_.begin, segment.row); row < end; ++row) {
      const int64_t position = segment.position + row - segment.row;
      const adapt::RouteDecision decision = path_.decide(position, counts_[s], selection[row]);
      routed[row - slice_.begin] = decision.routed;
      open[row - slice_.begin] = decision.within_quota;
      counts_[s] += decision.routed;
    }
  }
}

template <class T>
void RoutedPass<T>::forward(const nn::Pass<T>& pass, const T* entropy, Matrix<T> x, Arena& arena) {
  T* signal = arena.allocate<T>(x.rows);
  for (int64_t i = 0; i < x.rows; ++i) signal[i] = path_.signal(entropy[i]);
  nn::quantum_scores<T>(path_.layer(), x, signal, saved_, arena);

  // A team's members decide for the whole slice, each by itself: the quota needs all earlier decisions.
  T* selection = shared_selection_ ? shared_selection_ : arena.allocate<T>(x.rows);
  for (size_t s = 0; s < pass.segments.size(); ++s) {
    const nn::Segment<T>& segment = pass.segments[s];
    for (int64_t i = 0; i < segment.rows; ++i) {
      const int64_t row = segment.row + i;
      selection[place(pass, s) + i] = path_.selection(saved_.scores[row], x.row(row), segment.position + i);
    }
  }
  if (shared_selection_ && pass.team) pass.team->barrier();
  auto* routed = arena.allocate<uint8_t>(slice_.size());
  auto* open = arena.allocate<uint8_t>(slice_.size());
  decide(selection, routed, open);

  auto* list = arena.allocate<int64_t>(x.rows);
  size_t count = 0;
  for (size_t s = 0; s < pass.segments.size(); ++s) {
    for (int64_t i = 0; i < pass.segments[s].rows; ++i)
      if (routed[place(pass, s) + i - slice_.begin]) list[count++] = pass.segments[s].row + i;
  }
  const std::span<const int64_t> rows(list, count);
  const bool all_see_all = pass.team && !shared_selection_;
  if (all_see_all && count > 0) pass.team->barrier();  // before it, others still read x
  if (!all_see_all || pass.team->index() == 0) {
    nn::quantum_forward<T>(path_.layer(), rows, pass.dropout, x, saved_, arena, path_.measurement());
    tell(pass, entropy, selection, routed, open, arena);
  }
  if (all_see_all && count > 0) pass.team->barrier();
}

template <class T>
void RoutedPass<T>::tell(const nn::Pass<T>& pass, const T* entropy, const T* selection, const uint8_t* routed,
                         const uint8_t* open, Arena& arena) {
  if (!trace_.any()) return;
  for (size_t s = 0; s < pass.segments.size(); ++s) {
    const nn::Segment<T>& segment = pass.segments[s];
    const int64_t to = place(pass, s);
    if (trace_.routed) std::copy_n(routed + to - slice_.begin, segment.rows, trace_.routed + to);
    if (trace_.open) std::copy_n(open + to - slice_.begin, segment.rows, trace_.open + to);
    if (trace_.entropy) std::copy_n(entropy + segment.row, segment.rows, trace_.entropy + to);
    if (trace_.selection) std::copy_n(selection + to, segment.rows, trace_.selection + to);
    if (trace_.circuit_entropy) std::fill_n(trace_.circuit_entropy + to, segment.rows, T{0});
  }
  if (!trace_.circuit_entropy || saved_.routed.empty()) return;
  const ArenaScope scope(arena);
  const auto count = static_cast<int64_t>(saved_.routed.size());
  T* nats = arena.allocate<T>(count);
  path_.layer().inner->entropies({saved_.angles, count, path_.layer().spec.qubits}, nats);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = saved_.routed[static_cast<size_t>(r)];
    for (size_t s = 0; s < pass.segments.size(); ++s) {
      const int64_t offset = row - pass.segments[s].row;
      if (offset >= 0 && offset < pass.segments[s].rows)
        trace_.circuit_entropy[place(pass, s) + offset] = nats[r];
    }
  }
}

template <class T>
void RoutedPass<T>::backward(const nn::Pass<T>& pass, Matrix<T> dx, T* gradients, Arena& arena) {
  nn::quantum_backward<T>(path_.layer(), pass.dropout, saved_, dx, gradients, arena);
}

template <class T>
void keep_routes(std::span<const nn::Segment<T>> segments, const uint8_t* routed) {
  for (const nn::Segment<T>& segment : segments) {
    for (int64_t i = 0; i < segment.rows; ++i)
      segment.cache->keep_route(segment.position + i, routed[segment.row + i] != 0);
  }
}

#define QTF_INSTANTIATE_QUANTUM_PATH(T) \
  template class QuantumPath<T>;        \
  template class RoutedPass<T>;         \
  template void keep_routes<T>(std::span<const nn::Segment<T>>, const uint8_t*);
QTF_INSTANTIATE_QUANTUM_PATH(float)
QTF_INSTANTIATE_QUANTUM_PATH(double)
#undef QTF_INSTANTIATE_QUANTUM_PATH

}  // namespace qtf::model
