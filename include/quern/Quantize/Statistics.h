//===- Statistics.h - What enters each product ------------------*- C++ -*-===//
//
// Sums over the rows X[T, K] of activations that a calibration text sends into the products
// of a model, and the file that keeps them. Products that share an input share its sums; each
// expert of a mixture has its own.
//
// File, little-endian, version 2:
//
//   "QUERNST2"  u64 bytes of the whole file  u64 where the directory begins  u64 its xxh3
//   a block for each input, beginning at a multiple of 8:
//     f32 minimum[K]  f32 maximum[K]
//     f64 sum[K]  f64 sumAbs[K]  f64 sumSquare[K]  f64 sumCube[K]  f64 sumFourth[K]
//     u64 outliers[K]  u64 histogram[InputStatistics::bins]
//     f32 hessian[K (K + 1) / 2], where there is one: row i of the lower triangle after row i - 1
//   directory, to the end of the file:
//     string model  string text  u64 tokens  u32 tokens of a window  u32 inputs
//     each input:  u32 weights, each a string  i32 expert  u8 positions  u8 has a hessian
//                  u64 K  u64 rows  u64 where its block begins  u64 xxh3 of the block
//   string  u32 length, that many bytes
//
// Extremes of an input that saw no row are 0 in the file.
//
// All but the extremes are sums or counts, so that files of two texts add up. A file is mapped,
// not read into memory: with H of every product it may be larger than that.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_STATISTICS_H
#define QUERN_QUANTIZE_STATISTICS_H

#include "quern/Support/OutputFile.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"
#include <memory>
#include <string>
#include <vector>

namespace quern::quantize {

/// Tokens of which sequence positions were seen.
enum class Positions : uint8_t {
  All,
  First, ///< the first token of each sequence alone, whose activations often are of another size
  Rest,  ///< all but those
};
llvm::StringRef positionsName(Positions positions);

/// One input of products.
struct InputStatistics {
  std::vector<std::string> weights; ///< canonical names of the matrices that read it
  int32_t expert = -1;              ///< of a stack of experts; -1: the weights are no stacks
  Positions positions = Positions::All;
  int64_t columns = 0;                    ///< K
  uint64_t rows = 0;                      ///< activations seen
  std::vector<float> minimum, maximum;    ///< [K] of x; infinite before a row was seen
  std::vector<float> absMax;              ///< [K] largest |x|
  std::vector<double> sum, sumAbs;        ///< [K] of x, |x|
  std::vector<double> sumSquare;          ///< [K] of x^2
  std::vector<double> sumCube, sumFourth; ///< [K] of x^3, x^4
  /// [K] rows in which |x| is more than `outlierRatio` times the root mean square of the row.
  std::vector<uint64_t> outliers;
  static constexpr double outlierRatio = 6;
  /// Values of all columns by sign and magnitude: bin 0 counts |x| below 2^-24, zeros among them;
  /// then `binsOfSign` bins of positive values and as many of negative ones, four an octave, each
  /// from binStart(i) to binStart(i + 1), the last with all beyond.
  static constexpr int binsOfSign = 4 * 48, bins = 1 + 2 * binsOfSign;
  std::vector<uint64_t> histogram; ///< [bins]
  static double binStart(int i);

  InputStatistics() = default;
  /// Nothing seen yet. Without `hessian` products of two columns are not kept.
  InputStatistics(std::vector<std::string> weights, int64_t columns, bool hessian = true);
  /// Nothing but squares is known, nor takes memory: all other sums are empty.
  static InputStatistics squaresOf(std::vector<std::string> weights, int64_t columns);

  bool hasHessian() const { return !triangle.empty() || !mapped.empty(); }
  /// Sum of x_i x_j; without a hessian, zero beside the diagonal.
  double at(int64_t i, int64_t j) const {
    size_t place = i >= j ? size_t(i * (i + 1) / 2 + j) : size_t(j * (j + 1) / 2 + i);
    return !mapped.empty()     ? double(mapped[place])
           : !triangle.empty() ? triangle[place]
           : i == j            ? sumSquare[size_t(i)]
                               : 0;
  }
  /// E[x x^T] as [K][K], the lower triangle filled: what the solver takes.
  std::vector<double> meanHessian() const;
  /// Mean of x_k^2.
  double meanSquare(int64_t k) const { return rows ? sumSquare[size_t(k)] / double(rows) : 0; }
  /// Columns that are outliers in at least 6 % of the rows.
  int64_t outlierColumns() const;
  /// Of the sums, by which results that depend on them are known. That of a file, but for
  /// statistics that were not read from one.
  uint64_t hash = 0;

  /// Adds `count` rows of K values. Threads may share the work of one call: each of `threads`
  /// calls it with its own number `thread` and the same rows, and all must return before the
  /// next rows come. The sums do not depend on the number of threads.
  void add(const float *values, int64_t count, int thread = 0, int threads = 1);
  /// Adds the sums of other rows of the same input: those that both know.
  void add(const InputStatistics &other);
  /// Whether both are of the same input.
  bool isSameInput(const InputStatistics &other) const {
    return weights == other.weights && expert == other.expert && positions == other.positions &&
           columns == other.columns && hasHessian() == other.hasHessian();
  }
  /// Of its first weight, for messages.
  std::string name() const;

private:
  friend class StatisticsWriter;
  friend struct Statistics;
  /// H while it grows: [K (K + 1) / 2], as in the file.
  std::vector<double> triangle;
  llvm::ArrayRef<float> mapped; ///< H in the file
};

struct Statistics {
  std::string model;   ///< name of the model, for people
  std::string text;    ///< what was read, for people
  uint64_t tokens = 0; ///< of the text
  uint32_t window = 0; ///< tokens of a sequence, at most; 0: unknown
  /// Of every input but `sumSquare` and `rows` nothing is known: an importance matrix.
  bool squaresOnly = false;
  std::vector<InputStatistics> inputs;

  /// The input of the matrix `weight` (of one expert of the stack), its statistics of all tokens,
  /// or of all but the first; null if it was not seen.
  const InputStatistics *find(llvm::StringRef weight, int32_t expert = -1) const;

  /// The same of a matrix; or of a stack, that of all its experts together: `sum` holds it then.
  const InputStatistics *findAll(llvm::StringRef weight, InputStatistics &sum) const;

  /// Fails when the inputs differ.
  llvm::Error checkSame(const Statistics &other) const;
  /// Adds what another text gave the same model. Fails, changing nothing, when the inputs differ.
  llvm::Error merge(const Statistics &other);
  /// Forgets products of two columns.
  void dropHessians();
  /// Writes the sum of `parts`, with no more than one input in memory; an importance matrix if the
  /// name says so. Fails for other names if a part is one.
  static llvm::Error writeSum(llvm::ArrayRef<Statistics> parts, llvm::StringRef path, bool force);

  /// Writes aside, then renames.
  llvm::Error write(llvm::StringRef path, bool force) const;
  /// Maps the file. Nothing in it is trusted: lengths are checked before memory is taken, hashes of
  /// everything compared, values must be finite, squares not negative.
  static llvm::Expected<Statistics> read(llvm::StringRef path);
  /// The same, or an importance matrix of llama.cpp, of either format (Imatrix.cpp). `note` gets
  /// what is odd about one.
  static llvm::Expected<Statistics> readAny(llvm::StringRef path,
                                            llvm::function_ref<void(const std::string &)> note);
  /// A legacy importance matrix does not say how many matrices the values of a stack are for: gives
  /// each of `experts` its own, if they are for as many of `columns` columns.
  void splitExperts(llvm::StringRef weight, int64_t experts, int64_t columns);
  /// Writes an importance matrix: GGUF, or the legacy format if the name ends in .dat.
  llvm::Error writeImatrix(llvm::StringRef path, bool force) const;

  llvm::json::Object summary() const;
  void print(llvm::raw_ostream &os) const;

private:
  std::shared_ptr<llvm::MemoryBuffer> file; ///< what `mapped` of inputs points into
};

/// Writes a file of statistics input by input.
class StatisticsWriter {
public:
  /// Writes aside.
  static llvm::Expected<StatisticsWriter> create(llvm::StringRef path, bool force);
  void add(const InputStatistics &input);
  /// Completes the file, with the model, text and tokens of `head`, and renames it into place.
  llvm::Error keep(const Statistics &head);

private:
  explicit StatisticsWriter(OutputFile file) : file(std::move(file)) {}
  OutputFile file;
  uint64_t size = 0; ///< bytes so far
  std::string directory;
  uint32_t inputs = 0;
};

/// Whether a weight may have this name in a file of statistics or an importance matrix: UTF-8 that,
/// with what is appended to it, fits GGUF's names.
bool isWeightName(llvm::StringRef name);

/// Whether an output of this name is an importance matrix: x.gguf, x.dat.
bool isImatrixName(llvm::StringRef path);

/// Whether the file is an importance matrix as GGUF, or has a name that ends in .dat.
bool isImatrix(llvm::StringRef path);

/// Reads an importance matrix; `path` is for messages.
llvm::Expected<Statistics> parseImatrix(llvm::StringRef bytes, llvm::StringRef path);

/// Whether the file begins as a file of statistics does, of any version.
bool isStatistics(llvm::StringRef path);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_STATISTICS_H
