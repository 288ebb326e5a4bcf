#include "qtf/io/gguf.h"

#include <gtest/gtest.h>

#include <cstring>

#include "qtf/base/error.h"
#include "qtf/base/temporary_folder.h"

namespace qtf::io {
namespace {

namespace fs = std::filesystem;

/// Writes headers by hand, so that they can lie.
class Bytes {
 public:
  template <class T>
  Bytes& number(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& raw(std::string_view text) {
    text_ += text;
    return *this;
  }
  Bytes& text(std::string_view text) { return number<uint64_t>(text.size()).raw(text); }
  Bytes& start(uint64_t tensors, uint64_t entries, uint32_t version = 3) {
    return raw("GGUF").number(version).number(tensors).number(entries);
  }
  Bytes& tensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
    text(name).number(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) number(dim);
    return number(type).number(offset);
  }
  Bytes& data(size_t bytes) {
    text_.resize((text_.size() + 31) / 32 * 32, '\0');
    text_.append(bytes, '\1');
    return *this;
  }
  const std::string& string() const { return text_; }

 private:
  std::string text_;
};

std::string error_of(const Bytes& bytes) {
  try {
    parse_gguf(std::as_bytes(std::span(bytes.string())), "x.gguf");
    return "";
  } catch (const IoError& error) {
    return error.what();
  } catch (const InputError& error) {
    return error.what();
  }
}

void expect_error(const Bytes& bytes, const std::string& part) {
  const std::string error = error_of(bytes);
  EXPECT_NE(error.find(part), std::string::npos) << "expected: " << part << "\ngot: " << error;
}

TEST(Gguf, ReadsWhatItWrites) {
  const TemporaryFolder folder;
  GgufWriter writer;
  writer.set("general.architecture", "llama");
  writer.set("yes", true);
  writer.set("count", uint32_t{7});
  writer.set("half", 0.5f);
  writer.set("words", std::vector<std::string>{"a", "", "b\xC3\xA9"});
  writer.set("scores", std::vector<float>{1, -2});
  writer.set("kinds", std::vector<int32_t>{3, -1});
  std::vector<float> values(3 * 32);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 127;
  EXPECT_EQ(writer.add("wide", {3, 32}, TensorType::f32, values), TensorType::f32);
  EXPECT_EQ(writer.add("blocks", {3, 32}, TensorType::q8_0, values), TensorType::q8_0);
  EXPECT_EQ(writer.add("narrow", {16, 6}, TensorType::q8_0, values), TensorType::f16)
      << "rows of 6 are no multiple of 32";
  writer.write(folder / "x.gguf");

  const GgufFile file(folder / "x.gguf");
  EXPECT_EQ(file.header().version, 3u);
  EXPECT_EQ(file.text("general.architecture"), "llama");
  EXPECT_EQ(file.boolean("yes"), true);
  EXPECT_EQ(file.integer("count", 0, 100), 7);
  EXPECT_EQ(file.number("half"), 0.5);
  EXPECT_EQ(texts(*file.array("words"), "words"), (std::vector<std::string_view>{"a", "", "b\xC3\xA9"}));
  EXPECT_EQ(numbers<float>(*file.array("scores"), "scores"), (std::vector<float>{1, -2}));
  EXPECT_EQ(numbers<int32_t>(*file.array("kinds"), "kinds"), (std::vector<int32_t>{3, -1}));
  ASSERT_EQ(file.header().tensors.size(), 3u);
  for (const GgufTensor& tensor : file.header().tensors) EXPECT_EQ(tensor.offset % 32, 0u);
  EXPECT_EQ(file.find("narrow")->dims, (std::vector<int64_t>{16, 6}));
  std::vector<float> back(values.size());
  file.read(*file.find("wide"), back);
  EXPECT_EQ(back, values);
  file.read(*file.find("narrow"), back);
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(back[i], values[i], 1e-3);
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(Gguf, TheSameCallsGiveTheSameBytes) {
  const TemporaryFolder folder;
  const auto write = [&](const char* name) {
    GgufWriter writer;
    writer.set("a", "b");
    writer.add("t", {2}, TensorType::f32, std::vector<float>{1, 2});
    writer.write(folder / name);
    return read_file(folder / name);
  };
  EXPECT_EQ(write("x"), write("y"));
}

TEST(Gguf, WriterRefusesWhatTheFormatLacks) {
  GgufWriter writer;
  const std::vector<float> two = {1, 2};
  writer.set("a", true);
  writer.add("t", {2}, TensorType::f32, two);
  EXPECT_THROW(writer.set("a", false), InputError);
  EXPECT_THROW(writer.add("t", {2}, TensorType::f32, two), InputError);
  EXPECT_THROW(writer.add("u", {3}, TensorType::f32, two), InputError);
  EXPECT_THROW(writer.add("u", {}, TensorType::f32, std::vector<float>{1}), InputError);
  EXPECT_THROW(writer.add(std::string(64, 'x'), {2}, TensorType::f32, two), InputError);
  EXPECT_NO_THROW(writer.add(std::string(63, 'x'), {2}, TensorType::f32, two));
}

TEST(Gguf, MetadataOfAnotherKindIsAnErrorWithItsByte) {
  const TemporaryFolder folder;
  GgufWriter writer;
  writer.set("text", "llama");
  writer.set("count", uint32_t{7});
  writer.set("words", std::vector<std::string>{"a"});
  writer.set("scores", std::vector<float>{1});
  writer.set("large", std::vector<int32_t>{1});
  writer.write(folder / "x.gguf");
  const GgufFile file(folder / "x.gguf");
  EXPECT_THROW(file.integer("text", 0, 1), IoError);
  EXPECT_THROW(file.integer("count", 0, 6), IoError);
  EXPECT_THROW(file.integer("count", 8, 9), IoError);
  EXPECT_THROW(file.number("count"), IoError);
  EXPECT_THROW(file.boolean("count"), IoError);
  EXPECT_THROW(file.text("count"), IoError);
  EXPECT_THROW(file.array("count"), IoError);
  EXPECT_THROW(texts(*file.array("scores"), "x"), IoError);
  EXPECT_THROW(numbers<float>(*file.array("words"), "x"), IoError);
  EXPECT_THROW(numbers<int32_t>(*file.array("scores"), "x"), IoError);
  EXPECT_EQ(file.integer("absent", 0, 1), std::nullopt);
  EXPECT_EQ(file.array("absent"), nullptr);
  try {
    file.text("count");
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("(byte "), std::string::npos) << error.what();
  }
}

TEST(Gguf, EveryPrefixOfAFileIsRefused) {
  const Bytes whole = Bytes()
                          .start(1, 2)
                          .text("key")
                          .number<uint32_t>(9)
                          .number<uint32_t>(8)
                          .number<uint64_t>(2)
                          .text("one")
                          .text("two")
                          .text("b")
                          .number<uint32_t>(7)
                          .number<uint8_t>(1)
                          .tensor("t", {2, 3}, 0, 0)
                          .data(24);
  EXPECT_EQ(error_of(whole), "");
  for (size_t length = 0; length < whole.string().size(); ++length) {
    const std::string error = error_of(Bytes().raw(whole.string().substr(0, length)));
    EXPECT_NE(error.find("byte"), std::string::npos) << length << ": " << error;
  }
}

TEST(Gguf, RefusesHostileHeaders) {
  expect_error(Bytes().raw("GGML").number<uint32_t>(3), "no \"GGUF\"");
  expect_error(Bytes().start(0, 0, 1),
               "version 1 is not supported (2 and 3 are); convert the model again, at byte 4");
  expect_error(Bytes().start(0, 0, 0x03000000), "big-endian");
  EXPECT_EQ(error_of(Bytes().start(0, 0, 2)), "");
  expect_error(Bytes().start(uint64_t{1} << 60, 0), "the number of tensors 1152921504606846976 is more than");
  expect_error(Bytes().start(0, uint64_t{1} << 60), "metadata entries 1152921504606846976 is more than");
  expect_error(Bytes().start(0, 1).number(~uint64_t{0}).raw("0123456789"), "goes beyond the end");
  expect_error(Bytes().start(0, 1).text("k").number<uint32_t>(13).raw("0123"), "unknown kind 13 at byte 33");
  expect_error(
      Bytes().start(0, 2).text("k").number<uint32_t>(7).raw("1").text("k").number<uint32_t>(7).raw("1"),
      "k comes twice, again at byte 38");
}

TEST(Gguf, RefusesHostileArrays) {
  const auto array = [](uint32_t kind, uint64_t count) {
    return Bytes().start(0, 1).text("k").number<uint32_t>(9).number(kind).number(count);
  };
  expect_error(array(9, 1).raw(std::string(64, '\0')), "array of arrays");
  expect_error(array(13, 1).raw("0123"), "unknown kind 13");
  expect_error(array(4, uint64_t{1} << 61).raw("01234567"), "claims 2305843009213693952 elements");
  expect_error(array(8, uint64_t{1} << 61).raw("01234567"), "claims");
  expect_error(array(8, 1).number<uint64_t>(5).raw("1234"), "a text of an array of 5 bytes at byte");
}

TEST(Gguf, RefusesHostileTensors) {
  const auto with = [](std::string_view name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset,
                       size_t data) {
    return Bytes().start(1, 0).tensor(name, dims, type, offset).data(data);
  };
  EXPECT_EQ(error_of(with("t", {8}, 0, 0, 32)), "");
  EXPECT_EQ(error_of(with("t", {}, 0, 0, 32)), "") << "one number";
  expect_error(with("t", {8}, 0, 0, 31), "goes beyond the end of the file");
  expect_error(with("t", {8}, 0, 32, 32), "goes beyond the end of the file");
  expect_error(with("t", {8}, 0, ~uint64_t{31}, 32), "goes beyond the end of the file");
  expect_error(with("t", {8}, 0, 8, 64), "not aligned to 32 bytes");
  expect_error(with("t", {1, 1, 1, 1, 1}, 0, 0, 32), "has 5 dims");
  expect_error(with("t", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0, 32), "too many elements");
  expect_error(with("t", {~uint64_t{0}}, 0, 0, 32), "too many elements");
  expect_error(with("t", {uint64_t{1} << 62}, 0, 0, 32), "too many elements");
  expect_error(with("t", {0, uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0, 32), "has no elements");
  expect_error(with("t", {31}, 8, 0, 64), "rows of 31, no multiple of 32");
  expect_error(with("t", {256}, 12, 0, 256), "t is Q4_K (byte 45); F32, F16, BF16, Q8_0 and Q4_0 are read");
  expect_error(with("t", {8}, 77, 0, 32), "unknown type 77");
  expect_error(Bytes().start(2, 0).tensor("t", {8}, 0, 0).tensor("t", {8}, 0, 32).data(64), "two tensors");
  expect_error(Bytes().start(2, 0).tensor("t", {16}, 0, 0).tensor("u", {8}, 0, 32).data(64), "overlap");
}

TEST(Gguf, RefusesAlignmentsThatAreNone) {
  const auto with = [](uint32_t alignment, uint64_t offset) {
    return Bytes()
        .start(1, 1)
        .text("general.alignment")
        .number<uint32_t>(4)
        .number(alignment)
        .tensor("t", {2}, 0, offset)
        .data(64);
  };
  EXPECT_EQ(error_of(with(8, 8)), "");
  expect_error(with(0, 0), "must be a power of two");
  expect_error(with(24, 0), "must be a power of two");
  expect_error(with(1u << 30, 0), "must be a power of two");
}

}  // namespace
}  // namespace qtf::io
