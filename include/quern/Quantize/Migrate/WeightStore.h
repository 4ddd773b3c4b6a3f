//===- WeightStore.h - Weights that transforms rewrite ----------*- C++ -*-===//
//
// Reads one weight at a time, whatever its format, and keeps what replaces it as f32, a file each,
// so that no more than one tensor is in memory. The module says where everything lies.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_MIGRATE_WEIGHTSTORE_H
#define QUERN_QUANTIZE_MIGRATE_WEIGHTSTORE_H

#include "mlir/IR/SymbolTable.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "llvm/Support/Error.h"

namespace quern::migrate {

/// Fails if the folder that a pass's option `data` names is none; `what` is to lie there.
llvm::Error checkDataFolder(llvm::StringRef folder, llvm::StringRef what = "changed weights");

class WeightStore {
public:
  /// New data goes to files in `folder`, which must exist; nothing else in it is touched.
  WeightStore(mlir::ModuleOp module, llvm::StringRef folder)
      : module(module), symbols(module), folder(folder) {}

  /// All values of a weight that is not a view, row-major.
  llvm::Expected<std::vector<float>> load(WeightOp weight);

  /// Gives the weight these values, of the same shape, in f32. Its views and uses follow; products
  /// with it take activations in f32. Fails for values that are not finite.
  llvm::Error store(WeightOp weight, llvm::ArrayRef<float> values);

  /// Gives a matrix, or those of a stack, coded values, as format::packMatrix lays them out. Its
  /// views and uses follow; products with it take these activations (f32 if the format is plain),
  /// but for those with a static scale.
  llvm::Error store(WeightOp weight, const format::Spec &spec, llvm::ArrayRef<uint8_t> bytes,
                    ActivationFormat activations);

  /// The same with the first `bytes` of a file of `fileBytes`.
  void place(WeightOp weight, const format::Spec &spec, llvm::StringRef file, uint64_t bytes,
             uint64_t fileBytes, ActivationFormat activations);

  /// A new vector of weights, before the function. `name` must be free.
  llvm::Expected<WeightOp> create(llvm::StringRef name, llvm::ArrayRef<float> values);

  mlir::SymbolTable &symbolTable() { return symbols; }

private:
  llvm::Error write(WeightOp weight, llvm::ArrayRef<float> values);
  llvm::Error write(WeightOp weight, llvm::ArrayRef<uint8_t> bytes, llvm::StringRef kind,
                    LayoutKind layout);
  void name(WeightOp weight, llvm::StringRef kind, llvm::StringRef file, uint64_t bytes,
            uint64_t fileBytes, LayoutKind layout);
  void retype(WeightOp weight, const format::Spec &spec, ActivationFormat activations);

  mlir::ModuleOp module;
  mlir::SymbolTable symbols;
  std::string folder;
};

} // namespace quern::migrate

#endif // QUERN_QUANTIZE_MIGRATE_WEIGHTSTORE_H
