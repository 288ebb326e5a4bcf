// Nasty random UTF-8 for tests: every plane, controls, combining marks, and texts that tokenizers use as
// marks.
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

}  // namespace qtf::text
