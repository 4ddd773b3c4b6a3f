//===- quern-opt.cpp - Runs passes on IR ----------------------------------===//
//
// MLIR's opt tool with Quern's dialects and passes.
//
//===----------------------------------------------------------------------===//
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "quern/Pipeline/Register.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  quern::registerDialects(registry);
  quern::registerPasses();
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "Quern's pass driver\n", registry));
}
