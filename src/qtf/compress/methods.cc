#include "qtf/compress/methods.h"

#include "qtf/base/error.h"
#include "qtf/base/parse.h"

namespace qtf::compress {

const std::vector<Method>& methods() {
  static const std::vector<Method> table{
      {.name = "chain",
       .summary = "tensor train [out | in]: whitened on both sides, error-correcting, allocated, gauge fixed",
       .inputs = true,
       .sensitivity = true,
       .sequential = true,
       .allocate = true,
       .gauge = true},
      {.name = "whitened-svd",
       .summary = "activation-whitened truncated SVD, the same share of every map (SVD-LLM's step)",
       .inputs = true},
      {.name = "svd", .summary = "truncated SVD of the weights alone, the same share of every map"},
      {.name = "btt",
       .summary = "block tensor train refitted to the error-correcting targets, the same share of every map",
       .kind = tt::ShapeKind::btt,
       .inputs = true,
       .sequential = true},
      {.name = "mpo",
       .summary = "interleaved tensor train by TT-SVD, the same share of every map",
       .kind = tt::ShapeKind::mpo},
  };
  return table;
}

const Method& find_method(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Method& method : methods()) {
    if (method.name == name) return method;
    names.push_back(method.name);
  }
  throw_input_error("compress", "no method is called '{}'{}; there are {}", name, did_you_mean(name, names),
                    fmt::join(names, ", "));
}

}  // namespace qtf::compress
