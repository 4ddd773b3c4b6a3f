/* Uses a compiled model as a library: one prompt, two sequences decoded together, all rows of logits,
 * rollback and a saved state. Prints what it does; exits with 1 when the library contradicts itself.
 *
 * usage: example PROMPT [PAYLOAD]       (PAYLOAD: the .weights file of a static library)
 */
#include "quern.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static quern_error error;

static void check(quern_status status, const char *what) {
  if (status == QUERN_OK)
    return;
  fprintf(stderr, "%s: %s\n", what, error.message);
  exit(1);
}

static int32_t best(const float *logits, int32_t n) {
  int32_t at = 0;
  for (int32_t i = 1; i < n; ++i)
    if (logits[i] > logits[at])
      at = i;
  return at;
}

/* The largest difference of two rows. */
static float difference(const float *a, const float *b, size_t n) {
  float most = 0;
  for (size_t i = 0; i < n; ++i) {
    float d = a[i] > b[i] ? a[i] - b[i] : b[i] - a[i];
    most = d > most ? d : most;
  }
  return most;
}

/* Never lets token 0 win. */
static void ban_token_0(void *user, int32_t sequence, int32_t position, float *logits,
                        int32_t vocab_size) {
  (void)sequence, (void)position, (void)vocab_size;
  logits[0] = -1e30f;
  ++*(int *)user;
}

int main(int argc, char **argv) {
  const char *prompt = argc > 1 ? argv[1] : "In the beginning";
  quern_options options;
  quern_default_options(&options);
  options.max_sequences = 2;
  options.payload_path = argc > 2 ? argv[2] : NULL;
  quern_model *model;
  check(quern_load(&options, &model, &error), "load");
  quern_info info;
  check(quern_model_info(model, &info), "info");
  int calls = 0;
  check(quern_set_logits_callback(model, ban_token_0, &calls), "callback");

  size_t count = 0;
  quern_status small = quern_tokenize(model, prompt, strlen(prompt), 1, NULL, 0, &count, &error);
  if (small != QUERN_ERROR_BUFFER || count == 0) {
    fprintf(stderr, "a buffer of no size was not refused\n");
    return 1;
  }
  int32_t *ids = malloc(count * sizeof *ids);
  check(quern_tokenize(model, prompt, strlen(prompt), 1, ids, count, &count, &error), "tokenize");

  /* Sequence a takes the prompt at once, b token by token: they must agree. */
  int32_t a, b;
  check(quern_sequence_new(model, &a, &error), "sequence");
  check(quern_sequence_new(model, &b, &error), "sequence");
  size_t row = (size_t)info.vocab_size;
  float *logits = malloc(2 * row * sizeof *logits);
  check(quern_prefill(model, a, ids, count, logits, &error), "prefill");
  for (size_t i = 0; i < count; ++i)
    check(quern_decode(model, 1, &b, &ids[i], logits + row, &error), "decode");

  /* All rows at once: the last is that of the prefill, each the prediction of a step. */
  float *all = malloc(count * row * sizeof *all);
  float *steps = malloc(row * sizeof *steps);
  check(quern_rollback(model, b, 0, &error), "rollback");
  check(quern_prefill_all(model, b, ids, count, all, &error), "prefill all");
  float worst = difference(all + (count - 1) * row, logits, row);
  check(quern_rollback(model, b, 0, &error), "rollback");
  for (size_t i = 0; i < count; ++i) {
    float off;
    check(quern_decode(model, 1, &b, &ids[i], steps, &error), "decode");
    off = difference(all + i * row, steps, row);
    worst = off > worst ? off : worst;
  }
  printf("rows differ by less than 0.1: %d\n", worst < 0.1f);
  free(steps), free(all);
  int32_t next[2] = {best(logits, info.vocab_size), best(logits + row, info.vocab_size)};
  int32_t sequences[2] = {a, b};

  size_t saved_size = 0;
  quern_save(model, a, NULL, 0, &saved_size, &error);
  void *saved = malloc(saved_size);
  check(quern_save(model, a, saved, saved_size, &saved_size, &error), "save");

  int32_t first[8];
  printf("text:%s", prompt);
  for (int step = 0; step < 8; ++step) {
    if (next[0] != next[1]) {
      fprintf(stderr, "\nthe two sequences differ at step %d\n", step);
      return 1;
    }
    first[step] = next[0];
    char text[256];
    size_t size;
    check(quern_token_text(model, next[0], text, sizeof text, &size, &error), "text");
    printf("%.*s", (int)size, text);
    check(quern_decode(model, 2, sequences, next, logits, &error), "decode");
    next[0] = best(logits, info.vocab_size);
    next[1] = best(logits + row, info.vocab_size);
  }
  printf("\n");

  /* Going back, by rollback and by the saved state, gives the same continuation. */
  for (int way = 0; way < 2; ++way) {
    if (way == 0)
      check(quern_rollback(model, a, (int32_t)count - 1, &error), "rollback");
    else
      check(quern_restore(model, a, saved, saved_size, &error), "restore");
    if (way == 0)
      check(quern_prefill(model, a, &ids[count - 1], 1, logits, &error), "prefill");
    else
      check(quern_decode(model, 1, &a, &first[0], logits, &error), "decode");
    for (int step = way; step < 8; ++step) {
      int32_t token = best(logits, info.vocab_size);
      if (token != first[step]) {
        fprintf(stderr, "way %d back: another token at step %d\n", way, step);
        return 1;
      }
      check(quern_decode(model, 1, &a, &token, logits, &error), "decode");
    }
  }
  printf("states agree, callback saw %s rows\n", calls > 16 ? "all" : "too few");

  quern_status status = quern_rollback(model, a, 1 << 20, &error);
  printf("refused: %d %s\n", status == QUERN_ERROR_ARGUMENT, error.message);
  float *embedding = malloc(sizeof(float) * (size_t)info.width);
  check(quern_rollback(model, b, 0, &error), "rollback");
  check(quern_embed(model, b, ids, count, embedding, &error), "embed");
  double norm = 0;
  for (int32_t i = 0; i < info.width; ++i)
    norm += embedding[i] * embedding[i];
  printf("embedding of %d numbers, not all zero: %d\n", info.width, norm > 0);
  check(quern_sequence_free(model, b, &error), "free");
  printf("length after free: %d\n", quern_sequence_length(model, b));
  quern_free(model);
  free(embedding), free(saved), free(logits), free(ids);
  return calls > 16 ? 0 : 1;
}
