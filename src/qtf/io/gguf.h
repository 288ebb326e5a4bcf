// Reading and writing GGUF, ggml's file format (github.com/ggml-org/ggml, docs/gguf.md), versions 2 and 3:
// typed metadata, tensor descriptions, aligned tensors. Little-endian. model/ gives the names their meaning.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "qtf/base/file.h"
#include "qtf/io/tensor_type.h"

namespace qtf::io {

/// GGUF's numbers for the types of metadata.
enum class GgufKind : uint32_t {
  uint8 = 0,
  int8 = 1,
  uint16 = 2,
  int16 = 3,
  uint32 = 4,
  int32 = 5,
  float32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  uint64 = 10,
  int64 = 11,
  float64 = 12,
};

/// An array of metadata as it lies in the file.
struct GgufArray {
  GgufKind kind = GgufKind::uint8;  ///< of its elements, never array
  uint64_t count = 0;
  std::span<const std::byte> bytes;  ///< of any alignment; checked: `count` elements fill it
};

/// One entry of metadata. Texts and arrays are views into the file.
struct GgufValue {
  std::variant<bool, uint64_t, int64_t, double, std::string_view, GgufArray> value;
  uint64_t position = 0;  ///< its first byte in the file, for errors
};

/// One tensor of a file.
struct GgufTensor {
  std::string_view name;
  std::vector<int64_t> dims;  ///< row-major, as in safetensors: GGUF's reversed
  TensorType type = TensorType::f32;
  size_t offset = 0;  ///< of its first byte in the file
  size_t bytes = 0;

  int64_t elements() const;
};

/// What a file says about its tensors. The views are into the file's bytes.
struct GgufHeader {
  uint32_t version = 0;
  std::map<std::string_view, GgufValue> metadata;
  std::vector<GgufTensor> tensors;  ///< in the file's order
};

/// Reads and checks the header of a whole file in memory; `place` names it in errors. Throws IoError with a
/// byte offset unless every length lies within the file, kinds are known, arrays hold no arrays, keys and
/// names come once, and tensors are aligned, inside the file and apart from each other; InputError for
/// tensors of a type that we do not read (naming it). Memory stays proportional to the header's length.
GgufHeader parse_gguf(std::span<const std::byte> file, std::string_view place);

/// The texts of an array of them; the numbers of an array of integers or floats. Throws IoError naming
/// `place` if the array holds something else, or an integer does not fit T. T: float or int32_t.
std::vector<std::string_view> texts(const GgufArray& array, std::string_view place);
template <class T>
std::vector<T> numbers(const GgufArray& array, std::string_view place);

/// A memory-mapped, checked file. Move-only.
class GgufFile {
 public:
  /// Throws like MappedFile and parse_gguf.
  explicit GgufFile(const std::filesystem::path& path);

  const std::string& place() const { return place_; }
  const GgufHeader& header() const { return header_; }

  /// nullptr if there is none of this name.
  const GgufTensor* find(std::string_view name) const;

  std::span<const std::byte> bytes(const GgufTensor& tensor) const {
    return file_.bytes().subspan(tensor.offset, tensor.bytes);
  }

  /// The tensor's numbers; out.size() must be elements().
  void read(const GgufTensor& tensor, std::span<float> out) const;

  /// Metadata under `key`; nullopt if there is none, IoError with its byte if it is of another kind or out of
  /// range.
  std::optional<int64_t> integer(std::string_view key, int64_t least, int64_t most) const;
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string_view> text(std::string_view key) const;
  const GgufArray* array(std::string_view key) const;

 private:
  template <class T>
  const T* get(std::string_view key, std::string_view wanted) const;

  std::string place_;
  MappedFile file_;
  GgufHeader header_;
  std::map<std::string_view, size_t> index_;
};

/// Collects metadata and tensors and writes them as one file of version 3, in the order of the calls. The
/// same calls give the same bytes.
class GgufWriter {
 public:
  /// Adds an entry of metadata. Throws InputError for a key that is taken.
  void set(const std::string& key, bool value);
  void set(const std::string& key, uint32_t value);
  void set(const std::string& key, float value);
  void set(const std::string& key, std::string_view value);
  void set(const std::string& key, const char* value) { set(key, std::string_view(value)); }
  void set(const std::string& key, std::span<const std::string> values);
  void set(const std::string& key, std::span<const float> values);
  void set(const std::string& key, std::span<const int32_t> values);
  void set(const std::string& key, std::span<const std::byte> values);

  /// Adds a tensor, dims row-major. If its rows are no multiple of the type's block it is stored as F16,
  /// which the return value tells. The numbers are encoded at once and need not stay. Throws InputError for a
  /// name that is taken or longer than GGUF allows (63 bytes), and like encode().
  TensorType add(const std::string& name, std::vector<int64_t> dims, TensorType type,
                 std::span<const float> data);

  /// Writes the file atomically. Throws IoError.
  void write(const std::filesystem::path& path) const;

 private:
  struct Tensor {
    std::string name;
    std::vector<int64_t> dims;
    TensorType type;
    std::vector<std::byte> bytes;
  };
  void begin_entry(const std::string& key, GgufKind kind);
  void begin_array(const std::string& key, GgufKind kind, size_t count);

  std::map<std::string, bool> taken_;
  std::string metadata_;  // serialised
  uint64_t entries_ = 0;
  std::deque<Tensor> tensors_;
};

}  // namespace qtf::io
