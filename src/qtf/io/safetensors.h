// Reading and writing the safetensors format (github.com/huggingface/safetensors): 8 bytes header length, a
// JSON header, the tensors' bytes. model/ keeps weights and checkpoints in it. Little-endian, row-major.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/base/file.h"

namespace qtf::io {

enum class DType { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };

/// The format's name of a type: "F64", …, "BOOL".
std::string_view name(DType dtype);

/// Bytes of one element.
size_t size_of(DType dtype);

/// One tensor of a file.
struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> dims;  ///< empty: one number
  size_t offset = 0;          ///< of its first byte in the file, of any alignment
  size_t bytes = 0;

  int64_t elements() const { return static_cast<int64_t>(bytes / size_of(dtype)); }
};

/// What a file's header says.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  ///< by offset
  std::map<std::string, std::string> metadata;
};

/// Reads and checks the header of a whole file in memory; `place` names it in errors. Throws IoError with a
/// byte offset unless every tensor has a known type, at most 32 dims >= 0 that give its size, a name of its
/// own and its own bytes, and together they fill the data exactly. Memory stays proportional to the header's
/// length.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, std::string_view place);

/// Converts the bytes of an F64, F32, F16 or BF16 tensor to float or double (F64 to float rounds), or copies
/// an I64 to int64_t, an I32 to int32_t. `bytes` may have any alignment. Throws IoError naming `place` for
/// other types, InputError if out.size() is not the number of elements.
template <class T>
void convert(DType dtype, std::span<const std::byte> bytes, std::span<T> out, std::string_view place);

/// A memory-mapped, checked file. Move-only.
class SafetensorsFile {
 public:
  /// Throws InputError if there is no such file, IoError if it cannot be read or is not a valid file.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::vector<TensorInfo>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

  /// nullptr if there is none of this name.
  const TensorInfo* find(std::string_view name) const;

  /// Throws IoError if there is none of this name.
  const TensorInfo& at(std::string_view name) const;

  /// The tensor's bytes in the mapping, of any alignment.
  std::span<const std::byte> bytes(const TensorInfo& info) const {
    return file_.bytes().subspan(info.offset, info.bytes);
  }

  /// convert() of the tensor. T: float, double, int64_t or int32_t.
  template <class T>
  void read(const TensorInfo& info, std::span<T> out) const {
    convert(info.dtype, bytes(info), out, place_ + ": " + info.name);
  }

  /// The same into a new vector.
  template <class T>
  std::vector<T> read(const TensorInfo& info) const {
    std::vector<T> out(static_cast<size_t>(info.elements()));
    read(info, std::span<T>(out));
    return out;
  }

 private:
  std::string place_;
  MappedFile file_;
  SafetensorsHeader header_;
  std::map<std::string_view, size_t> index_;  // name → position; the names' strings lie in header_
};

/// Collects tensors and writes them as one file. The same calls give the same bytes: tensors of 8-byte types
/// first, then of 4-byte, 2-byte and 1-byte types, each in the order of add(), so that all are aligned;
/// metadata sorted by key; the data begins at a multiple of 64 bytes.
class SafetensorsWriter {
 public:
  /// Adds a tensor whose numbers must stay where they are until write(). Throws InputError for a name that is
  /// taken, reserved or not UTF-8, or dims that do not give data.size().
  void add(std::string name, std::vector<int64_t> dims, std::span<const float> data);
  void add(std::string name, std::vector<int64_t> dims, std::span<const double> data);
  void add(std::string name, std::vector<int64_t> dims, std::span<const int64_t> data);
  void add(std::string name, std::vector<int64_t> dims, std::span<const int32_t> data);

  /// Adds a tensor that the writer keeps itself.
  void add_owned(std::string name, std::vector<int64_t> dims, std::vector<float> data);

  /// Adds the numbers rounded to F16 or BF16, which the writer keeps itself, or as F32, for which they must
  /// stay. Throws InputError naming a number that is too large.
  void add_as(DType dtype, std::string name, std::vector<int64_t> dims, std::span<const float> data);

  /// Adds numbers of any type as they lie in the file, which must stay until write(). Throws InputError like
  /// add().
  void add_bytes(DType dtype, std::string name, std::vector<int64_t> dims, std::span<const std::byte> data);

  /// Sets an entry of the file's string map.
  void set_metadata(const std::string& key, const std::string& value);

  /// Writes the file atomically; may be called again after more was added. Throws IoError.
  void write(const std::filesystem::path& path) const;

 private:
  struct Entry {
    std::string name;
    DType dtype;
    std::vector<int64_t> dims;
    std::span<const std::byte> data;
  };
  void add_entry(Entry entry);
  std::vector<const Entry*> in_file_order() const;
  std::string header_text() const;

  std::vector<Entry> entries_;
  std::map<std::string, std::string> metadata_;
  std::deque<std::vector<float>> owned_;
  std::deque<std::vector<std::byte>> rounded_;
};

}  // namespace qtf::io
