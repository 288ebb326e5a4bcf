// What the JSON bodies of all requests have in common.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "qtf/base/error.h"

namespace qtf::serve {

/// A request that cannot be answered, for the error object of the answer.
class RequestError : public InputError {
 public:
  RequestError(std::string_view parameter, const std::string& message)
      : InputError(message), parameter_(parameter) {}
  const std::string& parameter() const { return parameter_; }

 private:
  std::string parameter_;
};

/// The object that a body is. Throws RequestError for a body that is none, or nested too deeply.
nlohmann::json parse_object(std::string_view body);

/// Throws RequestError for a field that is not among `known`, with a suggestion.
[[noreturn]] void refuse_field(const std::string& name, std::span<const std::string_view> known);

}  // namespace qtf::serve
