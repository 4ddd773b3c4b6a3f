//===- Sequential.cpp - Rounding each part for what the ones before it make ===//
//
// Once formats are chosen, the float program runs the calibration text part by part. The matrices
// of a part are rounded for what enters them after all parts before it have been rounded, as GPTQ
// does (Frantar et al., 2022); then the part runs with its new weights and the next one's turn
// comes. Matrices of one part do not see one another.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"
#include "quern/Quantize/Program.h"
#include "llvm/Support/FormatVariadic.h"

using namespace quern;
using namespace quern::quantize;
using llvm::Error;
using llvm::Expected;

/// Whether what was chosen is now another rounding of it.
Expected<bool> Quantization::roundInOrder() {
  std::vector<Tensor> before = candidates->tensors;
  CalibrateOptions calibration = calibrateOptions();
  calibration.progress = [&](double fraction) {
    return !options.progress || options.progress("round in order", fraction);
  };
  calibration.between = [&](Program &running, size_t part, const Statistics &own) -> Error {
    std::vector<std::pair<size_t, uint32_t>> chosen;
    for (auto [t, index] : llvm::enumerate(assignment.choice)) {
      const Tensor &tensor = candidates->tensors[t];
      // A table of embeddings that is the last product, too, keeps what suits that one.
      if (running.partOfWeight(tensor.name) == part &&
          own.find(tensor.name, tensor.experts > 1 ? 0 : -1))
        chosen.emplace_back(t, index);
    }
    if (Error e = candidates->solveAgain(chosen, own, options))
      return e;
    for (auto [t, index] : llvm::enumerate(assignment.choice)) {
      const Tensor &tensor = candidates->tensors[t];
      if (running.partOfWeight(tensor.name) != part)
        continue;
      Expected<std::vector<float>> values = candidates->values(tensor, tensor.candidates[index]);
      if (!values)
        return values.takeError();
      if (Error e = running.replaceWeight(tensor.name, *values, tensor.rows, tensor.columns))
        return e;
    }
    return Error::success();
  };
  if (Error e = calibrate(calibration, "", false).takeError())
    return std::move(e);
  double klBefore = kl, heldBackBefore = heldBackKl;
  if (Error e = measureChosen())
    return std::move(e);
  if (heldBackKl < 0 || heldBackKl <= heldBackBefore)
    return true;
  if (options.note)
    options.note(llvm::formatv("rounding in order gives a divergence of {0:f6} on windows held "
                               "back, rounding all at once {1:f6}: that is kept",
                               heldBackKl, heldBackBefore)
                     .str());
  candidates->tensors = std::move(before);
  kl = klBefore;
  heldBackKl = heldBackBefore;
  return false;
}
