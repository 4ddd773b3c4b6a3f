//===- CorrectBiases.cpp - The mean error of rounding, taken back ---------===//
//
// See CorrectBiases.h.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Passes/CorrectBiases.h"
#include "quern/Quantize/Migrate/Biases.h"

using namespace mlir;
using namespace quern;
using llvm::Error;
using llvm::Expected;

Expected<int64_t> quern::quantize::correctBiases(WeightOp weight, const InputStatistics &input,
                                                 ArrayRef<float> values, ArrayRef<float> rounded,
                                                 const migrate::WeightReaders &readers,
                                                 migrate::WeightStore &store) {
  if (input.sum.empty())
    return llvm::createStringError("the bias of '" + weight.getSymName() +
                                   "' cannot be corrected: an importance matrix does not say the "
                                   "mean of what enters it (expected a file of `quern calibrate`)");
  std::vector<double> missing(values.size() / size_t(input.columns), 0.0);
  for (size_t i = 0; i < values.size(); ++i)
    missing[i / size_t(input.columns)] += (double(values[i]) - double(rounded[i])) *
                                          input.sum[i % size_t(input.columns)] /
                                          double(input.rows);
  SymbolTable &symbols = store.symbolTable();
  int64_t corrected = 0;
  for (OpOperand *use : readers.readers(weight)) {
    auto linear = dyn_cast<LinearOp>(use->getOwner());
    if (!linear) // an embedding's rows are nobody's products
      continue;
    WeightOp read = migrate::weightOf(linear.getWeight(), symbols);
    size_t begin = read.isView() ? size_t(*read.getRowBegin()) : 0;
    ArrayRef<double> rows =
        ArrayRef(missing).slice(begin, size_t(read.getTensorType().getDimSize(0)));
    Expected<bool> done = migrate::addToBias(linear, rows, readers, store);
    if (!done)
      return done.takeError();
    corrected += *done;
  }
  return corrected;
}
