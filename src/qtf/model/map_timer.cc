#include "qtf/model/map_timer.h"

#include <algorithm>
#include <chrono>

#include "qtf/adapt/execution.h"
#include "qtf/model/inference.h"
#include "qtf/nn/decode.h"

namespace qtf::model {

MapTimer::MapTimer(const Transformer<float>& model, std::vector<size_t> maps, ThreadPool& pool)
    : maps_(std::move(maps)), team_(pool), arenas_(static_cast<size_t>(pool.size())) {
  constexpr int64_t kMostTokens = adapt::kTimedTokens.back();
  int64_t in = 0, out = 0, shared = 0;
  for (const size_t m : maps_) {
    const nn::Linear<float>& linear = *model.linears()[m];
    in = std::max(in, linear.in()), out = std::max(out, linear.out());
    shared = std::max(shared, linear.map->shared_size(kFewRows));
  }
  x_.resize(static_cast<size_t>(kMostTokens * in));
  y_.resize(static_cast<size_t>(kMostTokens * out));
  shared_.resize(static_cast<size_t>(shared));
  const Random random{1, 1};
  for (size_t i = 0; i < x_.size(); ++i) x_[i] = static_cast<float>(random.normal(i));
}

std::vector<int64_t> MapTimer::pass(const Transformer<float>& model, int level, int64_t tokens) {
  using Clock = std::chrono::steady_clock;
  std::vector<int64_t> ns;
  team_.run([&](TeamMember& member) {
    Arena& scratch = arenas_[static_cast<size_t>(member.index())];
    for (const size_t m : maps_) {
      const nn::Linear<float>& linear = *model.linears()[m];
      member.barrier();
      const auto start = Clock::now();
      run(linear, level, tokens, member, scratch);
      member.barrier();
      if (member.index() == 0)
        ns.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
    }
  });
  return ns;
}

void MapTimer::run(const nn::Linear<float>& linear, int level, int64_t tokens, TeamMember& member,
                   Arena& scratch) {
  const ConstMatrix<float> x(x_.data(), tokens, linear.in());
  const Matrix<float> y(y_.data(), tokens, linear.out());
  if (tokens <= kFewRows)
    return nn::linear_columns<float>(linear, x, y, level, member, shared_.data(), scratch);
  const Range rows = member.part(tokens);
  nn::linear_forward<float>(linear, x.row_block(rows.begin, rows.size()),
                            y.row_block(rows.begin, rows.size()), nullptr, level, scratch);
}

std::vector<size_t> maps_run(const Transformer<float>& model) {
  std::vector<size_t> maps;
  for (size_t m = 0; m < model.layout().maps.size(); ++m) {
    const bool looked_up = model.layout().maps[m].spec.part == MapPart::embedding && !model.config().tied;
    if (!looked_up) maps.push_back(m);
  }
  return maps;
}

}  // namespace qtf::model
