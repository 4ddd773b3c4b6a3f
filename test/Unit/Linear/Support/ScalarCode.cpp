//===- ScalarCode.cpp - Is a kernel made of vector code? ------------------===//
//
// Looks at LLVM IR after optimization: what lowering has scalarised shows there as single lanes. As
// weights enter as vectors and no lane leaves one, all that is made of them is vectors.
//
//===----------------------------------------------------------------------===//
#include "KernelJit.h"
#include "llvm/Analysis/ValueTracking.h"
#include "llvm/IR/Function.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace quern;

/// Vectors of one element are how scalars of x are loaded.
static bool takesLane(const Instruction &i) {
  auto *extract = dyn_cast<ExtractElementInst>(&i);
  return extract && cast<FixedVectorType>(extract->getVectorOperandType())->getNumElements() > 1;
}

/// A broadcast starts by putting the scalar into lane 0.
static bool startsBroadcast(const InsertElementInst &insert) {
  auto *lane = dyn_cast<ConstantInt>(insert.getOperand(2));
  return lane && lane->isZero();
}

std::string test::findScalarCode(const Function &linear) {
  const Argument *weights = linear.getArg(1);
  bool readsWeights = false, multiplies = false;
  for (const Instruction &i : instructions(linear)) {
    bool single = false;
    if (auto *load = dyn_cast<LoadInst>(&i)) {
      bool fromWeights = getUnderlyingObject(load->getPointerOperand(), 0) == weights;
      readsWeights |= fromWeights;
      single = fromWeights && !load->getType()->isVectorTy();
    } else if (auto *insert = dyn_cast<InsertElementInst>(&i)) {
      single = !startsBroadcast(*insert);
    } else {
      bool product = isa<IntrinsicInst>(i) || i.getOpcode() == Instruction::FMul;
      multiplies |= product && i.getType()->isVectorTy();
      single = takesLane(i);
    }
    if (single) {
      std::string text;
      raw_string_ostream(text) << i;
      return text;
    }
  }
  if (!readsWeights || !multiplies)
    return "no vector is loaded from the weights and multiplied";
  return "";
}
