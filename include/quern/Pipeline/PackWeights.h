//===- PackWeights.h - The weights section of a program ---------*- C++ -*-===//
//
// Where each weight lies in a compiled program, and writing them there: matrices as
// panels (Format/PackedLayout.h), everything else as plain rows. Memory stays bounded.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_PIPELINE_PACKWEIGHTS_H
#define QUERN_PIPELINE_PACKWEIGHTS_H

#include "quern/Emit/PayloadWriter.h"
#include "quern/Format/PackedLayout.h"
#include "quern/Pipeline/WeightData.h"
#include <functional>

namespace quern {

/// An entry of the program's table of weights, as the kernels declare it.
struct WeightSlot {
  enum class Form : uint8_t { Panels, F32, F16, BF16 }; ///< but for panels: plain rows
  std::string name;   ///< of a quern.weight; for a view, what it views is packed
  uint64_t bytes = 0; ///< what the kernels read at most
  Form form = Form::Panels;
  bool operator==(const WeightSlot &) const = default;
};

struct PackedWeight {
  WeightOp weight;
  MatrixShape shape;
  format::Spec spec;                           ///< as packed
  std::optional<format::PackedLayout> panels;  ///< unset: plain rows
  uint64_t offset = 0, size = 0;               ///< in the weights section
};

struct PackPlan {
  std::vector<PackedWeight> weights; ///< in the order of the slots
  uint64_t bytes = 0;
};

llvm::Expected<PackPlan> planWeights(mlir::ModuleOp module, llvm::ArrayRef<WeightSlot> slots);

/// Writes the section's contents at writer.position() == 0. `progress` gets the share done and
/// returns false to stop. The same bytes for any number of threads.
llvm::Error packWeights(const PackPlan &plan, WeightData &data, emit::PayloadWriter &writer,
                        unsigned threads, llvm::function_ref<bool(double)> progress);

} // namespace quern

#endif // QUERN_PIPELINE_PACKWEIGHTS_H
