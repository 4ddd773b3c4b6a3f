/*===- quern.h - A compiled model as a library ------------------------ -*- C -*-===*
 *
 * The interface of what `quern compile --emit=lib|shared` writes: one model, several
 * independent sequences over it, logits in, tokens out. Plain C99.
 *
 * Errors. Every function that can fail returns a quern_status and, when `error` is not
 * null, writes a message there. No exception leaves the library; nothing is global.
 *
 * Threads. A quern_model runs its own worker threads, but may be used by one caller at a
 * time. Load the model twice to run it from two threads; the weights are mapped and shared.
 *
 * Tokens are int32 ids; logits are rows of `vocab_size` floats; text is UTF-8.
 *
 *===----------------------------------------------------------------------------===*/
#ifndef QUERN_RUNTIME_QUERN_H
#define QUERN_RUNTIME_QUERN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define QUERN_API __attribute__((visibility("default")))
#else
#define QUERN_API
#endif

typedef enum quern_status {
  QUERN_OK = 0,
  QUERN_ERROR_ARGUMENT = 1, /* a null pointer, an id or index out of range */
  QUERN_ERROR_FILE = 2,     /* a file cannot be read, or is not what it should be */
  QUERN_ERROR_CPU = 3,      /* this CPU runs none of the program's targets */
  QUERN_ERROR_MEMORY = 4,   /* out of memory */
  QUERN_ERROR_CONTEXT = 5,  /* the sequence would grow beyond the context */
  QUERN_ERROR_SEQUENCE = 6, /* no free sequence slot, or no such sequence */
  QUERN_ERROR_STATE = 7,    /* a saved state does not belong to this model */
  QUERN_ERROR_BUFFER = 8,   /* the caller's buffer is too small; the needed size is written */
  QUERN_ERROR_TOKENIZER = 9 /* the model carries no usable tokenizer or chat template */
} quern_status;

typedef struct quern_error {
  quern_status code;
  char message[508]; /* NUL-terminated, cut if longer */
} quern_error;

typedef struct quern_model quern_model;

typedef struct quern_options {
  size_t struct_size;       /* sizeof(quern_options), so that fields can be added later */
  const char *payload_path; /* file with the weights; null: the image that holds the code */
  const char *target;       /* one of the program's CPU targets; null: the best that fits */
  int32_t threads;          /* 0: one for each physical core this process may use */
  int32_t max_sequences;    /* slots in the KV cache; 0: 1 */
  int32_t huge_pages;       /* non-zero: copy the weights once into 2 MB pages */
  int32_t pin_threads;      /* non-zero: pin workers (never the caller's thread) to cores */
} quern_options;

/* The defaults, with struct_size set. */
QUERN_API void quern_default_options(quern_options *options);

/* Maps the weights, checks them against the code, starts the threads. */
QUERN_API quern_status quern_load(const quern_options *options, quern_model **model,
                                  quern_error *error);
QUERN_API void quern_free(quern_model *model);

typedef struct quern_info {
  int32_t vocab_size;
  int32_t width;         /* of an embedding */
  int32_t context;       /* positions a sequence may hold */
  int32_t max_tokens;    /* tokens processed in one go; longer prefills are cut up */
  int32_t max_sequences; /* slots */
  int32_t threads;
  int32_t bos;          /* id, or -1 */
  int32_t eos;          /* id that ends a text or turn, or -1 */
  const char *target;   /* CPU target in use */
  const char *metadata; /* JSON: name, architecture, tensors; see docs/Runtime.md */
} quern_info;
/* Strings live as long as the model. */
QUERN_API quern_status quern_model_info(const quern_model *model, quern_info *info);

/* --- text ------------------------------------------------------------------------- */

/* Writes the ids of `text` (`size` bytes) to ids[capacity]; *count is how many there are,
 * also when the buffer is too small. Non-zero `special`: the text of special tokens
 * becomes those tokens, and a BOS is put in front where the model asks for one. */
QUERN_API quern_status quern_tokenize(const quern_model *model, const char *text, size_t size,
                                      int32_t special, int32_t *ids, size_t capacity, size_t *count,
                                      quern_error *error);

/* The bytes of one token (not NUL-terminated; perhaps a part of a UTF-8 character). */
QUERN_API quern_status quern_token_text(const quern_model *model, int32_t id, char *buffer,
                                        size_t capacity, size_t *size, quern_error *error);

/* --- sequences -------------------------------------------------------------------- */

/* Takes a free slot of the KV cache; its sequence is empty. */
QUERN_API quern_status quern_sequence_new(quern_model *model, int32_t *sequence,
                                          quern_error *error);
QUERN_API quern_status quern_sequence_free(quern_model *model, int32_t sequence,
                                           quern_error *error);
/* Tokens the sequence holds, or -1 for a sequence that does not exist. */
QUERN_API int32_t quern_sequence_length(const quern_model *model, int32_t sequence);
/* Forgets all tokens from `length` on. */
QUERN_API quern_status quern_rollback(quern_model *model, int32_t sequence, int32_t length,
                                      quern_error *error);

/* Appends `count` >= 1 tokens. `logits`: null, or [vocab_size], for the token after the last. */
QUERN_API quern_status quern_prefill(quern_model *model, int32_t sequence, const int32_t *tokens,
                                     size_t count, float *logits, quern_error *error);

/* As quern_prefill, with logits[count][vocab_size]: row i predicts the token after tokens[i]. */
QUERN_API quern_status quern_prefill_all(quern_model *model, int32_t sequence,
                                         const int32_t *tokens, size_t count, float *logits,
                                         quern_error *error);

/* One step of several different sequences at once: appends tokens[i] to sequences[i].
 * logits[count][vocab_size], or null. */
QUERN_API quern_status quern_decode(quern_model *model, size_t count, const int32_t *sequences,
                                    const int32_t *tokens, float *logits, quern_error *error);

/* Appends tokens and writes the final hidden state of the last one: embedding[width]. */
QUERN_API quern_status quern_embed(quern_model *model, int32_t sequence, const int32_t *tokens,
                                   size_t count, float *embedding, quern_error *error);

/* --- saving the KV cache ---------------------------------------------------------- */

/* Writes the sequence's state to buffer[capacity]; *size is what it needs, also when the
 * buffer is null or too small. The format belongs to this very program: do not keep it across
 * compilations. */
QUERN_API quern_status quern_save(const quern_model *model, int32_t sequence, void *buffer,
                                  size_t capacity, size_t *size, quern_error *error);
/* Replaces the sequence's contents by a saved state. */
QUERN_API quern_status quern_restore(quern_model *model, int32_t sequence, const void *state,
                                     size_t size, quern_error *error);

/* --- looking at and changing logits ----------------------------------------------- */

/* Called, on the caller's thread, for each row of logits before it is handed out: `position`
 * is that of the token the row follows. It may change the row in place (bans, biases). */
typedef void (*quern_logits_callback)(void *user, int32_t sequence, int32_t position, float *logits,
                                      int32_t vocab_size);
QUERN_API quern_status quern_set_logits_callback(quern_model *model, quern_logits_callback callback,
                                                 void *user);

/* --- calibration and evaluation --------------------------------------------------- */

/* Called on each of the model's threads, at the same time, while a program compiled with
 * observers runs: `rows` x `columns` floats that enter the products of observer `index`
 * (`observers` in the metadata names them); where those say so, the ids of the experts chosen for
 * each token, int32_t in the place of floats. The callback must not call the model. */
typedef void (*quern_observer_callback)(void *user, int32_t index, const float *activations,
                                        int32_t rows, int32_t columns, int32_t thread,
                                        int32_t threads);
QUERN_API quern_status quern_set_observer(quern_model *model, quern_observer_callback observer,
                                          void *user);

/* Called on each of the model's threads, at the same time, while a program compiled with boundaries
 * runs: `rows` x `columns` floats are all that the rest of the program reads of what went before
 * boundary `index`, cache aside. The callback may change them, each row on one thread, and
 * returns whether the part up to the next boundary runs, the same on all threads. */
typedef int32_t (*quern_boundary_callback)(void *user, int32_t index, float *activations,
                                           int32_t rows, int32_t columns, int32_t thread,
                                           int32_t threads);
QUERN_API quern_status quern_set_boundary(quern_model *model, quern_boundary_callback boundary,
                                          void *user);

/* Puts `size` bytes at `data` (aligned to 64, kept by the caller, packed as the weight is) in the
 * place of a weight, for this model only; a null `data` brings the program's own back. */
QUERN_API quern_status quern_replace_weight(quern_model *model, const char *name, const void *data,
                                            size_t size, quern_error *error);

#ifdef __cplusplus
}
#endif

#endif /* QUERN_RUNTIME_QUERN_H */
