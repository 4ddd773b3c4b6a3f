//===- Ops.h - What every model-level op computes ---------------*- C++ -*-===//
//
// Executable semantics in plain loops, free of MLIR: the oracle of all generated code.
// Inputs and results are f32; everything between is f64, rounded once at the end, so a
// result is what exact arithmetic gives, to half an ulp or so.
//
// Matrices are row-major spans; a row is a token unless said otherwise. Sizes are the
// caller's promise (asserted): the op verifiers check them for the interpreter.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_REFERENCE_OPS_H
#define QUERN_REFERENCE_OPS_H

#include "quern/Reference/Activations.h"
#include <cstdint>
#include <span>

namespace quern::reference {

/// A read-only row-major matrix.
struct Matrix {
  std::span<const float> data;
  int64_t rows = 0, cols = 0;
  std::span<const float> row(int64_t i) const { return data.subspan(i * cols, cols); }
};

/// The sum of a[i] * b[i] in f64, and of its absolute values (what a tolerance scales with).
double dot(std::span<const double> a, std::span<const float> b);
double absDot(std::span<const double> a, std::span<const float> b);

//===--- Linear (Linear.cpp) ----------------------------------------------===//

/// out[t,n] = sum over k of round(x[t,k]) * weight[n,k] + bias[n]. `weight` is decoded, [N,K];
/// `bias` is empty or has N elements. `out` is [x.rows, N]. Of a column split, x and weight come in
/// its order, and those of all sets but the last are kept (see roundActivations).
void linear(Matrix x, Matrix weight, std::span<const float> bias, ActivationFormat activations,
            std::span<float> out, Kept kept = {});

/// The same with static int8 activations.
void linear(Matrix x, Matrix weight, std::span<const float> bias, StaticScale activations,
            std::span<float> out, Kept kept = {});

/// The same shape: sum of |round(x[t,k]) * weight[n,k]| + |bias[n]|, for the tolerance.
void linearMagnitude(Matrix x, Matrix weight, std::span<const float> bias,
                     ActivationFormat activations, std::span<double> out, Kept kept = {});

/// out[r, j] = x[r, columns[j]].
std::vector<float> takeColumns(Matrix x, std::span<const int32_t> columns);

/// out[i] = table[ids[i]]: embedding, and rows of any matrix. Ids are in range.
void takeRows(Matrix table, std::span<const int32_t> ids, std::span<float> out);

//===--- Norms (Norms.cpp) ------------------------------------------------===//

/// out = x / sqrt(mean(x^2) + eps) * (gain + unitOffset), for every row of gain.size() elements
/// (a row may be one head's part of a token).
void rmsNorm(std::span<const float> x, std::span<const float> gain, double eps, bool unitOffset,
             std::span<float> out);

/// out = (x - mean(x)) / sqrt(variance(x) + eps) * gain + bias; the variance is that of the
/// population. `bias` may be empty.
void layerNorm(std::span<const float> x, std::span<const float> gain, std::span<const float> bias,
               double eps, std::span<float> out);

//===--- Rope (Rope.cpp) --------------------------------------------------===//

/// Which two elements of a head turn together.
enum class RopePairing : uint8_t {
  Interleaved, ///< (2i, 2i + 1)
  Neox,        ///< (i, i + dims / 2)
};

struct RopeShape {
  int64_t heads = 1;
  int64_t headDim = 0;
  RopePairing pairing = RopePairing::Neox;
  /// Radians per position of pair i; dims = 2 x size() <= headDim. Elements of a head beyond dims
  /// stay as they are.
  std::span<const float> frequencies;
  double attentionFactor = 1; ///< multiplies the turned elements
};

/// Turns pair i of each head of token t by positions[t] * frequencies[i].
void rope(std::span<const float> x, std::span<const int32_t> positions, const RopeShape &shape,
          std::span<float> out);

//===--- Elementwise (Elementwise.cpp) ------------------------------------===//

enum class GateFunction : uint8_t {
  Silu,     ///< x / (1 + e^-x)
  GeluTanh, ///< x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  Gelu,     ///< x/2 (1 + erf(x / sqrt 2))
};
double applyGate(GateFunction function, double x);

/// out = f(gate) * up
void gatedActivation(GateFunction function, std::span<const float> gate, std::span<const float> up,
                     std::span<float> out);
void add(std::span<const float> a, std::span<const float> b, std::span<float> out);
void scale(std::span<const float> x, double factor, std::span<float> out);
/// Every run of factors.size() values times those, in f32.
void scaleChannels(std::span<const float> x, std::span<const float> factors, std::span<float> out);
/// Each run of `block` (a power of two) values times the Hadamard matrix of that size over its
/// root: in f32, pairs at distance 1 first, the factor last. Compiled programs do the same, bit for
/// bit.
void hadamard(std::span<const float> x, int64_t block, std::span<float> out);

/// out = cap * tanh(x / cap)
void softcap(std::span<const float> x, double cap, std::span<float> out);

//===--- Experts (Experts.cpp) --------------------------------------------===//

/// Softmax over a token's `logits` [tokens, experts], then the `used` most probable experts, in
/// descending order (ties: the lower index first); with `normalize` their weights are divided by
/// their sum. `indices` and `weights` are [tokens, used].
void route(Matrix logits, int64_t used, bool normalize, std::span<int32_t> indices,
           std::span<float> weights);

/// out[t,j,:] = weights[indices[t,j]] * x[t, j or 0, :]. `x` has one row a token, or one row for
/// each (token, j); `weights` is [experts * N, K], expert-major.
void expertLinear(Matrix x, Matrix weights, int64_t experts, std::span<const int32_t> indices,
                  int64_t used, ActivationFormat activations, std::span<float> out);

/// out[t,:] = sum over j of weights[t,j] * x[t,j,:]
void combineExperts(std::span<const float> x, std::span<const float> weights, int64_t used,
                    int64_t width, std::span<float> out);

} // namespace quern::reference

#endif // QUERN_REFERENCE_OPS_H
