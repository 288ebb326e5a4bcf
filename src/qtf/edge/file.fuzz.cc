// Any bytes are refused, or are a file that a session runs from without harm in the memory that it asked for.
#include <vector>

#include "qtf/base/aligned.h"
#include "qtf/edge/qtf_edge.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const qtf::AlignedVector<uint8_t> file(data, data + size);
  qtf_edge_model model = {};
  model.size = sizeof model;
  if (qtf_edge_describe(file.data(), file.size(), &model, nullptr) != QTF_EDGE_OK) return 0;
  const uint32_t policy = model.policies & 1U << QTF_EDGE_GATE ? QTF_EDGE_GATE
                          : model.policies                     ? QTF_EDGE_ENTROPY
                                                               : QTF_EDGE_FIXED;
  const qtf_edge_options options = {sizeof(qtf_edge_options), 0, 0, 0, policy, 0, 16};
  size_t room = 0;
  constexpr size_t kMostRoom = 1 << 26;
  if (qtf_edge_room(file.data(), file.size(), &options, &room, nullptr) != QTF_EDGE_OK || room > kMostRoom)
    return 0;
  std::vector<char> arena(room);
  qtf_edge* session = nullptr;
  if (qtf_edge_open(file.data(), file.size(), &options, arena.data(), room, &session, nullptr) != QTF_EDGE_OK)
    return 0;
  const int32_t tokens[] = {0, 1, 0, 0};
  qtf_edge_feed(session, tokens, 4);
  int32_t ids[16];
  size_t count = 0;
  qtf_edge_encode(session, "a bc\n\xC3\xA9", 7, ids, 16, &count);
  const char* text = nullptr;
  qtf_edge_decode(session, 0, &text, &count);
  const qtf_edge_sampling sampling = {sizeof(qtf_edge_sampling), 3, 1, 0.5F, 1};
  int32_t token = 0;
  qtf_edge_draw(session, &sampling, &token);
  return 0;
}
