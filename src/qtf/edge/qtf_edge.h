/* The edge library: runs a language model from an edge file (qtf convert MODEL NAME.edge) on a phone or a
 * board. Inference only. It allocates nothing, opens nothing but what qtf_edge_map is given, starts no
 * threads and needs the C library alone: weights are read where the file lies, all else is in one arena of
 * the caller's. docs/edge.md has an example.
 *
 * ABI 1: the functions and structs below. Structs that grow keep their fields and begin with their size,
 * which the caller sets to sizeof; functions are only added. qtf_edge_abi() says what was linked.
 *
 * Threads: a file may be shared by any number of sessions; a session is used by one thread at a time. */
#ifndef QTF_EDGE_H_
#define QTF_EDGE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QTF_EDGE_ABI 1

typedef enum qtf_edge_status {
  QTF_EDGE_OK = 0,
  QTF_EDGE_BAD_FILE = 1,     /* no edge file, of another version, cut off or damaged */
  QTF_EDGE_BAD_ARGUMENT = 2, /* a token, level, length or pointer that cannot be */
  QTF_EDGE_NO_ROOM = 3,      /* an arena or a buffer is too small; the message says by how much */
  QTF_EDGE_FULL = 4,         /* the text is as long as the session's context */
  QTF_EDGE_NO_TOKENIZER = 5, /* the file has none: give and take token ids */
  QTF_EDGE_IO = 6            /* the file cannot be read */
} qtf_edge_status;

/* What went wrong and what to do, in English; empty after success. Null is allowed wherever one is taken. */
typedef struct qtf_edge_message {
  char text[256];
} qtf_edge_message;

/* QTF_EDGE_ABI of the library that was linked. */
uint32_t qtf_edge_abi(void);

/* Maps a file into memory, to be read where it lies. Programs that have their model in flash or a resource
 * pass its address instead; it must be aligned to 64 bytes. */
qtf_edge_status qtf_edge_map(const char* path, const void** file, size_t* bytes, qtf_edge_message* message);
void qtf_edge_unmap(const void* file, size_t bytes);

/* A model's sizes. */
typedef struct qtf_edge_model {
  uint32_t size; /* of this struct, set by the caller */
  uint32_t vocabulary, width, layers, heads, kv_heads, feed_forward;
  uint32_t context;    /* longest text, in tokens */
  uint32_t levels;     /* nested levels, 1 the smallest */
  int32_t bos, eos;    /* token put before a text, token that ends one; -1: none */
  int32_t text;        /* 1: text can be encoded and decoded */
  uint32_t policies;   /* bits 1 << QTF_EDGE_ENTROPY and 1 << QTF_EDGE_GATE: what it is calibrated for */
  uint64_t parameters; /* numbers in the model */
} qtf_edge_model;

/* Checks a whole file but for its numbers, and describes it. */
qtf_edge_status qtf_edge_describe(const void* file, size_t bytes, qtf_edge_model* model,
                                  qtf_edge_message* message);

/* By what a token takes its nested level in each block, after the block's attention (docs/adaptive.md). */
typedef enum qtf_edge_policy {
  QTF_EDGE_FIXED = 0,   /* nothing: all run at one level */
  QTF_EDGE_ENTROPY = 1, /* its attention entropy, where that stands among those of the calibration text */
  QTF_EDGE_GATE = 2     /* what a learned gate expects it to lose at a smaller level */
} qtf_edge_policy;

/* What a session is to be able to do. Zeros are the usual values. */
typedef struct qtf_edge_options {
  uint32_t size;       /* of this struct, set by the caller */
  uint32_t context;    /* longest text, in tokens; 0: the model's. Caches grow with it */
  uint32_t batch;      /* tokens of a prompt that are read at once, 1 to 64; 0: 8 */
  uint32_t level;      /* nested level of what no policy governs; 0: the largest */
  uint32_t policy;     /* a qtf_edge_policy */
  uint32_t mean_rank;  /* of a policy: the mean rank in percent of the range between the smallest and the
                          largest level,  a multiple of 5, 5 to 95; 0: what the model was calibrated for */
  uint32_t text_bytes; /* longest word that qtf_edge_encode takes (text, where the tokenizer has no words); 0:
                          1024 */
} qtf_edge_options;

/* A model at work on one text. Lies in the caller's arena; there is nothing to free. */
typedef struct qtf_edge qtf_edge;

/* Bytes of arena that qtf_edge_open needs, wherever the arena lies. options null: the usual values. */
qtf_edge_status qtf_edge_room(const void* file, size_t bytes, const qtf_edge_options* options, size_t* room,
                              qtf_edge_message* message);

/* Begins an empty text. `file` and `arena` (of any alignment) must stay as long as the session. */
qtf_edge_status qtf_edge_open(const void* file, size_t bytes, const qtf_edge_options* options, void* arena,
                              size_t arena_bytes, qtf_edge** session, qtf_edge_message* message);

/* What the last call on the session said that was not QTF_EDGE_OK. */
const char* qtf_edge_error(const qtf_edge* session);

/* Reads tokens behind the text so far; nothing is read if they do not fit. The same tokens give the same
 * logits, bit for bit, in however many calls. A model with a bos token wants it first. */
qtf_edge_status qtf_edge_feed(qtf_edge* session, const int32_t* tokens, size_t count);

/* [vocabulary] logits of what follows the text, valid until the next qtf_edge_feed; null for an empty text.
 */
const float* qtf_edge_logits(const qtf_edge* session);

/* Tokens read so far. */
uint32_t qtf_edge_length(const qtf_edge* session);

/* Forgets all but the first `length` tokens; the logits are gone until something is read. */
qtf_edge_status qtf_edge_rewind(qtf_edge* session, uint32_t length);

/* Another mean rank for the tokens to come (see options; 0: the model's): less for a battery that runs down.
 */
qtf_edge_status qtf_edge_set_mean_rank(qtf_edge* session, uint32_t percent);

/* The level that a token of the text took in a block, 1 the smallest; 0 where nothing was chosen. */
qtf_edge_status qtf_edge_level(const qtf_edge* session, uint32_t position, uint32_t layer, uint32_t* level);

/* How a token is drawn. */
typedef struct qtf_edge_sampling {
  uint32_t size;     /* of this struct, set by the caller */
  uint32_t top_k;    /* of the likeliest k only; 0: of all */
  float temperature; /* 0: the likeliest */
  float top_p;       /* of the fewest likeliest whose probabilities reach this sum; 0: of all */
  uint64_t seed;     /* the same seed and text draw the same token */
} qtf_edge_sampling;

/* Draws the token that follows; it is not read yet. sampling null: the likeliest. */
qtf_edge_status qtf_edge_draw(qtf_edge* session, const qtf_edge_sampling* sampling, int32_t* token);

/* Ids of UTF-8 text of `bytes` bytes; `count` is how many there are, of which the first `room` are written:
 * call with room 0 to learn it. No bos token is added. With text behind other text (qtf_edge_length above 0),
 * a tokenizer that puts a blank before a text does not. */
qtf_edge_status qtf_edge_encode(qtf_edge* session, const char* text, size_t bytes, int32_t* tokens,
                                size_t room, size_t* count);

/* The bytes that a token stands for, not terminated; none for controls. A character may be spread over
 * tokens. */
qtf_edge_status qtf_edge_decode(qtf_edge* session, int32_t token, const char** text, size_t* bytes);

#ifdef __cplusplus
}
#endif

#endif /* QTF_EDGE_H_ */
