/*===- Program.h - Contract between generated code and the runtime -*- C -*-===*
 *
 * Generated code defines one `quern_program` and, per CPU target, one forward
 * function. The runtime owns memory and threads and calls them. C, so that both
 * sides agree on layout without sharing anything else.
 *
 * A step processes `token_count` tokens, each with its own position and
 * sequence slot, so prefill, decode and batched decode are one entry point. All
 * threads of the pool call the forward function together with the same step (SPMD);
 * it divides work by shapes, never by thread count, and meets at quern_barrier().
 *
 *===----------------------------------------------------------------------===*/
#ifndef QUERN_RUNTIME_PROGRAM_H
#define QUERN_RUNTIME_PROGRAM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QUERN_ABI_VERSION 1u

/* Called by every thread of a program with observers (calibration): `rows` activations of
 * `columns` floats, row-major, that enter the products of observer `index`; or as many ids of
 * experts, int32_t. */
typedef void (*quern_observer)(void *context, int32_t index, const float *activations,
                               int32_t rows, int32_t columns, int32_t thread, int32_t threads);

/* Called by every thread of a program with boundaries, which are numbered in order: `rows`
 * activations of `columns` floats are all that the rest of the program reads of what went before,
 * cache aside. They may be changed, each by one thread. Returns zero to skip what lies between this
 * boundary and the next, the same in every thread. */
typedef int32_t (*quern_boundary)(void *context, int32_t index, float *activations, int32_t rows,
                                  int32_t columns, int32_t thread, int32_t threads);

typedef struct quern_step {
  int32_t token_count;      /* 1 .. program.max_tokens */
  int32_t output_count;     /* rows of logits wanted, 0 .. token_count */
  const int32_t *tokens;    /* [token_count] ids */
  const int32_t *positions; /* [token_count] position within the sequence */
  const int32_t *sequences; /* [token_count] slot of the sequence in the cache */
  const int32_t *outputs;   /* [output_count] indices into tokens, ascending */
  const uint8_t *const *weights; /* run-time table, one pointer per weight */
  uint8_t *cache;           /* sequence slots x program.cache_bytes */
  uint8_t *scratch;         /* program.scratch_bytes, 64-byte aligned */
  float *logits;            /* [output_count][vocab_size] */
  float *embeddings;        /* [output_count][width] final hidden states, or null */
  void *barrier;            /* opaque, for quern_barrier */
  quern_observer observe;   /* or null; only programs compiled with observers call it */
  void *observe_context;
  quern_boundary boundary; /* or null; only programs compiled with boundaries call it */
  void *boundary_context;
} quern_step;

/* Provided by the runtime: returns once all `threads` threads have arrived. */
void quern_barrier(void *barrier, int32_t thread, int32_t threads);

typedef void (*quern_forward)(const quern_step *step, int32_t thread, int32_t threads);

typedef struct quern_target {
  const char *name;      /* `x86-64-v3` */
  const char *features;  /* CPU features it needs, comma-separated LLVM names: "avx2,fma,f16c" */
  quern_forward forward;
} quern_target;

typedef struct quern_weight {
  const char *name;
  uint64_t offset; /* from the start of the payload's weight section; 64-byte aligned */
  uint64_t size;
} quern_weight;

typedef struct quern_program {
  uint32_t abi_version;
  uint32_t target_count;
  const quern_target *targets; /* in order of preference, best first */
  uint32_t weight_count;
  const quern_weight *weights;
  int32_t vocab_size;
  int32_t width;
  int32_t context;      /* positions per sequence */
  int32_t max_tokens;   /* tokens per step */
  uint64_t cache_bytes; /* per sequence slot */
  uint64_t scratch_bytes; /* for all threads */
  int32_t max_threads;  /* scratch is laid out for at most this many */
  int32_t cache_rows_contiguous; /* reserved, 0 */
} quern_program;

/* Defined by generated code. */
extern const quern_program quern_program_v1;

#ifdef __cplusplus
}
#endif

#endif /* QUERN_RUNTIME_PROGRAM_H */
