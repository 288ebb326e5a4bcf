#include "qtf/io/safetensors_header.h"

#include <iterator>
#include <limits>
#include <utility>

#include "qtf/base/error.h"
#include "qtf/base/json.h"

namespace qtf::io::internal {

namespace {

using nlohmann::json;

constexpr std::string_view kMetadataKey = "__metadata__";
constexpr size_t kMaxDims = 32;  // PyTorch's and NumPy's are 64 and 32

/// A pointer into the text that tells the handler how far the parser has read.
class TrackedIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  TrackedIterator(const char* at, const char** reached) : at_(at), reached_(reached) {}
  reference operator*() const { return *at_; }
  TrackedIterator& operator++() {
    *reached_ = ++at_;
    return *this;
  }
  TrackedIterator operator++(int) {
    TrackedIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const TrackedIterator& other) const { return at_ == other.at_; }

 private:
  const char* at_;
  const char** reached_;
};

/// Takes the parser's events one by one and fills a HeaderDeclaration. Every event that the format does not
/// have at this place is an error, so nesting ends at depth three however deep the text goes.
class HeaderReader {
 public:
  HeaderReader(std::string_view text, uint64_t text_begin, std::string_view place)
      : begin_(text.data()), reached_(text.data()), text_begin_(text_begin), place_(place) {}

  const char** reached() { return &reached_; }
  HeaderDeclaration take() { return std::move(header_); }

  bool null() { unexpected("null"); }
  bool boolean(bool) { unexpected("true or false"); }
  bool number_integer(json::number_integer_t) { unexpected("a negative number"); }
  bool number_float(json::number_float_t, const std::string&) {
    unexpected("a fraction or too large a number");
  }
  bool binary(json::binary_t&) { unexpected("bytes"); }

  bool number_unsigned(json::number_unsigned_t value) {
    if (state_ == State::shape) {
      add_dim(value);
    } else if (state_ == State::data_offsets) {
      if (numbers_ == 2) fail("data_offsets has more than two numbers");
      tensor().data_offsets[numbers_] = value;
    } else {
      unexpected("a number");
    }
    ++numbers_;
    return true;
  }

  bool string(std::string& value) {
    if (state_ == State::metadata) {
      if (!header_.metadata.emplace(key_, value).second) fail("metadata has two entries " + printable(key_));
    } else if (state_ == State::tensor && key_ == "dtype") {
      tensor().dtype = value;
    } else {
      unexpected("a text");
    }
    return true;
  }

  bool start_object(size_t) {
    if (state_ == State::outside) {
      state_ = State::top;
    } else if (state_ == State::top && key_ == kMetadataKey) {
      if (std::exchange(has_metadata_, true)) fail("__metadata__ comes twice");
      state_ = State::metadata;
    } else if (state_ == State::top) {
      state_ = State::tensor;
      seen_dtype_ = seen_shape_ = seen_offsets_ = false;
      header_.tensors.emplace_back().name = key_;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(std::string& value) {
    if (state_ == State::tensor) check_field(value);
    key_ = value;
    return true;
  }

  bool end_object() {
    if (state_ == State::tensor) {
      if (!seen_dtype_ || !seen_shape_ || !seen_offsets_)
        fail("a tensor needs dtype, shape and data_offsets");
      tensor().position = position();
    }
    state_ = state_ == State::top ? State::outside : State::top;
    return true;
  }

  bool start_array(size_t) {
    if (state_ == State::tensor && key_ == "shape") {
      state_ = State::shape;
    } else if (state_ == State::tensor && key_ == "data_offsets") {
      state_ = State::data_offsets;
    } else {
      unexpected("a list");
    }
    numbers_ = 0;
    return true;
  }

  bool end_array() {
    if (state_ == State::data_offsets && numbers_ != 2) fail("data_offsets needs two numbers");
    state_ = State::tensor;
    return true;
  }

  bool parse_error(size_t, const std::string&, const json::exception&) {
    fail("the header is not valid JSON");
  }

 private:
  enum class State { outside, top, metadata, tensor, shape, data_offsets };

  TensorDeclaration& tensor() { return header_.tensors.back(); }
  uint64_t position() const { return text_begin_ + static_cast<uint64_t>(reached_ - begin_); }

  [[noreturn]] void fail(const std::string& what) const {
    const std::string name = state_ >= State::tensor ? printable(header_.tensors.back().name) + ": " : "";
    throw_io_error("safetensors", "{}: {}{} (header before byte {})", place_, name, what, position());
  }
  [[noreturn]] void unexpected(const char* what) const { fail(std::string("unexpected ") + what); }

  void add_dim(uint64_t value) {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) fail("a dim is too large");
    if (numbers_ == kMaxDims) fail("more than 32 dims");
    tensor().dims.push_back(static_cast<int64_t>(value));
  }

  void check_field(const std::string& field) {
    bool* seen = field == "dtype"          ? &seen_dtype_
                 : field == "shape"        ? &seen_shape_
                 : field == "data_offsets" ? &seen_offsets_
                                           : nullptr;
    if (!seen) fail("unknown field " + printable(field));
    if (std::exchange(*seen, true)) fail("field " + field + " comes twice");
  }

  const char* begin_;
  const char* reached_;
  uint64_t text_begin_;
  std::string_view place_;
  HeaderDeclaration header_;
  State state_ = State::outside;
  std::string key_;
  size_t numbers_ = 0;  // of the list being read
  bool has_metadata_ = false;
  bool seen_dtype_ = false, seen_shape_ = false, seen_offsets_ = false;
};

}  // namespace

HeaderDeclaration parse_header(std::string_view text, uint64_t text_begin, std::string_view place) {
  // The parser would skip a byte order mark, and take a NUL for the end.
  if (!text.starts_with('{') || text.find('\0') != text.npos) {
    throw_io_error("safetensors", "{}: the header at byte {} is not JSON text", place, text_begin);
  }
  HeaderReader reader(text, text_begin, place);
  json::sax_parse(TrackedIterator(text.data(), reader.reached()),
                  TrackedIterator(text.data() + text.size(), reader.reached()), &reader);
  return reader.take();
}

std::string print_header(const HeaderDeclaration& header) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  if (!header.metadata.empty()) object[std::string(kMetadataKey)] = header.metadata;
  for (const TensorDeclaration& tensor : header.tensors) {
    object[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.dims}, {"data_offsets", tensor.data_offsets}};
  }
  return object.dump();
}

std::string printable(std::string_view name) {
  constexpr size_t kMost = 80;
  std::string text(name.substr(0, kMost));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return name.size() > kMost ? text + "..." : text;
}

bool is_json_text(std::string_view text) {
  try {
    json(text).dump();
    return true;
  } catch (const json::type_error&) {
    return false;
  }
}

}  // namespace qtf::io::internal
