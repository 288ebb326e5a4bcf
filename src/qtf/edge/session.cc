// The functions of qtf_edge.h that run a model: a session is its file, decoder and encoder, at the begin of
// the arena.
#include <cmath>
#include <new>

#include "qtf/edge/decoder.h"
#include "qtf/edge/encoder.h"
#include "qtf/edge/file.h"
#include "qtf/edge/message.h"
#include "qtf/edge/sampler.h"

struct qtf_edge {
  qtf::edge::File file;
  qtf::edge::Decoder decoder;
  qtf::edge::Encoder encoder;
  float* weights = nullptr;  ///< [vocabulary], of draws
  qtf_edge_message message = {};
};

namespace {

using namespace qtf::edge;

constexpr uint32_t kUsualBatch = 8, kMostBatch = 64, kUsualText = 1024, kMostText = 1u << 24;

qtf_edge_status check_mean_rank(uint32_t percent, uint32_t policy, qtf_edge_message* message) {
  if (percent == 0) return QTF_EDGE_OK;
  if (policy == QTF_EDGE_FIXED)
    return fail(message, QTF_EDGE_BAD_ARGUMENT, "a mean rank needs a policy that mixes levels");
  if (percent % kMeanStep == 0 && percent <= kMeans * kMeanStep) return QTF_EDGE_OK;
  return fail(message, QTF_EDGE_BAD_ARGUMENT, "the mean rank must be 5, 10, … 95 %%, got %u", percent);
}

/// The options with zeros replaced. A caller's struct may be of an older library, shorter.
qtf_edge_status read_options(const File& file, const qtf_edge_options* options, Shape& shape,
                             qtf_edge_message* message) {
  const Header& h = file.header();
  const qtf_edge_options none = {};
  if (options && options->size != sizeof(qtf_edge_options))
    return fail(message, QTF_EDGE_BAD_ARGUMENT, "options.size must be sizeof(qtf_edge_options), %zu, got %u",
                sizeof(qtf_edge_options), options->size);
  const qtf_edge_options& asked = options ? *options : none;
  shape = {asked.context ? asked.context : h.context,
           asked.batch ? asked.batch : kUsualBatch,
           asked.level,
           asked.text_bytes ? asked.text_bytes : kUsualText,
           asked.policy,
           asked.mean_rank};
  if (shape.context > h.context)
    return fail(message, QTF_EDGE_BAD_ARGUMENT, "the model's context is %u tokens, and %u are asked for",
                h.context, shape.context);
  if (shape.batch > kMostBatch)
    return fail(message, QTF_EDGE_BAD_ARGUMENT, "batch must be 1 to %u, got %u", kMostBatch, shape.batch);
  if (shape.level > h.levels)
    return fail(message, QTF_EDGE_BAD_ARGUMENT, "the model has %u nested levels, and level %u is asked for",
                h.levels, shape.level);
  if (shape.text_bytes > kMostText)
    return fail(message, QTF_EDGE_BAD_ARGUMENT, "text_bytes must be at most %u, got %u", kMostText,
                shape.text_bytes);
  if (shape.policy > kPolicies || (shape.policy != QTF_EDGE_FIXED && !file.policy(shape.policy)))
    return fail(
        message, QTF_EDGE_BAD_ARGUMENT,
        "the model has no calibrated policy %u; calibrate it with qtf calibrate, and convert it again",
        shape.policy);
  return check_mean_rank(shape.mean_rank, shape.policy, message);
}

/// The session and all that it needs, in the arena; null where that does not reach.
qtf_edge* lay_out(const File& file, const Shape& shape, Arena& arena) {
  void* at = arena.take<qtf_edge>(1);
  qtf_edge* session = at ? new (at) qtf_edge() : nullptr;
  // The file is the session's own copy, which its parts point to.
  if (session) session->file = file;
  const File& own = session ? session->file : file;
  const Decoder decoder(own, shape, arena);
  const Encoder encoder(own, shape.text_bytes, arena);
  auto* weights = arena.take<float>(file.header().vocabulary);
  if (!session || !arena.enough()) return nullptr;
  session->decoder = decoder, session->encoder = encoder, session->weights = weights;
  return session;
}

qtf_edge_status open_file(const void* file, size_t bytes, const qtf_edge_options* options, File& opened,
                          Shape& shape, qtf_edge_message* message) {
  if (message) message->text[0] = '\0';
  const qtf_edge_status status = opened.open(file, bytes, message);
  return status == QTF_EDGE_OK ? read_options(opened, options, shape, message) : status;
}

}  // namespace

uint32_t qtf_edge_abi(void) {
  return QTF_EDGE_ABI;
}

qtf_edge_status qtf_edge_describe(const void* file, size_t bytes, qtf_edge_model* model,
                                  qtf_edge_message* message) {
  File opened;
  Shape shape;
  const qtf_edge_status status = open_file(file, bytes, nullptr, opened, shape, message);
  if (status != QTF_EDGE_OK) return status;
  if (!model || model->size != sizeof(qtf_edge_model))
    return fail(message, QTF_EDGE_BAD_ARGUMENT, "model.size must be sizeof(qtf_edge_model), %zu",
                sizeof(qtf_edge_model));
  const Header& h = opened.header();
  const int32_t text = h.tokenizer.kind == TokenizerKind::none ? 0 : 1;
  uint32_t policies = 0;
  for (uint32_t policy = 1; policy <= kPolicies; ++policy)
    policies |= opened.policy(policy) ? 1U << policy : 0;
  *model = {model->size, h.vocabulary, h.width, h.layers, h.heads, h.kv_heads, h.feed_forward,
            h.context,   h.levels,     h.bos,   h.eos,    text,    policies,   h.parameters};
  return QTF_EDGE_OK;
}

qtf_edge_status qtf_edge_room(const void* file, size_t bytes, const qtf_edge_options* options, size_t* room,
                              qtf_edge_message* message) {
  File opened;
  Shape shape;
  const qtf_edge_status status = open_file(file, bytes, options, opened, shape, message);
  if (status != QTF_EDGE_OK) return status;
  Arena counting;
  lay_out(opened, shape, counting);
  *room = counting.used();
  return QTF_EDGE_OK;
}

qtf_edge_status qtf_edge_open(const void* file, size_t bytes, const qtf_edge_options* options, void* arena,
                              size_t arena_bytes, qtf_edge** session, qtf_edge_message* message) {
  File opened;
  Shape shape;
  *session = nullptr;
  const qtf_edge_status status = open_file(file, bytes, options, opened, shape, message);
  if (status != QTF_EDGE_OK) return status;
  if (!arena) return fail(message, QTF_EDGE_BAD_ARGUMENT, "there is no arena: its address is null");
  Arena own(arena, arena_bytes);
  *session = lay_out(opened, shape, own);
  if (*session) return QTF_EDGE_OK;
  return fail(
      message, QTF_EDGE_NO_ROOM,
      "the arena is too small: %zu bytes are needed, it has %zu, %zu are missing (a smaller context or batch "
      "needs less)",
      own.used(), arena_bytes, own.used() - arena_bytes);
}

const char* qtf_edge_error(const qtf_edge* session) {
  return session->message.text;
}

qtf_edge_status qtf_edge_feed(qtf_edge* session, const int32_t* tokens, size_t count) {
  const Header& h = session->file.header();
  const size_t length = qtf_edge_length(session), context = session->decoder.context();
  if (count > context - length)
    return fail(&session->message, QTF_EDGE_FULL,
                "the session's context is %zu tokens: %zu are read, and %zu more do not fit; rewind it",
                context, length, count);
  for (size_t i = 0; i < count; ++i)
    if (tokens[i] < 0 || static_cast<uint32_t>(tokens[i]) >= h.vocabulary)
      return fail(&session->message, QTF_EDGE_BAD_ARGUMENT, "token %d, number %zu, is none of the model's %u",
                  tokens[i], i, h.vocabulary);
  session->decoder.feed(tokens, static_cast<int64_t>(count));
  return QTF_EDGE_OK;
}

const float* qtf_edge_logits(const qtf_edge* session) {
  return session->decoder.logits();
}

uint32_t qtf_edge_length(const qtf_edge* session) {
  return static_cast<uint32_t>(session->decoder.length());
}

qtf_edge_status qtf_edge_rewind(qtf_edge* session, uint32_t length) {
  if (length > session->decoder.length())
    return fail(&session->message, QTF_EDGE_BAD_ARGUMENT,
                "the text has %lld tokens, fewer than the %u to keep",
                static_cast<long long>(session->decoder.length()), length);
  session->decoder.rewind(length);
  return QTF_EDGE_OK;
}

qtf_edge_status qtf_edge_set_mean_rank(qtf_edge* session, uint32_t percent) {
  const qtf_edge_status status = check_mean_rank(percent, session->decoder.policy(), &session->message);
  if (status == QTF_EDGE_OK) session->decoder.set_mean_rank(percent);
  return status;
}

qtf_edge_status qtf_edge_level(const qtf_edge* session, uint32_t position, uint32_t layer, uint32_t* level) {
  if (position >= session->decoder.length() || layer >= session->file.header().layers)
    return QTF_EDGE_BAD_ARGUMENT;
  *level = session->decoder.level(position, layer);
  return QTF_EDGE_OK;
}

qtf_edge_status qtf_edge_draw(qtf_edge* session, const qtf_edge_sampling* sampling, int32_t* token) {
  const qtf_edge_sampling likeliest = {sizeof(qtf_edge_sampling), 0, 0, 0, 0};
  const qtf_edge_sampling& how = sampling ? *sampling : likeliest;
  if (how.size != sizeof(qtf_edge_sampling))
    return fail(&session->message, QTF_EDGE_BAD_ARGUMENT,
                "sampling.size must be sizeof(qtf_edge_sampling), %zu", sizeof(qtf_edge_sampling));
  if (!(how.temperature >= 0) || !std::isfinite(how.temperature) || !(how.top_p >= 0) || how.top_p > 1)
    return fail(&session->message, QTF_EDGE_BAD_ARGUMENT,
                "temperature must be 0 or more and top_p in [0, 1], got %g and %g",
                static_cast<double>(how.temperature), static_cast<double>(how.top_p));
  const float* logits = session->decoder.logits();
  if (!logits)
    return fail(&session->message, QTF_EDGE_BAD_ARGUMENT,
                "nothing was read since the begin or the last rewind");
  const uint32_t vocabulary = session->file.header().vocabulary;
  for (uint32_t i = 0; i < vocabulary; ++i)
    if (!std::isfinite(logits[i]))
      return fail(&session->message, QTF_EDGE_BAD_FILE, "the model computes %g; its weights are damaged",
                  static_cast<double>(logits[i]));
  *token = draw(vocabulary, logits, how, static_cast<uint64_t>(session->decoder.length()), session->weights);
  return QTF_EDGE_OK;
}

namespace {

qtf_edge_status check_tokenizer(qtf_edge* session) {
  if (session->file.header().tokenizer.kind != TokenizerKind::none) return QTF_EDGE_OK;
  return fail(&session->message, QTF_EDGE_NO_TOKENIZER,
              "the edge file has no tokenizer; give and take token ids");
}

}  // namespace

qtf_edge_status qtf_edge_encode(qtf_edge* session, const char* text, size_t bytes, int32_t* tokens,
                                size_t room, size_t* count) {
  const qtf_edge_status status = check_tokenizer(session);
  if (status != QTF_EDGE_OK) return status;
  return session->encoder.encode(text, bytes, session->decoder.length() > 0, tokens, room, count,
                                 &session->message);
}

qtf_edge_status qtf_edge_decode(qtf_edge* session, int32_t token, const char** text, size_t* bytes) {
  const qtf_edge_status status = check_tokenizer(session);
  if (status != QTF_EDGE_OK) return status;
  const uint32_t vocabulary = session->file.header().vocabulary;
  if (token < 0 || static_cast<uint32_t>(token) >= vocabulary)
    return fail(&session->message, QTF_EDGE_BAD_ARGUMENT, "token %d is none of the model's %u", token,
                vocabulary);
  *text = session->encoder.token(static_cast<uint32_t>(token), bytes);
  return QTF_EDGE_OK;
}
