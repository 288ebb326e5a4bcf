// What the tests of model folders share.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>

#include "qtf/base/error.h"
#include "qtf/model/config.h"

namespace qtf::model {

/// The text of the InputError or IoError that `act` throws.
template <class Error>
std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
    return error.what();
  }
  return "no error";
}

inline void expect_contains(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), std::string::npos) << text << "\nlacks: " << part;
}

/// `text` with the first `from` replaced.
inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

inline bool same_config(const ModelConfig& a, const ModelConfig& b) {
  return a.family == b.family && a.vocabulary == b.vocabulary && a.width == b.width && a.layers == b.layers &&
         a.heads == b.heads && a.kv_heads == b.kv_heads && a.feed_forward == b.feed_forward &&
         a.context == b.context && a.tied == b.tied && a.norm_epsilon == b.norm_epsilon &&
         a.rope_theta == b.rope_theta && a.bos_token == b.bos_token && a.eos_token == b.eos_token &&
         a.shapes == b.shapes && a.plan == b.plan && a.quantum == b.quantum;
}

}  // namespace qtf::model
