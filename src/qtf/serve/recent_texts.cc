#include "qtf/serve/recent_texts.h"

namespace qtf::serve {

std::vector<int32_t> RecentText::read_before(int64_t token) const {
  return std::vector(tokens.begin() + static_cast<std::ptrdiff_t>(begins[static_cast<size_t>(token)]),
                     tokens.begin() + static_cast<std::ptrdiff_t>(prompt_tokens + token));
}

void RecentTexts::add(const std::string& scope, const std::string& id, size_t index, RecentText text) {
  const std::lock_guard lock(mutex_);
  texts_.insert_or_assign({id, index}, Kept{scope, std::move(text)});
  order_.emplace_back(id, index);
  for (; order_.size() > most_; order_.pop_front()) texts_.erase(order_.front());
}

void RecentTexts::append(const std::string& id, size_t index, int32_t token, int64_t begin) {
  const std::lock_guard lock(mutex_);
  const auto found = texts_.find({id, index});
  if (found == texts_.end() || found->second.text.written() >= kMostWritten) return;
  found->second.text.tokens.push_back(token);
  found->second.text.begins.push_back(begin);
}

std::optional<RecentText> RecentTexts::find(const std::string& scope, const std::string& id,
                                            size_t index) const {
  const std::lock_guard lock(mutex_);
  const auto found = texts_.find({id, index});
  if (found == texts_.end() || found->second.scope != scope) return {};
  return found->second.text;
}

void RecentTexts::clear() {
  const std::lock_guard lock(mutex_);
  texts_.clear();
  order_.clear();
}

}  // namespace qtf::serve
