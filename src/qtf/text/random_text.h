// Texts for the tests of tokenizers. Nasty random UTF-8: every plane, controls, combining marks, and texts
// that tokenizers use as marks; and ordinary sentences to learn from.
#pragma once

#include <string>

#include "qtf/base/random.h"
#include "qtf/text/utf8.h"

namespace qtf::text {

/// `pieces` random characters, marks and words; a pure function of the arguments.
inline std::string random_text(uint64_t seed, uint64_t pieces) {
  static const std::string kMarks[] = {"<unk>",
                                       " <unk>",
                                       "<s>",
                                       "</s>",
                                       "<|unk|>",
                                       "<|endoftext|>",
                                       "<0x41>",
                                       "\xE2\x96\x81",
                                       "\xE2\x96\x85",
                                       std::string(1, '\0'),
                                       "\n",
                                       "\r\n",
                                       "  ",
                                       "\t",
                                       "\xF0\x9F\x98\x80",
                                       "e\xCC\x81",
                                       "\xEF\xBB\xBF",
                                       "the",
                                       " of",
                                       "'re",
                                       "\xC2\xA0"};
  const Random random{.seed = seed};
  std::string text;
  for (uint64_t i = 0; i < pieces; ++i) {
    const uint64_t kind = random.below(2 * i, 4);
    const uint64_t bits = random.bits(2 * i + 1);
    if (kind == 0) {
      text += kMarks[bits % std::size(kMarks)];
      continue;
    }
    static constexpr uint32_t kLimits[] = {0, 0x80, 0x3000, 0x110000};
    const auto c = static_cast<char32_t>(bits % kLimits[kind]);
    append_code_point(c >= 0xD800 && c < 0xE000 ? U' ' : c, text);
  }
  return text;
}

/// Sentences of made-up words, some frequent: enough to learn a few hundred pieces from.
inline std::string made_up_text(int sentences, const std::string& also = {}) {
  static const char* kSyllables[] = {"ta", "ri", "mo", "lek", "su",  "vor",
                                     "ni", "pa", "el", "don", "qui", "sha"};
  const Random random{.seed = 7};
  std::string text;
  uint64_t draw = 0;
  for (int s = 0; s < sentences; ++s) {
    for (int word = 0; word < 8; ++word) {
      if (word > 0) text += ' ';
      const uint64_t syllables = 1 + random.below(draw++, 4);
      for (uint64_t i = 0; i < syllables; ++i) {
        const double u = random.uniform(draw++);
        text += kSyllables[static_cast<size_t>(u * u * 12)];
      }
    }
    text += also + ".\n";
  }
  return text;
}

}  // namespace qtf::text
