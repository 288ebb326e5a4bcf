// The number formats in which GGUF stores tensors, and the conversion of whole rows. gguf.h reads and writes
// files of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace qtf::io {

/// GGUF's numbers for the types that we read.
enum class TensorType : uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 8, bf16 = 30 };

/// How a type lies in a file: a row is a run of blocks.
struct TensorTypeInfo {
  TensorType type;
  std::string_view name;  ///< "Q8_0"
  int64_t block;          ///< elements of a block; the length of a row is a multiple of it
  size_t bytes;           ///< of a block
  /// blocks · block numbers from blocks · bytes bytes of any alignment.
  void (*decode)(const std::byte* from, int64_t blocks, float* to);
  /// The reverse, each number rounded to the nearest that the block can hold; null: we do not write this
  /// type.
  void (*encode)(const float* from, int64_t blocks, std::byte* to);
};

/// Every type that we read. To add one, add a row in tensor_type.cc.
std::span<const TensorTypeInfo> tensor_types();

/// The row of a type.
const TensorTypeInfo& info(TensorType type);

/// The row of GGUF's number, or null if we do not read it.
const TensorTypeInfo* find_tensor_type(uint32_t number);

/// The bytes of numbers, as many as whole blocks hold. Throws InputError with
/// `name` if a number is too large for a type that we write.
std::vector<std::byte> encode(TensorType type, std::span<const float> values, std::string_view name);

/// What GGUF calls a number, also of types that we do not read: "Q4_K"; empty if there is none.
std::string_view gguf_type_name(uint32_t number);

}  // namespace qtf::io
