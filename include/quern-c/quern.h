/*===- quern.h - The C interface of the compiler ------------------*- C -*-===*
 *
 * Everything the tools do, for other languages. No globals, no exceptions: every
 * call that can fail returns a status, and the reason reaches the diagnostic
 * callback as one message that names the file, the tensor or op, what was
 * expected and what was found.
 *
 * Option structs begin with `size` (= sizeof of the struct the caller was compiled
 * with), so that fields can be added without breaking callers; zero-initialised
 * fields mean the default. Strings are UTF-8 and NUL-terminated. An object is not
 * thread-safe; distinct objects may be used from distinct threads.
 *
 *===----------------------------------------------------------------------===*/
#ifndef QUERN_C_QUERN_H
#define QUERN_C_QUERN_H

#include <stddef.h>
#include <stdint.h>

#ifndef QUERN_API
#define QUERN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum QuernStatus {
  QUERN_STATUS_OK = 0,
  QUERN_STATUS_FAILED = 1,    /* the diagnostic callback received the reason */
  QUERN_STATUS_CANCELLED = 2, /* the progress callback asked to stop; nothing was written */
} QuernStatus;

typedef enum QuernSeverity {
  QUERN_SEVERITY_ERROR,
  QUERN_SEVERITY_WARNING,
  QUERN_SEVERITY_REMARK
} QuernSeverity;

/* How a call talks to its caller. The struct and any function in it may be null. */
typedef struct QuernCallbacks {
  size_t size;
  void *user; /* passed to each function */
  void (*diagnostic)(void *user, QuernSeverity severity, const char *message);
  /* `fraction` in [0, 1] of the named phase; return non-zero to cancel. */
  int (*progress)(void *user, const char *phase, double fraction);
} QuernCallbacks;

QUERN_API const char *quernVersion(void);

/* A string made by the library; release it with quernStringFree. */
typedef struct QuernString {
  char *data;
  size_t length;
} QuernString;
QUERN_API void quernStringFree(QuernString string);

/*---- Model files ---------------------------------------------------------*/

/* An opened GGUF file, .safetensors file or Hugging Face directory. No tensor data is held. */
typedef struct QuernModel QuernModel;

QUERN_API QuernStatus quernModelOpen(const char *path, const QuernCallbacks *callbacks,
                                     QuernModel **model);
QUERN_API void quernModelClose(QuernModel *model);

typedef struct QuernTensorInfo {
  const char *name;     /* these pointers live as long as the model */
  const char *fileType; /* `Q4_K`, `BF16`: as the file format calls it */
  const char *format;   /* in Quern's algebra: `ui4, scale f16[1x256] * ui6[1x32], ...` */
  const int64_t *shape; /* outermost dimension first */
  size_t rank;
  int64_t elements;
  uint64_t bytes; /* as stored */
} QuernTensorInfo;

QUERN_API size_t quernModelTensorCount(const QuernModel *model);
QUERN_API QuernStatus quernModelTensor(const QuernModel *model, size_t index,
                                       QuernTensorInfo *info);

/* Decodes a tensor to f32, row-major. `count` must equal its number of elements. */
QUERN_API QuernStatus quernModelReadTensor(const QuernModel *model, size_t index, float *out,
                                           size_t count, const QuernCallbacks *callbacks);

/* Tensors, formats, bytes and metadata as JSON: what `quern inspect --json` prints. */
QUERN_API QuernStatus quernModelInspect(const QuernModel *model, const QuernCallbacks *callbacks,
                                        QuernString *json);

/*---- Conversion ----------------------------------------------------------*/

typedef struct QuernConvertOptions {
  size_t size;
  const char *format;     /* encode float weights to this format; null keeps them */
  const char *dequantize; /* `f32` or `bf16`; null keeps stored formats */
  int force;              /* overwrite an existing output */
} QuernConvertOptions;

/* Between GGUF files and Hugging Face directories, by the form of `output`. */
QUERN_API QuernStatus quernConvert(const char *input, const char *output,
                                   const QuernConvertOptions *options,
                                   const QuernCallbacks *callbacks);

/*---- Compilation ---------------------------------------------------------*/

typedef struct QuernCompileOptions {
  size_t size;
  const char *emit;        /* exe (default), shared, lib, obj, asm, llvm, bytecode, mlir */
  const char *targets;     /* comma-separated; null means the portable set */
  const char *format;      /* of float weights; null keeps their own type */
  const char *activations; /* fast (default), f32, bf16, q8, int8, q4, int4 */
  const char *kvCache;     /* f16 (default), f32, q8_0, q4 */
  int64_t context;         /* 0: the default that `quern compile --dry-run` prints */
  int weightsBeside;       /* keep the weights in a file beside the program */
  int force;               /* overwrite an existing output */
  const char *solver;      /* of `format`: nearest (default), search, feedback, descent; all but the
                              first calibrate first */
  const char *text;        /* a file to calibrate with; null: built-in English prose */
} QuernCompileOptions;

QUERN_API QuernStatus quernCompile(const char *model, const char *output,
                                   const QuernCompileOptions *options,
                                   const QuernCallbacks *callbacks);

/*---- Tokenization --------------------------------------------------------*/

/* Token ids of `text` under the model's tokenizer; special tokens in the text are recognised, none
   is added. Release *ids with quernIdsFree. */
QUERN_API QuernStatus quernModelTokenize(const QuernModel *model, const char *text, size_t length,
                                         const QuernCallbacks *callbacks, int32_t **ids,
                                         size_t *count);
QUERN_API void quernIdsFree(int32_t *ids);

#ifdef __cplusplus
}
#endif

#endif /* QUERN_C_QUERN_H */
