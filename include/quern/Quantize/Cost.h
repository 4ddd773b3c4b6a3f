//===- Cost.h - What a format costs beside its bytes ------------*- C++ -*-===//
//
// The second resource of an assignment (Option::work): what one matrix takes of it while one token
// is decoded. A cost model is a file of lib/Quantize/Cost and a line in the table of
// CostModels.cpp.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_COST_H
#define QUERN_QUANTIZE_COST_H

#include "quern/Format/Matrix.h"
#include <memory>

namespace quern::quantize {

class CostModel {
public:
  virtual ~CostModel() = default;
  /// What a product of one token with a matrix of `rows` x `columns` takes, in unit(). Fails where
  /// the model knows nothing of the format.
  virtual llvm::Expected<uint64_t> work(const format::Spec &spec, int64_t rows,
                                        int64_t columns) const = 0;
  /// What a token takes beside its products.
  virtual uint64_t other() const { return 0; }
  /// `bytes`, `bit operations`, `picoseconds`.
  virtual llvm::StringRef unit() const = 0;
  bool isTime() const { return unit() == "picoseconds"; }
};

/// By name, `=` and a file where one is asked for: `bytes` (read for a token), `bitops`, `time` (an
/// analytic table), `time=FILE` (of `quern measure`).
llvm::Expected<std::unique_ptr<CostModel>> createCostModel(llvm::StringRef text);

struct CostInfo {
  llvm::StringLiteral name, summary;
  llvm::Expected<std::unique_ptr<CostModel>> (*create)(llvm::StringRef argument);
};
llvm::ArrayRef<CostInfo> costModels();

/// What `quern measure` writes, as JSON, and `--cost time=FILE` reads.
struct KernelTimes {
  std::string cpu, target; ///< of the host; of the code
  unsigned threads = 1;
  double other = 0; ///< seconds a token takes beside its products
  struct Kernel {
    std::string format;
    int64_t rows = 0, columns = 0;
    double seconds = 0; ///< one token, weights out of memory
  };
  std::vector<Kernel> kernels;

  /// Fails for anything but such a file: numbers that are none, shapes or times not positive.
  static llvm::Expected<KernelTimes> read(llvm::StringRef path);
  llvm::Error write(llvm::StringRef path, bool force) const;
  /// Seconds of a product: as measured, or of other shapes by their seconds a weight, the mean over
  /// what was measured of the format. Fails if nothing was.
  llvm::Expected<double> seconds(llvm::StringRef format, int64_t rows, int64_t columns) const;
};

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_COST_H
