// Peak of f32 multiply-adds, out of registers, of one thread: cc -O2 peak.c -o peak && ./peak
//
// Prints GFLOP/s, by processor time.
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

static const long rounds = 20000000;
static volatile float sink;

// Twelve chains, which is more than units times latency. Each a variable of its own: compilers
// leave arrays in memory.
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define ZERO(I) s##I = SET(I);
#define ADD(I) s##I = MULTIPLY_ADD(a, b, s##I);
#define KEEP(I) sink += FIRST(s##I);
#define MEASURE                                                                                    \
  VECTOR a = SET(1), b = SET(1e-9f), s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11;             \
  ALL(ZERO)                                                                                        \
  for (long r = 0; r < rounds; ++r) {                                                              \
    __asm__ volatile("" : "+v"(a));                                                                \
    ALL(ADD)                                                                                       \
  }                                                                                                \
  ALL(KEEP)

__attribute__((target("avx512f"))) static int wide(void) {
#define VECTOR __m512
#define SET _mm512_set1_ps
#define MULTIPLY_ADD _mm512_fmadd_ps
#define FIRST _mm512_cvtss_f32
  MEASURE
  return 16;
}
#undef VECTOR
#undef SET
#undef MULTIPLY_ADD
#undef FIRST

__attribute__((target("avx2,fma"))) static int narrow(void) {
#define VECTOR __m256
#define SET _mm256_set1_ps
#define MULTIPLY_ADD _mm256_fmadd_ps
#define FIRST _mm256_cvtss_f32
  MEASURE
  return 8;
}

int main(void) {
  clock_t start = clock();
  int lanes = __builtin_cpu_supports("avx512f") ? wide() : narrow();
  double time = (double)(clock() - start) / CLOCKS_PER_SEC;
  printf("%.1f\n", 2.0 * lanes * 12 * (double)rounds / time * 1e-9);
  return 0;
}
