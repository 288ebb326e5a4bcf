#include "qtf/model/generate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "qtf/base/error.h"
#include "qtf/model/small_model.h"
#include "qtf/text/byte_tokenizer.h"
#include "qtf/text/utf8.h"

namespace qtf::model {
namespace {

/// What a stream shows of `pieces`, each shown part checked to be whole characters.
std::string streamed(const std::vector<std::string>& stop, const std::vector<std::string_view>& pieces) {
  TextStream stream(stop);
  std::string shown;
  const auto show = [&](const std::string& part) {
    EXPECT_EQ(text::find_invalid_utf8(part), std::string::npos) << part;
    shown += part;
  };
  for (std::string_view piece : pieces) show(stream.push(piece));
  show(stream.finish());
  return shown;
}

/// The same for `bytes` whole, cut in two at every place, and byte by byte: all must show `expected`.
void expect_shown(const std::vector<std::string>& stop, std::string_view bytes, std::string_view expected) {
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    EXPECT_EQ(streamed(stop, {bytes.substr(0, cut), bytes.substr(cut)}), expected)
        << bytes << " cut at " << cut;
  }
  std::vector<std::string_view> single;
  for (size_t i = 0; i < bytes.size(); ++i) single.push_back(bytes.substr(i, 1));
  EXPECT_EQ(streamed(stop, single), expected) << bytes;
}

TEST(TextStream, ShowsWholeCharactersWhereverTheyAreCut) {
  for (std::string_view text : {"", "plain", "h\u00e9llo", "\u20ac5 \U0001F600!", "\U0001F600\U0001F601"})
    expect_shown({}, text, text);
}

TEST(TextStream, ShowsACharacterAsSoonAsItIsWhole) {
  TextStream stream({});
  EXPECT_EQ(stream.push("a\xE2"), "a");
  EXPECT_EQ(stream.push("\x82"), "");
  EXPECT_EQ(stream.push("\xAC"
                        "b"),
            "\u20ac"
            "b");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, ReplacesWhatIsNoUtf8) {
  const std::vector<std::pair<std::string_view, std::string_view>> rows = {
      {"a\xFF"
       "b",
       "a\uFFFD"
       "b"},
      {"\x80", "\uFFFD"},
      {"a\xE2\x82", "a\uFFFD"},  // ends inside a character
      {"\xE2\x82"
       "b",
       "\uFFFD"
       "b"},  // broken off by another
      {"\xE2\x82\xE2\x82\xAC", "\uFFFD\u20ac"},
      {"\xC0\xAF", "\uFFFD\uFFFD"},                          // overlong '/'
      {"x\xF5\x80\x80\x80y", "x\uFFFD\uFFFD\uFFFD\uFFFDy"},  // no lead byte
  };
  for (const auto& [bytes, expected] : rows) expect_shown({}, bytes, expected);
  // Surrogates, overlong forms and what lies beyond U+10FFFF: never shown as they are, however cut.
  for (std::string_view bytes : {"\xED\xA0\x80", "\xE0\x80\x80", "\xF4\x90\x80\x80", "\xF0\x80\x80\x80"}) {
    const std::string shown = streamed({}, {bytes});
    EXPECT_EQ(shown.substr(0, 3), "\uFFFD");
    expect_shown({}, bytes, shown);
  }
}

TEST(TextStream, EndsBeforeAStopTextWhereverItIsCut) {
  const std::vector<std::string> one = {"STOP"}, nested = {"abab", "bac"}, prefix = {"<end>", "<e"};
  expect_shown(one, "go on STOP and more", "go on ");
  expect_shown(one, "STOP", "");
  expect_shown(one, "SSTOP", "S");
  expect_shown(one, "STO", "STO");  // only its beginning
  expect_shown(one, "STOSTO STO", "STOSTO STO");
  expect_shown(one, "STOSTOP", "STO");
  expect_shown(nested, "xabaabab", "xaba");  // begins again inside itself
  expect_shown(nested, "xababac", "x");
  expect_shown(nested, "xabac", "xa");  // one stop text inside the beginning of another
  expect_shown({"\u20ac"}, "5\u20ac", "5");
  expect_shown({"\u20ac"}, "5\u20ad", "5\u20ad");  // two of its three bytes
  expect_shown({"\n\n"}, "a\nb\n\nc", "a\nb");
  EXPECT_EQ(streamed(prefix, {"a<end>"}), "a");
}

TEST(TextStream, SaysNothingAfterAStop) {
  TextStream stream({"."});
  EXPECT_FALSE(stream.stopped());
  EXPECT_EQ(stream.push("one. two"), "one");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.push("three"), "");
  EXPECT_EQ(stream.finish(), "");
}

/// A model of bytes with random weights.
class Generate : public testing::Test {
 protected:
  Generate() { use(small_models().front()); }

  void use(const SmallModel& small) {
    model = std::make_unique<Transformer<float>>(small_config(small));
    randomise(*model);
    ThreadPool pool(1);
    model->prepare(tt::Use::inference, pool);
  }
  Generation run(const std::string& prompt, const GenerateOptions& options) {
    shown.clear();
    return generate(*model, *tokenizer, prompt, options, [&](std::string_view part) { shown += part; });
  }

  std::unique_ptr<Transformer<float>> model;
  std::shared_ptr<const text::Tokenizer> tokenizer = text::make_byte_tokenizer();
  std::string shown;
};

TEST_F(Generate, GivesTheSameTokensForASeed) {
  GenerateOptions options;
  options.tokens = 15;
  options.sampling = {.temperature = 1, .seed = 4};
  const Generation first = run("ab", options);
  EXPECT_EQ(first.prompt_tokens, 2);
  EXPECT_EQ(first.text, shown);
  EXPECT_EQ(first.tokens, run("ab", options).tokens);
  options.sampling.seed = 5;
  EXPECT_NE(first.tokens, run("ab", options).tokens);
}

TEST_F(Generate, IsTheModelsMostLikelyTokensOneByOne) {
  GenerateOptions options;
  options.tokens = 10;
  options.sampling.temperature = 0;
  const Generation result = run("hello", options);
  std::vector<int32_t> tokens = tokenizer->encode("hello");
  Arena arena;
  for (int32_t expected : result.tokens) {
    const auto rows = static_cast<int64_t>(tokens.size());
    std::vector<float> hidden(static_cast<size_t>(rows) * 16), logits(257);
    model->hidden_states({tokens, {}, 1, rows}, 0, {hidden.data(), rows, 16}, arena);
    model->logits(ConstMatrix<float>(hidden.data(), rows, 16).row_block(rows - 1, 1), 0,
                  {logits.data(), 1, 257}, arena);
    EXPECT_EQ(expected, std::max_element(logits.begin(), logits.end()) - logits.begin());
    tokens.push_back(expected);
  }
}

TEST_F(Generate, GoesOnBeyondTheContext) {
  ModelConfig config = model->config();
  GenerateOptions options;
  options.tokens = 100;
  options.sampling = {.temperature = 1, .seed = 3};
  const std::string full(static_cast<size_t>(config.context), 'x');
  for (const std::string& prompt : {std::string("a"), full}) {
    const Generation result = run(prompt, options);
    EXPECT_TRUE(result.stopped || result.tokens.size() == 100u) << result.tokens.size();
    EXPECT_GT(result.tokens.size(), static_cast<size_t>(config.context)) << "choose another seed";
    EXPECT_EQ(result.tokens, run(prompt, options).tokens);
  }
}

TEST_F(Generate, EndsAtStopTextsAndTheEndToken) {
  GenerateOptions options;
  options.tokens = 15;
  options.sampling = {.temperature = 1, .seed = 4};
  const Generation free = run("ab", options);
  ASSERT_EQ(free.tokens.size(), 15u);
  EXPECT_FALSE(free.stopped);
  // Stop at an ASCII character that it writes.
  const auto ascii = std::find_if(free.text.begin(), free.text.end(), [](char c) { return c > 0; });
  ASSERT_NE(ascii, free.text.end());
  options.stop = {std::string(1, *ascii)};
  const Generation stopped = run("ab", options);
  EXPECT_TRUE(stopped.stopped);
  EXPECT_EQ(stopped.text, free.text.substr(0, free.text.find(*ascii)));
  EXPECT_EQ(stopped.text, shown);
  EXPECT_LT(stopped.tokens.size(), 15u);

  options.stop.clear();
  ModelConfig config = model->config();
  config.eos_token = free.tokens[3];
  Transformer<float> ending(config);
  std::copy(model->parameters().begin(), model->parameters().end(), ending.parameters().begin());
  ThreadPool pool(1);
  ending.prepare(tt::Use::inference, pool);
  const Generation ended = generate(ending, *tokenizer, "ab", options);
  EXPECT_TRUE(ended.stopped);
  const auto end = std::find(free.tokens.begin(), free.tokens.end(), free.tokens[3]);
  EXPECT_EQ(ended.tokens, std::vector<int32_t>(free.tokens.begin(), end)) << "without the end token";
}

TEST_F(Generate, TakesALevel) {
  for (const SmallModel& small : small_models()) {
    if (small.levels == 1) continue;
    use(small);
    GenerateOptions options;
    options.tokens = 20;
    options.sampling = {.temperature = 1, .seed = 4};
    const auto largest = run("ab", options).tokens;
    options.level = 4;
    EXPECT_EQ(run("ab", options).tokens, largest);
    options.level = 1;
    EXPECT_NE(run("ab", options).tokens, largest);
    options.level = 5;
    EXPECT_THROW(run("ab", options), InputError);
  }
}

TEST_F(Generate, NoTokensAreNoText) {
  GenerateOptions options;
  options.tokens = 0;
  const Generation result = run("ab", options);
  EXPECT_EQ(result.text, "");
  EXPECT_TRUE(result.tokens.empty());
  EXPECT_FALSE(result.stopped);
}

TEST_F(Generate, RefusesWhatDoesNotFit) {
  struct Row {
    std::string prompt;
    std::function<void(GenerateOptions&)> change;
    const char* expected;
  };
  const auto nothing = [](GenerateOptions&) {};
  const std::vector<Row> rows = {
      {std::string(25, 'x'), nothing, "the prompt has 25 tokens, the model's context is 24"},
      {"", nothing, "the prompt is empty"},
      {"\xFF", nothing, "UTF-8"},
      {"a",
       [](GenerateOptions& o) {
         o.stop = {"x", ""};
       },
       "stop text must not be empty"},
      {"a", [](GenerateOptions& o) { o.level = 2; }, "level must be 0 (the largest) to 1"},
      {"a", [](GenerateOptions& o) { o.level = -1; }, "level must be 0"},
      {"a", [](GenerateOptions& o) { o.tokens = -1; }, "tokens must be 0 or more"},
      {"a", [](GenerateOptions& o) { o.sampling.temperature = -1; }, "temperature"},
  };
  for (const Row& row : rows) {
    GenerateOptions options;
    row.change(options);
    try {
      run(row.prompt, options);
      ADD_FAILURE() << "no error: " << row.expected;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(row.expected), std::string::npos) << error.what();
    }
    EXPECT_EQ(shown, "");
  }
}

TEST_F(Generate, RefusesATokenizerOfMoreTokensThanTheModel) {
  ModelConfig config = model->config();
  config.vocabulary = 200, config.eos_token = -1;
  Transformer<float> smaller(config);
  EXPECT_THROW(generate(smaller, *tokenizer, "a", {}), InputError);
}

TEST_F(Generate, StartsFromTheStartTokenAlone) {
  ModelConfig config = model->config();
  config.bos_token = 256, config.eos_token = -1, config.vocabulary = 300;  // padded: never drawn beyond 256
  Transformer<float> starting(config);
  randomise(starting);
  ThreadPool pool(1);
  starting.prepare(tt::Use::inference, pool);
  GenerateOptions options;
  options.tokens = 40;
  options.sampling = {.temperature = 100, .repeat_penalty = 1.5, .seed = 1};
  const Generation result = generate(starting, *tokenizer, "", options);
  EXPECT_EQ(result.prompt_tokens, 1);
  for (int32_t token : result.tokens) EXPECT_LT(token, 257);
}

}  // namespace
}  // namespace qtf::model
