/* A text from an edge file: qtf-edge-run MODEL.edge "Once upon" [TOKENS [CONTEXT [fixed|entropy|gate [TEMPERATURE]]]]
 * How a program uses the edge library, from the file to the written text (docs/edge.md). */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "qtf/edge/qtf_edge.h"

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The most memory that this process ever had, its program and the mapped file included; 0 where it cannot be known. */
static long peak_kib(void) {
  char line[256];
  long kib = 0;
  FILE* status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld", &kib);
  if (status) fclose(status);
  return kib;
}

static int stop(const char* what) {
  fprintf(stderr, "%s\n", what);
  return 1;
}

int main(int count, char** arguments) {
  if (count < 3) return stop("usage: qtf-edge-run MODEL.edge PROMPT [TOKENS [CONTEXT [fixed|entropy|gate [TEMPERATURE]]]]");
  const char* prompt = arguments[2];
  const long wanted = count > 3 ? strtol(arguments[3], NULL, 10) : 64;

  qtf_edge_message message;
  const void* file = NULL;
  size_t bytes = 0;
  if (qtf_edge_map(arguments[1], &file, &bytes, &message) != QTF_EDGE_OK) return stop(message.text);
  qtf_edge_model model = {.size = sizeof model};
  if (qtf_edge_describe(file, bytes, &model, &message) != QTF_EDGE_OK) return stop(message.text);

  /* The arena: a device has it as a static array of the size that this line prints. */
  const char* policy = count > 5 ? arguments[5] : "fixed";
  const qtf_edge_options options = {
      .size = sizeof options,
      .context = count > 4 ? (uint32_t)strtoul(arguments[4], NULL, 10) : 0,
      .policy = strcmp(policy, "gate") == 0 ? QTF_EDGE_GATE : strcmp(policy, "entropy") == 0 ? QTF_EDGE_ENTROPY : QTF_EDGE_FIXED};
  size_t room = 0;
  if (qtf_edge_room(file, bytes, &options, &room, &message) != QTF_EDGE_OK) return stop(message.text);
  fprintf(stderr, "%llu parameters in %zu bytes; the arena needs %zu\n", (unsigned long long)model.parameters, bytes, room);
  void* arena = malloc(room);
  if (!arena) return stop("there is not that much memory");
  qtf_edge* session = NULL;
  if (qtf_edge_open(file, bytes, &options, arena, room, &session, &message) != QTF_EDGE_OK) return stop(message.text);

  /* The prompt's tokens, as many as there are. */
  int32_t tokens[1024];
  size_t length = 0;
  if (model.bos >= 0) tokens[length++] = model.bos;
  size_t encoded = 0;
  if (qtf_edge_encode(session, prompt, strlen(prompt), tokens + length, 1024 - length, &encoded) != QTF_EDGE_OK)
    return stop(qtf_edge_error(session));
  length += encoded;
  if (length == 0) return stop("give a prompt");
  double begin = seconds();
  if (qtf_edge_feed(session, tokens, length) != QTF_EDGE_OK) return stop(qtf_edge_error(session));
  const double prompt_seconds = seconds() - begin;

  const qtf_edge_sampling sampling = {
      .size = sizeof sampling, .temperature = count > 6 ? strtof(arguments[6], NULL) : 0.8F, .top_p = 0.95F, .seed = 1};
  fputs(prompt, stdout);
  begin = seconds();
  long written = 0;
  while (written < wanted) {
    int32_t token = 0;
    const char* text = NULL;
    size_t size = 0;
    if (qtf_edge_draw(session, &sampling, &token) != QTF_EDGE_OK) return stop(qtf_edge_error(session));
    if (token == model.eos) break;
    if (qtf_edge_decode(session, token, &text, &size) != QTF_EDGE_OK) return stop(qtf_edge_error(session));
    fwrite(text, 1, size, stdout);
    fflush(stdout);
    ++written;
    if (qtf_edge_feed(session, &token, 1) != QTF_EDGE_OK) break; /* the context is full */
  }
  const double decode_seconds = seconds() - begin;
  putchar('\n');
  fprintf(stderr, "prompt: %zu tokens, %.0f tokens/s; text: %ld tokens, %.0f tokens/s; peak memory %ld KiB\n", length,
          (double)length / prompt_seconds, written, (double)written / decode_seconds, peak_kib());
  free(arena);
  qtf_edge_unmap(file, bytes);
  return 0;
}
