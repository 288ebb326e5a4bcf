#include "qtf/train/ranks.h"

#include <algorithm>
#include <string>

#include "qtf/base/error.h"
#include "qtf/base/json.h"

namespace qtf::train {

using nlohmann::json;

std::vector<float> gather(Ranks& ranks, std::span<const float> values) {
  const auto mine = static_cast<size_t>(ranks.rank());
  std::vector<double> counts(static_cast<size_t>(ranks.size()), 0);
  counts[mine] = static_cast<double>(values.size());
  ranks.sum(counts);
  size_t begin = 0, total = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (i == mine) begin = total;
    total += static_cast<size_t>(counts[i]);
  }
  std::vector<float> all(total, 0.F);
  std::ranges::copy(values, all.begin() + static_cast<std::ptrdiff_t>(begin));
  ranks.sum(all);  // where one has a number, the others have 0
  return all;
}

namespace {

std::string shared_text(Ranks& ranks, std::string text) {
  uint64_t size = text.size();
  ranks.share(std::as_writable_bytes(std::span(&size, 1)));
  text.resize(size);
  ranks.share(std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace

void check_agreement(Ranks& ranks, const json& identity) {
  const json leading = json::parse(shared_text(ranks, identity.dump()));
  std::vector<double> differing;  // ranks, an entry each
  for (const auto& [key, value] : leading.items()) {
    differing.push_back(identity.contains(key) && identity.at(key) == value ? 0 : 1);
  }
  ranks.sum(differing);
  size_t entry = 0;
  for (const auto& item : leading.items()) {
    const double count = differing[entry++];
    if (count == 0) continue;
    throw_input_error(
        "train", "{} of {} ranks {} from rank 0 in {}; start all with the same command and the same files",
        count, ranks.size(), count == 1 ? "differs" : "differ", item.key());
  }
}

}  // namespace qtf::train
