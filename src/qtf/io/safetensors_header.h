// The JSON header of a safetensors file, as text and as declarations. Only safetensors.cc uses it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace qtf::io::internal {

/// One tensor as the header declares it, values not yet checked against the file.
struct TensorDeclaration {
  std::string name;
  std::string dtype;
  std::vector<int64_t> dims;
  std::array<uint64_t, 2> data_offsets = {};
  uint64_t position = 0;  ///< byte in the file where its declaration ends
};

/// A header: tensors in the order of the text; a name may come twice.
struct HeaderDeclaration {
  std::vector<TensorDeclaration> tensors;
  std::map<std::string, std::string> metadata;
};

/// Reads the JSON text without recursion. `text_begin`: its place in the file, for errors. Throws IoError
/// with `place` and byte offset for anything but {name: {"dtype", "shape", "data_offsets"}, "__metadata__":
/// {…}}.
HeaderDeclaration parse_header(std::string_view text, uint64_t text_begin, std::string_view place);

/// The JSON text of a header, tensors in the given order.
std::string print_header(const HeaderDeclaration& header);

/// A name from a file as errors show it: cut after 80 bytes, control characters replaced.
std::string printable(std::string_view name);

/// Whether print_header can write `text`: it is valid UTF-8.
bool is_json_text(std::string_view text);

}  // namespace qtf::io::internal
