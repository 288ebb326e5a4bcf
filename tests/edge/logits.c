/* Logits of an edge file as JSON: qtf-edge-logits MODEL.edge LEVEL POLICY TOKEN… prints [[logits], [levels]] after each token: of
 * the vocabulary, and of its blocks. */
#include <stdio.h>
#include <stdlib.h>

#include "qtf/edge/qtf_edge.h"

int main(int count, char** arguments) {
  qtf_edge_message message = {""};
  const void* file = NULL;
  size_t bytes = 0, room = 0;
  qtf_edge_model model = {.size = sizeof model};
  qtf_edge* session = NULL;
  if (count < 5) return 2;
  const qtf_edge_options options = {.size = sizeof options, .level = (uint32_t)atoi(arguments[2]), .policy = (uint32_t)atoi(arguments[3])};
  if (qtf_edge_map(arguments[1], &file, &bytes, &message) != QTF_EDGE_OK ||
      qtf_edge_describe(file, bytes, &model, &message) != QTF_EDGE_OK ||
      qtf_edge_room(file, bytes, &options, &room, &message) != QTF_EDGE_OK ||
      qtf_edge_open(file, bytes, &options, malloc(room), room, &session, &message) != QTF_EDGE_OK) {
    fprintf(stderr, "%s\n", message.text);
    return 1;
  }
  for (int i = 4; i < count; ++i) {
    const int32_t token = (int32_t)atoi(arguments[i]);
    if (qtf_edge_feed(session, &token, 1) != QTF_EDGE_OK) {
      fprintf(stderr, "%s\n", qtf_edge_error(session));
      return 1;
    }
    const float* logits = qtf_edge_logits(session);
    for (uint32_t v = 0; v < model.vocabulary; ++v) printf("%s%.9g", v ? ", " : "[[", (double)logits[v]);
    for (uint32_t layer = 0; layer < model.layers; ++layer) {
      uint32_t level = 0;
      if (qtf_edge_level(session, qtf_edge_length(session) - 1, layer, &level) != QTF_EDGE_OK) return 1;
      printf("%s%u", layer ? ", " : "], [", level);
    }
    puts("]]");
  }
  return 0;
}
