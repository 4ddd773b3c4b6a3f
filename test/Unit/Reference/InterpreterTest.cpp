// The interpreter: that every op gets the operands and attributes it names, that the cache carries
// over from call to call, that weights are read as laid out, and that bad input is an error.
#include "quern/Reference/Interpreter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Reference/Attention.h"
#include "quern/Reference/Ops.h"
#include "llvm/Support/FileSystem.h"
#include "gtest/gtest.h"
#include <random>

using namespace mlir;
using namespace quern::reference;

namespace {
constexpr int64_t vocab = 11, width = 8, kvWidth = 4, headDim = 4;

/// A file of random f32 values, removed at the end.
class Values {
public:
  std::string path;
  std::vector<float> data;

  explicit Values(size_t count) : data(count) {
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    for (float &x : data)
      x = normal(engine);
    llvm::SmallString<128> name;
    int descriptor;
    EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("interpreter", "bin", descriptor, name));
    llvm::raw_fd_ostream(descriptor, true)
        .write(reinterpret_cast<const char *>(data.data()), count * 4);
    path = name.str().str();
  }
  ~Values() { llvm::sys::fs::remove(path); }
  Matrix matrix(int64_t at, int64_t rows, int64_t cols) const {
    return {std::span(data).subspan(at, rows * cols), rows, cols};
  }
};

// One layer with everything a dense decoder has; k and v are views of one stored matrix.
const char *const decoder = R"(
quern.file @f path "PATH" size SIZE
quern.weight @embed : tensor<11x8xf32> layout<canonical> from [data @f at 0 size 352]
quern.weight @q : tensor<8x8xf32> layout<canonical> from [data @f at 352 size 256]
quern.weight @kv : tensor<8x8xf32> layout<canonical> from [codes @f at 608 size 256]
quern.weight @k : tensor<4x8xf32> view of @kv rows 0
quern.weight @v : tensor<4x8xf32> view of @kv rows 4
quern.weight @gain : tensor<8xf32> layout<canonical> from [data @f at 864 size 32]
quern.weight @bias : tensor<8xf32> layout<canonical> from [data @f at 896 size 32]
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>,
                   %outputs: tensor<?xi32>, %cache: !quern.kv_cache<1x1x4xf16, context = 16>)
    -> (tensor<?x11xf32>, !quern.kv_cache<1x1x4xf16, context = 16>) {
  %embed = quern.use @embed : tensor<11x8xf32>
  %q_w = quern.use @q : tensor<8x8xf32>
  %k_w = quern.use @k : tensor<4x8xf32>
  %v_w = quern.use @v : tensor<4x8xf32>
  %gain = quern.use @gain : tensor<8xf32>
  %bias = quern.use @bias : tensor<8xf32>
  %x = quern.embedding %tokens, %embed : tensor<?xi32>, tensor<11x8xf32>
  %n = quern.rms_norm %x, %gain eps = 1.0e-2 unit_offset : tensor<?x8xf32>, tensor<8xf32>
  %q0 = quern.linear %n, %q_w bias %bias activations<int8> : tensor<?x8xf32>, tensor<8x8xf32>, tensor<8xf32>
  %k0 = quern.linear %n, %k_w activations<fast> : tensor<?x8xf32>, tensor<4x8xf32>
  %v = quern.linear %n, %v_w activations<f32> : tensor<?x8xf32>, tensor<4x8xf32>
  %q = quern.rope %q0, %positions, <interleaved, factor = 1.5, frequencies = [0.5, 0.25]> head_dim = 4 : tensor<?x8xf32>, tensor<?xi32>
  %k = quern.rope %k0, %positions, <neox, factor = 1.0, frequencies = [0.5]> head_dim = 4 : tensor<?x4xf32>, tensor<?xi32>
  %o, %new = quern.attention %q, %k, %v, %cache, %positions, %sequences layer = 0 scale = 0.7 window = 3 softcap = 2.0
    : tensor<?x8xf32>, tensor<?x4xf32>, !quern.kv_cache<1x1x4xf16, context = 16>, tensor<?xi32>
  %s = quern.scale %o by 3.0 : tensor<?x8xf32>
  %g = quern.gated_activation<gelu_tanh> %s, %q : tensor<?x8xf32>
  %a = quern.add %g, %x : tensor<?x8xf32>
  %l = quern.layer_norm %a, %gain bias %bias eps = 1.0e-1 : tensor<?x8xf32>, tensor<8xf32>, tensor<8xf32>
  %c = quern.softcap %l to 4.0 : tensor<?x8xf32>
  %last = quern.take_rows %c, %outputs : tensor<?x8xf32>, tensor<?xi32>
  %logits = quern.linear %last, %embed activations<f32> : tensor<?x8xf32>, tensor<11x8xf32>
  return %logits, %new : tensor<?x11xf32>, !quern.kv_cache<1x1x4xf16, context = 16>
})";

std::string replaceAll(std::string text, llvm::StringRef from, llvm::StringRef to) {
  for (size_t at; (at = text.find(from.str())) != std::string::npos;)
    text.replace(at, from.size(), to.str());
  return text;
}

class InterpreterTest : public ::testing::Test {
protected:
  MLIRContext context;
  Values values{4096};
  OwningOpRef<ModuleOp> module;

  InterpreterTest() { context.loadDialect<quern::QuernDialect, func::FuncDialect>(); }

  llvm::Expected<std::unique_ptr<Interpreter>> load(std::string text,
                                                    InterpreterOptions options = {}) {
    text = replaceAll(replaceAll(text, "PATH", values.path), "SIZE",
                      std::to_string(values.data.size() * 4));
    module = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module);
    return Interpreter::create(*module, options);
  }
  template <typename T> T expect(llvm::Expected<T> value) {
    if (!value) {
      ADD_FAILURE() << llvm::toString(value.takeError());
      return T();
    }
    return std::move(*value);
  }
  template <typename T> void expectError(llvm::Expected<T> value, llvm::StringRef part) {
    ASSERT_FALSE(bool(value));
    std::string message = llvm::toString(value.takeError());
    EXPECT_NE(message.find(part.str()), std::string::npos) << message;
  }
};
} // namespace

TEST_F(InterpreterTest, EveryOpGetsItsOperandsAndAttributes) {
  std::vector<int32_t> tokens = {3, 10, 0, 7, 7}, positions = {0, 1, 2, 3, 4}, slots(5, 0);
  // The same forward pass, spelled with the functions of Ops.h.
  Matrix embed = values.matrix(0, vocab, width), q_w = values.matrix(88, width, width),
         k_w = values.matrix(152, kvWidth, width), v_w = values.matrix(184, kvWidth, width);
  std::span<const float> gain = values.matrix(216, 1, width).data,
                         bias = values.matrix(224, 1, width).data;
  std::vector<float> x(40), n(40), q0(40), k0(20), v(20), q(40), k(20), o(40), rest(40), logits(22);
  auto rows = [](const std::vector<float> &data) { return Matrix{data, 5, width}; };
  takeRows(embed, tokens, x);
  rmsNorm(x, gain, 0.01f, true, n);
  linear(rows(n), q_w, bias, ActivationFormat::Int8, q0);
  linear(rows(n), k_w, {}, ActivationFormat::BF16, k0);
  linear(rows(n), v_w, {}, ActivationFormat::F32, v);
  rope(q0, positions, {2, headDim, RopePairing::Interleaved, std::vector<float>{0.5, 0.25}, 1.5},
       q);
  rope(k0, positions, {1, headDim, RopePairing::Neox, std::vector<float>{0.5}, 1}, k);
  KvCache cache(CacheFormat::F16, 1, 16, 1, headDim);
  attention(q, k, v, positions, slots, {2, 1, headDim, 0.7f, 3, 2}, cache, o);
  scale(o, 3, rest);
  gatedActivation(GateFunction::GeluTanh, rest, q, rest);
  add(rest, x, rest);
  std::vector<float> normed(40), last(16);
  layerNorm(rest, gain, bias, 0.1f, normed);
  softcap(normed, 4, normed);
  takeRows(rows(normed), std::vector<int32_t>{4, 1}, last);
  linear({last, 2, width}, embed, {}, ActivationFormat::F32, logits);

  InterpreterOptions options;
  options.fast = ActivationFormat::BF16;
  auto interpreter = expect(load(decoder, options));
  EXPECT_EQ(interpreter->vocabulary(), vocab);
  EXPECT_EQ(interpreter->context(), 16);
  EXPECT_EQ(expect(interpreter->forward({tokens, positions, slots, {4, 1}})), logits);
}

TEST_F(InterpreterTest, TheCacheCarriesOverBetweenCalls) {
  std::vector<int32_t> tokens = {3, 10, 0, 7, 7};
  std::vector<float> whole = expect(expect(load(decoder))->forward(tokens, 0)), pieces;
  EXPECT_EQ(whole.size(), 5u * vocab);
  auto interpreter = expect(load(decoder));
  for (auto [begin, count] : {std::pair(0, 2), {2, 1}, {3, 2}}) {
    std::vector<float> part =
        expect(interpreter->forward(llvm::ArrayRef(tokens).slice(begin, count), begin));
    pieces.insert(pieces.end(), part.begin(), part.end());
  }
  EXPECT_EQ(pieces, whole);
  // Another history gives another result.
  EXPECT_NE(expect(expect(load(decoder))->forward({10, 3, 0, 7, 7}, 0)), whole);
}

TEST_F(InterpreterTest, SequencesAreIndependent) {
  InterpreterOptions two;
  two.sequences = 2;
  auto both = expect(load(decoder, two));
  std::vector<int32_t> tokens = {3, 5, 10, 6}, positions = {0, 0, 1, 1}, slots = {0, 1, 0, 1};
  std::vector<float> together = expect(both->forward({tokens, positions, slots, {2, 3}}));
  std::vector<float> first = expect(expect(load(decoder))->forward({3, 10}, 0));
  std::vector<float> second = expect(expect(load(decoder))->forward({5, 6}, 0));
  EXPECT_TRUE(std::equal(together.begin(), together.begin() + vocab, first.begin() + vocab));
  EXPECT_TRUE(std::equal(together.begin() + vocab, together.end(), second.begin() + vocab));
}

TEST_F(InterpreterTest, ActivationsCanBePinned) {
  std::vector<std::vector<float>> results;
  for (ActivationFormat format : {ActivationFormat::F32, ActivationFormat::Q8}) {
    InterpreterOptions options;
    options.activations = format;
    results.push_back(expect(expect(load(decoder, options))->forward({1, 2}, 0)));
  }
  EXPECT_NE(results[0], results[1]);
}

TEST_F(InterpreterTest, ExpertsTakeTheirOwnMatrices) {
  std::string text = R"(
quern.file @f path "PATH" size SIZE
quern.weight @embed : tensor<11x8xf32> layout<canonical> from [data @f at 0 size 352]
quern.weight @router : tensor<3x8xf32> layout<canonical> from [data @f at 352 size 96]
quern.weight @up : tensor<3x5x8xf32> layout<canonical> from [data @f at 448 size 160, data @f at 608 size 160, data @f at 1000 size 160]
quern.weight @down : tensor<3x8x5xf32> layout<canonical> from [data @f at 1160 size 480]
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>,
                   %outputs: tensor<?xi32>, %cache: !quern.kv_cache<1x1x4xf16, context = 16>)
    -> (tensor<?x8xf32>, !quern.kv_cache<1x1x4xf16, context = 16>) {
  %embed = quern.use @embed : tensor<11x8xf32>
  %router = quern.use @router : tensor<3x8xf32>
  %up = quern.use @up : tensor<3x5x8xf32>
  %down = quern.use @down : tensor<3x8x5xf32>
  %x = quern.embedding %tokens, %embed : tensor<?xi32>, tensor<11x8xf32>
  %l = quern.linear %x, %router activations<f32> : tensor<?x8xf32>, tensor<3x8xf32>
  %ids, %weights = quern.route %l top_k = 2 normalize : tensor<?x3xf32>
  %u = quern.expert_linear %x, %up, %ids activations<f32> : tensor<?x8xf32>, tensor<3x5x8xf32>, tensor<?x2xi32>
  %d = quern.expert_linear %u, %down, %ids activations<f32> : tensor<?x2x5xf32>, tensor<3x8x5xf32>, tensor<?x2xi32>
  %y = quern.combine_experts %d, %weights : tensor<?x2x8xf32>, tensor<?x2xf32>
  return %y, %cache : tensor<?x8xf32>, !quern.kv_cache<1x1x4xf16, context = 16>
})";
  std::vector<int32_t> tokens = {9, 4};
  std::vector<float> result = expect(expect(load(text))->forward(tokens, 0));
  for (int t = 0; t < 2; ++t) {
    std::span<const float> x = values.matrix(0, vocab, width).row(tokens[t]);
    double logits[3] = {}, expected[8] = {};
    for (int e = 0; e < 3; ++e)
      for (int i = 0; i < 8; ++i)
        logits[e] += x[i] * values.data[88 + e * 8 + i];
    int least = std::min_element(logits, logits + 3) - logits;
    double total = 0;
    for (int e = 0; e < 3; ++e)
      total += e == least ? 0 : std::exp(logits[e]);
    for (int e = 0; e < 3; ++e)
      for (int h = 0; e != least && h < 5; ++h) {
        const int upAt[] = {112, 152, 250}; // the third component lies apart
        double hidden = 0;
        for (int i = 0; i < 8; ++i)
          hidden += x[i] * values.data[upAt[e] + h * 8 + i];
        for (int i = 0; i < 8; ++i)
          expected[i] +=
              std::exp(logits[e]) / total * hidden * values.data[290 + e * 40 + i * 5 + h];
      }
    for (int i = 0; i < 8; ++i)
      EXPECT_NEAR(result[t * 8 + i], expected[i], 1e-5) << t << " " << i;
  }
}

TEST_F(InterpreterTest, QuantizedTensorsDecodeToTheirRoundedValues) {
  std::string text = replaceAll(decoder, "tensor<?x11xf32>", "tensor<?x8xf32>");
  size_t begin = text.find("  %logits"), end = text.find("  return");
  text.replace(begin, end - begin, R"(
  %qq = quern.quantize %q_w : tensor<8x8xf32> to tensor<8x8xf32, #quern.format<i8, scale f32[1x*]>>
  %dq = quern.dequantize %qq : tensor<8x8xf32, #quern.format<i8, scale f32[1x*]>> to tensor<8x8xf32>
  %logits = quern.linear %x, %dq activations<f32> : tensor<?x8xf32>, tensor<8x8xf32>
)");
  std::vector<float> result = expect(expect(load(text))->forward({2}, 0)), exact(8);
  Matrix w = values.matrix(88, width, width);
  std::span<const float> x = values.matrix(0, vocab, width).row(2);
  linear({x, 1, width}, w, {}, ActivationFormat::F32, exact);
  for (int n = 0; n < 8; ++n) {
    float largest = 0, slack = 0;
    for (float value : w.row(n))
      largest = std::max(largest, std::fabs(value));
    for (float value : x)
      slack += std::fabs(value) * largest / 127 * 0.51f;
    EXPECT_NEAR(result[n], exact[n], slack);
  }
  EXPECT_NE(result, exact);
}

TEST_F(InterpreterTest, WeightsEncodedAnewHaveTheirRoundedValues) {
  const std::string q =
      "quern.weight @q : tensor<8x8xf32> layout<canonical> from [data @f at 352 size 256]";
  const std::string format = "tensor<8x8xf32, #quern.format<i4, scale f16[1x*]>>";
  // As the pipeline leaves it, and with the same rounding as ops on the value.
  std::string stored = decoder, ops = decoder;
  stored.replace(stored.find(q), q.size(),
                 "quern.weight @q.stored : tensor<8x8xf32> layout<canonical> from [data @f at 352 "
                 "size 256]\nquern.weight @q : " +
                     format + " {quern.encoded_from = @q.stored}");
  stored = replaceAll(stored, "%q_w = quern.use @q : tensor<8x8xf32>",
                      "%q_w = quern.use @q : " + format);
  stored = replaceAll(stored, "tensor<?x8xf32>, tensor<8x8xf32>, tensor<8xf32>",
                      "tensor<?x8xf32>, " + format + ", tensor<8xf32>");
  ops = replaceAll(ops, "%q_w = quern.use @q : tensor<8x8xf32>",
                   "%plain = quern.use @q : tensor<8x8xf32>\n  %q_w = quern.quantize %plain : "
                   "tensor<8x8xf32> to " +
                       format);
  ops = replaceAll(ops, "tensor<?x8xf32>, tensor<8x8xf32>, tensor<8xf32>",
                   "tensor<?x8xf32>, " + format + ", tensor<8xf32>");
  std::vector<float> expected = expect(expect(load(ops))->forward({1, 2, 3}, 0));
  EXPECT_EQ(expect(expect(load(stored))->forward({1, 2, 3}, 0)), expected);
  EXPECT_NE(expect(expect(load(decoder))->forward({1, 2, 3}, 0)), expected);
}

TEST_F(InterpreterTest, BadStepsAreErrors) {
  auto interpreter = expect(load(decoder));
  expectError(interpreter->forward({11}, 0), "index 11 is not below 11");
  expectError(interpreter->forward({-1}, 0), "index -1");
  expectError(interpreter->forward({1}, 16), "position 16");
  std::vector<int32_t> one = {1}, zero = {0};
  expectError(interpreter->forward({one, zero, one, zero}), "sequence 1");
  expectError(interpreter->forward({one, zero, zero, one}), "'quern.take_rows'");
  expectError(interpreter->forward({one, zero, {}, zero}), "a position and a sequence");
}

TEST_F(InterpreterTest, BadModulesAreErrors) {
  expectError(load("module {}"), "no function @forward");
  expectError(load("func.func @forward(%x: tensor<?xi32>) { return }"), "should take tokens");
  std::string text = decoder;
  text.replace(text.find("%c = quern.softcap %l to 4.0"), 28, "%c = \"other.op\"(%l)");
  text.replace(text.find("%c = \"other.op\"(%l) : tensor<?x8xf32>"), 37,
               "%c = builtin.unrealized_conversion_cast %l : tensor<?x8xf32> to tensor<?x8xf32>");
  expectError(expect(load(text))->forward({1}, 0), "no reference semantics");
}

TEST_F(InterpreterTest, FilesThatChangedAreErrors) {
  auto interpreter = expect(load(decoder));
  int descriptor;
  ASSERT_FALSE(llvm::sys::fs::openFileForWrite(values.path, descriptor));
  llvm::raw_fd_ostream(descriptor, true) << "short";
  expectError(interpreter->forward({1}, 0), "bytes, found 5");
  llvm::sys::fs::remove(values.path);
  expectError(interpreter->forward({1}, 0), values.path);
}
